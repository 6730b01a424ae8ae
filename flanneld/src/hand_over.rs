//! The old daemon's part of a takeover: it offers all it has, rests while the new one begins, and goes on by itself
//! unless it hears that packets move there.

use crate::backend::Backend;
use crate::daemon::{Daemon, Desk, Happening, known};
use crate::manager;
use anyhow::{Context, Result, anyhow};
use control::clock::since_boot;
use control::handover::{self, Channel, VERSION, Word};
use engine::QueueHandle;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// How long a caller may take to say what it wants.
const GREETING: Duration = Duration::from_secs(1);
/// How long a new daemon may prepare; packets are moved meanwhile.
const PREPARATION: Duration = Duration::from_secs(20);
/// How long it may take to begin; the kernel keeps packets meanwhile, but not many.
const START: Duration = Duration::from_millis(200);

/// Another daemon that wants to take over.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
    process: u32,
    /// Where it has called, and where the next one will.
    door: UnixListener,
}

/// Where a daemon waits for its successor, until it is dropped.
#[derive(Debug)]
pub(crate) struct Door {
    path: PathBuf,
    /// Number of the file, as another daemon may put its own in this place.
    file: Option<u64>,
}

impl Door {
    /// Begins to wait, where the daemon before did if there was one. Without it nobody can take over, and nothing else is
    /// the matter.
    pub(crate) fn open(desk: &Desk<'_>, inherited: Option<UnixListener>) -> Self {
        let path = desk.settings.door.clone();
        let listener = inherited.map_or_else(|| handover::listen(&path), Ok);
        let waiting = listener.and_then(|listener| {
            wait(listener, desk.happenings.clone())?;
            fs::symlink_metadata(&path)
        });
        if let Err(error) = &waiting {
            warn!(
                "cannot wait for a successor at {}: {error}. An upgrade would need a restart",
                path.display()
            );
        }
        let file = waiting.ok().map(|found| found.ino());
        Self { path, file }
    }

    /// Leaves it to the successor.
    pub(crate) fn leave(mut self) {
        self.file = None;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|found| found.ino());
        if found.ok().is_some_and(|found| Some(found) == self.file) {
            // A file nobody listens at hurts nobody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Greets callers one after another.
fn wait(listener: UnixListener, happenings: Sender<Happening>) -> io::Result<()> {
    let greet = move || {
        // Without a descriptor to spare the next try would fail as fast.
        let pause = |stream: &io::Result<_>| {
            if stream.is_err() {
                thread::sleep(GREETING);
            }
        };
        for stream in listener.incoming().inspect(pause).flatten() {
            match Channel::with(stream) {
                Ok(channel) => {
                    if let Some(successor) = greeted(channel, &listener) {
                        // Nobody waits for it any more: the daemon is ending.
                        let _ = happenings.send(Happening::Successor(successor));
                    }
                }
                Err(error) => warn!("a caller that wants to take over is turned away: {error}"),
            }
        }
    };
    let builder = thread::Builder::new().name("takeover".to_owned());
    builder.spawn(greet).map(drop)
}

/// A caller who wants to take over, and can.
fn greeted(channel: Channel, door: &UnixListener) -> Option<Successor> {
    match channel.hear(GREETING).ok()?.0 {
        Word::Hello { version, process } if version == VERSION => {
            let door = door.try_clone().ok()?;
            return Some(Successor {
                channel,
                process,
                door,
            });
        }
        Word::Hello { version, .. } => refuse(
            &channel,
            &format!(
                "it takes over by version {version}, not {VERSION}, of the way to do so: restart instead"
            ),
        ),
        Word::Who => {
            let process = process::id();
            // Who does not hear it is not there any more.
            let _ = channel.say(&Word::Here { process }, &[io::stderr().as_fd()]);
        }
        _ => {}
    }
    None
}

fn refuse(channel: &Channel, why: &str) {
    let why = why.to_owned();
    // Who does not hear it is not there any more.
    let _ = channel.say(&Word::Refused { why }, &[]);
}

impl Daemon<'_> {
    /// Hands everything over to a new daemon; tells whether that does the work now.
    pub(crate) fn hand_over(&mut self, successor: &Successor) -> bool {
        let Successor {
            channel,
            process,
            door,
        } = successor;
        info!("process {process} wants to take over");
        let relieved = self
            .offer(channel, door)
            .and_then(|queues| self.rest(channel, queues));
        let Err(why) = relieved else {
            info!("process {process} has taken over");
            return true;
        };
        refuse(channel, &format!("{why:#}"));
        warn!("process {process} has not taken over: {why:#}. Carrying on as before");
        if let Some(engine) = self.desk.account.engine() {
            engine.keep();
        }
        // It may have begun to change the host.
        self.rules.doubt(since_boot());
        self.sync.host_changed(since_boot());
        false
    }

    /// Offers all there is and waits until it is taken up; workers are at work all the time.
    fn offer(&self, channel: &Channel, door: &UnixListener) -> Result<Option<Vec<QueueHandle>>> {
        let engine = self.desk.account.engine();
        let queues = engine.map(|engine| engine.queues()).transpose();
        let queues = queues.context("cannot share the engine's queues")?;
        let offered = queues.as_deref().unwrap_or_default();
        let ports = |queue: &QueueHandle| queue.sockets.iter().map(|socket| socket.port).collect();
        let listeners = self.desk.listeners.all().iter();
        let word = Word::Offer {
            memory: known(self.desk.settings, &self.hold, &self.sync, &self.config).to_text(),
            queues: offered.iter().map(ports).collect(),
            listeners: listeners.clone().flat_map(|one| one.local_addr()).collect(),
            watchdog: manager::patience().map(|patience| patience.as_micros() as u64),
            process: process::id(),
        };
        let descriptors: Vec<_> = offered
            .iter()
            .flat_map(descriptors)
            .chain([door.as_fd()])
            .chain(listeners.map(AsFd::as_fd))
            .collect();
        channel
            .say(&word, &descriptors)
            .context("it does not listen")?;
        channel.wait_for(&Word::Ready, PREPARATION)?;
        Ok(queues)
    }

    /// Lets the new daemon move packets; if it does not, moves them again.
    fn rest(&mut self, channel: &Channel, queues: Option<Vec<QueueHandle>>) -> Result<()> {
        self.desk.account.close();
        let runs = channel
            .say(&Word::Go, &[])
            .map_err(|error| anyhow!("it does not listen: {error}"))
            .and_then(|()| Ok(channel.wait_for(&Word::Running, START)?));
        match &runs {
            // Should it die without having heard this, it has begun all the same.
            Ok(()) => drop(channel.say(&Word::Over, &[])),
            Err(_) => self.go_on(queues),
        }
        runs
    }

    /// Goes on with the queues, and with every packet that has waited there.
    fn go_on(&mut self, queues: Option<Vec<QueueHandle>>) {
        self.sync.detach();
        match Backend::start(&self.plan, self.desk, queues) {
            Ok(backend) => {
                self.sync.attach(self.plan.screen(), backend);
                self.sync.settle(since_boot());
                self.desk.account.go();
            }
            Err(error) => {
                warn!("cannot go on with the queues there are: {error:#}. Making new ones");
                self.renewal.ask(since_boot());
            }
        }
    }
}

fn descriptors(queue: &QueueHandle) -> impl Iterator<Item = BorrowedFd<'_>> {
    let sockets = queue.sockets.iter().map(|socket| socket.fd.as_fd());
    std::iter::once(queue.tun.as_fd()).chain(sockets)
}

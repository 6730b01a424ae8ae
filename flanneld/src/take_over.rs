//! The new daemon's part of a takeover: it asks the old one for all it has, prepares everything, and begins when that
//! one rests. Should the old one die meanwhile it begins at once; should this one, the old one goes on.

use crate::daemon::Desk;
use crate::manager;
use crate::settings::Settings;
use anyhow::{Context, Result, anyhow, bail};
use control::handover::{self, Channel, Silence, VERSION, Word};
use control::memory::Memory;
use engine::{QueueHandle, SocketHandle};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long the old daemon may take to answer; it may be at something else.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two attempts to ask a daemon that is just ending.
const PAUSE: Duration = Duration::from_millis(5);

/// The daemon to take over from, and what it has given.
pub(crate) struct Predecessor {
    channel: Channel,
    process: u32,
    since: Instant,
    memory: Option<(Memory, Duration)>,
    queues: Option<Vec<QueueHandle>>,
    door: Option<UnixListener>,
    listeners: Vec<TcpListener>,
    watchdog: Option<Duration>,
}

impl Predecessor {
    /// Asks the daemon that runs for all it has; `None` if there is none, or nobody asked for a takeover.
    pub(crate) fn find(settings: &Settings) -> Result<Option<Self>> {
        if !settings.takeover {
            return Ok(None);
        }
        let door = settings.door.display();
        loop {
            let called = handover::call(&settings.door);
            let called = called.with_context(|| format!("cannot take over at {door}"))?;
            let Some(channel) = called else {
                info!("there is no daemon to take over from at {door}: starting as usual");
                return Ok(None);
            };
            match Self::ask(channel, settings) {
                Err(why) if is_dead(&why) => sleep(PAUSE),
                asked => {
                    let asked =
                        asked.context("cannot take over from the daemon that runs; it carries on");
                    return asked.map(Some);
                }
            }
        }
    }

    fn ask(channel: Channel, settings: &Settings) -> Result<Self> {
        let since = Instant::now();
        let (version, process) = (VERSION, process::id());
        // Whether it hears that shows in its answer.
        let _ = channel.say(&Word::Hello { version, process }, &[]);
        let (word, descriptors) = channel.hear(ANSWER)?;
        let Word::Offer {
            memory,
            queues,
            listeners,
            watchdog,
            process,
        } = word
        else {
            bail!("it says something else than what it has: {word:?}");
        };
        info!("taking over from process {process}");
        let mut descriptors = descriptors.into_iter();
        let queues = queues.into_iter();
        let queues = queues.map(|ports| queue(ports, &mut descriptors));
        let queues: Vec<_> = queues
            .collect::<Option<_>>()
            .context("a descriptor is missing")?;
        let door = descriptors.next().map(UnixListener::from);
        let listeners = listeners.iter().zip(descriptors);
        Ok(Self {
            memory: Some(Memory::from_text(&memory, &settings.store.name())?),
            queues: (!queues.is_empty()).then_some(queues),
            door,
            listeners: listeners.map(|(_, fd)| TcpListener::from(fd)).collect(),
            watchdog: watchdog.map(Duration::from_micros),
            channel,
            process,
            since,
        })
    }

    /// What it knows.
    pub(crate) fn memory(&mut self) -> Result<(Memory, Duration)> {
        self.memory.take().context("its memory is used already")
    }

    /// Whether it has a packet engine.
    pub(crate) fn has_engine(&self) -> bool {
        self.queues.is_some()
    }

    /// What its engine moves packets between, if it has one.
    pub(crate) fn queues(&mut self) -> Option<Vec<QueueHandle>> {
        self.queues.take()
    }

    /// Where it waits for successors, and where its own successor's will call.
    pub(crate) fn door(&mut self) -> Option<UnixListener> {
        self.door.take()
    }

    /// The sockets it listens on.
    pub(crate) fn listeners(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.listeners)
    }

    /// All is prepared: begins when the old daemon rests, and sees it off.
    pub(crate) fn relieve(self, desk: &Desk<'_>) -> Result<()> {
        // One that is dead does not hear it, and is told from one that lives by its silence.
        let _ = self.channel.say(&Word::Ready, &[]);
        self.heard(&Word::Go)?;
        desk.account.go();
        let _ = self.channel.say(&Word::Running, &[]);
        self.heard(&Word::Over)?;
        manager::taken_over(self.watchdog);
        let took = self.since.elapsed().as_millis();
        info!("took over from process {} within {took} ms", self.process);
        Ok(())
    }

    /// Waits for a word of the old daemon, or for its death.
    fn heard(&self, word: &Word) -> Result<()> {
        match self.channel.wait_for(word, ANSWER) {
            Ok(()) => Ok(()),
            Err(Silence::Dead) => {
                warn!(
                    "process {} has died meanwhile; going on without it",
                    self.process
                );
                Ok(())
            }
            Err(why) => Err(anyhow!(why)).context("the old daemon carries on"),
        }
    }
}

/// Whether the other one died before it had given anything; its socket is free a moment later.
fn is_dead(why: &anyhow::Error) -> bool {
    matches!(why.downcast_ref(), Some(Silence::Dead))
}

/// A queue and its sockets, out of the descriptors that came.
fn queue(ports: Vec<u16>, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Option<QueueHandle> {
    let tun = descriptors.next()?;
    let mut socket = |port| descriptors.next().map(|fd| SocketHandle { port, fd });
    let sockets = ports.into_iter().map(&mut socket).collect::<Option<_>>()?;
    Some(QueueHandle { tun, sockets })
}

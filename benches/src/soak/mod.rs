//! Everything at once, for a long time: traffic whose every byte is known, peers that come and go, a node that is
//! started anew again and again, and faults. One daemon lives through all of it, and is watched.

mod payload;
mod trouble;
mod vitals;

use std::fmt;
use std::io;
use std::path::Path as FsPath;
use std::thread;
use std::time::{Duration, Instant};

use crate::traffic::Ends;
use crate::{Path, PathSpec, Profile, Side};
use payload::Load;
use trouble::Trouble;
use vitals::Watch;

/// Between two troubles.
const PACE: Duration = Duration::from_millis(250);
/// After the last one.
const SETTLE: Duration = Duration::from_secs(3);
/// The daemon that lives on, and the one that is started anew.
const STEADY: Side = Side::A;
const RESTARTED: Side = Side::B;

/// What happened.
#[derive(Debug)]
pub struct Report {
    /// How long it took.
    pub elapsed: Duration,
    /// Bytes that arrived and were what had been sent.
    pub bytes: u64,
    /// Datagrams sent, and those of them that never arrived.
    pub datagrams: (u64, u64),
    /// What arrived and had not been sent like that.
    pub wrong: u64,
    /// Times the second daemon was started anew.
    pub restarts: u64,
    /// Records of other nodes written and removed.
    pub changes: u64,
    /// Other faults.
    pub faults: u64,
    /// What the daemon that lived on held, at first and in the end.
    pub vitals: vitals::Change,
}

impl Report {
    /// What must not be, if anything is.
    pub fn failure(&self) -> Option<String> {
        let wrong = (self.wrong > 0).then(|| format!("{} payloads were wrong", self.wrong));
        wrong.or_else(|| self.vitals.failure())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, lost) = self.datagrams;
        write!(
            out,
            "{:.2} h: {:.1} GB and {sent} datagrams ({lost} lost), {} wrong; {} restarts, {} changes of records, \
             {} other faults; {}",
            self.elapsed.as_secs_f64() / 3600.0,
            self.bytes as f64 / 1e9,
            self.wrong,
            self.restarts,
            self.changes,
            self.faults,
            self.vitals,
        )
    }
}

/// Runs it for a while, with a restart as often as that.
pub fn run(
    spec: &PathSpec,
    program: &FsPath,
    duration: Duration,
    restart_every: Duration,
) -> io::Result<Report> {
    let mut path = Path::up(spec, Profile::Offload, program)?;
    let load = Load::start(&Ends::of(&path, STEADY), &Ends::of(&path, RESTARTED))?;
    let mut trouble = Trouble::default();
    let (began, mut restarts) = (Instant::now(), 0);
    let mut watch = Watch::of(path_daemon(&mut path)?.id());
    while began.elapsed() < duration && !load.has_failed() {
        thread::sleep(PACE);
        trouble.next(&path)?;
        watch.look(began.elapsed(), duration);
        if began.elapsed() > restart_every * (restarts + 1) {
            path.restart(RESTARTED, program)?;
            restarts += 1;
        }
        path_daemon(&mut path)?.still_running()?;
    }
    if load.has_failed() {
        return Err(failure(&path, load));
    }
    trouble.end(&path)?;
    path.wait_until_connected()?;
    let sum = load.stop()?;
    // What works off the last fault is no leak.
    thread::sleep(SETTLE);
    watch.look(began.elapsed(), duration);
    Ok(Report {
        elapsed: began.elapsed(),
        bytes: sum.bytes,
        datagrams: (sum.sent, sum.sent.saturating_sub(sum.received)),
        wrong: sum.wrong,
        restarts: restarts.into(),
        changes: trouble.changes,
        faults: trouble.faults,
        vitals: watch.change(),
    })
}

/// What broke the traffic, and all there is to tell why.
fn failure(path: &Path, load: Load) -> io::Error {
    let routes = Side::BOTH.map(|side| path.lab().node(side).run("ip route").unwrap_or_default());
    let logs = path.logs();
    let why = load
        .stop()
        .map_or_else(|error| error.to_string(), |_| "traffic ended".to_owned());
    io::Error::other(format!("{why}\n{}\n{logs}", routes.join("\n")))
}

fn path_daemon(path: &mut Path) -> io::Result<&mut crate::daemon::Daemon> {
    let daemon = path.daemon(STEADY);
    daemon.ok_or_else(|| io::Error::other("a soak needs a path with a daemon"))
}

//! Many nodes of which a few come back with another address all the time.

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, SETTLE, Scale, await_peers, lease_of};
use crate::daemon::Daemon;

/// Of all nodes, those that change within a minute.
const SHARE: usize = 100;
/// Between two changes of a few.
const BEAT: Duration = Duration::from_secs(1);
/// The number of times after which memory is taken for usual, of all.
const WARM_UP: usize = 10;

/// What changes that go on and on came to.
#[derive(Clone, Debug, Default)]
pub struct Churn {
    /// Nodes there are.
    pub leases: usize,
    /// Records written anew.
    pub changes: usize,
    /// From one more record in the store to its route, each time.
    pub lags: Vec<Duration>,
    /// Resident memory over time, in KiB.
    pub memory_kib: Vec<u64>,
}

impl Scale {
    /// Has one node in a hundred change each minute, for so long.
    pub fn churn(&mut self, leases: usize, duration: Duration) -> io::Result<Churn> {
        self.write(leases)?;
        let mut daemon = self.start()?;
        await_peers(&mut daemon, leases)?;
        thread::sleep(SETTLE);
        let a_beat = (leases * BEAT.as_secs() as usize).div_ceil(SHARE * 60);
        let mut churn = Churn {
            leases,
            ..Churn::default()
        };
        let begun = Instant::now();
        while begun.elapsed() < duration {
            let next = Instant::now() + BEAT;
            let which = churn.changes..churn.changes + a_beat;
            let moved: Vec<_> = which
                .map(|count| lease_of(count % leases, 1 + count / leases))
                .collect();
            self.gateway.put_all(&moved)?;
            churn.changes += a_beat;
            churn.lags.push(self.one_more(&mut daemon, leases)?);
            churn
                .memory_kib
                .push(daemon.memory_kib().unwrap_or_default());
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        daemon.stop()?;
        Ok(churn)
    }

    /// Adds a node, behind all that were changed before, and removes it; says how long the first took.
    fn one_more(&mut self, daemon: &mut Daemon, leases: usize) -> io::Result<Duration> {
        let place = daemon.log().len();
        let begun = Instant::now();
        self.write(leases + 1)?;
        await_line(daemon, place, leases + 1)?;
        let lag = begun.elapsed();
        self.remove_last()?;
        await_line(daemon, place, leases)?;
        Ok(lag)
    }
}

/// Waits until the daemon says, behind a place in its log, that it has so many routes.
fn await_line(daemon: &mut Daemon, place: usize, peers: usize) -> io::Result<()> {
    let line = format!(" {peers} peer subnets");
    let deadline = Instant::now() + PATIENCE;
    while !daemon.log()[place..].contains(&line) {
        daemon.still_running()?;
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("never again{line}")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

impl fmt::Display for Churn {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lags = self.lags.clone();
        lags.sort_unstable();
        let lag = |percent: usize| {
            let at = lags.len().saturating_sub(1) * percent / 100;
            lags.get(at).map_or(0.0, |lag| lag.as_secs_f64() * 1000.0)
        };
        let usual = &self.memory_kib[self.memory_kib.len() / WARM_UP..];
        let mib = |kib: Option<&u64>| kib.copied().unwrap_or_default() as f64 / 1024.0;
        write!(
            out,
            "{} changes in {} s, one more after p50 {:.1}, p99 {:.1}, max {:.1} ms, memory {:.1} to {:.1} MiB, in the end {:.1}",
            self.changes,
            self.lags.len(),
            lag(50),
            lag(99),
            lag(100),
            mib(usual.iter().min()),
            mib(usual.iter().max()),
            mib(usual.last()),
        )
    }
}

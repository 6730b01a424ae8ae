//! When the data plane is to be started anew.

use std::time::Duration;
use tracing::warn;

/// An engine that fails again and again is started this often at most.
const PAUSE: Duration = Duration::from_secs(1);
/// The kernel lets go of sockets and devices a moment after they were closed: attempts in silence, and between them.
const QUICK: (u32, Duration) = (10, Duration::from_millis(50));

/// The attempts to start it, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    due: Option<Duration>,
    last: Option<Duration>,
    failures: u32,
    told: String,
}

impl Renewal {
    /// It has to be started anew, soon.
    pub(crate) fn ask(&mut self, now: Duration) {
        let soon = self.last.map_or(now, |last| now.max(last + PAUSE));
        self.due.get_or_insert(soon);
    }

    /// When an attempt is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Whether attempts were in vain so far.
    pub(crate) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether to attempt it now.
    pub(crate) fn begin(&mut self, now: Duration) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// It is at work.
    pub(crate) fn done(&mut self, now: Duration) {
        *self = Self {
            last: Some(now),
            ..Self::default()
        };
    }

    /// It could not be started; each reason is told once.
    pub(crate) fn failed(&mut self, why: &str, now: Duration) {
        let (times, pause) = QUICK;
        self.failures += 1;
        if self.failures <= times {
            self.due = Some(now + pause);
            return;
        }
        self.due = Some(now + PAUSE);
        if self.told != why {
            warn!("no packets are carried: {why}. Trying on");
            why.clone_into(&mut self.told);
        }
    }
}

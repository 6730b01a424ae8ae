//! What a watch tells of an outage, and how it waits for its end.

use crate::random;
use std::time::Duration;

/// Pauses are up to half as long again, or half as short.
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
/// A stream that lived this long was a good one: the next break is a new one.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// Different causes told of one outage.
const CAUSES_MAX: usize = 4;

/// The present outage, if there is one.
#[derive(Debug)]
pub(super) struct Outage {
    /// Causes told of it; empty while there is none.
    told: Vec<String>,
    back_off: Duration,
    back_off_max: Duration,
}

impl Outage {
    /// All is well. A server that is back after an outage is noticed within the longest pause.
    pub(super) fn none(longest_pause: Duration) -> Self {
        Self {
            told: Vec::new(),
            back_off: BACK_OFF_MIN,
            back_off_max: longest_pause,
        }
    }

    /// Whether a cause is worth telling. What broke a stream is often not what keeps the next one from beginning:
    /// every cause is told once, but not without end where causes differ from try to try.
    pub(super) fn is_news(&mut self, why: &str) -> bool {
        // Times and counts in a cause do not make it another.
        let cause = why.replace(|c: char| c.is_ascii_digit(), "");
        let news = self.told.len() < CAUSES_MAX && !self.told.contains(&cause);
        if news {
            self.told.push(cause);
        }
        news
    }

    /// The store is there; whether there was an outage.
    pub(super) fn ends(&mut self) -> bool {
        !std::mem::take(&mut self.told).is_empty()
    }

    /// How long to wait: longer each time, and each node differently, so that a server that comes back is not run over.
    pub(super) fn pause(&mut self, lived: Duration) -> Duration {
        if lived >= GOOD_LIFE {
            self.back_off = BACK_OFF_MIN;
        }
        let jitter = random::generator().f64() + 0.5;
        let pause = self.back_off.mul_f64(jitter);
        self.back_off = (self.back_off * 2).min(self.back_off_max);
        pause
    }
}

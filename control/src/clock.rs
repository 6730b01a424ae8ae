//! The clock for everything that falls due: it runs on while the machine sleeps and no one sets it back.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time since the machine started.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    )
}

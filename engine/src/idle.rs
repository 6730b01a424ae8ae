//! What a worker does when both sides are dry: look again for a while, then sleep.
//!
//! Waking a sleeping thread costs more than carrying a packet, so after a small batch a worker
//! keeps looking for a bounded time, and yields at each look: on a machine with few cores the
//! process it waits for may need this very core. After a large batch it sleeps at once, because
//! work then piles up by itself. Looks that find nothing use up a credit which only fast arrivals
//! restore, so a node with one packet a millisecond does not burn a core.

use std::io;
use std::time::{Duration, Instant};

use crate::io::{PacketIo, Ready, Wait};
use crate::stats::{Counter, WorkerStats};

/// Batches of up to this many messages are worth looking for the next one.
const SMALL: usize = 4;
/// Fruitless looks in a row before the worker stops looking.
const CREDIT: u8 = 8;

/// The clock and the patience of one worker.
#[derive(Debug)]
pub(crate) struct Idle {
    spin: Duration,
    credit: u8,
    started: Instant,
    now: Duration,
}

impl Idle {
    /// A clock that counts from when the engine started.
    pub(crate) fn new(spin: Duration, started: Instant) -> Self {
        Self {
            spin,
            credit: CREDIT,
            started,
            now: Duration::ZERO,
        }
    }

    /// The time of the last look at the clock, since the engine started.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// Looks at the clock.
    pub(crate) fn look(&mut self) -> Duration {
        self.now = self.started.elapsed();
        self.now
    }

    /// Looks at the clock and at what is ready, and does not wait.
    pub(crate) fn glance<'a, I: PacketIo<'a>>(&mut self, io: &mut I) -> io::Result<Ready> {
        self.look();
        io.wait(Wait::Not)
    }

    /// Waits for something to do, after a turn that moved `moved` messages.
    pub(crate) fn wait<'a, I: PacketIo<'a>>(
        &mut self,
        io: &mut I,
        moved: usize,
        stats: &WorkerStats,
    ) -> io::Result<Ready> {
        let begin = self.look();
        if (1..=SMALL).contains(&moved) && self.credit > 0 && !self.spin.is_zero() {
            let ready = self.spin(io, begin)?;
            if ready.any() {
                self.credit = CREDIT;
                return Ok(ready);
            }
            self.credit -= 1;
        }
        stats.add(Counter::Sleeps, 1);
        let ready = io.wait(if moved > SMALL {
            Wait::Anywhere
        } else {
            Wait::Near
        })?;
        if self.look() - begin < self.spin {
            self.credit = CREDIT;
        }
        Ok(ready)
    }

    fn spin<'a, I: PacketIo<'a>>(&mut self, io: &mut I, begin: Duration) -> io::Result<Ready> {
        loop {
            std::thread::yield_now();
            let ready = io.wait(Wait::Not)?;
            if ready.any() || self.look() - begin >= self.spin {
                return Ok(ready);
            }
        }
    }
}

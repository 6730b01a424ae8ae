//! One worker thread: passes in both directions while there is something to move, then idleness.
//!
//! A worker owns everything it writes: a TUN queue, sockets, frames, counters. It reads two things
//! it does not own once a turn: the next-hop table, and whether somebody is about to go on after it.

use std::io;

use crate::idle::Idle;
use crate::inbound::Inbound;
use crate::intake::Turn;
use crate::io::{PacketIo, Ready};
use crate::outbound::Outbound;
use crate::stats::{Measure, SharedStats};
use crate::table::TableReader;

/// Turns after which even a worker that never finds both sides dry looks whether it shall stop, and
/// at the clock.
const GLANCE_TURNS: u32 = 64;

/// A worker and all that is its own.
#[derive(Debug)]
pub(crate) struct Worker<'a, I> {
    pub(crate) io: I,
    pub(crate) outbound: Outbound<'a>,
    pub(crate) inbound: Inbound<'a>,
    pub(crate) table: TableReader,
    pub(crate) stats: SharedStats,
    pub(crate) idle: Idle,
}

impl<'a, I: PacketIo<'a>> Worker<'a, I> {
    /// Moves packets until told to stop; an error means the device is gone.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut ready = Ready {
            tun: true,
            underlay: true,
            stop: false,
        };
        let (mut moved, mut turns) = (0, 0u32);
        while !ready.stop {
            if !ready.tun && !ready.underlay {
                ready = self.idle.wait(&mut self.io, moved, &self.stats)?;
                moved = 0;
                continue;
            }
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(GLANCE_TURNS) {
                ready = ready | self.idle.glance(&mut self.io)?;
                moved += self.timed_turn(&mut ready)?;
            } else {
                moved += self.turn(&mut ready)?;
            }
        }
        self.finish()
    }

    /// Passes on what is with this worker alone: whoever goes on after it does not get it.
    fn finish(&mut self) -> io::Result<()> {
        let turn = Turn {
            table: self.table.load(),
            stats: &self.stats,
            now: self.idle.now(),
        };
        self.inbound.lend(&mut self.io, turn);
        let mut left = self.io.finish_reading();
        while left {
            let (table, now) = (self.table.load(), self.idle.now());
            let pass = self.outbound.pass(&mut self.io, table, &self.stats, now)?;
            left = !pass.dry;
        }
        Ok(())
    }

    /// A turn right after a look at the clock.
    fn timed_turn(&mut self, ready: &mut Ready) -> io::Result<usize> {
        let began = self.idle.now();
        let moved = self.turn(ready)?;
        let took = self.idle.look() - began;
        self.stats.measure(Measure::Turn, took.as_micros() as u64);
        Ok(moved)
    }

    /// One pass in each direction that may have something; returns how many messages moved.
    fn turn(&mut self, ready: &mut Ready) -> io::Result<usize> {
        let Self {
            io,
            outbound,
            inbound,
            table,
            stats,
            idle,
        } = self;
        let table = table.load();
        let mut moved = 0;
        if ready.tun {
            let pass = outbound.pass(io, table, stats, idle.now())?;
            ready.tun = !pass.dry;
            moved += pass.packets;
        }
        if ready.underlay {
            let now = idle.now();
            let pass = inbound.pass(io, Turn { table, stats, now });
            ready.underlay = !pass.dry;
            moved += pass.packets;
        }
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::Answers;
    use crate::config::SourceCheck;
    use crate::intake::Intake;
    use crate::io::tun_writer::{Outgoing, Refusals};
    use crate::io::underlay::Underlay;
    use crate::io::{TunBatch, Wait, WaitsIn};
    use crate::outbound::VxlanIdentity;
    use crate::stats::WorkerStats;
    use crate::table::TableWriter;
    use crate::wire::Slot;
    use crate::wire::merge::MergeConfig;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    /// Traffic without end, and a wish to stop that shows at the third look.
    struct Busy {
        underlay: Underlay,
        looks: u32,
    }

    impl<'a> PacketIo<'a> for Busy {
        fn wait(&mut self, how: Wait) -> io::Result<Ready> {
            assert_eq!(how, Wait::Not, "there is always something to do");
            self.looks += 1;
            let stop = self.looks == 3;
            Ok(Ready {
                stop,
                ..Ready::default()
            })
        }

        fn read_tun(&mut self, _: &mut TunBatch<'a>) -> io::Result<bool> {
            Ok(false)
        }

        fn release(&mut self, _: &mut TunBatch<'a>) {}

        fn write_tun<S: Slot>(&mut self, _: &Outgoing<'_, S>, _: &WorkerStats) {}

        fn refusals(&self) -> Refusals {
            Refusals::default()
        }

        fn underlay(&mut self) -> &mut Underlay {
            &mut self.underlay
        }

        fn waits_in(&self) -> WaitsIn {
            WaitsIn::Set(-1)
        }
    }

    #[test]
    fn a_worker_that_never_runs_dry_still_stops_when_told() {
        let merge = MergeConfig {
            vnet_header: true,
            tcp: true,
            udp: true,
            max_udp_segments: 64,
            mtu: 1472,
            constant_ids: true,
        };
        let vxlan = VxlanIdentity::default();
        let mut worker = Worker {
            io: Busy {
                underlay: Underlay::new(Vec::new(), Vec::new(), Vec::new(), Vec::new()),
                looks: 0,
            },
            outbound: Outbound::new(Answers::new(Vec::new()), vxlan, 1472),
            inbound: Inbound::new(
                Vec::new(),
                Vec::new(),
                Intake::new(merge, vxlan, SourceCheck::Peers),
                Arc::default(),
            ),
            table: TableWriter::default().reader(),
            stats: WorkerStats::shared(0),
            idle: Idle::new(Duration::ZERO, Instant::now()),
        };
        worker.run().expect("no device failed");
    }
}

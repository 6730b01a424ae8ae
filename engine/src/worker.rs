//! One worker thread: passes in both directions while there is something to move, then idleness.
//!
//! A worker owns everything it writes: a TUN queue, sockets, frames, counters. It reads one thing
//! it does not own, the next-hop table, once a turn.

use std::io;

use crate::idle::Idle;
use crate::inbound::Inbound;
use crate::io::{PacketIo, Ready};
use crate::outbound::Outbound;
use crate::stats::SharedStats;
use crate::table::TableReader;

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
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut ready = Ready {
            tun: true,
            underlay: true,
            stop: false,
        };
        let mut moved = 0;
        while !ready.stop {
            if ready.tun || ready.underlay {
                moved += self.turn(&mut ready)?;
            } else {
                ready = self.idle.wait(&mut self.io, moved, &self.stats)?;
                moved = 0;
            }
        }
        Ok(())
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
            let pass = inbound.pass(io, table, stats);
            ready.underlay = !pass.dry;
            moved += pass.packets;
        }
        Ok(moved)
    }
}

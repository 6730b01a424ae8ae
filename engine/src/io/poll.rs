//! The backend for every kernel and every sandbox: `poll`, one `read` and one `writev` a packet,
//! which super-packets make few.
//!
//! Why it looks with `poll` and not epoll: a set of three descriptors is cheap to hand over each time, and a
//! descriptor nobody sleeps on has no wait queue entry, so packets that arrive while the worker is
//! busy wake nobody. It sleeps in another way (`sleeper.rs`). See `docs/adr/0004-io-backends.md` for the figures.

use std::io;
use std::sync::Arc;

use ringbuf::Pool;

use super::sleeper::Sleeper;
use super::tun_writer::{Outgoing, Refusals, TunWriter};
use super::underlay::Underlay;
use super::{PacketIo, Parts, Patience, Ready, TunBatch, Wait, WaitsIn};
use crate::stats::WorkerStats;
use crate::sys::poll::PollSet;
use crate::sys::tun::TunQueue;
use crate::sys::wake::Wake;
use crate::wire::Slot;
use crate::wire::virtio::VirtioNetHdr;

const TUN: usize = 0;
const STOP: usize = 1;
const INPUTS: usize = 2;

/// `poll`, `read`, `writev`.
#[derive(Debug)]
pub(crate) struct PollIo<'a> {
    set: PollSet,
    sleeper: Sleeper,
    tun: TunQueue,
    vnet: bool,
    pool: Pool<'a>,
    writer: TunWriter,
    underlay: Underlay,
    wake: Arc<Wake>,
    patience: Patience,
}

impl<'a> PollIo<'a> {
    /// Watches one TUN queue, one worker's sockets and its wake-up.
    pub(crate) fn new(parts: Parts<'a>) -> io::Result<Self> {
        let Parts {
            tun,
            vnet,
            pool,
            underlay,
            wake,
        } = parts;
        let fixed = [tun.raw(), wake.raw()].into_iter();
        let fds: Vec<_> = fixed.chain(underlay.input_fds()).collect();
        let set = PollSet::new(fds.iter().copied());
        let sleeper = Sleeper::new(fds)?;
        let writer = TunWriter::new(vnet);
        Ok(Self {
            set,
            sleeper,
            tun,
            vnet,
            pool,
            writer,
            underlay,
            wake,
            patience: Patience::default(),
        })
    }

    fn look(&mut self, block: bool) -> io::Result<()> {
        if let Err(error) = self.set.wait(block) {
            self.patience.bear(error)?;
        }
        Ok(())
    }
}

impl<'a> PacketIo<'a> for PollIo<'a> {
    fn wait(&mut self, how: Wait) -> io::Result<Ready> {
        self.look(how == Wait::Near)?;
        if how == Wait::Anywhere && !self.set.any_ready() {
            let slept = self.sleeper.sleep().is_ok();
            self.look(!slept)?;
        }
        let mut ready = Ready {
            tun: self.set.is_ready(TUN),
            stop: self.set.is_ready(STOP) && self.wake.heed(),
            underlay: false,
        };
        ready.underlay =
            (INPUTS..INPUTS + self.underlay.inputs()).any(|index| self.set.is_ready(index));
        Ok(ready)
    }

    fn read_tun(&mut self, batch: &mut TunBatch<'a>) -> io::Result<bool> {
        while !batch.is_full() {
            let Some(mut frame) = self.pool.take() else {
                return Ok(false);
            };
            let start = frame.headroom() - if self.vnet { VirtioNetHdr::LEN } else { 0 };
            match self.tun.read(&mut frame.whole_mut()[start..]) {
                Ok(len) => {
                    self.patience.restore();
                    frame.set(start, len);
                    batch.push(frame, self.vnet);
                }
                Err(error) => {
                    self.pool.put(frame);
                    return self.patience.bear(error);
                }
            }
        }
        Ok(false)
    }

    fn release(&mut self, batch: &mut TunBatch<'a>) {
        batch.take_frames().for_each(|frame| self.pool.put(frame));
    }

    fn write_tun<S: Slot>(&mut self, outgoing: &Outgoing<'_, S>, stats: &WorkerStats) {
        self.writer.write_all(&self.tun, outgoing, stats);
    }

    fn refusals(&self) -> Refusals {
        self.writer.refusals
    }

    fn underlay(&mut self) -> &mut Underlay {
        &mut self.underlay
    }

    fn waits_in(&self) -> WaitsIn {
        WaitsIn::Set(self.sleeper.raw())
    }
}

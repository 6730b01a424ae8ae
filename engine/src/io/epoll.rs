//! The backend for every kernel and every sandbox: readiness by epoll, one `read` and one
//! `writev` a packet, which super-packets make few.
//!
//! mio's epoll is edge-triggered: an event tells that something arrived since the last look. The
//! worker sleeps only after both sides were read dry, so no edge is ever missed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use ringbuf::Pool;

use super::tun_writer::{Outgoing, TunWriter};
use super::underlay::Underlay;
use super::{PacketIo, Parts, Ready, TunBatch, is_dry};
use crate::stats::WorkerStats;
use crate::sys::tun::TunQueue;
use crate::sys::wake::Wake;
use crate::wire::virtio::VirtioNetHdr;

const TUN: Token = Token(0);
const UNDERLAY: Token = Token(1);
const STOP: Token = Token(2);

/// epoll, `read`, `writev`.
#[derive(Debug)]
pub(crate) struct EpollIo<'a> {
    poll: Poll,
    events: Events,
    tun: TunQueue,
    vnet: bool,
    pool: Pool<'a>,
    writer: TunWriter,
    underlay: Underlay,
    /// Kept open for as long as it is watched.
    #[expect(dead_code, reason = "polled by its descriptor")]
    wake: Arc<Wake>,
}

impl<'a> EpollIo<'a> {
    /// Watches one TUN queue, one worker's sockets and its wake-up.
    pub(crate) fn new(parts: Parts<'a>) -> io::Result<Self> {
        let Parts {
            tun,
            vnet,
            pool,
            underlay,
            wake,
        } = parts;
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut SourceFd(&tun.raw()), TUN, Interest::READABLE)?;
        for fd in underlay.listener_fds() {
            registry.register(&mut SourceFd(&fd), UNDERLAY, Interest::READABLE)?;
        }
        registry.register(&mut SourceFd(&wake.raw()), STOP, Interest::READABLE)?;
        let (events, writer) = (Events::with_capacity(16), TunWriter::new(vnet));
        Ok(Self {
            poll,
            events,
            tun,
            vnet,
            pool,
            writer,
            underlay,
            wake,
        })
    }
}

impl<'a> PacketIo<'a> for EpollIo<'a> {
    fn wait(&mut self, block: bool) -> io::Result<Ready> {
        let limit = (!block).then_some(Duration::ZERO);
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Ready::default()),
            other => other?,
        }
        let mut ready = Ready::default();
        for event in &self.events {
            match event.token() {
                TUN => ready.tun = true,
                UNDERLAY => ready.underlay = true,
                _ => ready.stop = true,
            }
        }
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
                    frame.set(start, len);
                    batch.push(frame, self.vnet);
                }
                Err(error) => {
                    self.pool.put(frame);
                    return if is_dry(&error) { Ok(true) } else { Err(error) };
                }
            }
        }
        Ok(false)
    }

    fn release(&mut self, batch: &mut TunBatch<'a>) {
        batch.take_frames().for_each(|frame| self.pool.put(frame));
    }

    fn write_tun(&mut self, outgoing: &Outgoing<'_, '_>, stats: &WorkerStats) {
        self.writer.write_all(&self.tun, outgoing, stats);
    }

    fn underlay(&mut self) -> &mut Underlay {
        &mut self.underlay
    }
}

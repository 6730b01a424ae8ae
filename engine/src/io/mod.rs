//! How packets enter and leave: one trait of few verbs, whole batches, one implementation for
//! each way the kernel offers.
//!
//! The underlay side is the same for all of them (`sendmmsg` and `recvmmsg`; a ring brought
//! nothing there, see `docs/adr/0004-io-backends.md`), so a backend differs in how it waits, how it
//! reads the TUN and how it writes it.

pub(crate) mod favourite;
pub(crate) mod poll;
pub(crate) mod sleeper;
pub(crate) mod tun_writer;
pub(crate) mod underlay;
pub(crate) mod uring;

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use ringbuf::{Frame, Pool};

use crate::stats::WorkerStats;
use crate::sys::tun::TunQueue;
use crate::sys::wake::Wake;
use crate::wire::Slot;
use crate::wire::virtio::VirtioNetHdr;
use tun_writer::{Outgoing, Refusals};
use underlay::Underlay;

/// Bytes in front of each packet: room for a VXLAN and Ethernet header, a cache line.
pub(crate) const HEADROOM: usize = 64;
/// Bytes a frame can hold: the largest IP packet.
pub(crate) const FRAME_BYTES: usize = 65_536;
/// Packets read from the TUN in one batch at most.
pub(crate) const BATCH_PACKETS: usize = 64;
/// Bytes after which a batch is sent on: keeps payload in the cache and latency bounded. A single
/// super-packet leaves as one full send and a stub; four of them as five full ones.
pub(crate) const BATCH_BYTES: usize = 240 << 10;

/// Which sides may have something to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) tun: bool,
    pub(crate) underlay: bool,
    pub(crate) stop: bool,
}

impl Ready {
    /// Whether there is anything to do.
    pub(crate) fn any(self) -> bool {
        self.tun || self.underlay || self.stop
    }
}

impl std::ops::BitOr for Ready {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self {
            tun: self.tun | other.tun,
            underlay: self.underlay | other.underlay,
            stop: self.stop | other.stop,
        }
    }
}

/// Packets read from the TUN in one go.
#[derive(Debug)]
pub(crate) struct TunBatch<'a> {
    pub(crate) frames: Vec<Frame<'a>>,
    pub(crate) headers: Vec<VirtioNetHdr>,
    bytes: usize,
}

impl<'a> TunBatch<'a> {
    pub(crate) fn new() -> Self {
        Self {
            frames: Vec::with_capacity(BATCH_PACKETS),
            headers: Vec::with_capacity(BATCH_PACKETS),
            bytes: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_PACKETS || self.bytes >= BATCH_BYTES
    }

    /// Adds a frame whose bytes are a virtio header (if `vnet`) and a packet.
    pub(crate) fn push(&mut self, mut frame: Frame<'a>, vnet: bool) {
        self.bytes += frame.len();
        self.headers.push(if vnet {
            pull_header(&mut frame)
        } else {
            VirtioNetHdr::default()
        });
        self.frames.push(frame);
    }

    /// Empties the batch of its frames.
    pub(crate) fn take_frames(&mut self) -> impl Iterator<Item = Frame<'a>> {
        self.headers.clear();
        self.bytes = 0;
        self.frames.drain(..)
    }
}

/// Takes the virtio header off the front; a read too short to have one leaves an empty packet,
/// which the parser drops.
fn pull_header(frame: &mut Frame<'_>) -> VirtioNetHdr {
    let Some(bytes) = frame.bytes().first_chunk::<{ VirtioNetHdr::LEN }>() else {
        frame.truncate(0);
        return VirtioNetHdr::default();
    };
    let header = VirtioNetHdr::from_bytes(bytes);
    frame.pull_front(VirtioNetHdr::LEN);
    header
}

/// Nothing to read now; a device that is down says the same in its own word.
pub(crate) fn is_dry(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) || error.raw_os_error() == Some(libc::EIO)
}

/// How often in a row a call may fail for a reason that should pass.
const FAILURES_MAX: u32 = 1000;

/// How long a worker bears with calls that fail: a shortage of the kernel's passes, a device that
/// is gone does not come back.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
}

impl Patience {
    /// A call has worked.
    pub(crate) fn restore(&mut self) {
        self.failures = 0;
    }

    /// Whether there was nothing to do; an error if there is no sense in another try.
    pub(crate) fn bear(&mut self, error: io::Error) -> io::Result<bool> {
        if is_dry(&error) {
            return Ok(true);
        }
        self.failures += 1;
        if is_gone(&error) || self.failures > FAILURES_MAX {
            return Err(error);
        }
        Ok(false)
    }
}

/// The descriptor leads nowhere any more: the device was deleted.
fn is_gone(error: &io::Error) -> bool {
    let gone = [libc::EBADFD, libc::EBADF, libc::ENODEV, libc::ENXIO];
    error
        .raw_os_error()
        .is_some_and(|code| gone.contains(&code))
}

/// How to wait for something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    Not,
    /// Asleep, to wake up on the processor that brings the packet: best for a single one.
    Near,
    /// Asleep, to wake up where there is room: best beside a sender that goes on.
    Anywhere,
}

/// The descriptor in which a worker waits for others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitsIn {
    /// An io_uring, which moves packets as well.
    Ring(RawFd),
    /// An epoll set.
    Set(RawFd),
}

impl WaitsIn {
    /// Its number.
    pub(crate) fn raw(self) -> RawFd {
        let (Self::Ring(fd) | Self::Set(fd)) = self;
        fd
    }
}

/// What a backend is made from.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) tun: TunQueue,
    pub(crate) vnet: bool,
    pub(crate) pool: Pool<'a>,
    pub(crate) underlay: Underlay,
    pub(crate) wake: Arc<Wake>,
}

/// One way of moving packets between the kernel and a worker.
pub(crate) trait PacketIo<'a> {
    /// Tells what may be ready; if nothing is, waits in this way until something may be.
    fn wait(&mut self, how: Wait) -> io::Result<Ready>;

    /// Reads packets until the batch is full or the TUN is dry; true when it is dry.
    fn read_tun(&mut self, batch: &mut TunBatch<'a>) -> io::Result<bool>;

    /// Takes back the frames of a batch that has been sent.
    fn release(&mut self, batch: &mut TunBatch<'a>);

    /// Writes packets to the TUN, each in one call; what the kernel refuses is counted.
    fn write_tun<S: Slot>(&mut self, outgoing: &Outgoing<'_, S>, stats: &WorkerStats);

    /// Reads no more from the TUN; true when packets were read before that nobody has asked for yet.
    fn finish_reading(&mut self) -> bool {
        false
    }

    /// How super-packets fared at the TUN.
    fn refusals(&self) -> Refusals;

    /// The sockets of this worker.
    fn underlay(&mut self) -> &mut Underlay;

    /// What it waits in.
    fn waits_in(&self) -> WaitsIn;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bear(patience: &mut Patience, code: i32) -> Option<bool> {
        patience.bear(io::Error::from_raw_os_error(code)).ok()
    }

    #[test]
    fn a_shortage_is_borne_for_a_while_and_a_device_that_is_gone_not_at_all() {
        let mut patience = Patience::default();
        assert_eq!(bear(&mut patience, libc::EAGAIN), Some(true));
        for _ in 0..FAILURES_MAX {
            assert_eq!(bear(&mut patience, libc::ENOMEM), Some(false));
        }
        assert_eq!(bear(&mut patience, libc::ENOMEM), None);
        patience.restore();
        assert_eq!(bear(&mut patience, libc::ENOMEM), Some(false));
        assert_eq!(bear(&mut patience, libc::EBADFD), None);
    }
}

//! A socket that frames of one receive queue are put into before the kernel's stack sees them.
//!
//! The kernel copies each frame into memory both sides share; a ring says which places are free,
//! another which are full. No call is made to receive.
#![allow(unsafe_code, reason = "the memory is shared with the kernel")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use xdp::nic::NicIndex;
use xdp::slab::Slab;
use xdp::socket::{SocketError, XdpSocket, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{FillRing, Packet, RingConfigBuilder, RxRing, Umem};

use super::mmsg::RECEIVE_MAX;
use crate::wire::Slot;

/// Frames that may wait, 4 MiB in all: what comes in some milliseconds at full speed.
const FRAMES: u32 = 2048;
/// Bytes of a frame that are the kernel's own.
const RESERVED: usize = 256;
/// The longest frame that finds room.
pub(crate) const FRAME_MAX: usize = 2048 - RESERVED;

/// The socket of one receive queue, and the memory it shares with the kernel.
pub(crate) struct FrameSocket {
    taken: Taken,
    rx: RxRing,
    fill: FillRing,
    memory: Umem,
    socket: XdpSocket,
}

impl std::fmt::Debug for FrameSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameSocket")
            .field("fd", &self.raw())
            .finish_non_exhaustive()
    }
}

// SAFETY: every pointer in here is to memory that is mapped for as long as this lives and that
// nothing else in this process knows of.
unsafe impl Send for FrameSocket {}

/// Frames that were received, in order.
#[derive(Default)]
struct Taken(Vec<Packet>);

impl Slab for Taken {
    fn available(&self) -> usize {
        RECEIVE_MAX - self.0.len()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push_front(&mut self, packet: Packet) -> Option<Packet> {
        self.0.push(packet);
        None
    }

    fn pop_back(&mut self) -> Option<Packet> {
        self.0.pop()
    }
}

impl Slot for Packet {
    fn whole(&self) -> &[u8] {
        self
    }

    fn whole_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl FrameSocket {
    /// A socket for one queue of a device, where the driver's program leads to it.
    pub(crate) fn open(device: NicIndex, queue: u32) -> io::Result<Self> {
        let memory = UmemCfgBuilder {
            frame_size: FrameSize::TwoK,
            frame_count: FRAMES,
            ..UmemCfgBuilder::default()
        };
        let memory = Umem::map(memory.build().map_err(io::Error::other)?)?;
        let rings = RingConfigBuilder {
            rx_count: FRAMES,
            fill_count: FRAMES,
            tx_count: 0,
            // The kernel wants one, of whatever size.
            completion_count: 1,
        };
        let rings = rings.build().map_err(io::Error::other)?;
        let mut builder = XdpSocketBuilder::new().map_err(cause)?;
        let (rings, mut flags) = builder.build_rings(&memory, rings).map_err(cause)?;
        // Frames of a device that keeps its own memory would have to be given back to it in time.
        flags.force_copy();
        let socket = builder.bind(device, queue, flags).map_err(cause)?;
        let rx = rings
            .rx_ring
            .ok_or_else(|| io::Error::other("no receive ring"))?;
        let mut made = Self {
            taken: Taken(Vec::with_capacity(RECEIVE_MAX)),
            rx,
            fill: rings.fill_ring,
            memory,
            socket,
        };
        made.lend();
        Ok(made)
    }

    /// A second descriptor, to ask [`lost`] by.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        // SAFETY: `self.socket` keeps the descriptor open while it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.raw()) }.try_clone_to_owned()
    }

    /// Its descriptor.
    pub(crate) fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes what is there, up to a batch; returns how many frames.
    pub(crate) fn receive(&mut self) -> usize {
        self.give_back();
        // SAFETY: packets are kept in `taken` alone, which is dropped before `memory` is.
        unsafe { self.rx.recv(&self.memory, &mut self.taken) }
    }

    /// The frames received last.
    pub(crate) fn frames(&mut self) -> &mut [Packet] {
        &mut self.taken.0
    }

    /// Lets the kernel have the frames received last again.
    pub(crate) fn give_back(&mut self) {
        if self.taken.0.is_empty() {
            return;
        }
        for packet in self.taken.0.drain(..) {
            self.memory.free_packet(packet);
        }
        self.lend();
    }

    fn lend(&mut self) {
        let free = self.memory.allocatable();
        // SAFETY: `memory` lives for as long as the socket does: they are fields of one struct, and
        // after its end nobody looks at what the kernel writes.
        unsafe { self.fill.enqueue(&mut self.memory, free) };
    }
}

/// Frames the kernel had no room for since the socket was made.
pub(crate) fn lost(socket: &OwnedFd) -> io::Result<u64> {
    // SAFETY: plain numbers, for which all zeroes are valid.
    let mut told: libc::xdp_statistics = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&told) as libc::socklen_t;
    // SAFETY: `told` is `len` writable bytes for as long as the call takes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_STATISTICS,
            (&raw mut told).cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // A frame without a free place for it is dropped, and counted as such.
    Ok(told.rx_dropped + told.rx_ring_full)
}

/// What the kernel said.
fn cause(error: SocketError) -> io::Error {
    match error {
        SocketError::SocketCreation(cause) | SocketError::Bind(cause) => cause,
        SocketError::SetSockOpt { inner, .. }
        | SocketError::GetSockOpt { inner, .. }
        | SocketError::RingMap { inner, .. } => inner,
    }
}

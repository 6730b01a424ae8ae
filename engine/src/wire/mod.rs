//! The pure half of the engine: bytes in, decisions and bytes out; no descriptors, no clock, no
//! allocation per packet.
//!
//! Reading order: [`ip`] looks at a packet, [`split`] takes super-packets from the TUN apart,
//! [`merge`] builds them for the TUN, [`vxlan`] and [`ecn`] are the tunnel, [`icmp`] answers what
//! cannot be carried.
//!
//! Every length is checked once, by a parser of this module; what works on parsed packets relies on
//! that.

pub mod checksum;
pub mod ecn;
pub mod icmp;
pub mod ip;
pub mod l4;
pub mod merge;
pub mod outer;
pub mod split;
pub mod unmerge;
pub mod virtio;
pub mod vxlan;

#[cfg(test)]
#[path = "../../tests/oracle/order.rs"]
mod order;
#[cfg(test)]
#[path = "../../tests/oracle/packet.rs"]
mod packet;
#[cfg(test)]
#[path = "../../tests/oracle/train.rs"]
mod train;

use std::fmt;

/// Which internet protocol a packet speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An Ethernet hardware address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether the address names a group, the broadcast address included.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether all bytes are zero.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Bytes `start..start + len` of a slot of the current batch, or of the header slab of whoever made
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Position of the frame in the batch, or [`Piece::HEADERS`].
    pub slot: u16,
    /// First byte, counted from the start of the whole slot.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Piece {
    /// The `slot` of pieces that lie in a header slab instead of a frame.
    pub const HEADERS: u16 = u16::MAX;

    /// The bytes this piece names in `slab`, the slot or header slab it was made for.
    pub fn of<'a>(&self, slab: &'a [u8]) -> &'a [u8] {
        &slab[self.start as usize..][..self.len as usize]
    }

    /// As [`Piece::of`], for writing.
    pub fn of_mut<'a>(&self, slab: &'a mut [u8]) -> &'a mut [u8] {
        &mut slab[self.start as usize..][..self.len as usize]
    }

    /// What is left behind the first `n` bytes; `n` is at most the length.
    pub fn skip(&self, n: u32) -> Self {
        Self {
            slot: self.slot,
            start: self.start + n,
            len: self.len - n,
        }
    }
}

/// Memory a packet lies in: a frame of the arena, or plain bytes in tests and tools.
pub trait Slot {
    /// The whole slot; pieces count from its start.
    fn whole(&self) -> &[u8];
    /// The whole slot, for writing.
    fn whole_mut(&mut self) -> &mut [u8];
}

impl Slot for ringbuf::Frame<'_> {
    fn whole(&self) -> &[u8] {
        ringbuf::Frame::whole(self)
    }

    fn whole_mut(&mut self) -> &mut [u8] {
        ringbuf::Frame::whole_mut(self)
    }
}

impl Slot for Vec<u8> {
    fn whole(&self) -> &[u8] {
        self
    }

    fn whole_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// The big-endian number at `at`.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The big-endian number at `at`.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes a big-endian number at `at`.
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Writes a big-endian number at `at`.
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

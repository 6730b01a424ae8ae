//! One slot of an arena, and which part of it is the packet.
//!
//! A frame is a mutable borrow of its slot with two cursors: 32 bytes, cheap to move, impossible
//! to clone. Like slice indexing, the methods that move the cursors panic when asked to leave the
//! slot: they are called with lengths that a parse has already bounded.

use std::fmt;

/// The unique owner of one slot.
pub struct Frame<'a> {
    slot: &'a mut [u8],
    start: u32,
    len: u32,
    headroom: u32,
    index: u32,
}

const _: () = assert!(
    size_of::<Frame<'_>>() == 32,
    "two frames fit in one cache line"
);

impl<'a> Frame<'a> {
    pub(crate) fn new(slot: &'a mut [u8], index: u32, headroom: usize) -> Self {
        debug_assert!(headroom <= slot.len() && slot.len() <= u32::MAX as usize);
        let headroom = headroom as u32;
        Self {
            slot,
            start: headroom,
            len: 0,
            headroom,
            index,
        }
    }

    /// The position of the slot in its arena.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.slot[self.start as usize..][..self.len as usize]
    }

    /// The packet, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.slot[self.start as usize..][..self.len as usize]
    }

    /// Length of the packet.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes in front of the packet that headers can grow into.
    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Where the packet starts in [`whole`](Self::whole).
    pub fn start(&self) -> usize {
        self.start as usize
    }

    /// The slot, headroom included; offsets into it do not change when headers come and go.
    pub fn whole(&self) -> &[u8] {
        self.slot
    }

    /// The slot, headroom included, to be changed in place.
    pub fn whole_mut(&mut self) -> &mut [u8] {
        self.slot
    }

    /// Grows the packet by `n` bytes at its front and returns them.
    ///
    /// # Panics
    /// When the headroom is shorter than `n`.
    pub fn push_front(&mut self, n: usize) -> &mut [u8] {
        assert!(
            n <= self.headroom(),
            "header of {n} bytes does not fit the headroom"
        );
        self.start -= n as u32;
        self.len += n as u32;
        &mut self.slot[self.start as usize..][..n]
    }

    /// Cuts `n` bytes off the front of the packet; they become headroom.
    ///
    /// # Panics
    /// When the packet is shorter than `n`.
    pub fn pull_front(&mut self, n: usize) {
        assert!(
            n <= self.len(),
            "packet is shorter than the {n} bytes to cut off"
        );
        self.start += n as u32;
        self.len -= n as u32;
    }

    /// Cuts the packet down to `n` bytes; a shorter one stays as it is.
    pub fn truncate(&mut self, n: usize) {
        self.len = self.len().min(n) as u32;
    }

    /// Declares `start..start + len` of the slot to be the packet.
    ///
    /// # Panics
    /// When that range is not within the slot.
    pub fn set(&mut self, start: usize, len: usize) {
        let size = self.slot.len();
        assert!(
            start <= size && len <= size - start,
            "packet {start}+{len} is not in the slot"
        );
        self.start = start as u32;
        self.len = len as u32;
    }

    /// Back to no packet behind the full headroom; the bytes stay as they are.
    pub fn reset(&mut self) {
        self.start = self.headroom;
        self.len = 0;
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.start..self.start + self.len;
        f.debug_struct("Frame")
            .field("index", &self.index)
            .field("packet", &range)
            .finish()
    }
}

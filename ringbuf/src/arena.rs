//! One region of memory cut into equal slots.
//!
//! The distance between two slots, the stride, is an odd multiple of 64 bytes. A cache finds the
//! set of a line by the low bits of its address, so slots exactly 64 KiB apart would put all
//! their first lines, which hold the headers, into the same one or two sets: a dozen packets and
//! the cache is "full". An odd number of lines has no divisor in common with the number of sets,
//! so consecutive slots begin in different sets until all sets have been used once.

use crate::frame::Frame;
use crate::pool::Pool;
use crate::region::{Backing, Region};
use std::io;
use std::ops::Range;

const CACHE_LINE: usize = 64;

/// How an arena is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    /// Number of frames.
    pub count: u32,
    /// Bytes in front of a packet for headers to come.
    pub headroom: usize,
    /// Bytes behind the headroom, the longest packet.
    pub capacity: usize,
}

/// The memory of many frames.
#[derive(Debug)]
pub struct Arena {
    region: Region,
    layout: FrameLayout,
}

impl FrameLayout {
    /// Bytes of one slot: headroom and capacity.
    fn slot(&self) -> Option<usize> {
        let slot = self.headroom.checked_add(self.capacity)?;
        (slot <= u32::MAX as usize).then_some(slot)
    }

    /// Bytes from one slot to the next.
    fn stride(&self) -> Option<usize> {
        let lines = self.slot()?.div_ceil(CACHE_LINE);
        Some((lines | 1) * CACHE_LINE)
    }

    /// Bytes of all slots, or `None` if that is nothing or more than there is.
    fn total(&self) -> Option<usize> {
        let total = self.stride()?.checked_mul(self.count as usize)?;
        (self.count > 0 && self.capacity > 0 && isize::try_from(total).is_ok()).then_some(total)
    }
}

impl Arena {
    /// Maps memory for all frames; none of it is resident before it is used.
    pub fn new(layout: FrameLayout) -> io::Result<Self> {
        let total = layout.total().ok_or(io::ErrorKind::InvalidInput)?;
        let region = Region::large(total)?;
        Ok(Self { region, layout })
    }

    /// Hands out every frame exactly once; the borrow makes a second pool wait for the first.
    pub fn frames(&mut self) -> Pool<'_> {
        let FrameLayout {
            headroom, capacity, ..
        } = self.layout;
        let stride = self.region.bytes().len() / self.layout.count as usize;
        let slots = self.region.bytes_mut().chunks_exact_mut(stride);
        let frames = slots.enumerate().map(|(index, slot)| {
            Frame::new(&mut slot[..headroom + capacity], index as u32, headroom)
        });
        Pool::new(frames)
    }

    /// Which pages the kernel granted.
    pub fn backing(&self) -> Backing {
        self.region.backing()
    }

    /// Whether the memory is kept from being swapped out.
    pub fn locked(&self) -> bool {
        self.region.locked()
    }

    /// Address and length of the memory these frames lie in, to register it with the kernel, which makes it resident.
    pub fn region_of(&self, frames: Range<u32>) -> (*const u8, usize) {
        let bytes = self.region.bytes();
        let stride = bytes.len() / self.layout.count as usize;
        let bytes = &bytes[frames.start as usize * stride..frames.end as usize * stride];
        (bytes.as_ptr(), bytes.len())
    }
}

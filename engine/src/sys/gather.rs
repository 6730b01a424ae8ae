//! Packets gathered from pieces, for `writev` and for a ring's writes.
#![allow(
    unsafe_code,
    reason = "the pointers of an iovec may only be used while their bytes live"
)]

use std::marker::PhantomData;
use std::ops::Range;

/// Arrays for a batch of gathered packets, kept between batches so that nothing is allocated.
pub(crate) struct GatherArrays {
    parts: Vec<libc::iovec>,
    packets: Vec<Range<usize>>,
}

// SAFETY: the pointers in `parts` are used only through `Gathered`, which rebuilds them from live
// borrows; between uses they are stale numbers that nobody follows.
unsafe impl Send for GatherArrays {}

impl std::fmt::Debug for GatherArrays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatherArrays")
            .field("packets", &self.packets.len())
            .finish_non_exhaustive()
    }
}

impl GatherArrays {
    /// Arrays with room for so many packets and parts, so that they need not grow.
    pub(crate) fn with_room(packets: usize, parts: usize) -> Self {
        Self {
            parts: Vec::with_capacity(parts),
            packets: Vec::with_capacity(packets),
        }
    }

    /// Begins an empty batch whose bytes live at least as long as `'p`.
    pub(crate) fn start<'s, 'p>(&'s mut self) -> Gathered<'s, 'p> {
        self.parts.clear();
        self.packets.clear();
        Gathered {
            arrays: self,
            bytes: PhantomData,
        }
    }
}

/// Packets being gathered; the borrow of every byte in them lasts until they are dropped.
#[derive(Debug)]
pub(crate) struct Gathered<'s, 'p> {
    arrays: &'s mut GatherArrays,
    bytes: PhantomData<&'p [u8]>,
}

impl<'p> Gathered<'_, 'p> {
    /// Opens the next packet.
    pub(crate) fn packet(&mut self) {
        let at = self.arrays.parts.len();
        self.arrays.packets.push(at..at);
    }

    /// Appends bytes to the packet opened last.
    pub(crate) fn part(&mut self, bytes: &'p [u8]) {
        let base = bytes.as_ptr().cast_mut().cast();
        self.arrays.parts.push(libc::iovec {
            iov_base: base,
            iov_len: bytes.len(),
        });
        if let Some(packet) = self.arrays.packets.last_mut() {
            packet.end += 1;
        }
    }

    /// The parts of each packet, in order.
    pub(crate) fn packets(&self) -> impl ExactSizeIterator<Item = &[libc::iovec]> {
        let parts = &self.arrays.parts;
        self.arrays
            .packets
            .iter()
            .map(move |packet| &parts[packet.clone()])
    }
}

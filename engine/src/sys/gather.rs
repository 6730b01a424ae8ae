//! One packet gathered from pieces, for `writev`.
#![allow(
    unsafe_code,
    reason = "the pointers of an iovec may only be used while their bytes live"
)]

use std::io;
use std::marker::PhantomData;

use super::tun::TunQueue;

/// An array of pieces, kept between packets so that nothing is allocated per packet.
#[derive(Default)]
pub(crate) struct Gather {
    parts: Vec<libc::iovec>,
}

// SAFETY: the pointers in `parts` are used only through `Gathered`, which rebuilds them from live
// borrows; between uses they are stale numbers that nobody follows.
unsafe impl Send for Gather {}

impl std::fmt::Debug for Gather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gather")
            .field("parts", &self.parts.len())
            .finish()
    }
}

impl Gather {
    /// Begins an empty packet whose bytes live at least as long as `'p`.
    pub(crate) fn start<'g, 'p>(&'g mut self) -> Gathered<'g, 'p> {
        self.parts.clear();
        Gathered {
            parts: &mut self.parts,
            bytes: PhantomData,
        }
    }
}

/// A packet being gathered; the borrow of every byte in it lasts until it is dropped.
#[derive(Debug)]
pub(crate) struct Gathered<'g, 'p> {
    parts: &'g mut Vec<libc::iovec>,
    bytes: PhantomData<&'p [u8]>,
}

impl<'p> Gathered<'_, 'p> {
    /// Appends bytes to the packet.
    pub(crate) fn part(&mut self, bytes: &'p [u8]) {
        let base = bytes.as_ptr().cast_mut().cast();
        self.parts.push(libc::iovec {
            iov_base: base,
            iov_len: bytes.len(),
        });
    }

    /// Writes the packet to a TUN queue.
    pub(crate) fn write(self, tun: &TunQueue) -> io::Result<usize> {
        tun.write(self.parts)
    }
}

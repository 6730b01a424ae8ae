//! The table of free buffers as the kernel reads it, `struct io_uring_buf_ring` in its headers.
//!
//! ```text
//!   byte    0              8         12     14
//!   entry 0 | address u64  | len u32 | id   | tail u16 |   <- tail of the whole ring
//!   entry 1 | address u64  | len u32 | id   | unused   |
//! ```
//!
//! The kernel only reads: it compares the tail with a head of its own and copies entries in
//! between. So the tail is the one word both sides race on, and the entries are plain memory
//! ordered by it.

use crate::sync::{AtomicU16, Cell};
use std::io;

/// One free buffer. Aligned and sized as the kernel's, which the assertions below pin down.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Entry {
    pub(crate) address: Cell<u64>,
    pub(crate) len: Cell<u32>,
    pub(crate) id: Cell<u16>,
    /// Meaningful in entry 0 only.
    pub(crate) tail: AtomicU16,
}

#[cfg(not(loom))]
mod memory {
    //! The table in a page-aligned region, as `IORING_REGISTER_PBUF_RING` wants it.
    #![allow(
        unsafe_code,
        reason = "the layout of this memory is shared with the kernel"
    )]

    use super::{Entry, io};
    use crate::region::Region;
    use std::mem::offset_of;

    const _: () = assert!(size_of::<Entry>() == 16);
    const _: () = assert!(offset_of!(Entry, len) == 8);
    const _: () = assert!(offset_of!(Entry, id) == 12);
    const _: () = assert!(offset_of!(Entry, tail) == 14);

    #[derive(Debug)]
    pub(crate) struct Entries {
        region: Region,
        count: usize,
    }

    impl Entries {
        pub(crate) fn new(count: u16) -> io::Result<Self> {
            let count = usize::from(count);
            let region = Region::small(count * size_of::<Entry>())?;
            Ok(Self { region, count })
        }

        pub(crate) fn address(&self) -> u64 {
            self.region.bytes().as_ptr().expose_provenance() as u64
        }

        pub(crate) fn as_slice(&mut self) -> &[Entry] {
            let first = self.region.bytes_mut().as_mut_ptr().cast::<Entry>();
            // SAFETY: `new` made the region `count` entries long; it starts on a page boundary,
            // which aligns it for an entry; it was zeroed, which every field of an entry may be;
            // the pointer may write, which the cells need; the borrow of `self` keeps the region
            // alive and other borrows away. The kernel, the only other party, never writes.
            unsafe { std::slice::from_raw_parts(first, self.count) }
        }
    }
}

#[cfg(loom)]
mod memory {
    //! The table as objects that loom watches, shared with a thread that plays the kernel.

    use super::{AtomicU16, Cell, Entry, io};
    use std::sync::Arc;

    #[derive(Debug)]
    pub(crate) struct Entries(pub(crate) Arc<[Entry]>);

    impl Entries {
        pub(crate) fn new(count: u16) -> io::Result<Self> {
            Ok(Self((0..count).map(|_| Entry::empty()).collect()))
        }

        pub(crate) fn address(&self) -> u64 {
            0
        }

        pub(crate) fn as_slice(&mut self) -> &[Entry] {
            &self.0
        }
    }

    impl Entry {
        fn empty() -> Self {
            Self {
                address: Cell::new(0),
                len: Cell::new(0),
                id: Cell::new(0),
                tail: AtomicU16::new(0),
            }
        }
    }
}

pub(crate) use memory::Entries;

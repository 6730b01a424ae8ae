//! One stretch of zeroed memory that never moves.
//!
//! Packet memory is touched in an order no prefetcher guesses, so address translation is worth
//! something: with 2 MiB pages a whole arena needs a handful of TLB entries. There are two ways
//! to get them, tried best first:
//!
//! 1. pages the administrator set aside (`MAP_HUGETLB`). A container may be allowed to map them
//!    and still be killed by SIGBUS on first touch, because its cgroup limit is charged only
//!    then. Populating at once turns that signal into an error we can answer. It costs nothing:
//!    these pages were taken out of normal use at boot.
//! 2. pages the kernel puts together itself (`MADV_HUGEPAGE`). These come on first touch, so they
//!    are not populated: what is never used never becomes resident.
//!
//! Sizes are not rounded up for the second way. The mapping only starts on a 2 MiB boundary, for
//! which address space is spent, not memory; a tail shorter than 2 MiB has small pages.

use std::io;

/// What a huge page is on x86-64, and on arm64 with 4 KiB pages.
const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4096;

#[cfg(not(miri))]
type Memory = memmap2::MmapMut;
/// Miri knows no huge pages and checks heap memory more sharply.
#[cfg(miri)]
type Memory = Vec<u8>;

/// Which pages an arena was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Huge pages set aside by the administrator.
    HugePages,
    /// Small pages that the kernel was asked to join into huge ones.
    Advised,
    /// Small pages.
    Plain,
}

/// Zeroed memory that starts on a page boundary.
#[derive(Debug)]
pub(crate) struct Region {
    memory: Memory,
    offset: usize,
    len: usize,
    backing: Backing,
    locked: bool,
}

impl Region {
    /// A region on small pages, for what is only a few pages long.
    pub(crate) fn small(len: usize) -> io::Result<Self> {
        Self::aligned(len, PAGE)
    }

    /// A region on the largest pages the kernel grants for this length.
    pub(crate) fn large(len: usize) -> io::Result<Self> {
        if len < HUGE_PAGE {
            return Self::small(len);
        }
        Self::set_aside(len).or_else(|_| Self::joined(len))
    }

    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    pub(crate) fn locked(&self) -> bool {
        self.locked
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.offset..][..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.offset..][..self.len]
    }

    fn joined(len: usize) -> io::Result<Self> {
        let mut region = Self::aligned(len, HUGE_PAGE)?;
        if region.advise_huge() {
            region.backing = Backing::Advised;
        }
        Ok(region)
    }

    /// Maps `alignment` more than asked, so that an aligned start lies inside.
    fn aligned(len: usize, alignment: usize) -> io::Result<Self> {
        let mapped = len
            .checked_add(alignment)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = map(mapped)?;
        let offset = memory.as_ptr().align_offset(alignment);
        let backing = Backing::Plain;
        let mut region = Self {
            memory,
            offset,
            len,
            backing,
            locked: false,
        };
        region.keep_private();
        Ok(region)
    }
}

#[cfg(not(miri))]
use mapped::map;
#[cfg(not(miri))]
mod mapped {
    //! What the kernel does for a region.
    #![allow(
        unsafe_code,
        reason = "memmap2 has no mlock2, and mlock would populate the arena"
    )]

    use super::{Backing, HUGE_PAGE, Region};
    use memmap2::{Advice, MmapMut, MmapOptions};
    use std::io;

    pub(super) fn map(len: usize) -> io::Result<MmapMut> {
        MmapMut::map_anon(len)
    }

    impl Region {
        pub(super) fn set_aside(len: usize) -> io::Result<Self> {
            // Rounded, because the kernel unmaps huge pages only as a whole.
            let rounded = len
                .checked_next_multiple_of(HUGE_PAGE)
                .ok_or(io::ErrorKind::OutOfMemory)?;
            let page_bits = HUGE_PAGE.trailing_zeros() as u8;
            let memory = MmapOptions::new()
                .huge(Some(page_bits))
                .len(rounded)
                .map_anon()?;
            memory.advise(Advice::PopulateWrite)?;
            let backing = Backing::HugePages;
            let mut region = Self {
                memory,
                offset: 0,
                len,
                backing,
                locked: false,
            };
            region.keep_private();
            Ok(region)
        }

        pub(super) fn advise_huge(&self) -> bool {
            self.memory
                .advise_range(Advice::HugePage, self.offset, self.len)
                .is_ok()
        }

        /// Keeps packets out of children, core dumps and swap as far as the kernel allows.
        pub(super) fn keep_private(&mut self) {
            // Neither piece of advice is needed to work, so a refusal changes nothing.
            let _ = self.memory.advise(Advice::DontFork);
            let _ = self.memory.advise(Advice::DontDump);
            self.locked = lock_when_touched(self.bytes());
        }
    }

    /// Locks pages as they become resident, where `mlock` would make all of them resident now.
    fn lock_when_touched(bytes: &[u8]) -> bool {
        let start = bytes.as_ptr().cast();
        // SAFETY: mlock2(2) reads and writes no memory; its one condition, that `start` and the
        // length name mapped pages of ours, holds because they come from a live slice.
        unsafe { libc::mlock2(start, bytes.len(), libc::MLOCK_ONFAULT) == 0 }
    }
}

#[cfg(miri)]
use heap::map;
#[cfg(miri)]
mod heap {
    //! A region without a kernel.

    use super::Region;
    use std::io;

    pub(super) fn map(len: usize) -> io::Result<Vec<u8>> {
        Ok(vec![0; len])
    }

    impl Region {
        pub(super) fn set_aside(_: usize) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn advise_huge(&self) -> bool {
            false
        }

        pub(super) fn keep_private(&mut self) {}
    }
}

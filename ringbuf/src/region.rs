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

use pages::Memory;
use std::io;

#[cfg(miri)]
use heap as pages;
#[cfg(not(miri))]
use kernel as pages;

/// What a huge page is on x86-64, and on arm64 with 4 KiB pages.
const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4096;

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

    fn set_aside(len: usize) -> io::Result<Self> {
        // Rounded, because the kernel unmaps huge pages only as a whole.
        let rounded = len
            .checked_next_multiple_of(HUGE_PAGE)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = pages::map_set_aside(rounded)?;
        Ok(Self::within(memory, 0, len, Backing::HugePages))
    }

    fn joined(len: usize) -> io::Result<Self> {
        let mut region = Self::aligned(len, HUGE_PAGE)?;
        if pages::join_when_touched(&region.memory, region.offset, len) {
            region.backing = Backing::Advised;
        }
        Ok(region)
    }

    /// Maps `alignment` more than asked, so that an aligned start lies inside.
    fn aligned(len: usize, alignment: usize) -> io::Result<Self> {
        let mapped = len
            .checked_add(alignment)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = pages::map(mapped)?;
        let offset = memory.as_ptr().align_offset(alignment);
        Ok(Self::within(memory, offset, len, Backing::Plain))
    }

    fn within(memory: Memory, offset: usize, len: usize, backing: Backing) -> Self {
        pages::keep_private(&memory);
        let locked = pages::lock_when_touched(&memory[offset..][..len]);
        Self {
            memory,
            offset,
            len,
            backing,
            locked,
        }
    }
}

#[cfg(not(miri))]
mod kernel {
    //! What the kernel grants.
    #![allow(
        unsafe_code,
        reason = "memmap2 has no mlock2, and mlock would populate the arena"
    )]

    use memmap2::{Advice, MmapMut, MmapOptions};
    use std::io;

    pub(super) type Memory = MmapMut;

    pub(super) fn map(len: usize) -> io::Result<Memory> {
        MmapMut::map_anon(len)
    }

    pub(super) fn map_set_aside(len: usize) -> io::Result<Memory> {
        let page_bits = super::HUGE_PAGE.trailing_zeros() as u8;
        let memory = MmapOptions::new()
            .huge(Some(page_bits))
            .len(len)
            .map_anon()?;
        memory.advise(Advice::PopulateWrite)?;
        Ok(memory)
    }

    pub(super) fn join_when_touched(memory: &Memory, offset: usize, len: usize) -> bool {
        memory.advise_range(Advice::HugePage, offset, len).is_ok()
    }

    /// Keeps packets out of children and core dumps; a refusal takes nothing away from us.
    pub(super) fn keep_private(memory: &Memory) {
        let _ = memory.advise(Advice::DontFork);
        let _ = memory.advise(Advice::DontDump);
    }

    /// Locks pages as they become resident, where `mlock` would make all of them resident now.
    pub(super) fn lock_when_touched(bytes: &[u8]) -> bool {
        let start = bytes.as_ptr().cast();
        // SAFETY: mlock2(2) reads and writes no memory of ours; its one condition, that `start`
        // and the length name mapped pages, holds because they come from a live slice.
        unsafe { libc::mlock2(start, bytes.len(), libc::MLOCK_ONFAULT) == 0 }
    }
}

#[cfg(miri)]
mod heap {
    //! A region without a kernel: Miri maps no huge pages and checks heap memory more sharply.

    use std::io;

    pub(super) type Memory = Vec<u8>;

    pub(super) fn map(len: usize) -> io::Result<Memory> {
        Ok(vec![0; len])
    }

    pub(super) fn map_set_aside(_: usize) -> io::Result<Memory> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn join_when_touched(_: &Memory, _: usize, _: usize) -> bool {
        false
    }

    pub(super) fn keep_private(_: &Memory) {}

    pub(super) fn lock_when_touched(_: &[u8]) -> bool {
        false
    }
}

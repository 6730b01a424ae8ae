//! Frames lent to the kernel, which fills one whenever a packet arrives.
//!
//! ```text
//!                 offer            publish           (kernel fills)          take
//!   our frame  ---------->  entry  -------->  tail  ---------------> id  ----------> our frame
//! ```
//!
//! Only memory and cursors live here; the system calls are the caller's. Three rules make lending
//! safe:
//!
//! - A lent frame is owned by the slot table, so nobody can touch it until it is taken back.
//! - The id given to the kernel is a position in that table, free when it is chosen. An id that
//!   comes back twice, or was never lent, finds no frame: a kernel bug cannot alias memory.
//! - At most as many frames are lent as there are entries. So the entry an offer overwrites is one
//!   the kernel has consumed: it takes entries in order, and as many came back as are overwritten.
//!   That is why no head needs to be read.
//!
//! The caller's part, where it registers [`BufRing::address`] and where it polls: the ring and the
//! arena stay until the kernel has let go of both, and `take` is called with ids of completions
//! only.

use crate::entries::Entries;
use crate::frame::Frame;
use crate::sync::Ordering;
use std::io;

#[cfg(all(loom, test))]
mod loom_tests;

/// The kernel tells a full ring from an empty one by 16-bit cursors, so it refuses more.
const ENTRIES_MAX: u16 = 1 << 15;

/// A ring of free frames shared with the kernel, `io_uring`'s provided buffers.
#[derive(Debug)]
pub struct BufRing<'a> {
    entries: Entries,
    /// Counts offers; runs ahead of the tail the kernel sees until they are published.
    tail: u16,
    /// Where in a slot the kernel writes.
    start: usize,
    /// The lent frames, by id.
    lent: Box<[Option<Frame<'a>>]>,
    free_ids: Vec<u16>,
}

impl<'a> BufRing<'a> {
    /// An empty ring of `entries`, a power of two; the kernel will write at `start` of each slot.
    pub fn new(entries: u16, start: usize) -> io::Result<Self> {
        if !entries.is_power_of_two() || entries > ENTRIES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self {
            entries: Entries::new(entries)?,
            tail: 0,
            start,
            lent: (0..entries).map(|_| None).collect(),
            free_ids: (0..entries).rev().collect(),
        })
    }

    /// Where the ring is, to register it with the kernel.
    pub fn address(&self) -> u64 {
        self.entries.address()
    }

    /// How many frames the ring holds.
    pub fn entries(&self) -> u16 {
        self.lent.len() as u16
    }

    /// How many more frames can be offered.
    pub fn room(&self) -> usize {
        self.free_ids.len()
    }

    /// Lends a frame with the next [`publish`](Self::publish); gives it back if the ring is full
    /// or the slot ends before the kernel would write.
    pub fn offer(&mut self, frame: Frame<'a>) -> Result<(), Frame<'a>> {
        if frame.whole().len() <= self.start {
            return Err(frame);
        }
        let Some(id) = self.free_ids.pop() else {
            return Err(frame);
        };
        let position = usize::from(self.tail) & (self.lent.len() - 1);
        // Borrowed where it stays, so the address is not older than the last move of the frame.
        let frame = self.lent[usize::from(id)].insert(frame);
        let space = &mut frame.whole_mut()[self.start..];
        let entry = &self.entries.as_slice()[position];
        entry
            .address
            .set(space.as_mut_ptr().expose_provenance() as u64);
        entry.len.set(space.len() as u32);
        entry.id.set(id);
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Shows the kernel all frames offered so far.
    pub fn publish(&mut self) {
        // Release: the entries must be there before the tail that covers them.
        self.entries.as_slice()[0]
            .tail
            .store(self.tail, Ordering::Release);
    }

    /// The frame of a completion, its packet `len` bytes long; `None` if the id is not lent.
    pub fn take(&mut self, id: u16, len: usize) -> Option<Frame<'a>> {
        let mut frame = self.lent.get_mut(usize::from(id))?.take()?;
        self.free_ids.push(id);
        // A length beyond the slot is nothing to believe a part of.
        let room = frame.whole().len() - self.start;
        frame.set(self.start, if len <= room { len } else { 0 });
        Some(frame)
    }
}

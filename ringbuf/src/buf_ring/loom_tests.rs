//! A second thread plays the kernel, and loom runs every order the two can take.
//!
//! The entries are loom cells, so reading one that the other side may be writing is an error by
//! itself; the assertions only say what must have been read.

use super::{BufRing, Ordering};
use crate::entries::Entry;
use crate::{Arena, FrameLayout};
use loom::sync::atomic::AtomicU64;
use loom::thread::{self, JoinHandle};
use std::sync::Arc;

/// What the kernel knows: the table, and where it posts completions. Its head is a local of its.
struct Kernel {
    entries: Arc<[Entry]>,
    completions: Arc<Completions>,
}

/// Completed ids in the order they were consumed, a byte each, with the top bit set once posted.
#[derive(Default)]
struct Completions(AtomicU64);

#[allow(
    unsafe_code,
    reason = "cells cross threads on the strength of the ring's rules"
)]
// SAFETY: that the tail orders all accesses to the cells is what loom checks here.
unsafe impl Send for Kernel {}

impl Completions {
    fn post(&self, nth: u16, id: u16) {
        self.0
            .fetch_or(u64::from(0x80 | id) << (8 * nth), Ordering::Release);
    }

    fn wait(&self, nth: u16) -> u16 {
        loop {
            let byte = self.0.load(Ordering::Acquire) >> (8 * nth) & 0xff;
            if byte != 0 {
                return byte as u16 & 0x7f;
            }
            thread::yield_now();
        }
    }
}

impl Kernel {
    fn start(ring: &BufRing<'_>, frames: u16) -> (JoinHandle<()>, Arc<Completions>) {
        let completions = Arc::new(Completions::default());
        let entries = Arc::clone(&ring.entries.0);
        let kernel = Self {
            entries,
            completions: Arc::clone(&completions),
        };
        (thread::spawn(move || kernel.consume(frames)), completions)
    }

    fn consume(self, frames: u16) {
        for head in 0..frames {
            while self.entries[0].tail.load(Ordering::Acquire) == head {
                thread::yield_now();
            }
            let entry = &self.entries[usize::from(head) % self.entries.len()];
            assert_ne!(entry.address.get(), 0);
            assert_eq!(entry.len.get(), 100);
            self.completions.post(head, entry.id.get());
        }
    }
}

fn arena() -> Arena {
    Arena::new(FrameLayout {
        count: 2,
        headroom: 0,
        capacity: 100,
    })
    .expect("memory")
}

/// Lends one frame after the other and each again as soon as it is home, `frames` times in all.
fn lend_in_turn(entries: u16, frames: u16) {
    let mut arena = arena();
    let mut pool = arena.frames();
    let mut ring = BufRing::new(entries, 0).expect("memory");
    let (kernel, completions) = Kernel::start(&ring, frames);
    for _ in 0..entries {
        ring.offer(pool.take().expect("a frame per entry"))
            .expect("room");
        ring.publish();
    }
    for nth in 0..frames {
        let frame = ring
            .take(completions.wait(nth), 1)
            .expect("the kernel's id is lent");
        if nth + entries < frames {
            ring.offer(frame).expect("room");
            ring.publish();
        }
    }
    kernel.join().expect("no disagreement");
}

#[test]
fn kernel_reads_only_entries_that_were_written_before_the_tail() {
    loom::model(|| lend_in_turn(2, 2));
}

#[test]
fn entry_is_overwritten_only_after_the_kernel_consumed_it() {
    loom::model(|| lend_in_turn(1, 3));
    loom::model(|| lend_in_turn(2, 4));
}

#[test]
fn several_offers_share_one_publish() {
    loom::model(|| {
        let mut arena = arena();
        let mut pool = arena.frames();
        let mut ring = BufRing::new(2, 0).expect("memory");
        let (kernel, completions) = Kernel::start(&ring, 2);
        while let Some(frame) = pool.take() {
            ring.offer(frame).expect("room");
        }
        ring.publish();
        kernel.join().expect("no disagreement");
        assert!((0..2).all(|nth| ring.take(completions.wait(nth), 1).is_some()));
    });
}

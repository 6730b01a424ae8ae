//! Packets that were not carried, one after the other, for somebody who watches. Nobody watches most of the time: then
//! a packet costs a number. Who asks is told what was kept, and has the next [`ROOM`] packets kept for the next time,
//! so that a flood costs no more than that a question.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::examples::{Example, Kept};
use crate::stats::DropReason;

/// So many are kept for each question.
const ROOM: u64 = 256;
/// Low bits of a mark are the reason, the others the packet's number.
const REASON_BITS: u32 = 8;

/// A packet that was not carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// By which worker.
    pub worker: usize,
    /// The how many-th of that worker, those that were not kept included.
    pub number: u64,
    /// Why.
    pub reason: DropReason,
    /// Its beginning.
    pub packet: Example,
}

/// One worker's packets: it writes, others ask.
#[derive(Debug)]
pub(crate) struct Watch {
    offered: AtomicU64,
    written: AtomicU64,
    /// No more are written than this.
    wanted: AtomicU64,
    places: Box<[Kept<32>]>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            offered: AtomicU64::default(),
            written: AtomicU64::default(),
            wanted: AtomicU64::default(),
            places: (0..ROOM).map(|_| Kept::default()).collect(),
        }
    }

    /// Keeps a packet if somebody wants it. Only one thread may call this.
    #[cold]
    pub(crate) fn offer(&self, reason: DropReason, packet: &[u8], source: Option<IpAddr>) {
        let number = self.offered.load(Ordering::Relaxed);
        self.offered
            .store(number.wrapping_add(1), Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);
        if written < self.wanted.load(Ordering::Relaxed) {
            let mark = number << REASON_BITS | reason as u64;
            self.place(written).keep(packet, source, mark);
            self.written.store(written + 1, Ordering::Release);
        }
    }

    /// What was kept, oldest first, and wants more. What nobody has been told yet is not written over before.
    pub(crate) fn ask(&self, worker: usize) -> Vec<Recent> {
        let written = self.written.load(Ordering::Acquire);
        let kept = (written.saturating_sub(ROOM)..written).filter_map(|at| {
            let (packet, mark) = self.place(at).read()?;
            let reason = (mark & ((1 << REASON_BITS) - 1)) as usize;
            Some(Recent {
                worker,
                number: mark >> REASON_BITS,
                reason: *DropReason::ALL.get(reason)?,
                packet,
            })
        });
        let kept = kept.collect();
        self.wanted.store(written + ROOM, Ordering::Relaxed);
        kept
    }

    fn place(&self, at: u64) -> &Kept<32> {
        &self.places[(at % ROOM) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(told: &[Recent]) -> Vec<u64> {
        told.iter().map(|packet| packet.number).collect()
    }

    #[test]
    fn nothing_is_kept_before_somebody_asks_and_every_packet_after() {
        let watch = Watch::new();
        watch.offer(DropReason::InNotPeer, &[1; 40], None);
        assert!(watch.ask(3).is_empty());
        watch.offer(DropReason::OutNoRoute, &[2; 1500], None);
        watch.offer(DropReason::InNotPeer, &[3; 40], None);
        let told = watch.ask(3);
        assert_eq!(numbers(&told), [1, 2]);
        assert_eq!(told[0].reason, DropReason::OutNoRoute);
        assert_eq!((told[0].worker, told[0].packet.length), (3, 1500));
        assert_eq!(told[0].packet.bytes, [2; 256]);
    }

    #[test]
    fn a_flood_costs_room_for_so_many_and_those_left_out_can_be_told_by_their_numbers() {
        let watch = Watch::new();
        watch.ask(0);
        let flood = || (0..1000).for_each(|_| watch.offer(DropReason::InNotPeer, &[0; 9], None));
        flood();
        let first: Vec<u64> = (0..ROOM).collect();
        assert_eq!(numbers(&watch.ask(0)), first);
        flood();
        let second: Vec<u64> = (1000..1000 + ROOM).collect();
        assert_eq!(numbers(&watch.ask(0)), second);
    }
}

//! What went to a peer and came from it: one set of counters per worker, written by that worker alone. A set belongs to
//! the peer's address and moves on into every later table that has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::stats::bump;

/// One worker's counters for one peer, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane {
    sent_packets: AtomicU64,
    sent_bytes: AtomicU64,
    unsent_packets: AtomicU64,
    received_packets: AtomicU64,
    received_bytes: AtomicU64,
    dropped_packets: AtomicU64,
    /// The longest inner packet that gets there whole; zero while nobody had to know.
    whole: AtomicU64,
    /// Milliseconds since the engine started, and one; zero for never.
    seen: AtomicU64,
}

/// All workers' counters for one peer; none in a table that no engine has published.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes(Arc<[Lane]>);

/// What went to a peer and came from it, by all workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Inner packets sent.
    pub sent_packets: u64,
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Inner packets the kernel would not send.
    pub unsent_packets: u64,
    /// Inner packets received, dropped ones included.
    pub received_packets: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// Of those received, the ones that were not carried.
    pub dropped_packets: u64,
    /// The longest inner packet that gets there whole, as the kernel has learned; none before one of some size went
    /// there.
    pub path_mtu: Option<u16>,
    /// When it was heard of last, since the engine started; as exact as the workers' clocks, which they look at when
    /// they sleep or a few times a millisecond.
    pub seen: Option<Duration>,
}

impl Lanes {
    /// For so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Lane::default()).collect())
    }

    /// How many workers they are for.
    pub(crate) fn workers(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn sent(&self, worker: usize, packets: u64, bytes: u64) {
        if let Some(lane) = self.0.get(worker) {
            bump(&lane.sent_packets, packets);
            bump(&lane.sent_bytes, bytes);
        }
    }

    pub(crate) fn unsent(&self, worker: usize, packets: u64) {
        if let Some(lane) = self.0.get(worker) {
            bump(&lane.unsent_packets, packets);
        }
    }

    pub(crate) fn received(&self, worker: usize, packets: u64, bytes: u64, now: Duration) {
        if let Some(lane) = self.0.get(worker) {
            bump(&lane.received_packets, packets);
            bump(&lane.received_bytes, bytes);
            lane.seen
                .store(now.as_millis() as u64 + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self, worker: usize, packets: u64) {
        if let Some(lane) = self.0.get(worker) {
            bump(&lane.dropped_packets, packets);
        }
    }

    pub(crate) fn learned(&self, worker: usize, whole: u16) {
        if let Some(lane) = self.0.get(worker) {
            lane.whole.store(u64::from(whole), Ordering::Relaxed);
        }
    }

    pub(crate) fn sum(&self) -> Traffic {
        let total = |which: fn(&Lane) -> &AtomicU64| {
            let values = self
                .0
                .iter()
                .map(|lane| which(lane).load(Ordering::Relaxed));
            values.sum()
        };
        let seen = self.0.iter().map(|lane| lane.seen.load(Ordering::Relaxed));
        let seen = seen.max().and_then(|millis| millis.checked_sub(1));
        let learned = self.0.iter().map(|lane| lane.whole.load(Ordering::Relaxed));
        let learned = learned.filter(|whole| *whole > 0).min();
        Traffic {
            sent_packets: total(|lane| &lane.sent_packets),
            sent_bytes: total(|lane| &lane.sent_bytes),
            unsent_packets: total(|lane| &lane.unsent_packets),
            received_packets: total(|lane| &lane.received_packets),
            received_bytes: total(|lane| &lane.received_bytes),
            dropped_packets: total(|lane| &lane.dropped_packets),
            path_mtu: learned.and_then(|whole| u16::try_from(whole).ok()),
            seen: seen.map(Duration::from_millis),
        }
    }
}

//! Forwarding allocates nothing once it is under way.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(unsafe_code, reason = "an allocator that counts")]

mod loopback;

use engine::IoChoice;
use loopback::{Loopback, config, receive};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: everything is left to the system's allocator; only a number is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.load(Ordering::Relaxed) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PAYLOAD: usize = 1000;
const SEGMENTS: usize = 40;

fn round(lab: &Loopback, payload: &[u8], packets: &[Vec<u8>], buffer: &mut [u8]) {
    lab.inner.send(payload).unwrap();
    for _ in 0..SEGMENTS {
        lab.peer_receives(buffer);
    }
    for packet in packets {
        lab.peer.send(packet).unwrap();
    }
    for _ in packets {
        receive(&lab.inner, buffer).unwrap();
    }
}

fn allocates_nothing(io: IoChoice) {
    let lab = Loopback::start(config(io));
    lab.segment_inner(PAYLOAD as u16);
    let payload = vec![1; PAYLOAD * SEGMENTS];
    let packets: Vec<_> = (0..SEGMENTS)
        .map(|id| lab.packet_inward(&payload[..PAYLOAD], id as u16))
        .collect();
    let mut buffer = vec![0; 65_536];
    for _ in 0..20 {
        round(&lab, &payload, &packets, &mut buffer);
    }
    ALLOCATIONS.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    for _ in 0..200 {
        round(&lab, &payload, &packets, &mut buffer);
    }
    COUNTING.store(false, Ordering::Relaxed);
    assert_eq!(
        ALLOCATIONS.load(Ordering::Relaxed),
        0,
        "allocations while forwarding over {io:?}"
    );
}

/// One test, so that nothing else in this process allocates while it counts.
#[test]
fn forwarding_allocates_nothing_in_every_way_of_moving_packets() {
    for io in loopback::ways() {
        std::thread::spawn(move || allocates_nothing(io))
            .join()
            .unwrap();
    }
}

//! Lending frames: every one comes back once, and only to who asks with its id.
//!
//! The kernel is played by a function that reads the ring's memory the way the kernel does.
#![allow(
    unsafe_code,
    reason = "plays the kernel, which sees the ring as bytes at an address"
)]

use proptest::prelude::*;
use ringbuf::{Arena, BufRing, Frame, FrameLayout};
use std::collections::{HashSet, VecDeque};

const START: usize = 10;
const SLOT: usize = 64 + 128;

fn layout(count: u32) -> FrameLayout {
    FrameLayout {
        count,
        headroom: 64,
        capacity: SLOT - 64,
    }
}

fn bytes<const N: usize>(ring: &BufRing<'_>, offset: usize) -> [u8; N] {
    let address = std::ptr::with_exposed_provenance::<[u8; N]>(ring.address() as usize + offset);
    // SAFETY: all offsets used below are within the `16 * entries` bytes of the ring, which live
    // as long as it does; an array of bytes is aligned anywhere; nothing writes meanwhile.
    unsafe { address.read() }
}

/// The entry at a position: address, length and id.
fn entry(ring: &BufRing<'_>, head: u16) -> (u64, u32, u16) {
    let offset = usize::from(head % ring.entries()) * 16;
    let address = u64::from_ne_bytes(bytes(ring, offset));
    let len = u32::from_ne_bytes(bytes(ring, offset + 8));
    (address, len, u16::from_ne_bytes(bytes(ring, offset + 12)))
}

fn tail(ring: &BufRing<'_>) -> u16 {
    u16::from_ne_bytes(bytes(ring, 14))
}

/// Receives `packet` into the entry at `head` and completes with its id.
fn receive(ring: &BufRing<'_>, head: u16, packet: &[u8]) -> u16 {
    let (address, len, id) = entry(ring, head);
    assert!(packet.len() <= len as usize);
    let space = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
    // SAFETY: the ring lent `len` bytes at this address and nobody touches them until the id is
    // taken; the packet is another allocation and not longer.
    unsafe { space.copy_from_nonoverlapping(packet.as_ptr(), packet.len()) };
    id
}

#[test]
fn address_is_on_a_page_boundary() {
    assert_eq!(BufRing::new(8, 0).unwrap().address() % 4096, 0);
}

#[test]
fn kernel_sees_no_frame_before_it_is_published() {
    let mut arena = Arena::new(layout(2)).unwrap();
    let mut pool = arena.frames();
    let mut ring = BufRing::new(2, START).unwrap();
    ring.offer(pool.take().unwrap()).unwrap();
    assert_eq!(tail(&ring), 0);
    ring.publish();
    assert_eq!(tail(&ring), 1);
}

#[test]
fn received_packet_is_in_the_frame_behind_the_start() {
    let mut arena = Arena::new(layout(2)).unwrap();
    let mut pool = arena.frames();
    let mut ring = BufRing::new(2, START).unwrap();
    ring.offer(pool.take().unwrap()).unwrap();
    ring.publish();
    let id = receive(&ring, 0, b"packet");
    let frame = ring.take(id, 6).unwrap();
    assert_eq!((frame.start(), frame.bytes()), (START, &b"packet"[..]));
}

#[test]
fn kernel_may_write_up_to_the_end_of_the_slot_and_no_further() {
    let mut arena = Arena::new(layout(3)).unwrap();
    let mut pool = arena.frames();
    let mut ring = BufRing::new(2, START).unwrap();
    ring.offer(pool.take().unwrap()).unwrap();
    ring.publish();
    let (_, len, _) = entry(&ring, 0);
    assert_eq!(len as usize, SLOT - START);
}

#[test]
fn id_that_is_not_lent_finds_no_frame() {
    let mut arena = Arena::new(layout(2)).unwrap();
    let mut pool = arena.frames();
    let mut ring = BufRing::new(2, START).unwrap();
    assert!(ring.take(0, 1).is_none(), "never lent");
    ring.offer(pool.take().unwrap()).unwrap();
    let (_, _, id) = entry(&ring, 0);
    assert!(ring.take(id + 1, 1).is_none(), "the other one is lent");
    assert!(ring.take(u16::MAX, 1).is_none(), "beyond the ring");
    assert!(ring.take(id, 1).is_some());
    assert!(ring.take(id, 1).is_none(), "came back already");
}

#[test]
fn length_beyond_the_slot_makes_the_packet_empty() {
    let mut arena = Arena::new(layout(1)).unwrap();
    let mut ring = BufRing::new(1, START).unwrap();
    ring.offer(arena.frames().take().unwrap()).unwrap();
    let frame = ring.take(0, SLOT - START + 1).unwrap();
    assert!(frame.is_empty());
}

#[test]
fn offer_to_a_full_ring_gives_the_frame_back() {
    let mut arena = Arena::new(layout(3)).unwrap();
    let mut pool = arena.frames();
    let mut ring = BufRing::new(2, START).unwrap();
    ring.offer(pool.take().unwrap()).unwrap();
    ring.offer(pool.take().unwrap()).unwrap();
    assert_eq!(ring.room(), 0);
    let refused = ring.offer(pool.take().unwrap()).unwrap_err();
    assert_eq!(refused.index(), 2);
}

#[test]
fn slot_that_ends_before_the_start_is_not_lent() {
    let mut arena = Arena::new(layout(1)).unwrap();
    let mut ring = BufRing::new(2, SLOT).unwrap();
    assert!(ring.offer(arena.frames().take().unwrap()).is_err());
    assert_eq!(ring.room(), 2);
}

#[test]
fn sizes_the_kernel_refuses_are_refused_here() {
    for entries in [0, 3, 6, 40_000] {
        assert!(BufRing::new(entries, 0).is_err(), "{entries}");
    }
    assert_eq!(BufRing::new(1 << 15, 0).unwrap().entries(), 1 << 15);
}

#[test]
fn cursors_wrap_around_sixteen_bits() {
    let mut arena = Arena::new(layout(4)).unwrap();
    let mut pool = arena.frames();
    let mut ring = BufRing::new(4, START).unwrap();
    let turns = if cfg!(miri) { 100 } else { 70_000 };
    for turn in 0..turns {
        ring.offer(pool.take().unwrap()).unwrap();
        ring.publish();
        let head = turn as u16;
        assert_eq!(tail(&ring), head.wrapping_add(1));
        let id = receive(&ring, head, &[turn as u8]);
        let frame = ring.take(id, 1).unwrap();
        assert_eq!(frame.bytes(), [turn as u8]);
        pool.put(frame);
    }
}

/// What one party does next: lend frames, receive packets, or take frames in a given order.
#[derive(Clone, Debug)]
enum Step {
    Offer(usize),
    Receive(usize),
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..10).prop_map(Step::Offer),
        (0usize..10).prop_map(Step::Receive),
        (0usize..100).prop_map(Step::Take),
    ]
}

fn config() -> ProptestConfig {
    let cases = if cfg!(miri) { 8 } else { 512 };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_lent_frame_comes_back_once_with_its_packet(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut arena = Arena::new(layout(12))?;
        let mut pool = arena.frames();
        let mut ring = BufRing::new(8, START).unwrap();
        let (mut head, mut serial) = (0u16, 0u8);
        let mut completions: VecDeque<(u16, u8)> = VecDeque::new();
        for step in steps {
            match step {
                Step::Offer(n) => {
                    for _ in 0..n.min(ring.room()) {
                        ring.offer(pool.take().unwrap()).unwrap();
                    }
                    ring.publish();
                }
                Step::Receive(n) => for _ in 0..n {
                    if head == tail(&ring) { break; }
                    completions.push_back((receive(&ring, head, &[serial; 3]), serial));
                    head = head.wrapping_add(1);
                    serial = serial.wrapping_add(1);
                },
                Step::Take(at) if !completions.is_empty() => {
                    let (id, serial) = completions.remove(at % completions.len()).unwrap();
                    let frame = ring.take(id, 3).unwrap();
                    prop_assert_eq!(frame.bytes(), [serial; 3]);
                    pool.put(frame);
                }
                Step::Take(_) => prop_assert!(ring.take(9, 3).is_none()),
            }
            prop_assert_eq!(pool.available() + 8 - ring.room(), 12);
        }
        for (id, serial) in completions {
            let frame = ring.take(id, 3).unwrap();
            prop_assert_eq!(frame.bytes(), [serial; 3]);
            pool.put(frame);
        }
        let left: Vec<Frame<'_>> = (0..8).filter_map(|id| ring.take(id, 0)).collect();
        let home = std::iter::from_fn(|| pool.take());
        let indices: HashSet<u32> = home.chain(left).map(|frame| frame.index()).collect();
        prop_assert_eq!(indices.len(), 12);
    }
}

//! What an arena promises about its memory, and a pool about its frames.

use ringbuf::{Arena, Backing, FrameLayout};
use std::collections::HashSet;

fn layout(count: u32, capacity: usize) -> FrameLayout {
    FrameLayout {
        count,
        headroom: 64,
        capacity,
    }
}

#[test]
fn pool_hands_out_every_frame_exactly_once() {
    let mut arena = Arena::new(layout(100, 200)).unwrap();
    let mut pool = arena.frames();
    assert_eq!(pool.available(), 100);
    let frames: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    let indices: HashSet<_> = frames.iter().map(|frame| frame.index()).collect();
    assert_eq!(
        (frames.len(), indices.len(), pool.available()),
        (100, 100, 0)
    );
    assert!(pool.take().is_none());
}

#[test]
fn slots_are_inside_the_region_and_apart_from_each_other() {
    let mut arena = Arena::new(layout(9, 1500)).unwrap();
    let (address, len) = arena.region_of(0..9);
    let region = address.addr()..address.addr() + len;
    let mut pool = arena.frames();
    let mut frames: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    frames.sort_by_key(|frame| frame.index());
    let slots: Vec<_> = frames
        .iter()
        .map(|frame| frame.whole().as_ptr_range())
        .collect();
    for slot in &slots {
        assert!(region.contains(&slot.start.addr()) && slot.end.addr() <= region.end);
        assert_eq!(slot.end.addr() - slot.start.addr(), 64 + 1500);
    }
    assert!(slots.windows(2).all(|pair| pair[0].end <= pair[1].start));
}

#[test]
fn the_region_of_some_frames_holds_these_and_no_others() {
    let mut arena = Arena::new(layout(9, 1500)).unwrap();
    let (address, len) = arena.region_of(3..7);
    let region = address.addr()..address.addr() + len;
    let mut pool = arena.frames();
    for frame in std::iter::from_fn(|| pool.take()) {
        let slot = frame.whole().as_ptr_range();
        let inside = region.contains(&slot.start.addr()) && slot.end.addr() <= region.end;
        assert_eq!(inside, (3..7).contains(&frame.index()), "{}", frame.index());
    }
}

#[test]
fn writing_one_frame_changes_no_other() {
    let mut arena = Arena::new(layout(5, 100)).unwrap();
    let mut pool = arena.frames();
    let mut frames: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    for (frame, mark) in frames.iter_mut().zip(1..) {
        frame.whole_mut().fill(mark);
    }
    for (frame, mark) in frames.iter().zip(1..) {
        assert!(frame.whole().iter().all(|&byte| byte == mark));
    }
}

#[test]
fn frame_comes_from_the_pool_zeroed_and_empty_and_returns_empty() {
    let mut arena = Arena::new(layout(1, 100)).unwrap();
    let mut pool = arena.frames();
    let mut frame = pool.take().unwrap();
    assert!(frame.whole().iter().all(|&byte| byte == 0));
    frame.set(3, 7);
    pool.put(frame);
    let frame = pool.take().unwrap();
    assert_eq!((frame.start(), frame.len()), (64, 0));
}

#[test]
fn frame_put_last_is_taken_first() {
    let mut arena = Arena::new(layout(3, 100)).unwrap();
    let mut pool = arena.frames();
    let first = pool.take().unwrap();
    let second = pool.take().unwrap();
    assert_eq!((first.index(), second.index()), (0, 1));
    pool.put(first);
    assert_eq!(pool.take().unwrap().index(), 0);
}

#[test]
fn slots_start_in_different_cache_sets() {
    // A 64 KiB stride put the headers of all packets into the same two sets of a 64-set cache.
    let mut arena = Arena::new(FrameLayout {
        count: 64,
        headroom: 0,
        capacity: 65_536,
    })
    .unwrap();
    let mut pool = arena.frames();
    let frames: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    let lines = frames
        .iter()
        .map(|frame| frame.whole().as_ptr().addr() / 64);
    let sets: HashSet<_> = lines.map(|line| line % 64).collect();
    assert_eq!(sets.len(), 64);
}

#[test]
fn slots_start_on_a_cache_line() {
    let mut arena = Arena::new(layout(7, 1)).unwrap();
    let mut pool = arena.frames();
    while let Some(frame) = pool.take() {
        assert_eq!(frame.whole().as_ptr().addr() % 64, 0);
    }
}

#[test]
fn small_arena_asks_for_no_huge_pages() {
    let arena = Arena::new(layout(4, 2048)).unwrap();
    assert_eq!(arena.backing(), Backing::Plain);
}

#[cfg(not(miri))]
#[test]
fn large_arena_starts_on_a_huge_page_boundary_without_being_rounded_up() {
    let mut arena = Arena::new(layout(40, 65_536)).unwrap();
    let (address, len) = arena.region_of(0..40);
    assert_eq!(address.addr() % (2 << 20), 0);
    assert_eq!(len, 40 * (64 + 65_536));
    arena.frames().take().unwrap().whole_mut().fill(1);
}

#[cfg(not(miri))]
#[test]
fn unused_frames_take_no_memory() {
    let resident_bytes = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let mut arena = Arena::new(layout(4096, 65_536)).unwrap();
    let before = resident_bytes();
    arena.frames().take().unwrap().whole_mut().fill(1);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} of 268 million bytes mapped");
}

#[test]
fn impossible_layouts_are_refused() {
    let refused = [
        FrameLayout {
            count: 0,
            headroom: 0,
            capacity: 100,
        },
        FrameLayout {
            count: 1,
            headroom: 64,
            capacity: 0,
        },
        FrameLayout {
            count: 1,
            headroom: usize::MAX,
            capacity: 1,
        },
        FrameLayout {
            count: 1,
            headroom: 0,
            capacity: u32::MAX as usize + 1,
        },
    ];
    for layout in refused {
        assert!(Arena::new(layout).is_err(), "{layout:?}");
    }
}

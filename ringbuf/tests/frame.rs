//! A frame against a model: whatever is done to it, it stays in its slot and keeps its bytes.

use proptest::prelude::*;
use ringbuf::{Arena, Frame, FrameLayout};
use std::panic::{AssertUnwindSafe, catch_unwind};

const HEADROOM: usize = 96;
const SLOT: usize = HEADROOM + 160;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(usize),
    Pull(usize),
    Truncate(usize),
    Set(usize, usize),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..SLOT + 8;
    prop_oneof![
        n.clone().prop_map(Step::Push),
        n.clone().prop_map(Step::Pull),
        n.clone().prop_map(Step::Truncate),
        (n.clone(), n).prop_map(|(start, len)| Step::Set(start, len)),
        Just(Step::Reset),
    ]
}

/// Start and length after a step, or `None` if the step would leave the slot.
fn model((start, len): (usize, usize), step: Step) -> Option<(usize, usize)> {
    match step {
        Step::Push(n) => (n <= start).then(|| (start - n, len + n)),
        Step::Pull(n) => (n <= len).then(|| (start + n, len - n)),
        Step::Truncate(n) => Some((start, len.min(n))),
        Step::Set(start, len) => (start + len <= SLOT).then_some((start, len)),
        Step::Reset => Some((HEADROOM, 0)),
    }
}

fn apply(frame: &mut Frame<'_>, step: Step) {
    match step {
        Step::Push(n) => assert_eq!(frame.push_front(n).len(), n),
        Step::Pull(n) => frame.pull_front(n),
        Step::Truncate(n) => frame.truncate(n),
        Step::Set(start, len) => frame.set(start, len),
        Step::Reset => frame.reset(),
    }
}

fn config() -> ProptestConfig {
    let cases = if cfg!(miri) { 8 } else { 1024 };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn cursors_follow_the_model_and_refuse_to_leave_the_slot(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut arena = Arena::new(FrameLayout { count: 3, headroom: HEADROOM, capacity: SLOT - HEADROOM })?;
        let mut frame = arena.frames().take().unwrap();
        let marks: Vec<u8> = (0..SLOT).map(|i| i as u8).collect();
        frame.whole_mut().copy_from_slice(&marks);
        let mut state = (HEADROOM, 0);
        for step in steps {
            let done = catch_unwind(AssertUnwindSafe(|| apply(&mut frame, step)));
            prop_assert_eq!(done.is_ok(), model(state, step).is_some());
            state = model(state, step).unwrap_or(state);
            prop_assert_eq!((frame.start(), frame.len()), state);
            prop_assert_eq!(frame.headroom(), state.0);
            prop_assert_eq!(frame.is_empty(), state.1 == 0);
            prop_assert_eq!(frame.bytes(), &marks[state.0..][..state.1]);
        }
        prop_assert_eq!(frame.whole(), &marks[..]);
    }
}

#[test]
fn pushed_header_is_in_front_of_the_packet() {
    let mut arena = Arena::new(FrameLayout {
        count: 1,
        headroom: 16,
        capacity: 16,
    })
    .unwrap();
    let mut frame = arena.frames().take().unwrap();
    frame.set(16, 4);
    frame.bytes_mut().copy_from_slice(b"data");
    frame.push_front(2).copy_from_slice(b"h:");
    assert_eq!(frame.bytes(), b"h:data");
    assert_eq!(&frame.whole()[14..20], b"h:data");
    frame.pull_front(3);
    assert_eq!(frame.bytes(), b"ata");
}

#[test]
fn frame_can_be_handed_to_another_thread() {
    let mut arena = Arena::new(FrameLayout {
        count: 2,
        headroom: 0,
        capacity: 8,
    })
    .unwrap();
    let mut pool = arena.frames();
    let mut frame = pool.take().unwrap();
    std::thread::scope(|scope| scope.spawn(|| frame.whole_mut().fill(9)).join().unwrap());
    assert_eq!(frame.whole(), [9; 8]);
    pool.put(frame);
}

#[test]
fn debug_names_the_frame_and_does_not_spill_the_packet() {
    let mut arena = Arena::new(FrameLayout {
        count: 1,
        headroom: 4,
        capacity: 8,
    })
    .unwrap();
    let mut frame = arena.frames().take().unwrap();
    frame.set(4, 2);
    assert_eq!(format!("{frame:?}"), "Frame { index: 0, packet: 4..6 }");
}

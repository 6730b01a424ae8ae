//! Two stretches of one stream, interleaved as by a sender that transmits from two processors.

use super::*;

/// `packets` of a stretch that begins at `seq`.
fn stretch(seq: u32, id: u16, packets: usize) -> Vec<Sketch> {
    Sketch {
        seq,
        id,
        ..Sketch::new(false, true, 100 * packets)
    }
    .segments(100)
}

/// One packet of each in turn.
fn interleaved(one: &[Sketch], other: &[Sketch]) -> Vec<Sketch> {
    one.iter()
        .zip(other)
        .flat_map(|(one, other)| [one.clone(), other.clone()])
        .collect()
}

/// Where in the stream each write begins, and how many packets it has.
fn writes(train: &[Sketch]) -> Vec<(u32, usize)> {
    let seq = |bytes: &[u8]| u32::from_be_bytes(*bytes[24..].first_chunk().unwrap());
    comes_back(ALL, train);
    let writes = merged(ALL, train);
    writes
        .iter()
        .map(|(_, packets, bytes)| (seq(bytes), *packets))
        .collect()
}

fn stamped(train: &[Sketch], stamp: u32) -> Vec<Sketch> {
    let options = [[1, 1, 8, 10], stamp.to_be_bytes(), [0; 4]].concat();
    let with = |packet: &Sketch| Sketch {
        options: options.clone(),
        ..packet.clone()
    };
    train.iter().map(with).collect()
}

#[test]
fn each_stretch_becomes_one_and_the_earlier_goes_first() {
    for start in [5_000, u32::MAX - 150, u32::MAX - 5_000] {
        let (early, late) = (
            stretch(start, 1, 5),
            stretch(start.wrapping_add(9_000), 90, 5),
        );
        let expected = [(start, 5), (start.wrapping_add(9_000), 5)];
        assert_eq!(writes(&interleaved(&early, &late)), expected);
        assert_eq!(writes(&interleaved(&late, &early)), expected);
    }
}

#[test]
fn a_later_stretch_that_is_full_writes_the_earlier_first() {
    let (early, mut late) = (stretch(0, 1, 4), stretch(9_000, 90, 4));
    late[2].flags |= flag::PSH;
    let expected = [(0, 3), (9_000, 3), (300, 1), (9_300, 1)];
    assert_eq!(writes(&interleaved(&early, &late)), expected);
}

#[test]
fn an_earlier_stretch_that_is_full_leaves_the_later_open() {
    let (mut early, late) = (stretch(0, 1, 4), stretch(9_000, 90, 4));
    early[1].flags |= flag::PSH;
    let expected = [(0, 2), (200, 2), (9_000, 4)];
    assert_eq!(writes(&interleaved(&early, &late)), expected);
}

#[test]
fn a_third_stretch_writes_the_two_before() {
    let mut train = interleaved(&stretch(0, 1, 2), &stretch(9_000, 90, 2));
    train.append(&mut stretch(4_000, 40, 2));
    assert_eq!(writes(&train), [(0, 2), (9_000, 2), (4_000, 2)]);
}

#[test]
fn a_stretch_does_not_grow_into_the_other() {
    let mut train = interleaved(&stretch(0, 1, 3), &stretch(300, 90, 3));
    train.append(&mut stretch(300, 4, 1));
    assert_eq!(writes(&train), [(0, 3), (300, 3), (300, 1)]);
}

#[test]
fn a_repeated_packet_goes_behind_what_it_repeats() {
    let mut train = stretch(1_000, 1, 3);
    train.append(&mut stretch(1_050, 50, 1));
    assert_eq!(writes(&train), [(1_000, 3), (1_050, 1)]);
}

#[test]
fn a_younger_timestamp_does_not_go_before_an_older_one() {
    let (early, late) = (stretch(0, 1, 2), stretch(9_000, 90, 2));
    let apart = [(9_000, 1), (0, 1), (9_100, 1), (100, 1)];
    for (stamp_early, stamp_late, expected) in [
        (7, 7, vec![(0, 2), (9_000, 2)]),
        (7, 8, vec![(0, 2), (9_000, 2)]),
        (u32::MAX, 0, vec![(0, 2), (9_000, 2)]),
        (8, 7, apart.to_vec()),
    ] {
        let (early, late) = (stamped(&early, stamp_early), stamped(&late, stamp_late));
        assert_eq!(
            writes(&interleaved(&late, &early)),
            expected,
            "{stamp_early} {stamp_late}"
        );
    }
}

#[test]
fn what_cannot_be_merged_goes_behind_both() {
    let mut train = interleaved(&stretch(0, 1, 2), &stretch(9_000, 90, 2));
    let mut end = stretch(200, 3, 1);
    end[0].flags |= flag::FIN;
    train.append(&mut end);
    assert_eq!(writes(&train), [(0, 2), (9_000, 2), (200, 1)]);
}

#[test]
fn without_a_place_for_it_a_stretch_closes_the_other() {
    let flows = |number: u16| Sketch {
        ports: (number, 9),
        ..Sketch::new(false, false, 10)
    };
    let mut train: Vec<_> = (0..15).map(flows).collect();
    train.append(&mut interleaved(&stretch(0, 1, 2), &stretch(9_000, 90, 2)));
    let tcp: Vec<_> = merged(ALL, &train)
        .into_iter()
        .filter(|(.., bytes)| bytes[9] == 6)
        .map(|(_, packets, _)| packets)
        .collect();
    assert_eq!(tcp, [1; 4]);
    comes_back(ALL, &train);
}

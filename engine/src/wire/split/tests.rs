//! Splitting against packets built the slow way.

use super::*;
use crate::wire::packet::{Check, Random, Sketch, flag, random_super_packet};
use proptest::prelude::*;

fn unfinished(sketch: &Sketch) -> Vec<u8> {
    sketch.with(Check::Unfinished).build()
}

fn header(sketch: &Sketch, gso_size: u16) -> VirtioNetHdr {
    VirtioNetHdr::from_bytes(&sketch.virtio(gso_size, 0))
}

fn split(packet: &[u8], hdr: &VirtioNetHdr) -> Vec<Vec<u8>> {
    let splitter = Splitter::new(packet, hdr).unwrap();
    let segment = |i| {
        let mut out = vec![0xee; splitter.header_len()];
        let payload = splitter.write_header(packet, i, &mut out);
        out.extend(&packet[payload]);
        assert!(out.len() <= splitter.segment_len_max());
        out
    };
    (0..splitter.segments()).map(segment).collect()
}

proptest! {
    #[test]
    fn segments_are_what_the_sender_would_have_sent(seed: u64) {
        let (sketch, gso_size) = random_super_packet(&mut Random(seed), 60_000, 100);
        let segments = sketch.segments(usize::from(gso_size));
        let expected: Vec<_> = segments.iter().map(Sketch::build).collect();
        prop_assert_eq!(split(&unfinished(&sketch), &header(&sketch, gso_size)), expected);
    }

    #[test]
    fn no_header_and_no_bytes_make_it_panic(
        seed: u64,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        virtio: [u8; 10],
    ) {
        let (sketch, _) = random_super_packet(&mut Random(seed), 3000, 9);
        let mut packet = unfinished(&sketch);
        for (at, byte) in damage {
            *at.get_mut(&mut packet) = byte;
        }
        let mut hdr = VirtioNetHdr::from_bytes(&virtio);
        hdr.gso_type %= 6;
        if Splitter::new(&packet, &hdr).is_ok() {
            split(&packet, &hdr);
        }
        let _ = finish_checksum(&mut packet, &hdr);
    }

    #[test]
    fn a_finished_checksum_is_the_right_one(seed: u64) {
        let (sketch, _) = random_super_packet(&mut Random(seed), 3000, 9);
        let mut packet = unfinished(&sketch);
        finish_checksum(&mut packet, &header(&sketch, 0)).unwrap();
        prop_assert_eq!(packet, sketch.with(Check::Finished).build());
    }
}

#[test]
fn push_and_fin_are_told_last_and_a_reduced_window_first() {
    const END: u8 = flag::FIN | flag::PSH;
    let sketch = Sketch {
        flags: 0xff,
        ..Sketch::new(false, true, 300)
    };
    let flags: Vec<_> = split(&unfinished(&sketch), &header(&sketch, 100))
        .iter()
        .map(|s| s[33])
        .collect();
    assert_eq!(flags, [!END, !(END | flag::CWR), !flag::CWR]);
}

#[test]
fn the_hint_about_header_length_changes_nothing() {
    let sketch = Sketch::new(true, true, 5000);
    let packet = unfinished(&sketch);
    let expected = split(&packet, &header(&sketch, 1000));
    for hdr_len in [0, 1, 40, 1040, u16::MAX] {
        let hdr = VirtioNetHdr {
            hdr_len,
            csum_start: hdr_len,
            csum_offset: hdr_len,
            ..header(&sketch, 1000)
        };
        assert_eq!(split(&packet, &hdr), expected, "hdr_len {hdr_len}");
    }
}

#[test]
fn the_ecn_bit_of_the_type_is_accepted() {
    let sketch = Sketch::new(false, true, 200);
    let mut hdr = header(&sketch, 100);
    hdr.gso_type |= VirtioNetHdr::ECN;
    assert_eq!(
        Splitter::new(&unfinished(&sketch), &hdr)
            .unwrap()
            .segments(),
        2
    );
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    let mut sketch = Sketch::new(false, false, 4);
    // The last two bytes are chosen so that everything adds up to zero.
    sketch.payload = vec![0; 4];
    let rest = sketch.build()[26..28].to_vec();
    sketch.payload[2..].copy_from_slice(&rest);
    assert_eq!(
        split(&unfinished(&sketch), &header(&sketch, 4))[0][26..28],
        [0xff, 0xff]
    );
}

#[test]
fn headers_that_contradict_the_packet_are_refused() {
    let refused =
        |packet: &[u8], hdr: VirtioNetHdr| Splitter::new(packet, &hdr).map(|_| ()).unwrap_err();
    let tcp = Sketch::new(false, true, 100);
    let (packet, hdr) = (unfinished(&tcp), header(&tcp, 10));
    assert_eq!(
        refused(&packet, VirtioNetHdr { gso_size: 0, ..hdr }),
        BadOffload::SegmentSize
    );
    for gso_type in [
        0,
        2,
        3,
        VirtioNetHdr::GSO_TCPV6,
        VirtioNetHdr::GSO_UDP_L4,
        6,
        0x7f,
    ] {
        assert_eq!(
            refused(&packet, VirtioNetHdr { gso_type, ..hdr }),
            BadOffload::Type
        );
    }
    let six = Sketch::new(true, true, 100);
    assert_eq!(refused(&unfinished(&six), hdr), BadOffload::Type);
    assert_eq!(refused(&packet[..30], hdr), BadOffload::Packet);
    let mut fragment = packet;
    fragment[6] |= 0x20;
    assert_eq!(refused(&fragment, hdr), BadOffload::Type);
}

#[test]
fn every_truncation_of_a_super_packet_is_refused() {
    for (v6, is_tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let sketch = Sketch::new(v6, is_tcp, 100);
        let packet = unfinished(&sketch);
        for len in 0..packet.len() {
            assert_eq!(
                Splitter::new(&packet[..len], &header(&sketch, 10)).map(|_| ()),
                Err(BadOffload::Packet)
            );
        }
    }
}

#[test]
fn a_checksum_outside_the_packet_is_refused() {
    let sketch = Sketch::new(false, true, 0);
    let mut packet = unfinished(&sketch);
    for (start, offset, expected) in [
        (20, 18, Ok(())),
        (20, 19, Err(BadOffload::Checksum)),
        (u16::MAX, u16::MAX, Err(BadOffload::Checksum)),
    ] {
        let hdr = VirtioNetHdr {
            csum_start: start,
            csum_offset: offset,
            ..header(&sketch, 0)
        };
        assert_eq!(finish_checksum(&mut packet, &hdr), expected);
    }
}

#[test]
fn a_checksum_nobody_asked_to_finish_stays_as_it_is() {
    let mut packet = Sketch::new(false, true, 10).with(Check::Wrong).build();
    let before = packet.clone();
    finish_checksum(&mut packet, &VirtioNetHdr::default()).unwrap();
    assert_eq!(packet, before);
}

#[test]
fn a_super_packet_counts_for_its_segments() {
    let sketch = Sketch::new(false, false, 1001);
    let packet = unfinished(&sketch);
    assert_eq!(packets_in(&packet, &header(&sketch, 100)), 11);
    assert_eq!(packets_in(&packet, &header(&sketch, 0)), 1);
    assert_eq!(packets_in(&packet[..9], &header(&sketch, 100)), 1);
}

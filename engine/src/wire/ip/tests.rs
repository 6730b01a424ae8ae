//! Headers: what parses, what does not, and that every change keeps the checksum right.

use super::*;
use crate::wire::packet::{Sketch, after_one_hop, sum};
use proptest::prelude::*;

fn four(len: usize) -> Vec<u8> {
    Sketch::new(false, false, len).build()
}

fn six(len: usize) -> Vec<u8> {
    Sketch::new(true, false, len).build()
}

/// A version 6 packet with `extensions` between header and UDP.
fn with_extensions(extensions: &[(u8, usize)]) -> Vec<u8> {
    let mut packet = six(20);
    let udp = packet.split_off(40);
    let mut link = 6;
    for (number, len) in extensions {
        packet[link] = *number;
        link = packet.len();
        packet.push(17);
        packet.push((len / 8 - 1) as u8);
        packet.extend(vec![0; len - 2]);
    }
    packet.extend(udp);
    let len = (packet.len() - 40) as u16;
    put16(&mut packet, 4, len);
    packet
}

#[test]
fn an_ipv4_header_is_understood() {
    let mut packet = Sketch {
        tos: 0xb9,
        ttl: 9,
        ip_options: vec![1; 8],
        ..Sketch::new(false, true, 100)
    }
    .build();
    packet.extend([0; 7]);
    let expected = IpInfo {
        family: Family::V4,
        header_len: 28,
        total_len: 148,
        protocol: 6,
        fragment: Fragment::None,
        ttl: 9,
        ecn: 1,
        dont_fragment: true,
    };
    assert_eq!(IpInfo::parse(&packet), Ok(expected));
    assert_eq!(
        (source_v4(&packet), destination_v4(&packet)),
        (0x0a5b_0102, 0x0a5b_0202)
    );
    assert_eq!(source(&packet, Family::V4).to_string(), "10.91.1.2");
    assert_eq!(destination(&packet, Family::V4).to_string(), "10.91.2.2");
}

#[test]
fn an_ipv6_header_is_understood() {
    let packet = Sketch {
        tos: 0xb9,
        ttl: 9,
        flow_label: 0xfffff,
        ..Sketch::new(true, true, 100)
    }
    .build();
    let expected = IpInfo {
        family: Family::V6,
        header_len: 40,
        total_len: 160,
        protocol: 6,
        fragment: Fragment::None,
        ttl: 9,
        ecn: 1,
        dont_fragment: true,
    };
    assert_eq!(IpInfo::parse(&packet), Ok(expected));
    assert_eq!(source(&packet, Family::V6).to_string(), "fdaa:1::2");
    assert_eq!(destination(&packet, Family::V6).to_string(), "fdaa:2::2");
    assert_eq!(
        IpAddr::V6(source_v6(&packet).into()),
        source(&packet, Family::V6)
    );
    assert_eq!(
        IpAddr::V6(destination_v6(&packet).into()),
        destination(&packet, Family::V6)
    );
}

#[test]
fn every_truncation_is_refused() {
    for packet in [four(30), six(30)] {
        for len in 0..packet.len() {
            assert!(IpInfo::parse(&packet[..len]).is_err(), "{len} bytes");
        }
        assert!(IpInfo::parse(&packet).is_ok());
    }
    assert_eq!(IpInfo::parse(&[]), Err(Malformed::Truncated));
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let parsed = |at: usize, byte: u8| {
        let mut packet = four(30);
        packet[at] = byte;
        IpInfo::parse(&packet)
    };
    assert_eq!(parsed(0, 0x55), Err(Malformed::Version));
    assert_eq!(parsed(0, 0x05), Err(Malformed::Version));
    assert_eq!(parsed(0, 0x44), Err(Malformed::HeaderLength));
    assert_eq!(parsed(3, 19), Err(Malformed::TotalLength));
    assert_eq!(parsed(3, 59), Err(Malformed::TotalLength));
    assert_eq!(parsed(2, 0xff), Err(Malformed::TotalLength));
    assert_eq!(parsed(0, 0x4f).map(|_| ()), Err(Malformed::Truncated));
}

#[test]
fn fragments_of_ipv4_are_told_apart() {
    for (word, expected) in [
        (0x4000, Fragment::None),
        (0x8000, Fragment::None),
        (0x2000, Fragment::First),
        (0x2001, Fragment::Later),
        (0x0001, Fragment::Later),
    ] {
        let mut packet = four(30);
        put16(&mut packet, 6, word);
        assert_eq!(
            IpInfo::parse(&packet).unwrap().fragment,
            expected,
            "{word:04x}"
        );
    }
}

#[test]
fn extension_headers_are_passed() {
    let packet = with_extensions(&[(0, 8), (60, 24), (43, 16)]);
    let info = IpInfo::parse(&packet).unwrap();
    assert_eq!(
        (info.protocol, info.header_len, info.is_plain()),
        (17, 88, false)
    );
}

#[test]
fn fragments_of_ipv6_are_told_apart() {
    for (word, expected) in [
        (0, Fragment::None),
        (1, Fragment::First),
        (8, Fragment::Later),
        (9, Fragment::Later),
    ] {
        let mut packet = with_extensions(&[(44, 8)]);
        put16(&mut packet, 42, word);
        let info = IpInfo::parse(&packet).unwrap();
        assert_eq!(
            (info.fragment, info.protocol, info.header_len),
            (expected, 17, 48),
            "{word}"
        );
    }
}

#[test]
fn a_chain_that_is_cut_short_or_endless_hides_the_transport() {
    let mut cut = with_extensions(&[(60, 8)]);
    cut[41] = 200;
    let info = IpInfo::parse(&cut).unwrap();
    assert_eq!((info.protocol, info.header_len), (60, 40));
    let mut endless = with_extensions(&[(60, 8); 20]);
    for at in (40..200).step_by(8) {
        endless[at] = 60;
    }
    assert_eq!(IpInfo::parse(&endless).unwrap().protocol, 60);
}

#[test]
fn a_wrong_header_checksum_is_noticed() {
    let mut packet = four(30);
    let info = IpInfo::parse(&packet).unwrap();
    assert!(header_checksum_ok(&packet, &info));
    packet[15] ^= 1;
    assert!(!header_checksum_ok(&packet, &info));
}

proptest! {
    #[test]
    fn a_lowered_hop_count_is_what_a_router_writes(
        v6: bool,
        tos: u8,
        ttl in 2u8..,
        id: u16,
        options in 0usize..11,
    ) {
        let ip_options = if v6 { Vec::new() } else { vec![1; options * 4] };
        let mut packet = Sketch { tos, ttl, id, ip_options, ..Sketch::new(v6, true, 9) }.build();
        let expected = after_one_hop(&packet);
        let info = IpInfo::parse(&packet).unwrap();
        lower_ttl(&mut packet, &info);
        prop_assert_eq!(packet, expected);
    }

    #[test]
    fn a_changed_mark_is_what_the_sender_would_have_written(
        v6: bool,
        tos: u8,
        id: u16,
        flow_label in 0u32..0x10_0000,
        ecn in 0u8..4,
    ) {
        let sketch = Sketch { tos, id, flow_label, ..Sketch::new(v6, true, 9) };
        let mut packet = sketch.build();
        let info = IpInfo::parse(&packet).unwrap();
        prop_assert_eq!(info.ecn, tos & 3);
        set_ecn(&mut packet, &info, ecn);
        prop_assert_eq!(packet, Sketch { tos: tos & !3 | ecn, ..sketch }.build());
    }

    #[test]
    fn no_bytes_make_parsing_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        four: bool,
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = if four { 0x40 | *first & 15 } else { 0x60 };
        }
        if let Ok(info) = IpInfo::parse(&bytes) {
            prop_assert!(info.header_len <= info.total_len && info.total_len <= bytes.len());
            flow_hash(&bytes, &info);
            header_checksum_ok(&bytes, &info);
        }
    }
}

#[test]
fn a_wrong_header_checksum_stays_wrong() {
    let mut packet = four(30);
    packet[10] ^= 0x55;
    let info = IpInfo::parse(&packet).unwrap();
    lower_ttl(&mut packet, &info);
    set_ecn(&mut packet, &info, 3);
    assert_ne!(sum(&packet[..20]), 0xffff);
}

fn hash(packet: &[u8]) -> u32 {
    flow_hash(packet, &IpInfo::parse(packet).unwrap())
}

#[test]
fn the_flow_hash_depends_on_the_flow_alone() {
    for v6 in [false, true] {
        let packet = Sketch::new(v6, true, 100);
        let same = Sketch {
            seq: 9,
            id: 9,
            ttl: 9,
            tos: 9,
            window: 9,
            ..Sketch::new(v6, true, 7)
        };
        assert_eq!(hash(&packet.build()), hash(&same.build()));
        let others = [
            Sketch {
                hosts: (3, 2),
                ..packet.clone()
            },
            Sketch {
                hosts: (2, 3),
                ..packet.clone()
            },
            Sketch {
                ports: (1, 5201),
                ..packet.clone()
            },
            Sketch {
                ports: (40_000, 1),
                ..packet.clone()
            },
            Sketch::new(v6, false, 100),
        ];
        assert!(
            others
                .iter()
                .all(|other| hash(&other.build()) != hash(&packet.build()))
        );
    }
}

#[test]
fn all_fragments_of_a_packet_hash_alike() {
    let mut fragments = [four(100), four(100), four(100)];
    put16(&mut fragments[0], 6, 0x2000);
    put16(&mut fragments[1], 6, 0x2010);
    put16(&mut fragments[2], 6, 0x0020);
    fragments[1][20..28].fill(0x77);
    fragments[2][20..28].fill(0x99);
    assert_eq!(hash(&fragments[0]), hash(&fragments[1]));
    assert_eq!(hash(&fragments[0]), hash(&fragments[2]));
}

#[test]
fn flows_spread_over_the_whole_range_of_hashes() {
    let mut buckets = [0; 16];
    for port in 0..4096 {
        let packet = Sketch {
            ports: (port, 80),
            ..Sketch::new(false, true, 0)
        };
        buckets[(hash(&packet.build()) >> 28) as usize] += 1;
    }
    assert!(
        buckets.iter().all(|count| (180..=340).contains(count)),
        "{buckets:?}"
    );
}

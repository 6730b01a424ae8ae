//! Merging: what joins, what does not, and that nothing is lost, changed or reordered on the way.

mod refused;
mod rules;
mod strands;

use super::*;
use crate::wire::Family;
use crate::wire::order::{assert_order, tcp_header};
use crate::wire::packet::{Check, Random, Sketch, flag, transport};
use crate::wire::train::random_train;
use proptest::prelude::*;

const ALL: MergeConfig = MergeConfig {
    vnet_header: true,
    tcp: true,
    udp: true,
    max_udp_segments: 128,
    mtu: 1500,
    constant_ids: false,
};
/// Something in front of every packet, as an outer header would be.
const FRONT: usize = 22;

/// A batch of packets, each in a frame of its own.
struct Batch {
    frames: Vec<Vec<u8>>,
    merger: Merger,
}

impl Batch {
    fn new(config: MergeConfig) -> Self {
        Self {
            frames: Vec::new(),
            merger: Merger::new(config),
        }
    }

    fn push(&mut self, packet: &[u8], peer: u32) -> Result<(), DropWhy> {
        self.frames
            .push([&[0xaa; FRONT], packet, &[0xbb; 3]].concat());
        let piece = Piece {
            slot: self.frames.len() as u16 - 1,
            start: FRONT as u32,
            len: packet.len() as u32 + 3,
        };
        let info = IpInfo::parse(&self.frames[usize::from(piece.slot)][FRONT..]).unwrap();
        self.merger.push(&mut self.frames, piece, &info, peer)
    }

    /// The bytes of every write, with its virtio header and the number of packets it claims.
    fn finish(mut self) -> Vec<(VirtioNetHdr, usize, Vec<u8>)> {
        self.merger.flush(&mut self.frames);
        let bytes = |write: &TunWrite| {
            let pieces =
                &self.merger.pieces()[write.pieces.start as usize..write.pieces.end as usize];
            assert!(pieces.iter().all(|piece| piece.len > 0));
            let slab = |piece: &Piece| {
                if piece.slot == Piece::HEADERS {
                    self.merger.headers()
                } else {
                    &self.frames[usize::from(piece.slot)]
                }
            };
            let bytes: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| piece.of(slab(piece)).to_vec())
                .collect();
            assert_eq!(bytes.len(), write.bytes as usize);
            bytes
        };
        self.merger
            .writes()
            .iter()
            .map(|write| (write.header, usize::from(write.packets), bytes(write)))
            .collect()
    }
}

fn merged(config: MergeConfig, train: &[Sketch]) -> Vec<(VirtioNetHdr, usize, Vec<u8>)> {
    let mut batch = Batch::new(config);
    for packet in train {
        batch.push(&packet.build(), 1).unwrap();
    }
    batch.finish()
}

/// How many packets each write stands for.
fn counts(config: MergeConfig, train: &[Sketch]) -> Vec<usize> {
    merged(config, train)
        .iter()
        .map(|(_, packets, _)| *packets)
        .collect()
}

/// What the kernel makes of a write.
fn cut(header: &VirtioNetHdr, mut packet: Vec<u8>) -> Vec<Vec<u8>> {
    if header.gso_type == VirtioNetHdr::GSO_NONE {
        finish_checksum(&mut packet, header).unwrap();
        return vec![packet];
    }
    let splitter = Splitter::new(&packet, header).unwrap();
    let segment = |i| {
        let mut out = vec![0; splitter.header_len()];
        let payload = splitter.write_header(&packet, i, &mut out);
        [out, packet[payload].to_vec()].concat()
    };
    (0..splitter.segments()).map(segment).collect()
}

/// `packets` in step, of `len` bytes each.
fn in_step(v6: bool, is_tcp: bool, len: usize, packets: usize) -> Vec<Sketch> {
    Sketch::new(v6, is_tcp, len * packets).segments(len)
}

fn every_kind(test: impl Fn(bool, bool)) {
    for (v6, is_tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        test(v6, is_tcp);
    }
}

/// The packets with this source port; every flow of a train has one of its own.
fn of_flow(packets: &[Vec<u8>], port: u16) -> Vec<Vec<u8>> {
    let same = |packet: &&Vec<u8>| {
        let (at, _) = transport(packet);
        packet[at..at + 2] == port.to_be_bytes()
    };
    packets.iter().filter(same).cloned().collect()
}

/// Merges a train, has it cut again, and compares flow by flow.
fn comes_back(config: MergeConfig, train: &[Sketch]) {
    let writes = merged(config, train);
    let total: usize = writes.iter().map(|(_, packets, _)| packets).sum();
    assert_eq!(total, train.len());
    let out: Vec<_> = writes
        .into_iter()
        .flat_map(|(header, packets, bytes)| {
            let packets_cut = cut(&header, bytes);
            assert_eq!(packets_cut.len(), packets);
            packets_cut
        })
        .collect();
    let sent: Vec<_> = train
        .iter()
        .map(|packet| match packet.check {
            Check::Unfinished => packet.with(Check::Right).build(),
            _ => packet.build(),
        })
        .collect();
    for packet in train {
        let (out, sent) = (
            of_flow(&out, packet.ports.0),
            of_flow(&sent, packet.ports.0),
        );
        assert_order(&out, &sent, |number, came| sent[number] == came, tcp_header);
    }
}

proptest! {
    #[test]
    fn what_goes_in_comes_out_in_order(
        seed: u64,
        senders in 1usize..24,
        limit in prop::sample::select(vec![2u16, 64, 128]),
    ) {
        let train = random_train(&mut Random(seed), 200, senders, 1400);
        comes_back(MergeConfig { max_udp_segments: limit, ..ALL }, &train);
    }

    #[test]
    fn nothing_is_lost_whatever_is_switched_off(
        seed: u64,
        vnet_header: bool,
        tcp: bool,
        udp: bool,
    ) {
        let train = random_train(&mut Random(seed), 100, 6, 1400);
        comes_back(MergeConfig { vnet_header, tcp, udp, ..ALL }, &train);
    }

    #[test]
    fn unfinished_checksums_are_finished_and_joined(seed: u64, vnet_header: bool) {
        let mut train = random_train(&mut Random(seed), 100, 3, 1400);
        for packet in &mut train {
            // Where both representations of zero are right, the two ways to finish differ.
            let finished = packet.with(Check::Finished).build();
            if packet.check == Check::Right && packet.build() == finished {
                packet.check = Check::Unfinished;
            }
        }
        comes_back(MergeConfig { vnet_header, ..ALL }, &train);
    }

    #[test]
    fn no_bytes_make_it_panic(
        seed: u64,
        damage in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index, u8)>(), 0..60),
    ) {
        let train = random_train(&mut Random(seed), 40, 3, 200);
        let mut packets: Vec<_> = train.iter().map(Sketch::build).collect();
        for (packet, at, byte) in damage {
            let packet: &mut Vec<u8> = packet.get_mut(packets.as_mut_slice());
            *at.get_mut(packet.as_mut_slice()) = byte;
        }
        let mut batch = Batch::new(ALL);
        for packet in packets.iter().filter(|packet| IpInfo::parse(packet).is_ok()) {
            let _ = batch.push(packet, 1);
        }
        batch.finish();
    }
}

#[test]
fn bad_checksums_are_neither_repaired_nor_dropped() {
    // Once a checksum is declared unfinished the kernel believes everything, so a wrong one must
    // never be.
    let train: Vec<_> = in_step(false, true, 100, 3)
        .iter()
        .map(|packet| packet.with(Check::Wrong))
        .collect();
    for ((header, _, bytes), packet) in merged(ALL, &train).into_iter().zip(&train) {
        assert_eq!((header, bytes), (VirtioNetHdr::default(), packet.build()));
    }
}

#[test]
fn unfinished_packets_are_left_to_the_kernel_to_finish() {
    // Handshakes too: they cannot be merged, and without this no connection to such a peer ever
    // opens.
    let syn = Sketch {
        flags: 2,
        check: Check::Unfinished,
        ..Sketch::new(false, true, 0)
    };
    let writes = merged(ALL, std::slice::from_ref(&syn));
    assert_eq!(
        writes,
        [(VirtioNetHdr::from_bytes(&syn.virtio(0, 0)), 1, syn.build())]
    );
    let plain = merged(
        MergeConfig {
            vnet_header: false,
            ..ALL
        },
        std::slice::from_ref(&syn),
    );
    assert_eq!(
        plain,
        [(VirtioNetHdr::default(), 1, syn.with(Check::Right).build())]
    );
}

#[test]
fn an_unsegmented_frame_is_cut_to_the_mtu_by_whoever_can() {
    for v6 in [false, true] {
        let frame = Sketch {
            flags: 0xd9,
            check: Check::Unfinished,
            ..Sketch::new(v6, true, 20_000)
        };
        let size = ALL.mtu - frame.header_len();
        let expected: Vec<_> = frame
            .with(Check::Right)
            .segments(size)
            .iter()
            .map(Sketch::build)
            .collect();
        let by_kernel = merged(ALL, std::slice::from_ref(&frame));
        assert_eq!((by_kernel.len(), by_kernel[0].1), (1, expected.len()));
        assert_eq!(
            by_kernel[0].0.gso_type,
            VirtioNetHdr::ECN | frame.virtio(1, 0)[1]
        );
        assert_eq!(cut(&by_kernel[0].0, by_kernel[0].2.clone()), expected);
        for config in [
            MergeConfig {
                vnet_header: false,
                ..ALL
            },
            MergeConfig { tcp: false, ..ALL },
        ] {
            let by_us: Vec<_> = merged(config, std::slice::from_ref(&frame))
                .into_iter()
                .map(|(.., bytes)| bytes)
                .collect();
            assert_eq!(by_us, expected);
        }
    }
}

#[test]
fn an_unsegmented_datagram_cannot_be_carried() {
    let mut batch = Batch::new(ALL);
    let datagram = Sketch::new(false, false, 3000).with(Check::Unfinished);
    assert_eq!(
        batch.push(&datagram.build(), 1),
        Err(DropWhy::UnsegmentedUdp)
    );
    // With its checksum complete it is simply a large packet, and the host decides.
    assert_eq!(batch.push(&datagram.with(Check::Right).build(), 1), Ok(()));
    assert_eq!(batch.finish().len(), 1);
}

#[test]
fn an_mtu_no_header_fits_into_carries_nothing_unsegmented() {
    let mut batch = Batch::new(MergeConfig { mtu: 40, ..ALL });
    let frame = Sketch::new(false, true, 3000).with(Check::Unfinished);
    assert_eq!(
        batch.push(&frame.build(), 1),
        Err(DropWhy::HeadersExceedMtu)
    );
}

#[test]
fn a_cleared_merger_starts_afresh() {
    let train = in_step(false, true, 100, 3);
    let mut merger = Merger::new(ALL);
    for _ in 0..3 {
        let mut frames: Vec<_> = train.iter().map(Sketch::build).collect();
        for slot in 0..3 {
            let len = frames[slot].len() as u32;
            let info = IpInfo::parse(&frames[slot]).unwrap();
            assert_eq!(info.family, Family::V4);
            merger
                .push(
                    &mut frames,
                    Piece {
                        slot: slot as u16,
                        start: 0,
                        len,
                    },
                    &info,
                    0,
                )
                .unwrap();
        }
        merger.flush(&mut frames);
        assert_eq!((merger.writes().len(), merger.pieces().len()), (1, 3));
        merger.clear();
    }
}

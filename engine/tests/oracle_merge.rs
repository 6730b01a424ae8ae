//! What we merged the kernel takes apart: it is written to a TUN with virtio headers and forwarded
//! to one without any offload, and the packets we started with have to come out there, byte for
//! byte and in the order of their stream.

mod oracle;

use engine::wire::merge::{MergeConfig, Merger};
use oracle::merged::{CONFIG, merged};
use oracle::order::{assert_order, tcp_header};
use oracle::packet::{Check, Random, Sketch, after_one_hop, transport};
use oracle::train::random_train;
use oracle::tun::Tun;
use std::collections::BTreeSet;

/// Trains in each of the first two tests.
const TRAINS: usize = 52_000;
/// Trains in each of the others.
const SPECIAL_TRAINS: usize = 10_000;

/// Every flow of a train has a source port of its own.
fn source_port(packet: &[u8]) -> [u8; 2] {
    let (at, _) = transport(packet);
    [packet[at], packet[at + 1]]
}

/// What goes in, and what has to come out of it.
struct Train {
    packets: Vec<Vec<u8>>,
    expected: Vec<Vec<u8>>,
}

impl Train {
    /// A train that comes out as it is.
    fn unchanged(sketches: &[Sketch]) -> Self {
        let packets: Vec<_> = sketches.iter().map(Sketch::build).collect();
        Self {
            expected: packets.clone(),
            packets,
        }
    }
}

fn the_kernel_takes_apart(
    config: MergeConfig,
    trains: usize,
    mut next: impl FnMut(&mut Random) -> Train,
) {
    let mut random = oracle::seeded();
    oracle::enter_namespace();
    let (mut from, mut to) = (Tun::with_offloads("tun1"), Tun::plain("tun2"));
    oracle::attach("tun1", 1);
    oracle::attach("tun2", 2);
    let mut merger = Merger::new(config);
    let (mut writes, mut packets) = (0, 0);
    for number in 0..trains {
        let train = next(&mut random);
        let mut out = Vec::new();
        for write in merged(&mut merger, &train.packets) {
            from.write(&write.header, &write.bytes)
                .unwrap_or_else(|err| panic!("train {number}: {err}"));
            out.extend(
                (0..write.packets)
                    .filter_map(|_| to.read())
                    .map(|(_, packet)| packet),
            );
            writes += 1;
        }
        assert!(to.try_read().is_none(), "train {number}: a packet too many");
        packets += out.len();
        compare(&train.expected, &out);
    }
    println!("{trains} trains, {packets} packets in {writes} writes");
    assert!(writes < packets * 9 / 10, "hardly anything was merged");
}

/// Flows may overtake each other; packets of a flow stay in the order of their stream.
fn compare(expected: &[Vec<u8>], out: &[Vec<u8>]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|packet| after_one_hop(packet))
        .collect();
    let ports: BTreeSet<_> = expected.iter().chain(out).map(|p| source_port(p)).collect();
    for port in ports {
        let of_flow = |packets: &[Vec<u8>]| -> Vec<_> {
            let same = |packet: &&Vec<u8>| source_port(packet) == port;
            packets.iter().filter(same).cloned().collect()
        };
        let expected = of_flow(&expected);
        let same = |sent: usize, came: &[u8]| expected[sent] == came;
        assert_order(&of_flow(out), &expected, same, tcp_header);
    }
}

#[test]
fn short_trains_come_out_as_they_went_in() {
    the_kernel_takes_apart(CONFIG, TRAINS, |random| {
        Train::unchanged(&random_train(random, 8, 3, 1400))
    });
}

#[test]
fn long_trains_come_out_as_they_went_in() {
    the_kernel_takes_apart(CONFIG, TRAINS, |random| {
        Train::unchanged(&random_train(random, 20, 6, 1400))
    });
}

#[test]
fn unfinished_checksums_come_out_finished_and_unsegmented_frames_cut() {
    the_kernel_takes_apart(CONFIG, SPECIAL_TRAINS, |random| {
        let mut train = Train::unchanged(&[]);
        for sketch in random_train(random, 12, 3, 1400) {
            let mut sketch = sketch;
            // Where both representations of zero are right, the two ways to finish differ.
            let clear = sketch.check == Check::Right
                && sketch.build() == sketch.with(Check::Finished).build();
            if clear && !random.one_in(3) {
                sketch.check = Check::Unfinished;
            }
            if sketch.check == Check::Unfinished && sketch.tcp && random.one_in(4) {
                let len = 1501 + random.below(50_000);
                sketch.payload = random.bytes(len);
            }
            train.packets.push(sketch.build());
            train
                .expected
                .extend(as_finished(&sketch).iter().map(Sketch::build));
        }
        train
    });
}

/// What becomes of a packet whose checksum was left unfinished.
fn as_finished(sketch: &Sketch) -> Vec<Sketch> {
    if sketch.check != Check::Unfinished {
        return vec![sketch.clone()];
    }
    let (whole, room) = (sketch.with(Check::Right), CONFIG.mtu - sketch.header_len());
    if whole.payload.len() > room {
        whole.segments(room)
    } else {
        vec![whole]
    }
}

#[test]
fn constant_identifications_of_udp_come_out_counted_and_all_else_as_it_was() {
    let config = MergeConfig {
        constant_ids: true,
        ..CONFIG
    };
    the_kernel_takes_apart(config, SPECIAL_TRAINS, |random| {
        let len = 1 + random.below(300);
        let model = Sketch {
            id: random.next() as u16,
            payload: random.bytes(len * 20),
            ..Sketch::new(false, false, 0)
        };
        let counted = model.segments(len);
        let constant = |sketch: &Sketch| {
            Sketch {
                id: model.id,
                ..sketch.clone()
            }
            .build()
        };
        Train {
            packets: counted.iter().map(constant).collect(),
            expected: counted.iter().map(Sketch::build).collect(),
        }
    });
}

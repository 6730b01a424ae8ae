//! Merging against the kernel, from both sides.
//!
//! What we merged is given to the kernel, which forwards it to a TUN without offloads and so has to take it apart:
//! the packets we started with have to come out, byte for byte. And what we merged the kernel's own GRO has to
//! merge too, when it gets the same packets from a veth.

mod oracle;

use engine::wire::Piece;
use engine::wire::ip::IpInfo;
use engine::wire::merge::{MergeConfig, Merger};
use oracle::packet::{Random, Sketch, after_one_hop};
use oracle::raw::FrameSender;
use oracle::train::random_train;
use oracle::tun::Tun;
use std::collections::HashSet;

/// Trains of packets that are merged and taken apart, in each of two tests.
const TRAINS: usize = 52_000;
/// Flows the kernel's GRO is asked about.
const FLOWS: usize = 104_000;
/// How often the kernel is asked about packets before its answer is final.
const TRIES: usize = 20;

const CONFIG: MergeConfig = MergeConfig {
    vnet_header: true,
    tcp: true,
    udp: true,
    max_udp_segments: 128,
    mtu: 1500,
    constant_ids: false,
};

/// A write to the TUN, put together.
struct Write {
    header: [u8; 10],
    packets: usize,
    bytes: Vec<u8>,
}

fn merged(merger: &mut Merger, train: &[Vec<u8>]) -> Vec<Write> {
    let mut frames = train.to_vec();
    for (slot, packet) in train.iter().enumerate() {
        let info = IpInfo::parse(packet).expect("a packet of ours");
        let piece = Piece {
            slot: slot as u16,
            start: 0,
            len: packet.len() as u32,
        };
        merger
            .push(&mut frames, piece, &info, 0)
            .expect("nothing unsegmented among them");
    }
    merger.flush(&mut frames);
    let write = |write: &engine::wire::merge::TunWrite| {
        let pieces = &merger.pieces()[write.pieces.start as usize..write.pieces.end as usize];
        let bytes = pieces
            .iter()
            .flat_map(|piece| piece.of(&frames[usize::from(piece.slot)]))
            .copied()
            .collect();
        Write {
            header: write.header.to_bytes(),
            packets: usize::from(write.packets),
            bytes,
        }
    };
    let writes = merger.writes().iter().map(write).collect();
    merger.clear();
    writes
}

/// Every flow of a train has a source port of its own.
fn source_port(packet: &[u8]) -> [u8; 2] {
    let at = if packet[0] >> 4 == 6 {
        40
    } else {
        usize::from(packet[0] & 15) * 4
    };
    [packet[at], packet[at + 1]]
}

fn the_kernel_takes_it_apart(packets: usize, senders: usize, trains: usize) {
    let mut random = oracle::seeded();
    oracle::enter_namespace();
    let (mut from, mut to) = (Tun::with_offloads("tun1"), Tun::plain("tun2"));
    oracle::attach("tun1", 1);
    oracle::attach("tun2", 2);
    let mut merger = Merger::new(CONFIG);
    let mut writes = 0;
    for number in 0..trains {
        let train: Vec<_> = random_train(&mut random, packets, senders, 1400)
            .iter()
            .map(Sketch::build)
            .collect();
        let mut out = Vec::with_capacity(packets);
        for write in merged(&mut merger, &train) {
            from.write(&write.header, &write.bytes)
                .unwrap_or_else(|err| panic!("train {number}: {err}"));
            out.extend((0..write.packets).map(|_| {
                to.read()
                    .unwrap_or_else(|| panic!("train {number}: a packet is missing"))
                    .1
            }));
            writes += 1;
        }
        assert!(to.try_read().is_none(), "train {number}: a packet too many");
        // Flows may overtake each other, packets of a flow may not: a stable sort keeps their order.
        let mut expected: Vec<_> = train.iter().map(|packet| after_one_hop(packet)).collect();
        expected.sort_by_key(|packet| source_port(packet));
        out.sort_by_key(|packet| source_port(packet));
        assert!(
            expected == out,
            "train {number}: {}",
            first_difference(&expected, &out)
        );
    }
    println!(
        "{trains} trains, {} packets in {writes} writes",
        trains * packets
    );
    assert!(
        writes < trains * packets * 9 / 10,
        "hardly anything was merged"
    );
}

fn first_difference(expected: &[Vec<u8>], out: &[Vec<u8>]) -> String {
    let header = |packet: &[u8]| packet[..packet.len().min(80)].to_vec();
    let differing = expected
        .iter()
        .zip(out)
        .position(|(expected, out)| expected != out)
        .unwrap_or(0);
    format!(
        "packet {differing}\nsent {:02x?}\ncame {:02x?}",
        header(&expected[differing]),
        header(&out[differing])
    )
}

#[test]
fn short_trains_come_out_of_the_kernel_as_they_came_in() {
    the_kernel_takes_it_apart(8, 3, TRAINS);
}

#[test]
fn long_trains_come_out_of_the_kernel_as_they_came_in() {
    the_kernel_takes_it_apart(20, 6, TRAINS);
}

/// A veth whose far end merges what it receives and forwards it to a TUN.
struct Gro {
    sender: FrameSender,
    tun: Tun,
}

impl Gro {
    fn new() -> Self {
        oracle::enter_namespace();
        let tun = Tun::with_offloads("tun2");
        oracle::run(
            "ip link add near index 100 type veth peer name far address 02:00:00:00:00:02; ip link set dev near up",
        );
        oracle::attach("far", 1);
        oracle::attach("tun2", 2);
        // Without the last two every packet is handed on as soon as it is received. sysfs shows the namespace it
        // was mounted in, hence a mount of our own.
        oracle::run(
            "ethtool -K far gro on rx-udp-gro-forwarding on
             unshare --mount sh -ec 'mount -t sysfs sysfs /sys
                echo 100000 > /sys/class/net/far/gro_flush_timeout
                echo 1 > /sys/class/net/far/napi_defer_hard_irqs'",
        );
        Self {
            sender: FrameSender::open(100).expect("a packet socket"),
            tun,
        }
    }

    /// Sends a train; the packets that came out as one, by their tags. `None` if some got lost.
    fn groups(&mut self, train: &[Vec<u8>]) -> Option<Vec<Vec<u32>>> {
        for packet in train {
            let ethertype: [u8; 2] = if packet[0] >> 4 == 6 {
                [0x86, 0xdd]
            } else {
                [8, 0]
            };
            let frame = [
                &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1][..],
                &ethertype,
                packet,
            ]
            .concat();
            self.sender.send(&frame).expect("room in the veth");
        }
        let (mut groups, mut packets) = (Vec::new(), 0);
        while packets < train.len() {
            let (header, bytes) = self.tun.read()?;
            let group = tags(&header, &bytes);
            packets += group.len();
            groups.push(group);
        }
        Some(groups)
    }
}

/// Marks each packet that has room for it with its number, at the front of its payload.
fn tag(train: &mut [Sketch]) {
    for (number, packet) in train.iter_mut().enumerate() {
        if let Some(front) = packet.payload.first_chunk_mut::<4>() {
            *front = (number as u32).to_be_bytes();
        }
    }
}

/// The tags of the packets a write or read stands for; `u32::MAX` for one without.
fn tags(header: &[u8; 10], packet: &[u8]) -> Vec<u32> {
    let l4 = if packet[0] >> 4 == 6 {
        40
    } else {
        usize::from(packet[0] & 15) * 4
    };
    let is_tcp = packet[if l4 == 40 && packet[0] >> 4 == 6 {
        6
    } else {
        9
    }] == 6;
    let payload = l4
        + if is_tcp {
            usize::from(packet[l4 + 12] >> 4) * 4
        } else {
            8
        };
    let size = match (header[1], u16::from_ne_bytes([header[4], header[5]])) {
        (0, _) => packet.len().max(1),
        (_, size) => usize::from(size),
    };
    let tag = |chunk: &[u8]| {
        chunk
            .first_chunk::<4>()
            .map_or(u32::MAX, |tag| u32::from_be_bytes(*tag))
    };
    match &packet[payload..] {
        [] => vec![u32::MAX],
        payload => payload.chunks(size).map(tag).collect(),
    }
}

/// Which tagged packets directly follow which within a group.
fn joints(groups: &[Vec<u32>]) -> HashSet<[u32; 2]> {
    let pairs = groups
        .iter()
        .flat_map(|group| group.windows(2))
        .map(|pair| [pair[0], pair[1]]);
    pairs.filter(|pair| !pair.contains(&u32::MAX)).collect()
}

/// What of `wanted` the kernel does not join, asked `tries` times: a timer between two packets may part them.
fn refused(
    gro: &mut Gro,
    train: &[Vec<u8>],
    wanted: &HashSet<[u32; 2]>,
    tries: usize,
) -> HashSet<[u32; 2]> {
    let mut refused = wanted.clone();
    for _ in 0..tries {
        if refused.is_empty() {
            break;
        }
        if let Some(groups) = gro.groups(train) {
            let joints = joints(&groups);
            refused.retain(|joint| !joints.contains(joint));
        }
    }
    refused
}

/// Groups of ours the kernel would not form. It may form others when it meets the whole train, because it also
/// joins what we do not (equal identifications, FIN) and then stands differently to what follows; so what it
/// leaves apart there it is asked about once more, alone.
fn disagreements(gro: &mut Gro, train: &[Vec<u8>], groups: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let left = refused(gro, train, &joints(groups), 3);
    let mut open = groups.to_vec();
    open.retain(|group| group.windows(2).any(|pair| left.contains(pair)));
    for group in &mut open {
        group.retain(|tag| *tag != u32::MAX);
    }
    open.retain(|group| {
        let alone: Vec<_> = group
            .iter()
            .map(|tag| train[*tag as usize].clone())
            .collect();
        !refused(gro, &alone, &joints(&[group.to_vec()]), TRIES).is_empty()
    });
    open
}

fn random_flows(random: &mut Random) -> (usize, Vec<Sketch>) {
    let mut train = random_train(random, 40, 6, 1400);
    tag(&mut train);
    let flows: HashSet<_> = train.iter().map(|packet| packet.ports).collect();
    (flows.len(), train)
}

#[test]
fn what_the_kernel_keeps_apart_is_never_merged() {
    let mut random = oracle::seeded();
    let mut gro = Gro::new();
    let mut merger = Merger::new(CONFIG);
    let (mut flows, mut joined) = (0, 0);
    while flows < FLOWS {
        let (count, sketches) = random_flows(&mut random);
        let train: Vec<_> = sketches.iter().map(Sketch::build).collect();
        let writes = merged(&mut merger, &train);
        let groups: Vec<_> = writes
            .iter()
            .map(|write| tags(&write.header, &write.bytes))
            .collect();
        if let Some(group) = disagreements(&mut gro, &train, &groups).first() {
            let brief = |tag: &u32| Sketch {
                payload: Vec::new(),
                ..sketches[*tag as usize].clone()
            };
            panic!(
                "the kernel keeps these apart: {:#?}",
                group.iter().map(brief).collect::<Vec<_>>()
            );
        }
        flows += count;
        joined += joints(&groups).len();
    }
    println!("{flows} flows, {joined} times a packet joined the one before it");
    assert!(joined > flows, "hardly anything was merged");
}

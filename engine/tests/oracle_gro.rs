//! What we merged the kernel's own GRO merges too, when it gets the same packets from a veth and
//! forwards them.

mod oracle;

use engine::wire::merge::{MergeConfig, Merger};
use oracle::merged::{CONFIG, merged};
use oracle::packet::{Random, Sketch, transport};
use oracle::raw::FrameSender;
use oracle::train::random_train;
use oracle::tun::Tun;
use std::collections::HashSet;

/// Flows the kernel's GRO is asked about.
const FLOWS: usize = 104_000;
/// How often the kernel is asked about packets before its answer is final.
const TRIES: usize = 20;

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
            "ip link add near index 100 type veth peer name far address 02:00:00:00:00:02
             ip link set dev near up",
        );
        oracle::attach("far", 1);
        oracle::attach("tun2", 2);
        // Without the last two every packet is handed on as soon as it is received. sysfs shows the
        // namespace it was mounted in, hence a mount of our own.
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
    let (l4, protocol) = transport(packet);
    let l4_len = if protocol == 6 {
        usize::from(packet[l4 + 12] >> 4) * 4
    } else {
        8
    };
    let payload = l4 + l4_len;
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

/// What of `wanted` the kernel does not join, asked `tries` times: a timer between two packets may
/// part them.
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

/// Groups of ours the kernel would not form. It may form others when it meets the whole train,
/// because it also joins what we do not (FIN, constant identifications of TCP) and then stands
/// differently to what follows; so what it leaves apart there it is asked about once more, alone.
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
    let mut merger = Merger::new(MergeConfig {
        constant_ids: true,
        ..CONFIG
    });
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

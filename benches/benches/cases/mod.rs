//! What happens to every packet between the system calls, operation by operation: one list for the
//! clock and for the counting of instructions.

mod packets;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use engine::wire::checksum::Sum;
use engine::wire::icmp::{ANSWER_LEN_MAX, Answer, build};
use engine::wire::ip::{IpInfo, flow_hash, lower_ttl};
use engine::wire::merge::{MergeConfig, Merger};
use engine::wire::split::Splitter;
use engine::wire::{Family, Piece, vxlan};
use engine::{Mac, Peer, PeerForm, Route, SubnetTable};
use ipnet::{IpNet, Ipv4Net};
use packets::{MTU, tcp, tcp_super_packet, udp};

/// Segments that fill a super-packet.
const FULL: usize = 44;
/// Small packets in a receive batch.
const BATCH: usize = 64;
/// Headers of a packet at most: what merging writes to.
const HEADERS: usize = 80;
/// A /28 per node leaves room for the largest table in 10.0.0.0/8.
const SUBNET_BITS: u8 = 28;
const LOOKUPS: u32 = 1024;

/// Does an operation once; the result keeps it from being optimised away.
pub(crate) type Run = Box<dyn FnMut() -> usize>;

/// An operation, made ready only when it is wanted.
pub(crate) struct Case {
    /// What it is called in reports, group first.
    pub(crate) name: String,
    /// Makes what it works on.
    pub(crate) prepare: Box<dyn FnOnce() -> Run>,
}

/// Every operation there is.
pub(crate) fn all() -> Vec<Case> {
    let sizes = [20, 64, 256, MTU, 65_535].into_iter();
    let leases = [2, 1_000, 10_000, 100_000].into_iter();
    let sums = sizes.map(|size| case(format!("checksum/{size}"), move || checksum(size)));
    let lookups = leases.map(|count| case(format!("lookup_1024/{count}"), move || lookup(count)));
    let others = [
        case("header/parse", parse),
        case("header/flow_hash", hash),
        case("header/lower_ttl", hop_limit),
        case("split/tcp_64k", split),
        case("vxlan/write_header", encapsulate),
        case("vxlan/open", open),
        case("icmp/net_unreachable", answer),
        case("merge/tcp_mtu", || {
            merge((0..FULL).map(|number| tcp(number, MTU)))
        }),
        case("merge/udp_64", || {
            merge((0..BATCH).map(|number| udp(number, 64)))
        }),
    ];
    others.into_iter().chain(sums).chain(lookups).collect()
}

fn case(name: impl Into<String>, prepare: impl FnOnce() -> Run + 'static) -> Case {
    Case {
        name: name.into(),
        prepare: Box::new(prepare),
    }
}

fn checksum(size: usize) -> Run {
    let bytes = vec![0x5a; size];
    Box::new(move || Sum::of(black_box(&bytes)).fold().into())
}

fn parse() -> Run {
    let packet = tcp(1, MTU);
    Box::new(move || IpInfo::parse(black_box(&packet)).is_ok().into())
}

fn hash() -> Run {
    let packet = tcp(1, MTU);
    let info = parsed(&packet);
    Box::new(move || flow_hash(black_box(&packet), &info) as usize)
}

fn hop_limit() -> Run {
    let mut packet = tcp(1, MTU);
    let info = parsed(&packet);
    Box::new(move || {
        lower_ttl(black_box(&mut packet), &info);
        packet[8].into()
    })
}

/// All headers of the packets that 64 KiB are cut into.
fn split() -> Run {
    let (packet, virtio) = tcp_super_packet();
    let mut out = [0; 128];
    Box::new(move || {
        let Ok(splitter) = Splitter::new(black_box(&packet), &virtio) else {
            return 0;
        };
        let header = &mut out[..splitter.header_len()];
        (0..splitter.segments())
            .map(|index| splitter.write_header(&packet, index, header).end)
            .sum()
    })
}

/// What the receiving side does with one batch; merging writes to headers, so they are put back.
fn merge(frames: impl Iterator<Item = Vec<u8>>) -> Run {
    let mut frames: Vec<_> = frames.collect();
    let untouched: Vec<_> = frames.iter().map(|frame| head(frame).to_vec()).collect();
    let mut merger = Merger::new(MergeConfig {
        vnet_header: true,
        tcp: true,
        udp: true,
        max_udp_segments: 64,
        mtu: MTU,
        constant_ids: true,
    });
    Box::new(move || {
        for (frame, head) in frames.iter_mut().zip(&untouched) {
            frame[..head.len()].copy_from_slice(head);
        }
        merge_all(&mut merger, &mut frames)
    })
}

fn head(frame: &[u8]) -> &[u8] {
    &frame[..frame.len().min(HEADERS)]
}

/// Says how many writes a batch becomes.
fn merge_all(merger: &mut Merger, frames: &mut [Vec<u8>]) -> usize {
    merger.clear();
    for slot in 0..frames.len() {
        let packet = Piece {
            slot: slot as u16,
            start: 0,
            len: frames[slot].len() as u32,
        };
        let info = parsed(&frames[slot]);
        merger.push(frames, packet, &info, 1).unwrap_or_default();
    }
    merger.flush(frames);
    merger.writes().len()
}

const NEAR: Mac = Mac([2, 0, 0, 0, 0, 1]);
const FAR: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn encapsulate() -> Run {
    let mut header = [0; vxlan::OVERHEAD];
    Box::new(move || {
        vxlan::write_header(black_box(&mut header), 1, FAR, NEAR, Family::V4);
        header[0].into()
    })
}

fn open() -> Run {
    let mut header = [0; vxlan::OVERHEAD];
    vxlan::write_header(&mut header, 1, FAR, NEAR, Family::V4);
    let datagram = [header.to_vec(), udp(1, 64)].concat();
    Box::new(move || vxlan::open(black_box(&datagram), 1, FAR).is_ok().into())
}

fn answer() -> Run {
    let packet = udp(1, 512);
    let info = parsed(&packet);
    let from = [10, 5, 1, 0].into();
    let mut out = [0; ANSWER_LEN_MAX];
    Box::new(move || {
        build(
            &mut out,
            from,
            black_box(&packet),
            &info,
            Answer::NetUnreachable,
        )
        .unwrap_or_default()
    })
}

/// Next hops for a thousand destinations; the cost must not grow with the table.
fn lookup(leases: u32) -> Run {
    let table = table(leases);
    // Multiplying by an odd number visits the leases in no order a cache could guess.
    let leased = |number: u32| {
        subnet(number.wrapping_mul(2_654_435_761) % leases)
            .addr()
            .into()
    };
    let addresses: Vec<IpAddr> = (0..LOOKUPS).map(leased).collect();
    Box::new(move || {
        addresses
            .iter()
            .filter(|address| table.route(**black_box(address)).is_some())
            .count()
    })
}

fn table(leases: u32) -> SubnetTable {
    let route = |number: u32| Route {
        subnet: IpNet::V4(subnet(number)),
        peer: Peer {
            address: Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 0).to_bits() + number).into(),
            port: 8285,
            form: PeerForm::Udp,
            mtu: None,
        },
    };
    SubnetTable::build(Vec::new(), (0..leases).map(route))
}

fn subnet(number: u32) -> Ipv4Net {
    let base = Ipv4Addr::new(10, 0, 0, 0).to_bits() + (number << (32 - SUBNET_BITS));
    Ipv4Net::new_assert(base.into(), SUBNET_BITS)
}

fn parsed(packet: &[u8]) -> IpInfo {
    IpInfo::parse(packet)
        .unwrap_or_else(|error| panic!("a packet made for this cannot be parsed: {error:?}"))
}

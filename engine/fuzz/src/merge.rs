//! Trains of packets from the underlay: what is merged for the TUN comes apart into the same
//! packets, byte for byte, in the order of their stream.

use crate::input::Input;
use crate::order::assert_order;
use crate::packet::{Check, Sketch};
use crate::reference::{self, Ip, Located};
use crate::sketch::{change, damage, sketch};
use engine::wire::ip::{IpInfo, header_checksum_ok};
use engine::wire::merge::{DropWhy, MergeConfig, Merger, TunWrite};
use engine::wire::virtio::VirtioNetHdr;
use engine::wire::{Piece, unmerge};

const PACKETS_MAX: usize = 160;
const BATCHES_MAX: usize = 3;
/// Bytes in front of every packet, as an outer header would be.
const FRONT: usize = 30;

/// A packet that went in, and what must come out for it.
#[derive(Debug)]
struct Expected {
    flow: FlowName,
    packets: Vec<Vec<u8>>,
    leeway: Leeway,
}

/// In what a packet may come back different.
#[derive(Clone, Copy, Debug, Default)]
struct Leeway {
    /// Its checksum was finished on the way, so both representations of zero are right.
    zero_checksum: bool,
    /// It may be numbered, where nobody looks at the number.
    id: bool,
}

/// What decides whether one packet may not overtake another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FlowName {
    /// Both, with zeros behind those of IPv4.
    addresses: [u8; 32],
    protocol: u8,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// TCP or UDP.
    Ports([u8; 4]),
    /// May belong to any flow between its hosts, which therefore all mind it.
    Fragment,
    Other,
}

/// Reads a configuration and up to three batches of packets.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let config = config(&mut input);
    let mut merger = Merger::new(config);
    let mut senders: Vec<Sketch> = Vec::new();
    for _ in 0..BATCHES_MAX {
        check_batch(&mut input, &config, &mut merger, &mut senders);
        if input.is_empty() {
            break;
        }
    }
}

fn config(input: &mut Input<'_>) -> MergeConfig {
    let switches = input.byte();
    MergeConfig {
        vnet_header: switches & 7 != 1,
        tcp: switches & 8 == 0,
        udp: switches & 16 == 0,
        max_udp_segments: input.pick(&[128, 64, 3, 1]),
        mtu: input.pick(&[1450, 1280, 200, 60]),
        constant_ids: switches & 32 != 0,
    }
}

fn check_batch(
    input: &mut Input<'_>,
    config: &MergeConfig,
    merger: &mut Merger,
    senders: &mut Vec<Sketch>,
) {
    let mut frames = Vec::new();
    let mut sent = Vec::new();
    for _ in 0..PACKETS_MAX {
        if input.is_empty() || input.byte() == 0xff {
            break;
        }
        let packet = next_packet(input, senders);
        let piece = place(input, &mut frames, &packet);
        let Ok(info) = IpInfo::parse(&packet) else {
            continue;
        };
        if !header_checksum_ok(&packet, &info) {
            continue; // As on the way in from the underlay.
        }
        let peer = u32::from(packet[15] & 1);
        let result = merger.push(&mut frames, piece, &info, peer);
        sent.extend(expected(&packet, config, result));
    }
    merger.flush(&mut frames);
    check_writes(merger, &frames, &sent);
    merger.clear();
}

/// The next packet of a sender, in step or not, whole or not.
fn next_packet(input: &mut Input<'_>, senders: &mut Vec<Sketch>) -> Vec<u8> {
    let what = input.byte();
    if what == 255 {
        let len = usize::from(input.byte());
        return input.bytes(len).to_vec();
    }
    let number = usize::from(what & 31);
    if number >= senders.len() {
        let len = input.pick(&[
            100, 8, 1, 30, 2, 64, 3, 200, 16, 1400, 9, 5, 40, 3_000, 20, 100,
        ]);
        let mut sender = sketch(input, len);
        sender.ports.1 = senders.len() as u16;
        senders.push(sender);
    }
    let at = number % senders.len();
    send(input, what >> 5, &mut senders[at])
}

fn send(input: &mut Input<'_>, how: u8, sender: &mut Sketch) -> Vec<u8> {
    let mut packet = sender.clone();
    match how {
        0..3 => {}
        3 => packet.payload.truncate(usize::from(input.byte())),
        4 => change(input, &mut packet),
        5 => {
            change(input, sender);
            packet = sender.clone();
        }
        6 => packet.check = input.pick(&[Check::Unfinished, Check::Wrong]),
        _ => {}
    }
    sender.seq = sender.seq.wrapping_add(packet.payload.len() as u32);
    sender.id = sender.id.wrapping_add(1);
    let mut bytes = packet.build();
    if how == 7 {
        damage(input, &mut bytes);
    }
    bytes
}

/// Puts the packet into a frame of its own, or behind the last one as a joined receive would.
fn place(input: &mut Input<'_>, frames: &mut Vec<Vec<u8>>, packet: &[u8]) -> Piece {
    if frames.is_empty() || input.byte() & 3 != 3 {
        frames.push(vec![0xaa; FRONT]);
    }
    let slot = frames.len() - 1;
    let start = frames[slot].len() as u32;
    frames[slot].extend(packet);
    Piece {
        slot: slot as u16,
        start,
        len: packet.len() as u32,
    }
}

fn expected(packet: &[u8], config: &MergeConfig, result: Result<(), DropWhy>) -> Option<Expected> {
    let ip = Ip::of(packet).expect("both parsers agree");
    let packet = &packet[..ip.total_len];
    let located = Located::of(packet);
    let flow = FlowName::of(packet);
    let unfinished = located.filter(|located| located.is_unfinished(packet));
    let leeway = Leeway {
        id: config.constant_ids && ip.protocol == 17,
        zero_checksum: unfinished.is_some(),
    };
    let mut expected = Expected {
        flow,
        packets: vec![packet.to_vec()],
        leeway,
    };
    let Some(located) = unfinished else {
        assert_eq!(result, Ok(()));
        return Some(expected);
    };
    expected.packets = vec![located.finished(packet)];
    if ip.total_len > config.mtu {
        let size = config.mtu.saturating_sub(located.payload);
        if !located.tcp || size == 0 {
            assert!(result.is_err());
            return None;
        }
        expected.packets = located.segments(packet, size);
    }
    assert_eq!(result, Ok(()));
    Some(expected)
}

impl FlowName {
    fn of(packet: &[u8]) -> Self {
        let ip = Ip::of(packet).expect("only packets go in and come out");
        let kind = match packet[ip.header_len..].first_chunk() {
            Some(ports) if Located::of(packet).is_some() => Kind::Ports(*ports),
            _ if ip.is_fragment => Kind::Fragment,
            _ => Kind::Other,
        };
        let mut addresses = [0; 32];
        let both = ip.addresses(packet);
        addresses[..both.len()].copy_from_slice(both);
        Self {
            addresses,
            protocol: ip.protocol,
            kind,
        }
    }

    /// Whether a packet must stay in order among those of this flow.
    fn minds(&self, other: &Self) -> bool {
        let kind = other.kind == self.kind || other.kind == Kind::Fragment;
        kind && self.addresses == other.addresses && self.protocol == other.protocol
    }
}

fn check_writes(merger: &Merger, frames: &[Vec<u8>], sent: &[Expected]) {
    let mut received = Vec::new();
    for write in merger.writes() {
        let parts = parts(merger, frames, write);
        let packets = cut(&write.header, &parts.concat());
        assert_eq!(packets.len(), usize::from(write.packets));
        if write.header.gso_type != 0 {
            check_unmerge(&write.header, &parts, &packets);
        }
        received.extend(
            packets
                .into_iter()
                .map(|packet| (FlowName::of(&packet), packet)),
        );
    }
    let mut flows: Vec<FlowName> = Vec::new();
    for &Expected { flow, .. } in sent {
        if !flows.contains(&flow) {
            flows.push(flow);
        }
    }
    let total: usize = sent.iter().map(|expected| expected.packets.len()).sum();
    assert_eq!(received.len(), total, "nothing is lost, nothing is added");
    for flow in flows {
        check_flow(flow, sent, &received);
    }
}

fn check_flow(flow: FlowName, sent: &[Expected], received: &[(FlowName, Vec<u8>)]) {
    let received = received.iter().filter(|(of, _)| flow.minds(of));
    let received: Vec<_> = received.map(|(_, packet)| packet.clone()).collect();
    let (mut packets, mut leeways) = (Vec::new(), Vec::new());
    for expected in sent.iter().filter(|expected| flow.minds(&expected.flow)) {
        packets.extend(expected.packets.iter().cloned());
        leeways.resize(packets.len(), expected.leeway);
    }
    let same = |number: usize, came: &[u8]| is_same(&packets[number], came, leeways[number]);
    assert_order(&received, &packets, same, tcp_header);
}

fn tcp_header(packet: &[u8]) -> Option<&[u8]> {
    let located = Located::of(packet).filter(|located| located.tcp)?;
    Some(&packet[located.ip.header_len..located.payload])
}

fn is_same(expected: &[u8], received: &[u8], leeway: Leeway) -> bool {
    let differs = expected != received;
    if !differs || expected.len() != received.len() || !(leeway.zero_checksum || leeway.id) {
        return !differs;
    }
    let mut received = received.to_vec();
    if leeway.zero_checksum {
        forgive_zero(expected, &mut received);
    }
    if leeway.id {
        forgive_id(expected, &mut received);
    }
    expected == received
}

fn forgive_zero(expected: &[u8], received: &mut [u8]) {
    let Some((located, _)) = Located::of(expected).zip(Located::of(received)) else {
        return;
    };
    let is_zero = |field: u16| field == 0 || field == 0xffff;
    if is_zero(located.field(received)) && is_zero(located.field(expected)) {
        reference::put(received, located.checksum_at(), located.field(expected));
    }
}

fn forgive_id(expected: &[u8], received: &mut [u8]) {
    let is_right = |packet: &[u8]| Ip::of(packet).is_some_and(|ip| !ip.v6 && ip.is_right(packet));
    let forbids_fragments = expected[6] & 0x40 != 0;
    if forbids_fragments && is_right(expected) && is_right(received) {
        received[4..6].copy_from_slice(&expected[4..6]);
        received[10..12].copy_from_slice(&expected[10..12]);
    }
}

/// The bytes of a write, piece by piece.
fn parts(merger: &Merger, frames: &[Vec<u8>], write: &TunWrite) -> Vec<Vec<u8>> {
    let pieces = &merger.pieces()[write.pieces.start as usize..write.pieces.end as usize];
    let bytes = |piece: &Piece| {
        assert!(piece.len > 0);
        let slab = if piece.slot == Piece::HEADERS {
            merger.headers()
        } else {
            &frames[usize::from(piece.slot)]
        };
        piece.of(slab).to_vec()
    };
    let parts: Vec<_> = pieces.iter().map(bytes).collect();
    assert_eq!(
        parts.iter().map(Vec::len).sum::<usize>(),
        write.bytes as usize
    );
    parts
}

/// What the kernel makes of a write.
fn cut(header: &VirtioNetHdr, packet: &[u8]) -> Vec<Vec<u8>> {
    let located = Located::of(packet);
    if header.flags & VirtioNetHdr::NEEDS_CSUM == 0 {
        assert_eq!(*header, VirtioNetHdr::default());
        return vec![packet.to_vec()];
    }
    let located = located.expect("only TCP and UDP are left to the kernel");
    assert!(
        located.is_unfinished(packet),
        "the kernel adds to what the field holds"
    );
    assert_eq!(usize::from(header.csum_start), located.ip.header_len);
    assert_eq!(
        usize::from(header.csum_start + header.csum_offset),
        located.checksum_at()
    );
    if header.gso_type == VirtioNetHdr::GSO_NONE {
        return vec![located.finished(packet)];
    }
    let kind = match (located.tcp, located.ip.v6) {
        (true, false) => VirtioNetHdr::GSO_TCPV4,
        (true, true) => VirtioNetHdr::GSO_TCPV6,
        (false, _) => VirtioNetHdr::GSO_UDP_L4,
    };
    assert_eq!(header.gso_type & !VirtioNetHdr::ECN, kind);
    assert_eq!(usize::from(header.hdr_len), located.payload);
    assert!(located.ip.is_right(packet) && packet.len() <= 65_575);
    located.segments(packet, usize::from(header.gso_size))
}

/// Where the kernel will not have it, the engine takes the write apart itself.
fn check_unmerge(header: &VirtioNetHdr, parts: &[Vec<u8>], packets: &[Vec<u8>]) {
    let first = &parts[0][usize::from(header.hdr_len)..];
    let payloads = std::iter::once(first).chain(parts[1..].iter().map(Vec::as_slice));
    let payloads = payloads.flat_map(|piece| piece.chunks(header.gso_size.into()));
    let mut offset = 0;
    let mut unmerged = Vec::new();
    for (index, payload) in payloads.enumerate() {
        let (len, last) = (payload.len(), index == packets.len() - 1);
        let part = unmerge::Part {
            index,
            offset,
            len,
            last,
        };
        let mut out = [0; unmerge::HEADER_MAX];
        let (single, header_len) = unmerge::write_header(header, &parts[0], part, &mut out);
        unmerged.extend(cut(&single, &[&out[..header_len], payload].concat()));
        offset += len;
    }
    let leeway = Leeway {
        zero_checksum: true,
        id: false,
    };
    assert_eq!(unmerged.len(), packets.len());
    for (expected, unmerged) in packets.iter().zip(&unmerged) {
        assert!(
            is_same(expected, unmerged, leeway),
            "{expected:02x?}\n{unmerged:02x?}"
        );
    }
}

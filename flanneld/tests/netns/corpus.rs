//! The packets every path must carry unchanged.

use super::carry::Crossing;
use super::inner::{
    DONT_FRAGMENT, ICMP, Inner, MORE_FRAGMENTS, TCP, TCP_CHECKSUM, Tcp, UDP, UDP_CHECKSUM, pattern,
    udp,
};

const SCTP: u8 = 132;
const ESP: u8 = 50;
const UNKNOWN: u8 = 253;
const LARGEST_IP_PACKET: usize = 65_535;

/// Every kind of packet that fits the MTU.
pub(crate) fn single_packets(at: &Crossing, mtu: usize) -> Vec<Inner> {
    let kinds = [
        every_size,
        other_protocols,
        options,
        fragments,
        checksums,
        type_of_service,
        udp_trains,
        tcp_trains,
    ];
    kinds.iter().flat_map(|kind| kind(at, mtu)).collect()
}

fn every_size(at: &Crossing, mtu: usize) -> Vec<Inner> {
    let raw = (20..=mtu).map(|size| at.ip(UNKNOWN).packet(&pattern(size, size - 20)));
    let datagrams = (28..=mtu).map(|size| {
        at.ip(UDP)
            .finished(udp((4000, 5000), &pattern(size, size - 28)), UDP_CHECKSUM)
    });
    let segments = (40..=mtu).map(|size| {
        // Each somewhere else in the stream, so that none continues another.
        let tcp = Tcp::new((4001, 5001), size as u32 * 100_000);
        at.ip(TCP)
            .finished(tcp.segment(&pattern(size, size - 40)), TCP_CHECKSUM)
    });
    raw.chain(datagrams).chain(segments).collect()
}

fn other_protocols(at: &Crossing, mtu: usize) -> Vec<Inner> {
    let sizes = || (8..mtu - 20).step_by(97);
    let echo = sizes().map(|size| {
        let mut message = pattern(size, size);
        message[..4].copy_from_slice(&[8, 0, 0, 0]);
        let sum = super::inner::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        at.ip(ICMP).packet(&message)
    });
    // Ports and security parameter indices make a flow: these stay in one.
    let one_flow = |size| [vec![1, 2, 3, 4], pattern(size, size - 4)].concat();
    let opaque = [SCTP, ESP]
        .into_iter()
        .flat_map(|protocol| sizes().map(move |size| at.ip(protocol).packet(&one_flow(size))));
    echo.chain(opaque).collect()
}

/// Options of every length that routers leave alone: a stream identifier and no-operations.
fn options(at: &Crossing, _mtu: usize) -> Vec<Inner> {
    let with = |protocol: u8, length: usize| {
        let mut ip = at.ip(protocol);
        ip.options = vec![1; length];
        ip.options[..4].copy_from_slice(&[0x88, 4, 0x12, 0x34]);
        ip
    };
    let lengths = || (4..=40).step_by(4);
    let datagrams =
        lengths().map(|n| with(UDP, n).finished(udp((4002, 5002), &pattern(n, 100)), UDP_CHECKSUM));
    let segments = lengths().map(|n| {
        let tcp = Tcp::new((4003, 5003), n as u32 * 100);
        with(TCP, n).finished(tcp.segment(&pattern(n, 100)), TCP_CHECKSUM)
    });
    datagrams.chain(segments).collect()
}

/// First, middle and last fragments of whatever protocol; the later ones only look like headers.
fn fragments(at: &Crossing, mtu: usize) -> Vec<Inner> {
    let places = [
        MORE_FRAGMENTS,
        MORE_FRAGMENTS | 7,
        MORE_FRAGMENTS | 185,
        185,
        8189,
    ];
    let protocols = [UDP, TCP, ICMP, UNKNOWN];
    let all = protocols
        .into_iter()
        .flat_map(|protocol| places.map(|place| (protocol, place)));
    let one = |(number, (protocol, place)): (usize, (u8, u16))| {
        let mut ip = at.ip(protocol);
        (ip.id, ip.fragment) = (number as u16, place);
        let room = if place == 8189 { 16 } else { (mtu - 20) & !7 };
        [8, room].map(|length| ip.packet(&pattern(number, length)))
    };
    all.enumerate().flat_map(one).collect()
}

/// Transport checksums that are absent or wrong arrive as absent or wrong as they were.
fn checksums(at: &Crossing, _mtu: usize) -> Vec<Inner> {
    let wrong = [0_u16, 1, 0xffff, 0xbeef];
    let datagram = |sum: u16| {
        let mut datagram = udp((4004, 5004), &pattern(9, 200));
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        at.ip(UDP).packet(&datagram)
    };
    let segment = |sum: u16| {
        let mut segment = Tcp::new((4005, 5005), 1).segment(&pattern(9, 200));
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        at.ip(TCP).packet(&segment)
    };
    wrong
        .iter()
        .map(|sum| datagram(*sum))
        .chain(wrong.iter().map(|sum| segment(*sum)))
        .collect()
}

fn type_of_service(at: &Crossing, _mtu: usize) -> Vec<Inner> {
    let one = |tos: u8| {
        let mut ip = at.ip(UDP);
        (ip.tos, ip.id) = (tos, u16::from(tos));
        let ports = (4006, 5006 + u16::from(tos & 3));
        ip.finished(udp(ports, &pattern(3, 64)), UDP_CHECKSUM)
    };
    (0..=255).map(one).collect()
}

/// Datagrams of one flow whose congestion marks change all the time.
pub(crate) fn one_flow_with_changing_marks(at: &Crossing) -> Vec<Inner> {
    let one = |number: u16| {
        let mut ip = at.ip(UDP);
        (ip.id, ip.tos) = (number, (number % 7 % 4) as u8);
        ip.finished(udp((4007, 5007), &pattern(number.into(), 64)), UDP_CHECKSUM)
    };
    (0..512).map(one).collect()
}

/// Datagrams of one flow that may be joined on the way, and some that may not.
fn udp_trains(at: &Crossing, _mtu: usize) -> Vec<Inner> {
    let ids: [fn(u16) -> u16; 4] = [
        |n| n,
        |_| 77,
        |n| n.wrapping_mul(13),
        |n| n.wrapping_sub(20),
    ];
    let mut train = Vec::new();
    for (number, id) in ids.into_iter().enumerate() {
        for fragment in [0, DONT_FRAGMENT] {
            for place in 0..40_u16 {
                let mut ip = at.ip(UDP);
                (ip.id, ip.fragment) = (id(place), fragment);
                let ports = (4100 + number as u16, 5100 + fragment / 0x4000);
                let length = if place % 11 == 10 { 50 } else { 300 };
                train.push(ip.finished(udp(ports, &pattern(place.into(), length)), UDP_CHECKSUM));
            }
        }
    }
    train
}

/// Segments of one stream that may be joined on the way, interrupted by some that may not.
fn tcp_trains(at: &Crossing, mtu: usize) -> Vec<Inner> {
    let timestamps = [1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4];
    let flags = [Tcp::PSH, 0, 0, Tcp::FIN, 0, Tcp::SYN, 0, 0];
    let mut train = Vec::new();
    for (stream, options) in [Vec::new(), timestamps.to_vec()].into_iter().enumerate() {
        let payload = mtu - 40 - options.len();
        let mut tcp = Tcp::new((4200 + stream as u16, 5200), u32::MAX - 20_000);
        tcp.options = options;
        for place in 0..60_u16 {
            let mut ip = at.ip(TCP);
            (ip.id, ip.fragment) = (place.wrapping_sub(5), DONT_FRAGMENT);
            tcp.flags = Tcp::ACK
                | if place % 7 == 6 {
                    flags[usize::from(place / 7) % flags.len()]
                } else {
                    0
                };
            let length = if place % 13 == 12 { 100 } else { payload };
            train.push(ip.finished(tcp.segment(&pattern(place.into(), length)), TCP_CHECKSUM));
            // Now and then a segment is missing.
            let missing = if place % 17 == 16 { payload } else { 0 };
            tcp.sequence = tcp.sequence.wrapping_add((length + missing) as u32);
        }
    }
    train
}

/// Segments larger than the MTU that a container's stack leaves to others to cut and to sum.
pub(crate) fn tcp_super_packets(at: &Crossing, mtu: usize) -> Vec<Inner> {
    let sizes = [100, 2 * mtu, 5 * mtu + 1, 30_000, LARGEST_IP_PACKET];
    let flags = [Tcp::ACK, Tcp::ACK | Tcp::PSH | Tcp::FIN];
    let all = sizes
        .into_iter()
        .enumerate()
        .flat_map(|(number, size)| flags.map(|flags| (number, size, flags)));
    all.enumerate()
        .map(|(place, (number, size, flags))| {
            // Each has a stretch of the stream to itself: what arrives out of turn is put in turn.
            let mut tcp = Tcp::new((4300, 5300), place as u32 * 1_000_000);
            tcp.flags = flags;
            tcp_super_packet(at, mtu, number, size, tcp)
        })
        .collect()
}

/// The same for datagrams, as QUIC sends them.
pub(crate) fn udp_super_packets(at: &Crossing, mtu: usize) -> Vec<Inner> {
    let sizes = [100, 2 * mtu, 5 * mtu + 1, 30_000, 40 * mtu];
    let full = sizes
        .into_iter()
        .enumerate()
        .map(|(number, size)| udp_super_packet(at, number, size, mtu - 28));
    full.chain([udp_super_packet(at, 9, 28 + 64 * 100, 100)])
        .collect()
}

fn tcp_super_packet(at: &Crossing, mtu: usize, number: usize, size: usize, mut tcp: Tcp) -> Inner {
    let mut ip = at.ip(TCP);
    (ip.id, ip.fragment) = (50_000 + number as u16 * 2000, DONT_FRAGMENT);
    tcp.options = vec![1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4];
    let header = tcp.header_len();
    let segment = tcp.segment(&pattern(number, size - 20 - header));
    ip.unfinished(segment, TCP_CHECKSUM, header, (mtu - 20 - header) as u16)
}

fn udp_super_packet(at: &Crossing, number: usize, size: usize, gso: usize) -> Inner {
    let mut ip = at.ip(UDP);
    (ip.id, ip.fragment) = (number as u16 * 100, DONT_FRAGMENT);
    ip.unfinished(
        udp((4301, 5301), &pattern(number, size - 28)),
        UDP_CHECKSUM,
        8,
        gso as u16,
    )
}

//! Outer packets in pieces. The kernel puts them together before the daemon sees any, so what is in question is whether
//! pieces that never become a packet, or become too large a one, cost anybody else anything.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use benches::frames::FramePort;
use benches::{Path, Side};

use super::forged::{address, inner, listener};
use super::scene::await_until;
use super::strangers::{account, count, probe, up};
use super::table::{assert_none_lost, report};

const PORT: u16 = 8285;
/// What a piece carries; all but the last carry a multiple of eight bytes.
const PIECE: usize = 1480;
const MANY: u16 = 20_000;
/// The longest datagram there can be.
const LONGEST: usize = 65_507;
/// Memory a daemon may take for all of it.
const KIB_MORE: u64 = 1024;

/// Puts pieces of packets on the wire to node A.
struct Cutter {
    port: FramePort,
    ethernet: Vec<u8>,
    number: u16,
}

impl Cutter {
    fn at_b(path: &Path) -> Self {
        let [to, from] = Side::BOTH.map(|side| mac(path, side));
        Self {
            port: FramePort::open(path.lab().node(Side::B), "eth0").unwrap(),
            ethernet: [to, from, vec![8, 0]].concat(),
            number: 0,
        }
    }

    /// One piece of the packet at hand.
    fn send(&self, from: Ipv4Addr, offset: usize, more: bool, piece: &[u8]) {
        let place = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        let mut ip = vec![0x45, 0];
        ip.extend((20 + piece.len() as u16).to_be_bytes());
        ip.extend(self.number.to_be_bytes());
        ip.extend(place.to_be_bytes());
        ip.extend([64, 17, 0, 0]);
        ip.extend(from.octets());
        ip.extend(Side::A.underlay().octets());
        let sum = super::forged::checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let frame = [&self.ethernet[..], &ip, piece].concat();
        // A full queue only takes a moment to empty.
        await_until(
            || self.port.send(&frame).is_ok(),
            || "the wire is stuck".to_owned(),
        );
    }

    fn next(&mut self) {
        self.number = self.number.wrapping_add(1);
    }

    /// A whole datagram in as many pieces as it takes.
    fn send_whole(&mut self, from: Ipv4Addr, payload: &[u8]) {
        let datagram = datagram(payload);
        let last = (datagram.len() - 1) / PIECE;
        for (number, piece) in datagram.chunks(PIECE).enumerate() {
            self.send(from, number * PIECE, number < last, piece);
        }
        self.next();
    }
}

fn mac(path: &Path, side: Side) -> Vec<u8> {
    let shown = path
        .lab()
        .node(side)
        .run("ip -oneline link show eth0")
        .unwrap();
    let (_, rest) = shown.split_once("link/ether ").unwrap();
    let octets = rest[..17].split(':');
    octets
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect()
}

/// A datagram to the daemon's port, without a checksum.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut bytes = [PORT, PORT, 8 + payload.len() as u16, 0]
        .map(u16::to_be_bytes)
        .concat();
    bytes.extend(payload);
    bytes
}

#[test]
fn pieces_that_never_become_a_packet_cost_no_other() {
    let mut path = up("udp");
    let (peer, stranger) = (Side::B.underlay(), Ipv4Addr::new(192, 168, 77, 66));
    let mut cutter = Cutter::at_b(&path);
    let hears = listener(&path);
    let good = inner(address(&path, Side::B), address(&path, Side::A), &[7; 1400]);
    let before = path.daemon(Side::A).unwrap().memory_kib().unwrap();
    let watch = probe(&path);
    // In two pieces, as over a link narrower than ours.
    let whole = datagram(&good);
    let (head, tail) = whole.split_at(800);
    cutter.send(peer, 0, true, head);
    cutter.send(peer, 800, false, tail);
    cutter.next();
    await_until(
        || hears.recv(&mut [0; 1500]).is_ok(),
        || "not put together".to_owned(),
    );
    for from in [peer, stranger] {
        cutter.send_whole(from, &vec![0x45; LONGEST]);
    }
    for round in 0..MANY {
        let from = if round % 2 == 0 { peer } else { stranger };
        cutter.send(from, 0, true, &whole[..PIECE.min(whole.len()) / 8 * 8]);
        if round % 4 < 2 {
            cutter.send(from, 496, false, &whole[..1000]);
        }
        cutter.next();
    }
    // What would be late is waited for.
    thread::sleep(Duration::from_millis(500));
    let outcome = watch.stop();
    let more = path
        .daemon(Side::A)
        .unwrap()
        .memory_kib()
        .unwrap()
        .saturating_sub(before);
    report(
        &format!("{MANY} outer packets of which pieces are missing or overlap"),
        Some(&outcome),
        &[("memory more by", format!("{:.1} MiB", more as f64 / 1024.0))],
    );
    assert_none_lost(&outcome);
    assert!(more < KIB_MORE, "{more} KiB");
    let counts = account(&mut path);
    assert_eq!(
        count(&counts, "in_header_checksum"),
        1,
        "the longest of a peer arrived whole: {counts:?}"
    );
    assert_eq!(
        count(&counts, "in_not_a_peer"),
        1,
        "and of a stranger: {counts:?}"
    );
}

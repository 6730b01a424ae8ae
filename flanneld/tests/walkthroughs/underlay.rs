//! What is on the wire between nodes, as a network analyser shows it.

use std::net::Ipv4Addr;
use std::time::Instant;

use benches::frames::FramePort;

use crate::site::Node;

/// A UDP datagram between nodes.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) destination: (Ipv4Addr, u16),
    pub(crate) hops: u8,
    pub(crate) may_be_fragmented: bool,
    pub(crate) payload: Vec<u8>,
}

/// Listens to what comes in at a node.
pub(crate) struct Underlay(FramePort);

impl Underlay {
    pub(crate) fn of(node: &Node) -> Self {
        Self(FramePort::open(&node.host, "eth0").unwrap())
    }

    /// All datagrams to a port that have come in.
    pub(crate) fn arrived_at(&mut self, port: u16) -> Vec<Datagram> {
        let mut found = Vec::new();
        while let Some(frame) = self.0.receive(Instant::now()).unwrap() {
            found.extend(datagram(frame).filter(|datagram| datagram.destination.1 == port));
        }
        found
    }
}

fn datagram(frame: &[u8]) -> Option<Datagram> {
    let (ethernet, ip) = frame.split_at_checked(14)?;
    if ethernet[12..] != [8, 0] || ip.first()? != &0x45 || ip.get(9)? != &17 {
        return None;
    }
    let (header, udp) = ip.split_at_checked(20)?;
    let (ports, payload) = udp.split_at_checked(8)?;
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    let length = usize::from(u16::from_be_bytes([ports[4], ports[5]])) - 8;
    Some(Datagram {
        source: (address(12), port(0)),
        destination: (address(16), port(2)),
        hops: header[8],
        may_be_fragmented: header[6] & 0x40 == 0,
        payload: payload.get(..length).unwrap_or(payload).to_vec(),
    })
}

/// Source and destination of a bare IPv4 packet; fails if it is not exactly one, whole.
pub(crate) fn inner_ends(packet: &[u8]) -> (Ipv4Addr, Ipv4Addr) {
    assert_eq!(packet[0], 0x45, "an IPv4 packet begins the payload");
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    assert_eq!(length, packet.len(), "one packet fills the payload");
    let address =
        |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    (address(12), address(16))
}

//! Datagrams as another node would send them, made by hand, and where they are sent from.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use benches::frames::FramePort;
use benches::{Path, Side};
use serde_json::Value;

/// A port that nobody listens on but those who ask to.
pub(crate) const DISCARD: u16 = 9;
const ETHERNET: usize = 14;
const UDP: u8 = 17;

/// An inner UDP packet without a transport checksum.
pub(crate) fn inner(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, UDP, 0, 0];
    let udp_len = 8 + payload.len();
    bytes[2..4].copy_from_slice(&((20 + udp_len) as u16).to_be_bytes());
    bytes.extend(source.octets());
    bytes.extend(destination.octets());
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend([DISCARD, DISCARD].map(u16::to_be_bytes).concat());
    bytes.extend((udp_len as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// The checksum of an IPv4 header.
pub(crate) fn checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// What is in front of an inner packet on its way to a node, and the port it goes to.
pub(crate) struct Envelope {
    port: u16,
    header: Vec<u8>,
}

impl Envelope {
    /// As the other node would address node A.
    pub(crate) fn to_a(path: &Path) -> Self {
        if path.spec().name.starts_with("udp") {
            return Self {
                port: 8285,
                header: Vec::new(),
            };
        }
        let [own, peer] = Side::BOTH.map(|side| overlay_mac(path, side));
        let vxlan = vec![8, 0, 0, 0, 0, 0, 1, 0];
        Self {
            port: 8472,
            header: [vxlan, own, peer, vec![8, 0]].concat(),
        }
    }

    /// Where A listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The same with another network identifier.
    pub(crate) fn of_network(&self, vni: u32) -> Self {
        let mut header = self.header.clone();
        header[4..8].copy_from_slice(&(vni << 8).to_be_bytes());
        Self { header, ..*self }
    }

    pub(crate) fn around(&self, packet: &[u8]) -> Vec<u8> {
        [&self.header, packet].concat()
    }
}

fn overlay_mac(path: &Path, side: Side) -> Vec<u8> {
    let subnet = path.subnet(side).to_string().replace('/', "-");
    let file = path.lab().scratch().join("store/subnets").join(subnet);
    let lease: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mac = lease["BackendData"]["VtepMAC"].as_str().unwrap();
    let octets = mac
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap());
    octets.collect()
}

/// Somebody on the underlay, at a place of B's, who sends to A.
pub(crate) struct Sender {
    socket: UdpSocket,
    address: Ipv4Addr,
}

impl Sender {
    /// One with an address of its own, which no lease names.
    pub(crate) fn stranger(path: &Path) -> Self {
        let address = Ipv4Addr::new(192, 168, 77, 66);
        let node = path.lab().node(Side::B);
        node.ip(&format!("addr replace {address}/24 dev eth0"))
            .unwrap();
        Self::at(path, address)
    }

    /// One with the other node's address.
    pub(crate) fn peer(path: &Path) -> Self {
        Self::at(path, Side::B.underlay())
    }

    fn at(path: &Path, address: Ipv4Addr) -> Self {
        let node = path.lab().node(Side::B);
        let socket = node.enter(|| UdpSocket::bind((address, 0))).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, address }
    }

    /// Sends a datagram over and over, no faster than the receiver's socket can take.
    pub(crate) fn send(
        &self,
        envelope: &Envelope,
        datagrams: impl Iterator<Item = Vec<u8>>,
    ) -> u64 {
        let mut count = 0;
        for datagram in datagrams {
            let to = (Side::A.underlay(), envelope.port);
            while self.socket.send_to(&datagram, to).is_err() {
                thread::sleep(Duration::from_millis(1));
            }
            count += 1;
            if count % 500 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        count
    }

    /// Whether anything at all has come back.
    pub(crate) fn was_answered(&self) -> bool {
        self.socket.recv(&mut [0; 64]).is_ok()
    }
}

/// Listens to what reaches node B over the wire.
pub(crate) struct Wire(FramePort);

impl Wire {
    pub(crate) fn open(path: &Path) -> Self {
        Self(FramePort::open(path.lab().node(Side::B), "eth0").unwrap())
    }

    /// The IPv4 packets for an address that came since the last look, but those between the two
    /// daemons.
    pub(crate) fn packets_to(&mut self, sender: &Sender) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let quiet = Duration::from_millis(100);
        while let Some(frame) = self.0.receive(Instant::now() + quiet).unwrap() {
            let for_sender = frame.get(30..34) == Some(&sender.address.octets());
            let from_daemon = frame.get(23) == Some(&UDP);
            let between_nodes = from_daemon && sender.address == Side::B.underlay();
            if frame[12..14] == [8, 0] && for_sender && !between_nodes {
                packets.push(frame[ETHERNET..].to_vec());
            }
        }
        packets
    }
}

/// A socket in A's container, where what gets through arrives.
pub(crate) fn listener(path: &Path) -> UdpSocket {
    let (container, address) = path.container(Side::A);
    let socket = container
        .enter(|| UdpSocket::bind((address, DISCARD)))
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// The IPv4 address of a container.
pub(crate) fn address(path: &Path, side: Side) -> Ipv4Addr {
    match path.container(side).1 {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} in an IPv4 lab"),
    }
}

//! Inner packets made by hand: independent of the code they test, and simple before fast.

use std::net::Ipv4Addr;

pub(crate) const UDP: u8 = 17;
pub(crate) const TCP: u8 = 6;
pub(crate) const ICMP: u8 = 1;
pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;

const GSO_TCPV4: u8 = 1;
const GSO_UDP_L4: u8 = 5;
const NEEDS_CSUM: u8 = 1;

/// A packet as a container would hand it to its device: the IP packet and its virtio header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) virtio: [u8; 10],
    pub(crate) bytes: Vec<u8>,
}

impl Inner {
    /// How many packets it is once cut to the size its virtio header asks for.
    pub(crate) fn segments(&self) -> usize {
        let field = |place: usize| {
            usize::from(u16::from_ne_bytes([
                self.virtio[place],
                self.virtio[place + 1],
            ]))
        };
        let (header_len, gso_size) = (field(2), field(4));
        if gso_size == 0 {
            1
        } else {
            (self.bytes.len() - header_len).div_ceil(gso_size)
        }
    }
}

/// The fields of an IPv4 header that tests vary.
#[derive(Clone, Debug)]
pub(crate) struct Ip {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) id: u16,
    /// Flags and fragment offset as on the wire.
    pub(crate) fragment: u16,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) options: Vec<u8>,
}

impl Ip {
    pub(crate) fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            protocol,
            id: 1,
            fragment: 0,
            tos: 0,
            ttl: 64,
            options: Vec::new(),
        }
    }

    /// The packet with `payload`, complete.
    pub(crate) fn packet(&self, payload: &[u8]) -> Inner {
        Inner {
            virtio: [0; 10],
            bytes: self.bytes(payload),
        }
    }

    fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let header_len = IPV4_HEADER + self.options.len();
        let mut bytes = vec![0x40 | (header_len / 4) as u8, self.tos];
        bytes.extend(((header_len + payload.len()) as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        let sum = checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The sum over addresses, protocol and length that transport checksums begin with.
    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::from(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend([0, self.protocol]);
        bytes.extend((length as u16).to_be_bytes());
        bytes
    }

    /// Puts a transport segment into a packet, its checksum at `place` finished.
    pub(crate) fn finished(&self, mut segment: Vec<u8>, place: usize) -> Inner {
        let mut summed = self.pseudo_header(segment.len());
        summed.extend(&segment);
        let sum = checksum(&summed);
        segment[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        self.packet(&segment)
    }

    /// As `finished`, but the checksum and the split into segments of `gso` bytes are left to others.
    pub(crate) fn unfinished(
        &self,
        mut segment: Vec<u8>,
        place: usize,
        header: usize,
        gso: u16,
    ) -> Inner {
        let sum = !checksum(&self.pseudo_header(segment.len()));
        segment[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        let split = segment.len() > header + usize::from(gso) && gso > 0;
        let kind = if self.protocol == TCP {
            GSO_TCPV4
        } else {
            GSO_UDP_L4
        };
        let mut virtio = [0; 10];
        virtio[0] = NEEDS_CSUM;
        if split {
            virtio[1] = kind;
            virtio[2..4].copy_from_slice(&((IPV4_HEADER + header) as u16).to_ne_bytes());
            virtio[4..6].copy_from_slice(&gso.to_ne_bytes());
        }
        // The virtio header describes the frame, which has an Ethernet header in front.
        virtio[6..8]
            .copy_from_slice(&((IPV4_HEADER + super::carry::ETHERNET) as u16).to_ne_bytes());
        virtio[8..10].copy_from_slice(&(place as u16).to_ne_bytes());
        Inner {
            virtio,
            bytes: self.bytes(&segment),
        }
    }
}

pub(crate) const UDP_CHECKSUM: usize = 6;
pub(crate) const TCP_CHECKSUM: usize = 16;

/// A UDP datagram without checksum.
pub(crate) fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend(((8 + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// The fields of a TCP header that tests vary.
#[derive(Clone, Debug)]
pub(crate) struct Tcp {
    pub(crate) ports: (u16, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    /// A multiple of four bytes.
    pub(crate) options: Vec<u8>,
}

impl Tcp {
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;

    pub(crate) fn new(ports: (u16, u16), sequence: u32) -> Self {
        Self {
            ports,
            sequence,
            acknowledgement: 7,
            flags: Self::ACK,
            options: Vec::new(),
        }
    }

    pub(crate) fn header_len(&self) -> usize {
        20 + self.options.len()
    }

    /// The segment with `payload`, without checksum.
    pub(crate) fn segment(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([((self.header_len() / 4) << 4) as u8, self.flags]);
        bytes.extend([0x12, 0x34, 0, 0, 0, 0]);
        bytes.extend(&self.options);
        bytes.extend(payload);
        bytes
    }
}

/// `length` bytes that differ from place to place and from `seed` to `seed`.
pub(crate) fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| (place * 31 + seed * 17 + place / 251) as u8)
        .collect()
}

/// The internet checksum, as it goes into a header.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

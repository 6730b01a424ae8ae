//! Which packets may be merged at all, and what two of them must share: the kernel's GRO rules, and
//! stricter wherever segmenting the result again would not give the same bytes back.

use crate::wire::checksum::Sum;
use crate::wire::ip::{IpInfo, stir};
use crate::wire::l4::{L4, Transport, flag, tcp, udp};
use crate::wire::{Family, be16, be32};

/// Who talks to whom, and through which peer it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FlowKey {
    addresses: [u64; 4],
    ports: u32,
    peer: u32,
    protocol: u8,
}

impl FlowKey {
    /// The key of a packet; `ports` is zero where there are none.
    fn new(packet: &[u8], info: &IpInfo, ports: u32, peer: u32) -> Self {
        let bytes = match info.family {
            Family::V4 => &packet[12..20],
            Family::V6 => &packet[8..40],
        };
        let mut addresses = [0; 4];
        for (word, bytes) in addresses.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Self {
            addresses,
            ports,
            peer,
            protocol: info.protocol,
        }
    }

    /// The key of a TCP or UDP packet.
    pub(super) fn of_flow(packet: &[u8], info: &IpInfo, peer: u32) -> Self {
        Self::new(packet, info, be32(packet, info.header_len), peer)
    }

    /// The key of a fragment, of which only addresses and protocol are known.
    pub(super) fn of_fragment(packet: &[u8], info: &IpInfo, peer: u32) -> Self {
        Self::new(packet, info, 0, peer)
    }

    /// Whether the two differ in nothing but ports.
    pub(super) fn is_between_same_hosts(&self, other: &Self) -> bool {
        Self { ports: 0, ..*self } == Self { ports: 0, ..*other }
    }

    /// A short stand-in to search by, never zero; equal keys have equal digests.
    pub(super) fn digest(&self) -> u32 {
        let [a, b, c, d] = self.addresses;
        let ports_and_peer = u64::from(self.ports) << 32 | u64::from(self.peer);
        (stir(stir(a ^ b.rotate_left(17) ^ c.rotate_left(31) ^ d.rotate_left(47)) ^ ports_and_peer)
            >> 32) as u32
            | 1
    }
}

/// What all packets of a super-packet have in common apart from their flow, packed for one
/// comparison. TCP options are compared where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Version, header length, TOS or traffic class and flow label, DF, hops.
    ip: u64,
    /// Acknowledgement, header length, flags but PSH, window.
    tcp: u64,
    /// The urgent pointer: without meaning here, but the segments would all show the first one's.
    urgent: u16,
}

/// A packet that may be merged with others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) shape: Shape,
    /// Whether the IP header forbids fragmentation, so that nobody reads the identification.
    pub(super) dont_fragment: bool,
    /// IPv4 identification.
    pub(super) id: u16,
    /// Position in the byte stream; zero for UDP.
    pub(super) seq: u32,
    /// Where the stream goes on; zero for UDP.
    pub(super) seq_after: u32,
    pub(super) payload_len: u16,
    /// The sender asked for the data to be handed up: nothing may follow.
    pub(super) push: bool,
}

impl Candidate {
    /// Looks at headers only: the caller answers for the transport checksum.
    pub(super) fn of(packet: &[u8], info: &IpInfo, l4: &L4) -> Option<Self> {
        let payload_len = l4.payload_len() as u16;
        if payload_len == 0 || !info.is_plain() {
            return None;
        }
        let (ip, id) = ip_part(packet, info)?;
        let header = &packet[l4.start..l4.payload];
        let common = Self {
            shape: Shape {
                ip,
                tcp: 0,
                urgent: 0,
            },
            dont_fragment: info.dont_fragment,
            id,
            seq: 0,
            seq_after: 0,
            payload_len,
            push: false,
        };
        match l4.transport {
            Transport::Tcp => common.with_tcp(header),
            Transport::Udp => is_plain_udp(header, l4.end - l4.start).then_some(common),
        }
    }

    fn with_tcp(self, header: &[u8]) -> Option<Self> {
        let flags = header[tcp::FLAGS];
        // The kernel only ever writes zero where both zeros are right; the other one would not come
        // back.
        if flags & !(flag::ACK | flag::PSH) != 0 || be16(header, tcp::CHECKSUM) == 0xffff {
            return None;
        }
        let ack = u64::from(be32(header, tcp::ACK)) << 32;
        let rest = be32(header, tcp::DATA_OFFSET) & !(u32::from(flag::PSH) << 16);
        let seq = be32(header, tcp::SEQ);
        let shape = Shape {
            tcp: ack | u64::from(rest),
            urgent: be16(header, tcp::URGENT),
            ..self.shape
        };
        Some(Self {
            shape,
            seq,
            seq_after: seq.wrapping_add(u32::from(self.payload_len)),
            push: flags & flag::PSH != 0,
            ..self
        })
    }
}

/// The common part of the IP header and the identification; `None` for an IPv4 header that would
/// not come back as it is: wrong checksum, reserved bit, the odd representation of zero.
fn ip_part(packet: &[u8], info: &IpInfo) -> Option<(u64, u16)> {
    if info.family == Family::V6 {
        return Some((u64::from(be32(packet, 0)) << 8 | u64::from(packet[7]), 0));
    }
    let fragment_word = be16(packet, 6);
    if fragment_word & !0x4000 != 0
        || be16(packet, 10) == 0xffff
        || !Sum::of(&packet[..20]).verifies()
    {
        return None;
    }
    let word =
        u64::from(be16(packet, 0)) << 32 | u64::from(fragment_word) << 16 | u64::from(packet[8]);
    Some((word, be16(packet, 4)))
}

/// With a checksum (a merged packet always has one) and the length the IP header implies.
fn is_plain_udp(header: &[u8], len: usize) -> bool {
    usize::from(be16(header, udp::LEN)) == len && be16(header, udp::CHECKSUM) != 0
}

//! What is around a datagram in a frame that no kernel has unwrapped: Ethernet, IP and UDP.

use std::net::IpAddr;
use std::ops::Range;

use super::checksum::Sum;
use super::ip::{self, IpInfo};
use super::l4::{L4, Transport, udp};
use super::{Family, be16};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;

/// A datagram in its frame.
#[derive(Clone, Debug)]
pub struct Outer {
    /// Who sent it.
    pub source: IpAddr,
    /// The port it is for.
    pub port: u16,
    /// The congestion mark on its way.
    pub ecn: u8,
    /// Where in the frame its payload is.
    pub payload: Range<usize>,
    l4: L4,
}

impl Outer {
    /// Finds the datagram as a kernel would that hands its payload to a socket; `None` for whatever it
    /// would not. Whether the datagram [is intact](Self::is_intact) is another question.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET..)?;
        let info = IpInfo::parse(packet).ok()?;
        let l4 = L4::parse(packet, &info).filter(|l4| l4.transport == Transport::Udp)?;
        let whole = usize::from(be16(packet, l4.start + udp::LEN)) == l4.end - l4.start;
        let right = whole && ip::header_checksum_ok(packet, &info);
        right.then(|| Self {
            source: ip::source(packet, info.family),
            port: be16(packet, l4.start + 2),
            ecn: info.ecn,
            payload: ETHERNET + l4.payload..ETHERNET + l4.end,
            l4,
        })
    }

    /// Whether the checksum says so, or nothing: there need be none over IPv4. A neighbour on the
    /// same machine leaves checksums to hardware that does not exist: its own is unfinished then, or
    /// right once that of the inner packet is finished, which begins `inner` bytes into the payload.
    pub fn is_intact(&self, frame: &[u8], inner: usize) -> bool {
        let (packet, l4) = (&frame[ETHERNET..], &self.l4);
        let field = l4.checksum_field(packet);
        if field == 0 {
            return l4.family == Family::V4;
        }
        let pseudo = l4.pseudo_header(packet);
        field == pseudo.fold()
            || pseudo.plus(Sum::of(&packet[l4.start..l4.end])).verifies()
            || self.will_verify(packet, pseudo, inner).unwrap_or(false)
    }

    /// Once a checksum is finished, all it covers adds up to the complement of what it is now.
    fn will_verify(&self, packet: &[u8], pseudo: Sum, inner: usize) -> Option<bool> {
        let begin = self.l4.payload + inner;
        let bytes = packet.get(begin..self.l4.end)?;
        let l4 = L4::parse(bytes, &IpInfo::parse(bytes).ok()?)?;
        let field = l4.checksum_field(bytes);
        let headers = Sum::of(&packet[self.l4.start..begin + l4.start]);
        let rest = Sum::of(&(!field).to_be_bytes());
        let unfinished = l4.end == bytes.len() && field == l4.pseudo_header(bytes).fold();
        Some(unfinished && pseudo.plus(headers).plus(rest).verifies())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put16;
    use crate::wire::split::finish_checksum;
    use crate::wire::virtio::VirtioNetHdr;
    use etherparse::PacketBuilder;

    const PAYLOAD: &[u8] = b"an inner packet";

    fn frames() -> [Vec<u8>; 2] {
        let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let source = [[192, 168, 77, 1], [192, 168, 77, 2]];
        let v4 = ethernet().ipv4(source[0], source[1], 64);
        let v6 = ethernet().ipv6([0xfd; 16], [0xfe; 16], 64);
        [v4, v6].map(|builder| {
            let mut frame = Vec::new();
            builder
                .udp(50_000, 8285)
                .write(&mut frame, PAYLOAD)
                .expect("memory takes all");
            frame
        })
    }

    /// What is found in a frame, if it is intact.
    fn opened(frame: &[u8]) -> Option<Outer> {
        Outer::parse(frame).filter(|outer| outer.is_intact(frame, 0))
    }

    /// Where the UDP header begins.
    fn udp_start(frame: &[u8]) -> usize {
        ETHERNET + if frame[ETHERNET] >> 4 == 4 { 20 } else { 40 }
    }

    #[test]
    fn a_datagram_is_found_in_its_frame() {
        for (mut frame, source) in frames().into_iter().zip(["192.168.77.1", &"fd".repeat(16)]) {
            // What is shorter than the shortest frame is padded.
            frame.extend([0; 6]);
            let outer = opened(&frame).expect("it is whole");
            assert_eq!(&frame[outer.payload.clone()], PAYLOAD);
            assert_eq!((outer.port, outer.ecn), (8285, 0));
            assert_eq!(outer.source.to_string().replace(':', ""), source);
        }
    }

    #[test]
    fn any_changed_byte_of_ip_or_udp_is_noticed() {
        for frame in frames() {
            for at in ETHERNET..frame.len() {
                let mut broken = frame.clone();
                broken[at] ^= 0x15;
                // No checksum covers the traffic class, flow label and hop limit of IPv6.
                let v6_free = frame[ETHERNET] >> 4 == 6 && matches!(at - ETHERNET, 1..=3 | 7);
                assert_eq!(opened(&broken).is_some(), v6_free, "byte {at}");
            }
        }
    }

    #[test]
    fn no_length_is_believed() {
        for frame in frames() {
            for len in 0..frame.len() {
                assert!(opened(&frame[..len]).is_none(), "{len} bytes");
            }
        }
    }

    #[test]
    fn a_checksum_may_be_missing_over_ipv4_only() {
        let without = frames().map(|mut frame| {
            let at = udp_start(&frame) + udp::CHECKSUM;
            put16(&mut frame, at, 0);
            opened(&frame).is_some()
        });
        assert_eq!(without, [true, false]);
    }

    #[test]
    fn an_unfinished_checksum_is_taken_for_what_it_is() {
        for mut frame in frames() {
            let start = udp_start(&frame);
            let packet = &frame[ETHERNET..];
            let info = IpInfo::parse(packet).expect("an IP packet");
            let pseudo = L4::parse(packet, &info).expect("UDP").pseudo_header(packet);
            put16(&mut frame, start + udp::CHECKSUM, pseudo.fold());
            assert!(opened(&frame).is_some());
            let finish = VirtioNetHdr {
                flags: VirtioNetHdr::NEEDS_CSUM,
                csum_start: (start - ETHERNET) as u16,
                csum_offset: udp::CHECKSUM as u16,
                ..VirtioNetHdr::default()
            };
            finish_checksum(&mut frame[ETHERNET..], &finish).expect("the field is there");
            assert!(opened(&frame).is_some());
        }
    }

    #[test]
    fn a_checksum_that_counts_on_the_inner_one_is_right_as_well() {
        const HEADERS: usize = 22;
        let inner = PacketBuilder::ipv4([10, 5, 1, 2], [10, 5, 2, 2], 64).udp(1, 2);
        let mut payload = vec![7; HEADERS];
        inner
            .write(&mut payload, b"data")
            .expect("memory takes all");
        let mut frame = Vec::new();
        let outer =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64);
        let outer = outer.udp(50_000, 8472);
        outer.write(&mut frame, &payload).expect("memory takes all");
        let begin = ETHERNET + 28 + HEADERS;
        let packet = &frame[begin..];
        let info = IpInfo::parse(packet).expect("an IP packet");
        let pseudo = L4::parse(packet, &info).expect("UDP").pseudo_header(packet);
        let field = begin + 20 + udp::CHECKSUM;
        put16(&mut frame, field, pseudo.fold());
        let intact = |frame: &[u8]| Outer::parse(frame).expect("UDP").is_intact(frame, HEADERS);
        assert!(intact(&frame));
        for at in [ETHERNET + 28, begin - 1, field] {
            let mut broken = frame.clone();
            broken[at] ^= 0x15;
            assert!(!intact(&broken), "byte {at}");
        }
    }
}

//! TCP and UDP as far as segmentation needs them: where the header ends and where its fields are.

use super::checksum::Sum;
use super::ip::{Fragment, IpInfo};
use super::{Family, be16};

/// IP protocol numbers.
pub mod protocol {
    /// Control messages of IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// Control messages of IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Offsets in a TCP header.
pub mod tcp {
    /// Sequence number, 32 bits.
    pub const SEQ: usize = 4;
    /// Acknowledgement number, 32 bits.
    pub const ACK: usize = 8;
    /// Header length in its upper four bits.
    pub const DATA_OFFSET: usize = 12;
    /// Flags.
    pub const FLAGS: usize = 13;
    /// Checksum.
    pub const CHECKSUM: usize = 16;
    /// Urgent pointer.
    pub const URGENT: usize = 18;
    /// Header length without options; options begin here.
    pub const HEADER_LEN: usize = 20;
}

/// Flags of a TCP header.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Hand the data up.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// Offsets in a UDP header.
pub mod udp {
    /// Length of header and payload.
    pub const LEN: usize = 4;
    /// Checksum.
    pub const CHECKSUM: usize = 6;
    /// Header length.
    pub const HEADER_LEN: usize = 8;
}

/// The protocols that can be segmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// The protocol number in the IP header.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }

    /// Where the checksum is, counted from the start of the transport header.
    pub fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => tcp::CHECKSUM,
            Self::Udp => udp::CHECKSUM,
        }
    }
}

/// A whole (never fragmented) TCP or UDP packet, located.
#[derive(Clone, Copy, Debug)]
pub struct L4 {
    /// Which protocol.
    pub transport: Transport,
    /// Family of the IP header in front.
    pub family: Family,
    /// Offset of the transport header in the packet.
    pub start: usize,
    /// Offset of the payload in the packet.
    pub payload: usize,
    /// End of the packet.
    pub end: usize,
}

impl L4 {
    /// Finds the transport header of `packet`; `None` if it is neither TCP nor UDP, a fragment, or
    /// cut short.
    pub fn parse(packet: &[u8], info: &IpInfo) -> Option<Self> {
        if info.fragment != Fragment::None {
            return None;
        }
        let (start, end) = (info.header_len, info.total_len);
        let header = packet.get(start..end)?;
        let (transport, len) = match info.protocol {
            protocol::TCP if header.len() >= tcp::HEADER_LEN => (
                Transport::Tcp,
                usize::from(header[tcp::DATA_OFFSET] >> 4) * 4,
            ),
            protocol::UDP if header.len() >= udp::HEADER_LEN => (Transport::Udp, udp::HEADER_LEN),
            _ => return None,
        };
        let shortest = if transport == Transport::Tcp {
            tcp::HEADER_LEN
        } else {
            udp::HEADER_LEN
        };
        let complete = len >= shortest && len <= header.len();
        complete.then_some(Self {
            transport,
            family: info.family,
            start,
            payload: start + len,
            end,
        })
    }

    /// Where the checksum field is in the packet.
    pub fn checksum_at(&self) -> usize {
        self.start + self.transport.checksum_offset()
    }

    /// The checksum field.
    pub fn checksum_field(&self, packet: &[u8]) -> u16 {
        be16(packet, self.checksum_at())
    }

    /// The pseudo-header sum of the whole packet.
    pub fn pseudo_header(&self, packet: &[u8]) -> Sum {
        Sum::pseudo_header(
            packet,
            self.family,
            self.transport.protocol(),
            self.end - self.start,
        )
    }

    /// Number of payload bytes.
    pub fn payload_len(&self) -> usize {
        self.end - self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::Sketch;

    fn located(packet: &[u8]) -> Option<(usize, usize, usize)> {
        let info = IpInfo::parse(packet).unwrap();
        L4::parse(packet, &info).map(|l4| (l4.start, l4.payload, l4.end))
    }

    #[test]
    fn headers_are_located_in_both_families() {
        let tcp = |v6| {
            Sketch {
                options: vec![1; 12],
                ..Sketch::new(v6, true, 100)
            }
            .build()
        };
        assert_eq!(located(&tcp(false)), Some((20, 52, 152)));
        assert_eq!(located(&tcp(true)), Some((40, 72, 172)));
        assert_eq!(
            located(&Sketch::new(false, false, 0).build()),
            Some((20, 28, 28))
        );
        assert_eq!(
            located(&Sketch::new(true, false, 9).build()),
            Some((40, 48, 57))
        );
    }

    #[test]
    fn a_tcp_header_must_fit_and_not_be_too_short() {
        for (offset, expected) in [
            (4, None),
            (5, Some((20, 40, 44))),
            (6, Some((20, 44, 44))),
            (7, None),
            (15, None),
        ] {
            let mut packet = Sketch::new(false, true, 4).build();
            packet[32] = offset << 4;
            assert_eq!(located(&packet), expected, "data offset {offset}");
        }
    }

    #[test]
    fn fragments_other_protocols_and_stumps_have_no_ports() {
        let mut fragment = Sketch::new(false, false, 100).build();
        fragment[6] = 0x20;
        let mut other = Sketch::new(false, false, 100).build();
        other[9] = protocol::SCTP;
        let mut stump = Sketch::new(false, false, 0).build();
        stump[3] = 27;
        for packet in [fragment, other, stump] {
            assert_eq!(located(&packet), None);
        }
    }
}

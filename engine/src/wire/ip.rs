//! IPv4 and IPv6 headers: one check on arrival, cheap readers and writers afterwards.

use super::checksum::{Sum, replace_word};
use super::l4::protocol;
use super::{Family, be16, be32, put16};
use etherparse::err::{ipv4, ipv6};
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use std::net::IpAddr;

/// Length of an IPv6 header without extensions.
pub(super) const V6_HEADER_LEN: usize = 40;
/// No honest packet carries more extension headers; a dishonest one shall not keep us busy.
const EXTENSIONS_MAX: usize = 8;

/// Why bytes are not an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than its header.
    Truncated,
    /// Neither 4 nor 6.
    Version,
    /// The header claims to be shorter than any header.
    HeaderLength,
    /// The total length is shorter than the header or longer than the bytes.
    TotalLength,
}

/// Whether a packet is a piece of a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Whole.
    None,
    /// The piece with the transport header.
    First,
    /// A piece without one.
    Later,
}

/// What the IP header says, checked against the bytes it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpInfo {
    /// Version.
    pub family: Family,
    /// Bytes in front of the transport header, IPv6 extension headers included.
    pub header_len: usize,
    /// Length of the packet; bytes behind it are padding.
    pub total_len: usize,
    /// What follows the header.
    pub protocol: u8,
    /// Whether this is a fragment.
    pub fragment: Fragment,
    /// Remaining hops.
    pub ttl: u8,
    /// Congestion mark.
    pub ecn: u8,
    /// Whether a router must not fragment it; always so for IPv6.
    pub dont_fragment: bool,
}

impl IpInfo {
    /// Checks that version, header length and total length agree with `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::parse_v4(bytes),
            Some(6) => Self::parse_v6(bytes),
            Some(_) => Err(Malformed::Version),
            None => Err(Malformed::Truncated),
        }
    }

    fn parse_v4(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|err| match err {
            ipv4::HeaderSliceError::Len(_) => Malformed::Truncated,
            ipv4::HeaderSliceError::Content(_) => Malformed::HeaderLength,
        })?;
        let (header_len, total_len) = (header.slice().len(), usize::from(header.total_len()));
        if total_len < header_len || total_len > bytes.len() {
            return Err(Malformed::TotalLength);
        }
        Ok(Self {
            family: Family::V4,
            header_len,
            total_len,
            protocol: header.protocol().0,
            fragment: fragment(header.fragments_offset().value(), header.more_fragments()),
            ttl: header.ttl(),
            ecn: bytes[1] & 3,
            dont_fragment: header.dont_fragment(),
        })
    }

    fn parse_v6(bytes: &[u8]) -> Result<Self, Malformed> {
        let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|err| match err {
            ipv6::HeaderSliceError::Len(_) => Malformed::Truncated,
            ipv6::HeaderSliceError::Content(_) => Malformed::Version,
        })?;
        let total_len = V6_HEADER_LEN + usize::from(header.payload_length());
        if total_len > bytes.len() {
            return Err(Malformed::TotalLength);
        }
        let (protocol, header_len, fragment) =
            skip_extensions(&bytes[..total_len], header.next_header().0);
        let ttl = header.hop_limit();
        Ok(Self {
            family: Family::V6,
            header_len,
            total_len,
            protocol,
            fragment,
            ttl,
            ecn: bytes[1] >> 4 & 3,
            dont_fragment: true,
        })
    }

    /// Whether nothing but the shortest header of the family precedes the transport header.
    pub fn is_plain(&self) -> bool {
        self.header_len
            == if self.family == Family::V4 {
                20
            } else {
                V6_HEADER_LEN
            }
    }
}

fn fragment(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::None,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Walks the extension headers up to the transport header. A chain that is cut short or too long
/// ends at the header it cannot pass, whose number then stands for the protocol: nobody will look
/// for ports behind it.
fn skip_extensions(packet: &[u8], first: u8) -> (u8, usize, Fragment) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let (mut next, mut at, mut found) = (first, V6_HEADER_LEN, Fragment::None);
    for _ in 0..EXTENSIONS_MAX {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
            || found == Fragment::Later
        {
            break;
        }
        let Some(header) = packet.get(at..at + 8) else {
            break;
        };
        let len = if next == FRAGMENT {
            8
        } else {
            (usize::from(header[1]) + 1) * 8
        };
        if at + len > packet.len() {
            break;
        }
        if next == FRAGMENT {
            found = fragment(be16(header, 2) >> 3, header[3] & 1 != 0);
        }
        (next, at) = (header[0], at + len);
    }
    (next, at, found)
}

/// Source address; `bytes` has passed [`IpInfo::parse`] (so for the functions below).
pub fn source(bytes: &[u8], family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(source_v4(bytes).into()),
        Family::V6 => IpAddr::V6(source_v6(bytes).into()),
    }
}

/// Destination address.
pub fn destination(bytes: &[u8], family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(destination_v4(bytes).into()),
        Family::V6 => IpAddr::V6(destination_v6(bytes).into()),
    }
}

/// Source address of an IPv4 packet as a number.
pub fn source_v4(bytes: &[u8]) -> u32 {
    be32(bytes, 12)
}

/// Destination address of an IPv4 packet as a number.
pub fn destination_v4(bytes: &[u8]) -> u32 {
    be32(bytes, 16)
}

/// Source address of an IPv6 packet as a number.
pub fn source_v6(bytes: &[u8]) -> u128 {
    be128(bytes, 8)
}

/// Destination address of an IPv6 packet as a number.
pub fn destination_v6(bytes: &[u8]) -> u128 {
    be128(bytes, 24)
}

fn be128(bytes: &[u8], at: usize) -> u128 {
    u128::from(be32(bytes, at)) << 96
        | u128::from(be32(bytes, at + 4)) << 64
        | u128::from(be32(bytes, at + 8)) << 32
        | u128::from(be32(bytes, at + 12))
}

/// Whether the header checksum is right; IPv6 has none, so it always is.
pub fn header_checksum_ok(bytes: &[u8], info: &IpInfo) -> bool {
    info.family == Family::V6 || Sum::of(&bytes[..info.header_len]).verifies()
}

/// Takes one hop off; the caller has seen that there is one.
pub fn lower_ttl(bytes: &mut [u8], info: &IpInfo) {
    match info.family {
        Family::V4 => replace_word(bytes, 10, 8, be16(bytes, 8).wrapping_sub(0x0100)),
        Family::V6 => bytes[7] = bytes[7].wrapping_sub(1),
    }
}

/// Replaces the congestion mark.
pub fn set_ecn(bytes: &mut [u8], info: &IpInfo, ecn: u8) {
    let first = be16(bytes, 0);
    match info.family {
        Family::V4 => replace_word(bytes, 10, 0, first & !3 | u16::from(ecn)),
        Family::V6 => put16(bytes, 0, first & !0x30 | u16::from(ecn) << 4),
    }
}

/// A number all packets of a flow share. Ports count only where every packet of the flow shows
/// them, so all fragments, the first one included, go by addresses and protocol alone.
pub fn flow_hash(bytes: &[u8], info: &IpInfo) -> u32 {
    let ports = if has_ports(info) {
        be32(bytes, info.header_len)
    } else {
        0
    };
    let mut hash = u64::from(ports) << 8 | u64::from(info.protocol);
    let addresses = match info.family {
        Family::V4 => &bytes[12..20],
        Family::V6 => &bytes[8..40],
    };
    for word in addresses.as_chunks::<8>().0 {
        hash = stir(hash ^ u64::from_ne_bytes(*word));
    }
    (hash >> 32) as u32
}

fn has_ports(info: &IpInfo) -> bool {
    let known = matches!(
        info.protocol,
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::DCCP | protocol::UDP_LITE
    );
    known && info.fragment == Fragment::None && info.total_len >= info.header_len + 4
}

/// Spreads every bit over the upper half (multiplier: 2^64 divided by the golden ratio).
pub(super) fn stir(value: u64) -> u64 {
    let product = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product ^ product >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests;

//! The answers a router owes: this cannot be delivered, it lived too long, it is too big.

use super::checksum::Sum;
use super::ip::{Fragment, IpInfo, destination, source};
use super::l4::protocol;
use super::{Family, put16, put32};
use std::net::{IpAddr, Ipv4Addr};

const HEADER_LEN: usize = 8;
const V4_LEN_MAX: usize = 576;
const V6_LEN_MAX: usize = 1280;
const HOPS: u8 = 64;
/// Precedence "internetwork control", which RFC 1812 asks for in answers of a router.
const TOS: u8 = 0xc0;
const DONT_FRAGMENT: u16 = 0x4000;

/// The longest answer [`build`] writes.
pub const ANSWER_LEN_MAX: usize = V6_LEN_MAX;

/// What to tell the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// No route to that network.
    NetUnreachable,
    /// The last hop was used up here.
    TimeExceeded,
    /// Longer than the tunnel carries.
    TooBig {
        /// The longest packet that fits.
        mtu: u32,
    },
}

impl Answer {
    /// Type, code and the 32 bits behind the checksum.
    fn fields(self, family: Family) -> (u8, u8, u32) {
        match (self, family) {
            (Self::NetUnreachable, Family::V4) => (3, 0, 0),
            (Self::TimeExceeded, Family::V4) => (11, 0, 0),
            (Self::TooBig { mtu }, Family::V4) => (3, 4, mtu.min(0xffff)),
            (Self::NetUnreachable, Family::V6) => (1, 0, 0),
            (Self::TimeExceeded, Family::V6) => (3, 0, 0),
            (Self::TooBig { mtu }, Family::V6) => (2, 0, mtu),
        }
    }
}

/// Whether an answer about this packet is allowed at all: never about errors, groups, later fragments, or to
/// somebody who cannot be one sender.
pub fn may_answer(packet: &[u8], info: &IpInfo) -> bool {
    info.fragment != Fragment::Later
        && !is_error(packet, info)
        && is_unicast(destination(packet, info.family))
        && is_unicast(source(packet, info.family))
}

/// Whether the packet is itself an ICMP error; one too short to tell counts as one.
fn is_error(packet: &[u8], info: &IpInfo) -> bool {
    let kind = packet[..info.total_len].get(info.header_len);
    match info.protocol {
        protocol::ICMP if info.family == Family::V4 => {
            kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12))
        }
        protocol::ICMPV6 if info.family == Family::V6 => kind.is_none_or(|kind| *kind < 128),
        _ => false,
    }
}

fn is_unicast(address: IpAddr) -> bool {
    let group = address.is_multicast()
        || matches!(address, IpAddr::V4(v4) if v4 >= Ipv4Addr::new(240, 0, 0, 0));
    !group && !address.is_unspecified() && !address.is_loopback()
}

/// Writes the answer about `packet`, to its source, quoting as much of it as is allowed and as `out` has room
/// for; answers its length. `None` if the families do not match or `out` cannot hold the headers.
pub fn build(
    out: &mut [u8],
    from: IpAddr,
    packet: &[u8],
    info: &IpInfo,
    answer: Answer,
) -> Option<usize> {
    let (ip_len, longest) = match info.family {
        Family::V4 => (20, V4_LEN_MAX),
        Family::V6 => (40, V6_LEN_MAX),
    };
    let room = longest.min(out.len()).checked_sub(ip_len + HEADER_LEN)?;
    let quote = &packet[..info.total_len.min(room)];
    let len = ip_len + HEADER_LEN + quote.len();
    let out = &mut out[..len];
    match (from, source(packet, info.family)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => write_v4(out, from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => write_v6(out, from.octets(), to.octets()),
        _ => return None,
    }
    write_icmp(out, ip_len, quote, info.family, answer);
    Some(len)
}

fn write_v4(out: &mut [u8], from: [u8; 4], to: [u8; 4]) {
    let len = out.len() as u16;
    out[..20].fill(0);
    out[0] = 0x45;
    out[1] = TOS;
    put16(out, 2, len);
    // An unfragmentable packet needs no identification (RFC 6864).
    put16(out, 6, DONT_FRAGMENT);
    out[8] = HOPS;
    out[9] = protocol::ICMP;
    out[12..16].copy_from_slice(&from);
    out[16..20].copy_from_slice(&to);
    let checksum = Sum::of(&out[..20]).checksum();
    put16(out, 10, checksum);
}

fn write_v6(out: &mut [u8], from: [u8; 16], to: [u8; 16]) {
    let len = (out.len() - 40) as u16;
    put32(out, 0, 0x6000_0000 | u32::from(TOS) << 20);
    put16(out, 4, len);
    out[6] = protocol::ICMPV6;
    out[7] = HOPS;
    out[8..24].copy_from_slice(&from);
    out[24..40].copy_from_slice(&to);
}

fn write_icmp(out: &mut [u8], at: usize, quote: &[u8], family: Family, answer: Answer) {
    let (kind, code, rest) = answer.fields(family);
    out[at] = kind;
    out[at + 1] = code;
    put16(out, at + 2, 0);
    put32(out, at + 4, rest);
    out[at + HEADER_LEN..].copy_from_slice(quote);
    let pseudo = match family {
        Family::V4 => Sum::default(),
        Family::V6 => Sum::pseudo_header(out, family, protocol::ICMPV6, out.len() - at),
    };
    let checksum = pseudo.plus(Sum::of(&out[at..])).checksum();
    put16(out, at + 2, checksum);
}

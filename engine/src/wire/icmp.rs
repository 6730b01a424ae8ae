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

/// Whether an answer about this packet is allowed at all: never about errors, groups, later
/// fragments, or to somebody who cannot be one sender.
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

/// Writes the answer about `packet`, to its source, quoting as much of it as is allowed and as
/// `out` has room for; answers its length. `None` if the families do not match or `out` cannot hold
/// the headers.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::{Sketch, sum};

    const FROM_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 91, 1, 0));
    const FROM_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfdaa, 1, 0, 0, 0, 0, 0, 1));

    fn parse(packet: &[u8]) -> IpInfo {
        IpInfo::parse(packet).unwrap()
    }

    fn answer_to(packet: &[u8], from: IpAddr, answer: Answer) -> Vec<u8> {
        let mut out = vec![0xee; ANSWER_LEN_MAX];
        let len = build(&mut out, from, packet, &parse(packet), answer).unwrap();
        out.truncate(len);
        out
    }

    fn allowed(v6: bool, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut packet = Sketch::new(v6, false, 100).build();
        change(&mut packet);
        may_answer(&packet, &parse(&packet))
    }

    #[test]
    fn an_ipv4_answer_is_complete_and_quotes_up_to_576_bytes() {
        for (len, quoted) in [(30, 58), (2000, 548)] {
            let packet = Sketch::new(false, false, len).build();
            let out = answer_to(&packet, FROM_V4, Answer::TooBig { mtu: 1472 });
            assert_eq!(
                (out.len(), parse(&out).protocol),
                (28 + quoted, protocol::ICMP)
            );
            assert_eq!((sum(&out[..20]), sum(&out[20..])), (0xffff, 0xffff));
            assert_eq!(
                (&out[12..16], &out[16..20]),
                (&[10, 91, 1, 0][..], &packet[12..16])
            );
            assert_eq!(
                (&out[20..22], &out[24..28]),
                (&[3, 4][..], &[0, 0, 0x05, 0xc0][..])
            );
            assert_eq!(out[28..], packet[..quoted]);
        }
    }

    #[test]
    fn an_ipv6_answer_is_complete_and_quotes_up_to_1280_bytes() {
        for (len, quoted) in [(30, 78), (2000, 1232)] {
            let packet = Sketch::new(true, false, len).build();
            let out = answer_to(&packet, FROM_V6, Answer::TooBig { mtu: 70_000 });
            assert_eq!(
                (out.len(), parse(&out).protocol),
                (48 + quoted, protocol::ICMPV6)
            );
            let pseudo = [
                &out[8..40],
                &((out.len() - 40) as u32).to_be_bytes(),
                &[0, 0, 0, 58],
                &out[40..],
            ]
            .concat();
            assert_eq!(sum(&pseudo), 0xffff);
            assert_eq!(
                (&out[40..42], &out[44..48]),
                (&[2, 0][..], &70_000u32.to_be_bytes()[..])
            );
            assert_eq!(out[48..], packet[..quoted]);
        }
    }

    #[test]
    fn types_and_codes_are_those_of_the_family() {
        let (four, six) = (
            Sketch::new(false, true, 0).build(),
            Sketch::new(true, true, 0).build(),
        );
        assert_eq!(
            answer_to(&four, FROM_V4, Answer::NetUnreachable)[20..22],
            [3, 0]
        );
        assert_eq!(
            answer_to(&four, FROM_V4, Answer::TimeExceeded)[20..22],
            [11, 0]
        );
        assert_eq!(
            answer_to(&six, FROM_V6, Answer::NetUnreachable)[40..42],
            [1, 0]
        );
        assert_eq!(
            answer_to(&six, FROM_V6, Answer::TimeExceeded)[40..42],
            [3, 0]
        );
    }

    #[test]
    fn padding_behind_the_packet_is_not_quoted() {
        let mut packet = Sketch::new(false, false, 10).build();
        packet.extend([0xcc; 30]);
        assert_eq!(
            answer_to(&packet, FROM_V4, Answer::NetUnreachable).len(),
            28 + 38
        );
    }

    #[test]
    fn no_answer_where_there_is_no_room_or_no_address() {
        let packet = Sketch::new(false, false, 10).build();
        let info = parse(&packet);
        assert_eq!(
            build(
                &mut [0; 27],
                FROM_V4,
                &packet,
                &info,
                Answer::NetUnreachable
            ),
            None
        );
        assert_eq!(
            build(
                &mut [0; 28],
                FROM_V4,
                &packet,
                &info,
                Answer::NetUnreachable
            ),
            Some(28)
        );
        assert_eq!(
            build(
                &mut [0; 600],
                FROM_V6,
                &packet,
                &info,
                Answer::NetUnreachable
            ),
            None
        );
    }

    #[test]
    fn ordinary_packets_and_first_fragments_may_be_answered() {
        assert!(allowed(false, |_| ()));
        assert!(allowed(true, |_| ()));
        assert!(allowed(false, |packet| packet[6] = 0x20));
    }

    #[test]
    fn later_fragments_are_never_answered() {
        assert!(!allowed(false, |packet| packet[7] = 1));
        let ext = |packet: &mut Vec<u8>| {
            packet[6] = 44;
            packet[40..48].copy_from_slice(&[17, 0, 0, 8, 0, 0, 0, 1]);
        };
        assert!(!allowed(true, ext));
    }

    #[test]
    fn errors_are_never_answered_but_questions_are() {
        let icmp = |number: usize, at: usize, kind: u8| {
            move |packet: &mut Vec<u8>| {
                packet[number] = if at == 20 {
                    protocol::ICMP
                } else {
                    protocol::ICMPV6
                };
                packet[at] = kind;
            }
        };
        for (kind, expected) in [
            (0, true),
            (3, false),
            (4, false),
            (5, false),
            (8, true),
            (11, false),
            (12, false),
            (13, true),
        ] {
            assert_eq!(allowed(false, icmp(9, 20, kind)), expected, "type {kind}");
        }
        for (kind, expected) in [
            (1, false),
            (2, false),
            (127, false),
            (128, true),
            (135, true),
        ] {
            assert_eq!(allowed(true, icmp(6, 40, kind)), expected, "type {kind}");
        }
        let too_short = |packet: &mut Vec<u8>| {
            packet[9] = protocol::ICMP;
            packet[3] = 20;
        };
        assert!(!allowed(false, too_short));
    }

    #[test]
    fn groups_loopback_and_nobody_are_never_answered() {
        for bad in [
            [224, 0, 0, 1],
            [255, 255, 255, 255],
            [240, 0, 0, 1],
            [0, 0, 0, 0],
            [127, 0, 0, 1],
        ] {
            assert!(
                !allowed(false, |packet| packet[12..16].copy_from_slice(&bad)),
                "from {bad:?}"
            );
            assert!(
                !allowed(false, |packet| packet[16..20].copy_from_slice(&bad)),
                "to {bad:?}"
            );
        }
        let loopback = std::net::Ipv6Addr::LOCALHOST.octets();
        let group = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
        for bad in [loopback, group, [0; 16]] {
            assert!(
                !allowed(true, |packet| packet[8..24].copy_from_slice(&bad)),
                "from {bad:?}"
            );
            assert!(
                !allowed(true, |packet| packet[24..40].copy_from_slice(&bad)),
                "to {bad:?}"
            );
        }
    }
}

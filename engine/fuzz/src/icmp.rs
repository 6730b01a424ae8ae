//! ICMP answers: well-formed, to the sender, short enough, and never about what must not be answered.

use crate::input::Input;
use crate::reference::{Ip, sum};
use crate::sketch::{damage, sketch};
use engine::wire::icmp::{ANSWER_LEN_MAX, Answer, build, may_answer};
use engine::wire::ip::IpInfo;
use std::net::IpAddr;

/// Reads a packet, an answer and the room for it.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let answer = match input.byte() % 3 {
        0 => Answer::NetUnreachable,
        1 => Answer::TimeExceeded,
        _ => Answer::TooBig {
            mtu: input.double_word(),
        },
    };
    let room = if input.one_in(4) {
        usize::from(input.word() % 2000)
    } else {
        ANSWER_LEN_MAX
    };
    let from = if input.one_in(2) {
        IpAddr::from([10, 5, 0, 1])
    } else {
        IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 1])
    };
    let packet = packet(&mut input);
    let Ok(info) = IpInfo::parse(&packet) else {
        return assert!(Ip::of(&packet).is_none());
    };
    let ip = Ip::of(&packet).expect("both parsers agree");
    check_permission(&packet, &info, &ip);
    let mut out = vec![0xee; room];
    match build(&mut out, from, &packet, &info, answer) {
        Some(len) => check_answer(&out, len, from, &packet[..ip.total_len], &ip),
        None => assert!(from.is_ipv6() != ip.v6 || room < 8 + if ip.v6 { 40 } else { 20 }),
    }
}

/// Any packet, a damaged one, or one that may itself be an answer.
fn packet(input: &mut Input<'_>) -> Vec<u8> {
    if input.one_in(3) {
        return input.rest().to_vec();
    }
    let len = usize::from(input.word() % 2000);
    let sketch = sketch(input, len);
    let mut packet = sketch.build();
    if input.one_in(2) {
        let (at, protocol) = if sketch.v6 { (6, 58) } else { (9, 1) };
        packet[at] = protocol;
        packet[sketch.ip_len()] = input.byte();
    }
    damage(input, &mut packet);
    packet
}

fn check_permission(packet: &[u8], info: &IpInfo, ip: &Ip) {
    let first = packet[..ip.total_len].get(ip.header_len).copied();
    let is_error = match (ip.v6, ip.protocol) {
        (false, 1) => first.is_none_or(|kind| [3, 4, 5, 11, 12].contains(&kind)),
        (true, 58) => first.is_none_or(|kind| kind < 128),
        _ => false,
    };
    let addresses = ip.addresses(packet);
    let hosts = addresses.chunks(addresses.len() / 2).all(is_host);
    assert_eq!(
        may_answer(packet, info),
        !is_error && !ip.is_later_fragment && hosts
    );
}

fn is_host(address: &[u8]) -> bool {
    let last_only = |last: u8| address[..15].iter().all(|byte| *byte == 0) && address[15] == last;
    match address.len() {
        4 => address != [0; 4] && address[0] != 127 && address[0] < 224,
        _ => address[0] != 0xff && !last_only(0) && !last_only(1),
    }
}

fn check_answer(out: &[u8], len: usize, from: IpAddr, packet: &[u8], ip: &Ip) {
    let (answer, untouched) = out.split_at(len);
    assert!(untouched.iter().all(|byte| *byte == 0xee));
    assert!(len <= if ip.v6 { 1280 } else { 576 });
    let outer = Ip::of(answer).expect("an answer is a packet");
    let outer_len = if ip.v6 { 40 } else { 20 };
    assert_eq!(
        (outer.v6, outer.header_len, outer.total_len),
        (ip.v6, outer_len, len)
    );
    assert_eq!(outer.protocol, if ip.v6 { 58 } else { 1 });
    assert!(outer.is_right(answer) && !outer.is_fragment);
    let (source, destination) = outer.addresses(answer).split_at(if ip.v6 { 16 } else { 4 });
    assert_eq!(
        destination,
        &ip.addresses(packet)[..destination.len()],
        "to the sender"
    );
    let from = match from {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    assert_eq!(source, from);
    let message = &answer[outer_len..];
    let pseudo = if ip.v6 {
        outer.pseudo_header(answer, 58, message.len())
    } else {
        Vec::new()
    };
    assert_eq!(sum(&[&pseudo, message].concat()), 0xffff);
    assert!(
        packet.starts_with(&message[8..]),
        "the quote is the packet's beginning"
    );
    let info = IpInfo::parse(answer).expect("an answer is a packet");
    assert!(!may_answer(answer, &info), "an answer is never answered");
}

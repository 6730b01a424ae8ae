//! Frames taken off the underlay device: a datagram gets in exactly when a kernel would let it.

use crate::input::Input;
use crate::reference::{Ip, Located, put, repair, word};
use crate::sketch::{damage, sketch};
use engine::wire::outer::{ETHERNET, Outer};
use std::net::IpAddr;

/// What a VXLAN header and the Ethernet header behind it take.
const VXLAN: usize = 22;

/// Reads a frame and where in its payload the inner packet begins.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let headers = if input.one_in(2) { VXLAN } else { 0 };
    let packet = packet(&mut input, headers);
    let frame = [&[0; ETHERNET], &packet[..]].concat();
    let opened = Outer::parse(&frame).filter(|outer| outer.is_intact(&frame, headers));
    let expected = expected(&packet).filter(|udp| is_intact(&packet, udp, headers));
    assert_eq!(opened.is_some(), expected.is_some());
    let (Some(outer), Some(udp)) = (opened, expected) else {
        return;
    };
    let payload = &packet[udp.payload..udp.ip.total_len];
    assert_eq!(&frame[outer.payload.clone()], payload);
    assert_eq!(outer.port, word(&packet, udp.ip.header_len + 2));
    let source = match outer.source {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    assert!(udp.ip.addresses(&packet).starts_with(&source));
}

/// A datagram around a packet whose checksum may be unfinished, damaged now and then.
fn packet(input: &mut Input<'_>, headers: usize) -> Vec<u8> {
    if input.one_in(8) {
        return input.rest().to_vec();
    }
    let len = usize::from(input.byte());
    let mut inner = sketch(input, len).build();
    repair(&mut inner);
    let right = inner.clone();
    if let Some(located) = Located::of(&inner).filter(|_| input.one_in(2)) {
        let pseudo = located.pseudo_sum(&inner);
        put(&mut inner, located.checksum_at(), pseudo);
    }
    let mut packet = wrapped(input, headers, &right);
    // The checksum around it counts on the inner one being right.
    let at = packet.len() - inner.len();
    packet[at..].copy_from_slice(&inner);
    if input.one_in(2) {
        damage(input, &mut packet);
    }
    packet
}

fn wrapped(input: &mut Input<'_>, headers: usize, inner: &[u8]) -> Vec<u8> {
    let len = headers + inner.len();
    let mut outer = vec![0; if input.one_in(2) { 20 } else { 40 }];
    match outer.len() {
        20 => {
            outer[0] = 0x45;
            put(&mut outer, 2, (28 + len) as u16);
            outer[9] = 17;
        }
        _ => {
            outer[0] = 0x60;
            put(&mut outer, 4, (8 + len) as u16);
            outer[6] = 17;
        }
    }
    let udp = [input.byte(), 1, 32, 93, 0, 0, 0, 0];
    let mut packet = [&outer, &udp[..], &vec![input.byte(); headers], inner].concat();
    put(&mut packet, outer.len() + 4, (8 + len) as u16);
    repair(&mut packet);
    packet
}

/// A whole datagram behind a right IP header.
fn expected(packet: &[u8]) -> Option<Located> {
    let ip = Ip::of(packet).filter(|ip| ip.is_right(packet))?;
    let udp = Located::of(packet).filter(|located| !located.tcp)?;
    let len = usize::from(word(packet, ip.header_len + 4));
    (len == ip.total_len - ip.header_len).then_some(udp)
}

fn is_intact(packet: &[u8], udp: &Located, headers: usize) -> bool {
    match udp.field(packet) {
        0 => !udp.ip.v6,
        _ => {
            udp.is_unfinished(packet)
                || udp.is_right(packet)
                || finished_inside(packet, udp, headers).is_some_and(|whole| udp.is_right(&whole))
        }
    }
}

/// The same with the checksum of the packet in it finished, if that is not.
fn finished_inside(packet: &[u8], udp: &Located, headers: usize) -> Option<Vec<u8>> {
    let at = udp.payload + headers;
    let inner = packet.get(at..udp.ip.total_len)?;
    let located = Located::of(inner).filter(|located| located.is_unfinished(inner))?;
    let mut whole = packet.to_vec();
    if located.ip.total_len != inner.len() {
        return None;
    }
    put(
        &mut whole,
        at + located.checksum_at(),
        located.checksum(inner),
    );
    Some(whole)
}

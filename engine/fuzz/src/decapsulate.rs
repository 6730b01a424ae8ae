//! Datagrams from the underlay, in either form, on their way to the merger: only what is ours gets
//! in, and what is changed on the way stays consistent.

use crate::input::Input;
use crate::reference::{Ip, Located};
use crate::sketch::{damage, sketch};
use engine::wire::ip::{self, IpInfo};
use engine::wire::l4::L4;
use engine::wire::vxlan::{self, OVERHEAD};
use engine::wire::{Family, Mac, ecn};

const VNI: u32 = 0x0001_0203;
const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Reads the outer congestion mark and a datagram.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let outer_ecn = input.byte() & 3;
    let datagram = if kind & 2 != 0 {
        input.rest().to_vec()
    } else {
        sketched(&mut input)
    };
    if kind & 1 == 0 {
        return check_packet(datagram, outer_ecn);
    }
    let mut framed = frame(&datagram);
    damage_header(&mut input, &mut framed);
    check_vxlan(&framed);
    if let Ok((offset, family)) = vxlan::open(&framed, VNI, OWN) {
        assert_eq!(
            framed[offset] >> 4,
            if family == Family::V4 { 4 } else { 6 }
        );
        check_packet(framed.split_off(offset), outer_ecn);
    }
}

fn sketched(input: &mut Input<'_>) -> Vec<u8> {
    let len = usize::from(input.byte());
    let mut packet = sketch(input, len).build();
    damage(input, &mut packet);
    let padding = usize::from(input.byte() % 50);
    packet.resize(packet.len() + padding, 0);
    packet
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let mut header = [0xee; OVERHEAD];
    vxlan::write_header(
        &mut header,
        VNI,
        OWN,
        PEER,
        if is_v6 { Family::V6 } else { Family::V4 },
    );
    [&header, packet].concat()
}

fn damage_header(input: &mut Input<'_>, framed: &mut Vec<u8>) {
    for _ in 0..input.byte() % 4 {
        let at = usize::from(input.byte()) % OVERHEAD;
        framed[at] = input.byte();
    }
    if input.one_in(8) {
        framed.truncate(usize::from(input.byte() % 64));
    }
}

/// The same rules, said in another way.
fn check_vxlan(framed: &[u8]) {
    let is_ours = framed.len() > OVERHEAD
        && framed[..8] == [8, 0, 0, 0, 1, 2, 3, 0]
        && framed[8..14] == OWN.0
        && framed[14..20] != OWN.0
        && framed[14..20] != [0; 6]
        && framed[14] & 1 == 0
        && matches!(
            (&framed[20..22], framed[22] >> 4),
            ([8, 0], 4) | ([0x86, 0xdd], 6)
        );
    assert_eq!(vxlan::open(framed, VNI, OWN).is_ok(), is_ours);
}

fn check_packet(mut bytes: Vec<u8>, outer_ecn: u8) {
    let Ok(info) = IpInfo::parse(&bytes) else {
        return assert!(Ip::of(&bytes).is_none());
    };
    check_info(&bytes, &info);
    if !ip::header_checksum_ok(&bytes, &info) || info.ttl == 0 {
        return;
    }
    let before = (bytes.clone(), ip::flow_hash(&bytes, &info));
    let Some(merged) = ecn::merge(outer_ecn, info.ecn) else {
        return assert_eq!((outer_ecn, info.ecn), (ecn::CE, ecn::NOT_ECT));
    };
    ip::set_ecn(&mut bytes, &info, merged);
    ip::lower_ttl(&mut bytes, &info);
    let after = IpInfo::parse(&bytes).expect("still a packet");
    assert_eq!(
        after,
        IpInfo {
            ecn: merged,
            ttl: info.ttl - 1,
            ..info
        }
    );
    assert!(ip::header_checksum_ok(&bytes, &after) && Ip::of(&bytes) == Ip::of(&before.0));
    assert_eq!(
        ip::flow_hash(&bytes, &after),
        before.1,
        "a flow stays a flow"
    );
    assert_eq!(
        ip::source(&bytes, after.family),
        ip::source(&before.0, after.family)
    );
    assert_eq!(bytes[12..], before.0[12..], "nothing else changed");
}

fn check_info(bytes: &[u8], info: &IpInfo) {
    let ip = Ip::of(bytes).expect("both parsers agree");
    assert_eq!(
        (info.header_len, info.total_len),
        (ip.header_len, ip.total_len)
    );
    assert_eq!(info.protocol, ip.protocol);
    assert_eq!(info.family == Family::V6, ip.v6);
    assert_eq!(info.fragment != ip::Fragment::None, ip.is_fragment);
    assert_eq!(info.fragment == ip::Fragment::Later, ip.is_later_fragment);
    assert_eq!(ip::header_checksum_ok(bytes, info), ip.is_right(bytes));
    let packet = &bytes[..info.total_len];
    let (l4, located) = (L4::parse(packet, info), Located::of(packet));
    assert_eq!(
        l4.map(|l4| l4.payload),
        located.map(|located| located.payload)
    );
    assert_eq!(
        l4.map(|l4| l4.checksum_at()),
        located.map(|located| located.checksum_at())
    );
}

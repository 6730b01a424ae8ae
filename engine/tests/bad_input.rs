//! Whatever arrives that should not be carried is dropped, and counted under the right reason.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::{
    Counter, DropReason, EngineConfig, Form, IoChoice, Mac, Peer, PeerForm, Route, SubnetTable,
};
use loopback::{FAR, Loopback, OWN, config, receive};
use std::net::{Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Waits until so many packets were dropped for a reason; more would be one too many.
fn expect(lab: &Loopback, reason: DropReason, count: u64) {
    for _ in 0..500 {
        if lab.engine.counters().dropped(reason) >= count {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    let counters = lab.engine.counters();
    let seen: Vec<_> = counters.nonzero().collect();
    assert_eq!(counters.dropped(reason), count, "{reason:?} in {seen:?}");
}

/// A good packet with some bytes changed; the header checksum fits again if `fix`.
fn changed(lab: &Loopback, fix: bool, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = lab.packet_inward(b"0123456789", 1);
    change(&mut packet);
    if fix {
        packet[10..12].fill(0);
        let sum = !loopback::oracle::packet::sum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn arrives(lab: &Loopback, packet: &[u8]) {
    lab.peer.send(packet).unwrap();
    let mut buffer = [0; 100];
    let len = receive(&lab.inner, &mut buffer).expect("a good packet behind bad ones");
    assert_eq!(&buffer[..len], b"0123456789");
}

fn bad_inner_packets_are_told_apart(io: IoChoice) {
    let lab = Loopback::start(config(io));
    let good = lab.packet_inward(b"0123456789", 1);
    let malformed = [
        Vec::new(),
        vec![0x45],
        good[..19].to_vec(),
        good[..good.len() - 1].to_vec(),
        changed(&lab, false, |packet| packet[0] = 0x55),
        changed(&lab, false, |packet| packet[0] = 0x44),
        changed(&lab, false, |packet| packet[0] = 0x4f),
        changed(&lab, false, |packet| packet[0] = 0x65),
        changed(&lab, true, |packet| packet[3] = 19),
    ];
    for packet in &malformed {
        lab.peer.send(packet).unwrap();
    }
    expect(&lab, DropReason::InMalformed, malformed.len() as u64);
    let single = [
        (
            DropReason::InHeaderChecksum,
            changed(&lab, false, |packet| packet[10] ^= 1),
        ),
        (
            DropReason::InTtl,
            changed(&lab, true, |packet| packet[8] = 0),
        ),
        (
            DropReason::InNotOurs,
            changed(&lab, true, |packet| packet[18] = 7),
        ),
    ];
    for (reason, packet) in single {
        lab.peer.send(&packet).unwrap();
        expect(&lab, reason, 1);
    }
    let sources = [
        [10, 5, 1, 9],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [0, 0, 0, 0],
        [255, 255, 255, 255],
    ];
    for source in sources {
        let packet = changed(&lab, true, |packet| packet[12..16].copy_from_slice(&source));
        lab.peer.send(&packet).unwrap();
    }
    expect(&lab, DropReason::InForbiddenSource, sources.len() as u64);
    arrives(&lab, &good);
    // Padding behind a packet is no fault.
    arrives(&lab, &[&good[..], &[0; 20]].concat());
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

#[test]
fn bad_inner_packets_are_told_apart_in_every_way_of_moving_packets() {
    for io in loopback::ways() {
        std::thread::spawn(move || bad_inner_packets_are_told_apart(io))
            .join()
            .unwrap();
    }
}

#[test]
fn strangers_are_not_listened_to_and_get_no_answer() {
    let lab = Loopback::start(config(IoChoice::Auto));
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 3), 8285)).unwrap();
    let good = lab.packet_inward(b"0123456789", 1);
    for _ in 0..100 {
        stranger
            .send_to(&good, (Ipv4Addr::LOCALHOST, 8285))
            .unwrap();
    }
    expect(&lab, DropReason::InNotPeer, 100);
    arrives(&lab, &good);
    stranger.set_nonblocking(true).unwrap();
    assert!(
        stranger.recv(&mut [0; 100]).is_err(),
        "not one byte goes back"
    );
    let counters = lab.engine.stop();
    assert_eq!((counters.get(Counter::ToTun), counters.imbalance()), (1, 0));
}

#[test]
fn congestion_is_not_hidden_from_packets_that_cannot_bear_the_mark() {
    let lab = Loopback::start(config(IoChoice::Auto));
    lab.mark_peer(3);
    lab.peer.send(&lab.packet_inward(b"0123456789", 1)).unwrap();
    expect(&lab, DropReason::InEcn, 1);
    // One that can bear it gets it.
    lab.peer
        .send(&changed(&lab, true, |packet| packet[1] = 2))
        .unwrap();
    let mut buffer = [0; 100];
    assert_eq!(receive(&lab.inner, &mut buffer).unwrap(), 10);
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

fn vxlan_config() -> EngineConfig {
    let forms = vec![Form::Vxlan {
        port: 8285,
        vni: 1,
        mac: OWN_MAC,
    }];
    EngineConfig {
        forms,
        ..config(IoChoice::Auto)
    }
}

/// A VXLAN datagram as a kernel peer sends it.
fn vxlan(inner: &[u8]) -> Vec<u8> {
    let mut datagram = vec![8, 0, 0, 0, 0, 0, 1, 0];
    datagram.extend(OWN_MAC.0);
    datagram.extend(PEER_MAC.0);
    datagram.extend([8, 0]);
    datagram.extend(inner);
    datagram
}

#[test]
fn unsegmented_datagrams_whose_boundaries_are_lost_are_dropped() {
    let lab = Loopback::start(vxlan_config());
    let mut packet = lab.packet_inward(&[7; 4000], 1);
    // Unfinished, as a kernel peer on the same machine leaves it: the pseudo-header sum alone.
    let udp_len = (packet.len() - 20) as u16;
    let pseudo = [&packet[12..20], &[0, 17], &udp_len.to_be_bytes()].concat();
    let sum = loopback::oracle::packet::sum(&pseudo);
    packet[26..28].copy_from_slice(&sum.to_be_bytes());
    lab.peer.send(&vxlan(&packet)).unwrap();
    expect(&lab, DropReason::InOversize, 1);
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

#[test]
fn a_device_that_is_down_refuses_packets_and_no_more() {
    let lab = Loopback::start(config(IoChoice::Auto));
    let name = lab.engine.tun_name().to_owned();
    loopback::oracle::run(&format!("ip link set {name} down"));
    lab.peer.send(&lab.packet_inward(b"0123456789", 1)).unwrap();
    expect(&lab, DropReason::InTunRefused, 1);
    loopback::oracle::run(&format!("ip link set {name} up"));
    arrives(&lab, &lab.packet_inward(b"0123456789", 2));
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

fn route(subnet: &str, address: &str) -> Route {
    let peer = Peer {
        address: address.parse().unwrap(),
        port: 8285,
        form: PeerForm::Udp,
        mtu: None,
    };
    Route {
        subnet: subnet.parse().unwrap(),
        peer,
    }
}

#[test]
fn what_cannot_go_out_is_told_apart() {
    let lab = Loopback::start(config(IoChoice::Auto));
    let own = vec!["10.5.1.0/24".parse().unwrap()];
    lab.engine.publish(SubnetTable::build(
        own,
        [
            route("10.5.2.0/24", "127.0.0.2"),
            route("10.5.3.0/24", "192.0.2.1"),
            route("10.5.4.0/24", "2001:db8::1"),
        ],
    ));
    let before = lab.engine.counters().dropped(DropReason::OutNotUnicast);
    let send = |to: [u8; 4], payload: usize| {
        lab.inner
            .send_to(&vec![1; payload], (Ipv4Addr::from(to), 9))
            .unwrap();
    };
    lab.disconnect_inner();
    send([10, 5, 9, 9], 10);
    expect(&lab, DropReason::OutNoRoute, 1);
    send([10, 5, 3, 9], 10);
    expect(&lab, DropReason::OutRefused, 1);
    send([10, 5, 4, 9], 10);
    expect(&lab, DropReason::OutNoSocket, 1);
    let name = lab.engine.tun_name().to_owned();
    loopback::oracle::run(&format!("ip link set {name} mtu 1600"));
    send([10, 5, 2, 9], 1500);
    expect(&lab, DropReason::OutTooBig, 1);
    lab.inner.set_ttl(1).unwrap();
    send(FAR.octets(), 10);
    expect(&lab, DropReason::OutTtl, 1);
    loopback::oracle::run(&format!("ip route add 224.0.0.0/4 dev {name}"));
    send([224, 0, 0, 9], 10);
    expect(&lab, DropReason::OutNotUnicast, before + 1);
    let counters = lab.engine.stop();
    assert!(counters.get(Counter::Created) >= 3, "{counters:?}");
    assert_eq!(counters.imbalance(), 0, "{OWN}: {counters:?}");
}

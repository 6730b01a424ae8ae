//! What the kernel refuses to send joined, it gets one by one; nothing is lost on the way.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::{Counter, DropReason, IoChoice, Peer, PeerForm, Route, SubnetTable};
use loopback::{FAR, HEADERS, Loopback, OWN, config, oracle, receive};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

const PAYLOAD: usize = 1400;
const SEGMENTS: usize = 40;

/// Numbered segments, for one send of an inner socket.
fn segments() -> Vec<u8> {
    let bytes = 0..PAYLOAD * SEGMENTS;
    bytes.map(|at| (at / PAYLOAD) as u8).collect()
}

fn all_arrive(peer: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    for segment in 0..SEGMENTS {
        let len = receive(peer, &mut buffer).expect("a datagram at the peer");
        assert_eq!(len, PAYLOAD + HEADERS);
        let payload = &buffer[HEADERS..len];
        assert!(
            payload.iter().all(|&byte| usize::from(byte) == segment),
            "in order, and whole"
        );
    }
}

/// Waits until so many messages were sent, and sees that it were no more: they arrive a moment
/// before they are counted.
fn assert_sent(lab: &Loopback, messages: u64) {
    let sends = || lab.engine.counters().get(Counter::Sends);
    let waits = (0..200).take_while(|_| sends() < messages);
    waits.for_each(|_| sleep(Duration::from_millis(5)));
    assert_eq!(sends(), messages);
}

/// The way to the peer takes 1300 bytes from one moment to the next: a segmented send is refused
/// (EMSGSIZE, or EINVAL before Linux 6.14), single datagrams are fragmented.
#[test]
fn a_run_too_long_for_the_path_goes_out_one_by_one() {
    let lab = Loopback::start(config(IoChoice::Epoll));
    lab.segment_inner(PAYLOAD as u16);
    let send_while_lo_takes = |mtu| {
        oracle::run(&format!("ip link set lo mtu {mtu}"));
        lab.inner.send(&segments()).unwrap();
        all_arrive(&lab.peer);
    };
    let retries = || lab.engine.counters().get(Counter::OffloadRetries);
    // Unless the kernel was asked about the path in between, which it is once a second.
    let surprised = |_| {
        sleep(Duration::from_millis(1100));
        send_while_lo_takes(65_536);
        send_while_lo_takes(1300);
        retries() > 0
    };
    assert!((0..10).any(surprised));
    sleep(Duration::from_millis(1100));
    let sends = lab.engine.counters().get(Counter::Sends);
    send_while_lo_takes(65_536);
    assert_sent(&lab, sends + 1);
    let counters = lab.engine.stop();
    assert_eq!(
        counters.dropped_total(),
        counters.dropped(DropReason::OutNotUnicast)
    );
    assert_eq!(counters.imbalance(), 0);
}

fn route(subnet: &str, last: u8) -> Route {
    let peer = Peer {
        address: IpAddr::from([127, 0, 0, last]),
        port: 8285,
        form: PeerForm::Udp,
        mtu: None,
    };
    Route {
        subnet: subnet.parse().unwrap(),
        peer,
    }
}

/// Lets the way to the peer take no more than 1300 bytes.
const NARROW: &str = "ip route add local 127.0.0.2/32 dev lo table local mtu 1300";

#[test]
fn a_narrow_path_is_known_beforehand_and_slows_down_no_other() {
    let lab = Loopback::start(config(IoChoice::Auto));
    let own = vec!["10.5.1.0/24".parse().unwrap()];
    let routes = [route("10.5.2.0/24", 2), route("10.5.3.0/24", 3)];
    lab.engine.publish(SubnetTable::build(own, routes));
    let wide = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 3), 8285)).unwrap();
    wide.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    oracle::run(NARROW);
    let mut sent = 0;
    for _ in 0..3 {
        for (subnet, peer, messages) in [(2, &lab.peer, SEGMENTS), (3, &wide, 1)] {
            let socket = UdpSocket::bind((OWN, 0)).unwrap();
            loopback::segment(&socket, PAYLOAD as u16);
            loopback::allow_fragments(&socket);
            let to = Ipv4Addr::new(10, 5, subnet, 2);
            socket.send_to(&segments(), (to, 9)).unwrap();
            all_arrive(peer);
            sent += messages as u64;
            assert_sent(&lab, sent);
        }
    }
    let counters = lab.engine.stop();
    assert_eq!(counters.get(Counter::OffloadRetries), 0, "{counters:?}");
    assert_eq!(counters.imbalance(), 0);
}

/// Who forbids fragments is told how much gets there whole, and what was sent gets there all the
/// same.
#[test]
fn a_sender_is_told_what_a_narrow_path_takes_and_loses_nothing() {
    let lab = Loopback::start(config(IoChoice::Auto));
    oracle::run(NARROW);
    a_sender_is_told(lab, 1272);
}

/// The same where it is the peer's form that takes less than the device.
#[test]
fn a_sender_is_told_what_a_peer_takes_and_loses_nothing() {
    let lab = Loopback::start(config(IoChoice::Auto));
    let own = vec!["10.5.1.0/24".parse().unwrap()];
    let mut narrow = route("10.5.2.0/24", 2);
    narrow.peer.mtu = Some(1250);
    lab.engine.publish(SubnetTable::build(own, [narrow]));
    a_sender_is_told(lab, 1250);
}

fn a_sender_is_told(lab: Loopback, mtu: u16) {
    let name = lab.engine.tun_name();
    oracle::run(&format!("sysctl -q -w net.ipv4.conf.{name}.accept_local=1"));
    lab.inner.send(&[1; PAYLOAD]).unwrap();
    let mut buffer = [0; 2048];
    assert_eq!(lab.peer_receives(&mut buffer).len(), PAYLOAD + HEADERS);
    let told = format!("mtu {mtu}");
    let heard = |_| {
        sleep(Duration::from_millis(10));
        oracle::said(&format!("ip route get {FAR}")).contains(&told)
    };
    assert!((0..100).any(heard), "{:?}", lab.engine.counters());
    assert_eq!(lab.engine.stop().imbalance(), 0);
}

/// Nobody listens at the peer: the refusals that come back are no reason to stop or to drop.
#[test]
fn a_peer_that_is_not_there_costs_no_other_packet() {
    let lab = Loopback::start(config(IoChoice::Epoll));
    let address = lab.peer.local_addr().unwrap();
    let Loopback {
        engine,
        inner,
        peer,
    } = lab;
    drop(peer);
    for _ in 0..100 {
        inner.send(&[1; 100]).unwrap();
    }
    let peer = UdpSocket::bind(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    inner.send(&[2; 100]).unwrap();
    let mut buffer = [0; 2048];
    while receive(&peer, &mut buffer).unwrap() != 100 + HEADERS || buffer[HEADERS] != 2 {}
    assert_eq!(engine.stop().imbalance(), 0);
}

//! What the kernel refuses to send joined, it gets one by one; nothing is lost on the way.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::{Counter, DropReason, IoChoice};
use loopback::{HEADERS, Loopback, config, oracle, receive};

const PAYLOAD: usize = 1400;
const SEGMENTS: usize = 40;

/// The way to the peer takes 1300 bytes only: a segmented send is refused (EMSGSIZE, or EINVAL
/// before Linux 6.14), single datagrams are fragmented.
#[test]
fn a_run_too_long_for_the_path_goes_out_one_by_one() {
    let lab = Loopback::start(config(IoChoice::Epoll));
    oracle::run("ip link set lo mtu 1300");
    lab.segment_inner(PAYLOAD as u16);
    let payload: Vec<u8> = (0..PAYLOAD * SEGMENTS)
        .map(|at| (at / PAYLOAD) as u8)
        .collect();
    lab.inner.send(&payload).unwrap();
    let mut buffer = vec![0; 65_536];
    for segment in 0..SEGMENTS {
        let packet = lab.peer_receives(&mut buffer);
        assert_eq!(packet.len(), PAYLOAD + HEADERS);
        assert!(
            packet[HEADERS..]
                .iter()
                .all(|&byte| usize::from(byte) == segment),
            "in order, and whole"
        );
    }
    let counters = lab.engine.stop();
    assert!(counters.get(Counter::OffloadRetries) > 0, "{counters:?}");
    assert_eq!(
        counters.dropped_total(),
        counters.dropped(DropReason::OutNotUnicast)
    );
    assert_eq!(counters.imbalance(), 0);
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
    let peer = std::net::UdpSocket::bind(address).unwrap();
    peer.set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .unwrap();
    inner.send(&[2; 100]).unwrap();
    let mut buffer = [0; 2048];
    while receive(&peer, &mut buffer).unwrap() != 100 + HEADERS || buffer[HEADERS] != 2 {}
    assert_eq!(engine.stop().imbalance(), 0);
}

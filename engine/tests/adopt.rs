//! An engine goes on where another one stopped, with the same queues and sockets: whatever was sent meanwhile arrives,
//! once and in order, in both directions and in every way of moving packets.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::{Engine, Form, IoChoice, Offloads, StartError};
use loopback::{HEADERS, Loopback, config};
use std::net::UdpSocket;
use std::thread::{scope, sleep};
use std::time::Duration;

const PACKETS: u64 = 2000;
/// The kernel keeps 500 packets for a device nobody reads: more than an eighth of a second's.
const BURST: u64 = 4;
const BEAT: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(10);

fn send(socket: &UdpSocket, wrap: impl Fn(u64) -> Vec<u8>) {
    for number in 0..PACKETS {
        socket.send(&wrap(number)).unwrap();
        if number % BURST == 0 {
            sleep(BEAT);
        }
    }
}

/// Receives every number, each behind `skip` bytes.
fn receive(socket: &UdpSocket, skip: usize) {
    let mut buffer = [0; 2048];
    for number in 0..PACKETS {
        let length = loopback::receive(socket, &mut buffer)
            .unwrap_or_else(|error| panic!("packet {number} does not come: {error}"));
        let bytes = buffer[skip..length].first_chunk().unwrap();
        assert_eq!(u64::from_be_bytes(*bytes), number);
    }
}

/// Has engines relieve one another until the traffic is over.
fn relay(lab: &mut Loopback, ways: &[IoChoice], busy: impl Fn() -> bool) -> u32 {
    let mut rounds = 0;
    while busy() {
        let io = ways[rounds as usize % ways.len()];
        let queues = lab.engine.queues().unwrap();
        let next = Engine::adopt(config(io), loopback::table(), queues).unwrap();
        assert_eq!(next.tun_name(), lab.engine.tun_name());
        let counters = lab.engine.halt(SOON);
        assert_eq!(counters.imbalance(), 0);
        next.go();
        lab.engine = next;
        rounds += 1;
        sleep(Duration::from_millis(5));
    }
    rounds
}

fn nothing_is_lost_between(ways: &[IoChoice]) {
    let mut lab = Loopback::start(config(ways[0]));
    let [inner, peer] = [&lab.inner, &lab.peer].map(|socket| socket.try_clone().unwrap());
    let plain = |number: u64| number.to_be_bytes().to_vec();
    let wrapped: Vec<_> = (0..PACKETS)
        .map(|number| lab.packet_inward(&plain(number), number as u16))
        .collect();
    let rounds = scope(|scope| {
        let under_way = [
            scope.spawn(|| send(&inner, plain)),
            scope.spawn(|| receive(&peer, HEADERS)),
            scope.spawn(|| send(&peer, |number| wrapped[number as usize].clone())),
            scope.spawn(|| receive(&inner, 0)),
        ];
        relay(&mut lab, ways, || {
            !under_way.iter().all(|one| one.is_finished())
        })
    });
    assert!(rounds > 3, "only {rounds} takeovers");
}

#[test]
fn nothing_is_lost_between_engines_over_epoll() {
    nothing_is_lost_between(&[IoChoice::Epoll]);
}

#[test]
fn nothing_is_lost_between_engines_over_io_uring_multishot() {
    nothing_is_lost_between(&[IoChoice::UringMultishot]);
}

#[test]
fn nothing_is_lost_between_engines_over_io_uring_oneshot() {
    nothing_is_lost_between(&[IoChoice::UringOneshot]);
}

#[test]
fn nothing_is_lost_between_engines_that_move_packets_differently() {
    nothing_is_lost_between(&[
        IoChoice::UringMultishot,
        IoChoice::Epoll,
        IoChoice::UringOneshot,
    ]);
}

#[test]
fn a_plain_queue_is_adopted_as_it_is() {
    nothing_is_lost_between(&[IoChoice::SingleQueue]);
}

#[test]
fn what_the_kernel_has_joined_is_read_whole_by_an_engine_that_wants_nothing_joined() {
    let mut lab = Loopback::start(config(IoChoice::Epoll));
    let packets: Vec<_> = (0..8)
        .map(|number| lab.packet_inward(&[number; 100], number.into()))
        .collect();
    loopback::segment(&lab.peer, packets[0].len() as u16);
    let queues = lab.engine.queues().unwrap();
    lab.engine.halt(SOON);
    lab.peer.send(&packets.concat()).unwrap();
    let mut single = config(IoChoice::Epoll);
    single.offloads = Offloads {
        gro: false,
        ..Offloads::default()
    };
    let next = Engine::adopt(single, loopback::table(), queues).unwrap();
    next.go();
    lab.engine = next;
    lab.peer.send(&packets.concat()).unwrap();
    let mut buffer = [0; 2048];
    for number in (0..8).chain(0..8) {
        let length = loopback::receive(&lab.inner, &mut buffer).unwrap();
        assert_eq!(buffer[..length], [number; 100]);
    }
}

#[test]
fn an_engine_that_waits_can_be_given_up() {
    let lab = Loopback::start(config(IoChoice::UringMultishot));
    let queues = lab.engine.queues().unwrap();
    let waiting = Engine::adopt(config(IoChoice::UringMultishot), loopback::table(), queues);
    let counters = waiting.unwrap().stop();
    assert_eq!(counters.nonzero().count(), 0, "it has touched nothing");
    lab.inner.send(&[7; 100]).unwrap();
    assert_eq!(lab.peer_receives(&mut [0; 2048]).len(), 100 + HEADERS);
}

#[test]
fn sockets_at_another_address_are_refused() {
    let lab = Loopback::start(config(IoChoice::Epoll));
    let mut other = config(IoChoice::Epoll);
    other.bind = vec!["127.0.0.3".parse().unwrap()];
    let queues = lab.engine.queues().unwrap();
    let adopted = Engine::adopt(other, loopback::table(), queues);
    assert!(
        matches!(adopted, Err(StartError::Adopted(_))),
        "{adopted:?}"
    );
}

/// The ports somebody listens on; who hears one other alone does not.
fn heard() -> Vec<u16> {
    let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
    let port = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let local = columns.get(1)?.rsplit(':').next()?;
        let connected = columns.get(3) == Some(&"01");
        u16::from_str_radix(local, 16).ok().filter(|_| !connected)
    };
    let mut ports: Vec<_> = table.lines().filter_map(port).collect();
    ports.retain(|port| [8285, 8472].contains(port));
    ports.sort_unstable();
    ports
}

#[test]
fn forms_come_and_go_with_a_takeover_and_the_others_lose_nothing() {
    let mut lab = Loopback::start(config(IoChoice::Epoll));
    let (udp, vxlan) = (
        Form::Udp { port: 8285 },
        Form::Vxlan {
            port: 8472,
            vni: 1,
            mac: engine::Mac([2, 0, 0, 0, 0, 1]),
        },
    );
    assert_eq!(heard(), [8285]);
    for (forms, ports) in [
        (vec![udp, vxlan], vec![8285, 8472]),
        (vec![vxlan, udp], vec![8285, 8472]),
        (vec![vxlan], vec![8472]),
        (vec![udp], vec![8285]),
    ] {
        let mut with = config(IoChoice::Epoll);
        with.forms = forms;
        if ports.len() > 1 {
            lab.inner.send(&[7; 100]).unwrap();
        }
        let queues = lab.engine.queues().unwrap();
        let next = Engine::adopt(with, loopback::table(), queues).unwrap();
        lab.engine.halt(SOON);
        next.go();
        lab.engine = next;
        assert_eq!(heard(), ports);
        if ports.len() > 1 {
            assert_eq!(lab.peer_receives(&mut [0; 2048]).len(), 100 + HEADERS);
        }
    }
}

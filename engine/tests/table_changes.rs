//! The table changes all the time under traffic: every packet goes to a node that has its subnet, none is lost.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::{Peer, PeerForm, Route, SubnetTable};
use loopback::{Loopback, config, ways};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep, yield_now};
use std::time::Duration;

const PORT: u16 = 8285;
/// Subnets of these numbers belong to the nodes at 127.0.1.x; the first one moves between two.
const MOVES: u8 = 2;
const STAYS: u8 = 3;
const NODES: [u8; 3] = [1, 2, 3];
const BURSTS: u32 = 1500;
const BURST: u32 = 32;

fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, node)
}

fn route(subnet: [u8; 2], node: u8) -> Route {
    let peer = Peer {
        address: address(node).into(),
        port: PORT,
        form: PeerForm::Udp,
        mtu: None,
    };
    let [a, b] = subnet;
    let subnet = format!("10.{a}.{b}.0/24").parse().unwrap();
    Route { subnet, peer }
}

/// The subnet that moves is at one of the first two nodes, the other at the third; up to a thousand more come and go.
fn table(change: u32) -> SubnetTable {
    let moving = NODES[change as usize % 2];
    let others = (0..(change % 1000) as u16).map(|other| {
        let [high, low] = other.to_be_bytes();
        route([6 + high, low], NODES[usize::from(low) % 3])
    });
    let fixed = [route([5, MOVES], moving), route([5, STAYS], NODES[2])];
    let own = vec!["10.5.1.0/24".parse().unwrap()];
    SubnetTable::build(own, fixed.into_iter().chain(others))
}

/// How many packets for each of the two subnets came to each node, once all have come that were sent.
fn received(nodes: &[UdpSocket; 3], expected: u32, counts: &mut [[u32; 2]; 3]) {
    let mut buffer = [0; 2048];
    let total = |counts: &[[u32; 2]; 3]| counts.as_flattened().iter().sum::<u32>();
    let mut quiet = 0;
    while total(counts) < expected {
        let before = total(counts);
        for (node, count) in nodes.iter().zip(counts.iter_mut()) {
            match node.recv(&mut buffer) {
                Ok(_) => count[usize::from(buffer[18] - MOVES)] += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        quiet = if total(counts) == before {
            quiet + 1
        } else {
            0
        };
        if quiet > 100 {
            sleep(Duration::from_millis(1));
        }
        assert!(quiet < 10_000, "{counts:?} of {expected}");
    }
}

#[test]
fn a_table_that_changes_all_the_time_sends_no_packet_astray() {
    for io in ways() {
        let lab = Loopback::start(config(io));
        lab.disconnect_inner();
        let nodes = NODES.map(|node| {
            let socket = UdpSocket::bind((address(node), PORT)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        lab.engine.publish(table(0));
        let (done, mut counts) = (AtomicBool::new(false), [[0; 2]; 3]);
        let changes = scope(|scope| {
            let changes = scope.spawn(|| {
                let mut change = 0;
                while !done.load(Ordering::Relaxed) {
                    change += 1;
                    lab.engine.publish(table(change));
                    yield_now();
                }
                change
            });
            for burst in 1..=BURSTS {
                for packet in 0..BURST {
                    let subnet = if packet % 2 == 0 { MOVES } else { STAYS };
                    let to = (Ipv4Addr::new(10, 5, subnet, 2), 9);
                    lab.inner.send_to(b"a packet", to).unwrap();
                }
                received(&nodes, burst * BURST, &mut counts);
            }
            done.store(true, Ordering::Relaxed);
            changes.join().unwrap()
        });
        let [[here, a], [there, b], [c, stayed]] = counts;
        assert_eq!([a, b, c], [0; 3], "{io:?}: astray after {changes} changes");
        assert_eq!([here + there, stayed], [BURSTS * BURST / 2; 2]);
        assert!(
            here > 0 && there > 0,
            "{io:?}: {changes} changes, none seen"
        );
        println!("{io:?}: {changes} changes, {here} and {there} packets");
        assert_eq!(lab.engine.stop().imbalance(), 0);
    }
}

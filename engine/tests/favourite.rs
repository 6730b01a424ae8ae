//! The sender that most comes from has a socket to itself: while it changes, and while one engine goes on after
//! another, every packet arrives once and in order, in every way of moving packets.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::{Counter, Engine, EngineConfig, IoChoice, Offloads};
use loopback::{HEADERS, Loopback};
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{scope, sleep};
use std::time::Duration;

const PEER: &str = "127.0.0.2:0";
const SENDERS: u8 = 3;
/// A name and a number.
const PACKET: usize = HEADERS + 9;
/// More than enough of them in a row make a favourite.
const LOUD: u64 = 60;
const QUIET: u64 = 10;
const BURST: u64 = LOUD + QUIET * (SENDERS as u64 - 1);
const BURSTS: u64 = 400;
const PHASES: u64 = 12;
/// Bursts under way, more than one receive takes: what comes through the one socket waits for what came through the other.
const BACKLOG: u64 = 25;
const SOON: Duration = Duration::from_secs(10);

/// Somebody at the peer's address, who counts what he sends.
struct Sender {
    socket: UdpSocket,
    name: u8,
    next: u64,
}

impl Sender {
    fn new(name: u8) -> Self {
        let socket = UdpSocket::bind(PEER).unwrap();
        socket.connect("127.0.0.1:8285").unwrap();
        loopback::segment(&socket, PACKET as u16);
        Self {
            socket,
            name,
            next: 0,
        }
    }

    /// Sends so many packets in one go.
    fn send(&mut self, lab: &Loopback, count: u64) {
        let packets = (self.next..).take(count as usize);
        let burst: Vec<u8> = packets
            .flat_map(|number| packet(lab, self.name, number))
            .collect();
        self.socket.send(&burst).unwrap();
        self.next += count;
    }
}

fn packet(lab: &Loopback, name: u8, number: u64) -> Vec<u8> {
    let payload = [&[name][..], &number.to_be_bytes()].concat();
    lab.packet_inward(&payload, number as u16)
}

/// Nothing joined: each datagram is a message.
fn config(io: IoChoice) -> EngineConfig {
    let offloads = Offloads {
        gro: false,
        ..Offloads::default()
    };
    EngineConfig {
        offloads,
        ..loopback::config(io)
    }
}

/// Takes so many packets and sees to it that each is its sender's next.
fn receive(inner: &UdpSocket, count: u64, next: &mut [u64; SENDERS as usize]) {
    let mut buffer = [0; 64];
    for _ in 0..count {
        let len = loopback::receive(inner, &mut buffer).expect("a packet");
        let [name, number @ ..] = &buffer[..len] else {
            panic!("an empty packet");
        };
        let number = u64::from_be_bytes(number.try_into().unwrap());
        let wanted = &mut next[usize::from(*name)];
        assert_eq!(number, *wanted, "the next of sender {name}");
        *wanted += 1;
    }
}

fn favourites(engine: &Engine) -> u64 {
    engine.counters().get(Counter::Favourites)
}

/// Each is the loudest in turn; returns how often one became the favourite.
fn take_turns(config: EngineConfig) -> u64 {
    let lab = Loopback::start(config);
    let (leave, left) = channel();
    (0..BACKLOG).for_each(|_| leave.send(()).unwrap());
    scope(|scope| {
        scope.spawn(|| send_all(&lab, left));
        let (leave, mut next) = (leave, [0; SENDERS as usize]);
        for _ in 0..PHASES * BURSTS {
            receive(&lab.inner, BURST, &mut next);
            // Nobody wants any more at the end.
            let _ = leave.send(());
        }
    });
    let changes = favourites(&lab.engine);
    let counters = lab.engine.stop();
    assert_eq!(counters.imbalance(), 0);
    changes
}

/// One burst for each leave to send.
fn send_all(lab: &Loopback, left: Receiver<()>) {
    let mut senders: Vec<_> = (0..SENDERS).map(Sender::new).collect();
    for (burst, ()) in (0..PHASES * BURSTS).zip(left) {
        for sender in &mut senders {
            let loud = u64::from(sender.name) == burst / BURSTS % u64::from(SENDERS);
            sender.send(lab, if loud { LOUD } else { QUIET });
        }
    }
}

#[test]
fn flows_keep_their_order_while_the_favourite_changes() {
    for io in loopback::ways() {
        let changes = take_turns(config(io));
        assert!(changes > 1, "{io:?}: {changes}");
    }
}

#[test]
fn without_favourites_there_is_none() {
    let mut config = config(IoChoice::Epoll);
    config.offloads.favourite = false;
    let changes = take_turns(config);
    assert_eq!(changes, 0);
}

/// One sender without a pause, and engines that relieve one another once they have a favourite.
fn nothing_is_lost_between(io: IoChoice) {
    const ROUNDS: usize = 5;
    const PACKETS: u64 = 60_000;
    let mut lab = Loopback::start(config(io));
    // Nobody else may have the port, at whatever address, when a favourite's socket is made.
    lab.peer = UdpSocket::bind(PEER).unwrap();
    let inner = lab.inner.try_clone().unwrap();
    let sender = Sender::new(0);
    let packets: Vec<u8> = (0..PACKETS)
        .flat_map(|number| packet(&lab, 0, number))
        .collect();
    let rounds = scope(|scope| {
        scope.spawn(|| {
            for burst in packets.chunks(64 * PACKET) {
                sender.socket.send(burst).unwrap();
                sleep(Duration::from_millis(1));
            }
        });
        let received = scope.spawn(|| receive(&inner, PACKETS, &mut [0; SENDERS as usize]));
        let mut rounds = 0;
        while !received.is_finished() {
            if rounds == ROUNDS || favourites(&lab.engine) == 0 {
                sleep(Duration::from_millis(1));
                continue;
            }
            let queues = lab.engine.queues().unwrap();
            let after = Engine::adopt(config(io), loopback::table(), queues).unwrap();
            let counters = lab.engine.halt(SOON);
            assert_eq!(counters.imbalance(), 0);
            after.go();
            lab.engine = after;
            rounds += 1;
        }
        rounds
    });
    assert!(rounds > 1, "only {rounds} takeovers");
}

#[test]
fn nothing_of_the_favourite_is_lost_when_another_engine_goes_on() {
    for io in loopback::ways() {
        nothing_is_lost_between(io);
    }
}

#[test]
fn an_engine_nobody_goes_on_after_has_a_favourite_again() {
    let lab = Loopback::start(config(IoChoice::Epoll));
    let (mut sender, mut next) = (Sender::new(0), [0; SENDERS as usize]);
    let mut send_much = || {
        for _ in 0..BURSTS {
            sender.send(&lab, LOUD);
            receive(&lab.inner, LOUD, &mut next);
        }
        favourites(&lab.engine)
    };
    assert_eq!(send_much(), 1);
    let queues = lab.engine.queues().unwrap();
    assert_eq!(send_much(), 1, "somebody is about to go on");
    drop(queues);
    lab.engine.keep();
    assert_eq!(send_much(), 2);
}

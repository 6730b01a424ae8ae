//! One peer sends all it can, and more than a node can take: others have their share.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use benches::traffic::Ends;
use benches::traffic::streams::Streams;
use benches::{Path, Side};

use super::forged::{Envelope, address, inner, listener};
use super::scene::{lasting, often};
use super::strangers::{account, count, probe, up};
use super::table::{assert_none_lost, report};

const LOUD: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 66);
const ITS_SUBNET: &str = "10.5.250.0-24";
const ITS_CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 5, 250, 2);
const A: Side = Side::A;

/// Packets sent in a row.
const BURST: usize = 500;

/// Between two bursts: a moment for the tests beside this one, and none where there is time for all.
fn rest() -> Duration {
    match often(0, 1) {
        0 => Duration::from_millis(1),
        _ => Duration::ZERO,
    }
}

/// A third node that sends all it can until it is dropped.
struct Flood {
    over: Arc<AtomicBool>,
    sender: Option<JoinHandle<u64>>,
}

impl Flood {
    /// Begins once A knows the node.
    fn begin(path: &mut Path) -> Self {
        let node = path.lab().node(Side::B);
        node.ip(&format!("addr replace {LOUD}/24 dev eth0"))
            .unwrap();
        let record = format!(r#"{{"PublicIP":"{LOUD}","PublicIPv6":null}}"#);
        fs::write(path.records().join(ITS_SUBNET), record).unwrap();
        let socket = node.enter(|| UdpSocket::bind((LOUD, 0))).unwrap();
        let envelope = Envelope::to_a(path);
        let datagram = envelope.around(&inner(ITS_CONTAINER, address(path, A), &[7; 64]));
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        socket.connect((A.underlay(), envelope.port())).unwrap();
        let send = move || {
            let mut sent = 0;
            while !end.load(Ordering::Relaxed) {
                // What the host refuses for a moment was not sent.
                let burst = (0..BURST).filter(|_| socket.send(&datagram).is_ok());
                sent += burst.count() as u64;
                thread::sleep(rest());
            }
            sent
        };
        Self {
            over,
            sender: Some(thread::spawn(send)),
        }
    }

    /// How many packets it sent.
    fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.sender.take().unwrap().join().unwrap()
    }
}

/// Bytes a stream from B to A brings in a second.
fn goodput(path: &Path) -> f64 {
    let streams = Streams::start(&Ends::of(path, Side::B), 1, Duration::ZERO).unwrap();
    let (time, before) = (lasting(2, 10), streams.arrived());
    thread::sleep(time);
    let arrived = streams.arrived() - before;
    assert_eq!(streams.stop().unwrap().broken, 0);
    arrived as f64 / time.as_secs_f64()
}

/// In the UDP form, in which a node sends from one port. Goodput is told, not judged: sender, receiver and flood share
/// the processors here.
#[test]
fn a_peer_that_floods_costs_the_others_no_packet() {
    let mut path = up("udp");
    let hears = listener(&path);
    let alone = goodput(&path);
    let flood = Flood::begin(&mut path);
    // Until it is noticed who sends most.
    thread::sleep(Duration::from_secs(1));
    let watch = probe(&path);
    thread::sleep(lasting(3, 30));
    let outcome = watch.stop();
    let beside = goodput(&path);
    let sent = flood.end();
    let counts = account(&mut path);
    drop(hears);
    let taken = count(&counts, "from_underlay_packets");
    report(
        &format!("{sent} packets of a peer that floods, {taken} of all taken"),
        Some(&outcome),
        &[
            ("a stream alone", format!("{:.0} MB/s", alone / 1e6)),
            ("beside the flood", format!("{:.0} MB/s", beside / 1e6)),
        ],
    );
    assert_none_lost(&outcome);
    assert!(count(&counts, "favourites") > 0, "{counts:?}");
}

//! Other nodes come, go and move; the tests play them, on the road: they listen where their record says.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use benches::Side;
use benches::etcd::{Api, Gateway};

use super::road::{Cut, a_moment, cut, heal};
use super::scene::{LOST, PATIENCE, Scene, Stage, by_both_versions, record, told};
use super::table::{assert_none_lost, ms, report};

by_both_versions!(
    a_peer_that_comes_or_goes_is_followed_at_once,
    a_peer_that_moves_is_followed_also_if_it_moved_unseen,
);

/// The subnet of the node that is played.
const SUBNET: &str = "10.5.200.0-24";
const SOMEBODY: Ipv4Addr = Ipv4Addr::new(10, 5, 200, 9);
const VXLAN_PORT: u16 = 8472;
/// Where the inner packet's destination MAC is in a VXLAN datagram.
const MAC: std::ops::Range<usize> = 8..14;
const BEAT: Duration = Duration::from_micros(500);
const CHANGES: usize = 60;

/// Where a node that is played can be, with the MAC it has there.
#[derive(Clone, Copy)]
struct Place {
    address: Ipv4Addr,
    mac: [u8; 6],
}

const HERE: Place = Place {
    address: Ipv4Addr::new(192, 168, 78, 51),
    mac: [10, 0, 0, 0, 0, 51],
};
const THERE: Place = Place {
    address: Ipv4Addr::new(192, 168, 78, 52),
    mac: [10, 0, 0, 0, 0, 52],
};

impl Place {
    fn write(self, gateway: &Gateway) {
        let mac = self.mac.map(|octet| format!("{octet:02x}")).join(":");
        let value = format!(
            r#"{{"PublicIP":"{}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#,
            self.address
        );
        gateway.put(&record(SUBNET), value.as_bytes()).unwrap();
    }

    /// Opens the place; packets for it arrive there.
    fn listen(self, scene: &Scene) -> Listener {
        let address = self.address;
        scene
            .road
            .ip(&format!("addr add {address}/24 dev hub"))
            .unwrap();
        let bind = || UdpSocket::bind((address, VXLAN_PORT));
        Listener {
            socket: scene.road.enter(bind).unwrap(),
            mac: self.mac,
        }
    }
}

/// The played node's socket.
struct Listener {
    socket: UdpSocket,
    mac: [u8; 6],
}

impl Listener {
    /// Waits for a packet that is addressed rightly.
    fn await_packet(&self) {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 2048];
        let length = self.socket.recv(&mut buffer).expect("no packet comes");
        assert_eq!(buffer[..length][MAC], self.mac, "the MAC of another place");
    }

    /// Waits until no packet has come for `quiet`; returns when the last one came, if any did.
    fn await_silence(&self, quiet: Duration) -> Option<Instant> {
        self.socket.set_read_timeout(Some(quiet)).unwrap();
        let (mut last, mut buffer) = (None, [0; 2048]);
        let deadline = Instant::now() + PATIENCE;
        while self.socket.recv(&mut buffer).is_ok() {
            last = Some(Instant::now());
            assert!(last < Some(deadline), "packets go on coming");
        }
        last
    }

    /// Throws away what has come so far.
    fn empty(&self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 2048]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
    }
}

/// Sends packets for the played node out of A's container until told to stop.
fn stream(socket: &UdpSocket, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        // While nobody has the subnet the node says so, and that is an error here.
        let _ = socket.send_to(&[0; 36], (SOMEBODY, 9));
        thread::sleep(BEAT);
    }
}

/// Does something while packets for the played node leave A's container.
fn while_sending(scene: &mut Scene, work: impl FnOnce(&mut Scene)) {
    let (container, address) = scene.path.container(Side::A);
    let socket = container.enter(|| UdpSocket::bind((address, 0))).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = StopOnDrop(&stop);
        scope.spawn(|| stream(&socket, stop.0));
        work(scene);
        drop(stop);
    });
}

/// Ends the stream also where the work fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The time that `part` of all stay below.
fn quantile(times: &mut [Duration], part: f64) -> String {
    times.sort();
    ms(times[((times.len() - 1) as f64 * part).round() as usize])
}

fn a_peer_that_comes_or_goes_is_followed_at_once(api: Api) {
    let mut scene = Stage::new("vxlan").by(api).up();
    let gateway = scene.gateway();
    let listener = HERE.listen(&scene);
    let probe = scene.probe();
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    while_sending(&mut scene, |_| {
        for _ in 0..CHANGES {
            listener.empty();
            let begun = Instant::now();
            HERE.write(&gateway);
            listener.await_packet();
            added.push(begun.elapsed());
            let begun = Instant::now();
            gateway.delete(&record(SUBNET)).unwrap();
            let last = listener.await_silence(Duration::from_millis(40));
            removed.push(last.map_or(Duration::ZERO, |last| last.duration_since(begun)));
        }
    });
    let outcome = probe.stop();
    report(
        &format!("a peer added and removed {CHANGES} times{}", told(api)),
        Some(&outcome),
        &[
            ("added p50", quantile(&mut added, 0.5)),
            ("p99", quantile(&mut added, 0.99)),
            ("removed p50", quantile(&mut removed, 0.5)),
            ("p99", quantile(&mut removed, 0.99)),
        ],
    );
    assert_none_lost(&outcome);
}

fn a_peer_that_moves_is_followed_also_if_it_moved_unseen(api: Api) {
    let mut scene = Stage::new("vxlan").by(api).up();
    let gateway = scene.gateway();
    let [here, there] = [HERE, THERE].map(|place| place.listen(&scene));
    let probe = scene.probe();
    let mut times = Vec::new();
    while_sending(&mut scene, |scene| {
        HERE.write(&gateway);
        here.await_packet();
        let moved = Instant::now();
        THERE.write(&gateway);
        there.await_packet();
        times.push(moved.elapsed());
        here.await_silence(Duration::from_millis(100));
        // Now it moves back while A is cut off, and history forgets that it did.
        let mark = scene.mark(Side::A);
        cut(scene, Side::A, Cut::Drop);
        scene.await_line(&mark, LOST);
        HERE.write(&gateway);
        scene.forget_history();
        a_moment();
        here.empty();
        heal(scene);
        let healed = Instant::now();
        here.await_packet();
        times.push(healed.elapsed());
        there.await_silence(Duration::from_millis(100));
    });
    let outcome = probe.stop();
    report(
        &format!(
            "a peer's address and MAC changed, then again while cut off and compacted{}",
            told(api)
        ),
        Some(&outcome),
        &[
            ("followed after", ms(times[0])),
            ("after heal", ms(times[1])),
        ],
    );
    assert_none_lost(&outcome);
}

#[test]
fn addresses_that_come_and_go_beside_ours_cost_no_packet() {
    // The first of them comes by itself: the link-local one of IPv6, a second after the link is up.
    let mut scene = Stage::new("udp").up();
    let probe = scene.probe();
    for change in ["add", "del", "add"] {
        let node = scene.path.lab().node(Side::A);
        node.ip(&format!("addr {change} 192.168.77.100/24 dev eth0"))
            .unwrap();
        thread::sleep(Duration::from_millis(600));
    }
    let outcome = probe.stop();
    report(
        "addresses beside the node's own came and went",
        Some(&outcome),
        &[],
    );
    assert_none_lost(&outcome);
    scene.assert_running();
}

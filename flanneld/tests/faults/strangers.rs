//! Who is no node, or a node that lies: nothing of theirs is delivered, answered or passed on, and
//! honest packets flow meanwhile.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use benches::traffic::Ends;
use benches::traffic::probe::{Outcome, Probe};
use benches::{Namespace, Path, Profile, Side};

use super::forged::{Envelope, Sender, Wire, address, inner, listener};
use super::scene::flanneld;
use super::table::{assert_none_lost, report};

const MANY: u64 = 200_000;
/// In the overlay network, and nobody's so far.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 5, 250, 9);

pub(crate) fn up(spec: &str) -> Path {
    let spec = spec.parse().unwrap();
    Path::up(&spec, Profile::Offload, flanneld()).unwrap_or_else(|why| panic!("{why}"))
}

pub(crate) fn probe(path: &Path) -> Probe {
    Probe::start(&Ends::of(path, Side::A)).unwrap()
}

/// The counters A's daemon ends with.
pub(crate) fn account(path: &mut Path) -> BTreeMap<String, u64> {
    let daemon = path.daemon(Side::A).unwrap();
    assert!(daemon.stop().unwrap().success());
    let log = daemon.log();
    let (_, counts) = log.rsplit_once("Packets: ").unwrap();
    let line = counts.lines().next().unwrap();
    let pairs = line.split(", ").filter_map(|pair| pair.rsplit_once(' '));
    pairs
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect()
}

pub(crate) fn count(counts: &BTreeMap<String, u64>, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or(0)
}

/// Datagrams of a kind at A: how many it takes, and what one costs the daemon.
fn cost(path: &mut Path, sender: &Sender, datagram: &[u8]) -> (u64, f64) {
    let envelope = Envelope::to_a(path);
    let before = path.daemon(Side::A).unwrap().cpu_seconds();
    let copies = (0..MANY).map(|_| datagram.to_vec());
    let sent = sender.send(&envelope, copies);
    thread::sleep(Duration::from_millis(100));
    let used = path.daemon(Side::A).unwrap().cpu_seconds() - before;
    (sent, used / sent as f64 * 1e9)
}

fn a_stranger_is_not_heard(spec: &str) {
    let mut path = up(spec);
    let (stranger, peer) = (Sender::stranger(&path), Sender::peer(&path));
    let (mut wire, hears) = (Wire::open(&path), listener(&path));
    let (near, far) = (address(&path, Side::A), address(&path, Side::B));
    let good = Envelope::to_a(&path).around(&inner(far, near, &[7; 32]));
    let watch = probe(&path);
    let (sent, bad) = cost(&mut path, &stranger, &good);
    let outcome = watch.stop();
    assert!(hears.recv(&mut [0; 64]).is_err(), "nothing is delivered");
    assert!(!stranger.was_answered() && wire.packets_to(&stranger).is_empty());
    // For a host that nobody is: what is good goes the whole way and ends there.
    let silent = path.subnet(Side::A).host(77);
    let to_silent = Envelope::to_a(&path).around(&inner(far, silent, &[7; 32]));
    let (_, fine) = cost(&mut path, &peer, &to_silent);
    report(
        &format!("{sent} packets of a stranger, {spec}"),
        Some(&outcome),
        &[
            (
                "one of them costs",
                format!("{bad:.0} ns of processor time"),
            ),
            ("a good one", format!("{fine:.0} ns")),
        ],
    );
    assert_none_lost(&outcome);
    assert_eq!(count(&account(&mut path), "in_not_a_peer"), sent);
}

#[test]
fn a_stranger_is_not_heard_in_udp_form() {
    a_stranger_is_not_heard("udp");
}

#[test]
fn a_stranger_is_not_heard_over_vxlan() {
    a_stranger_is_not_heard("vxlan");
}

/// Sources a peer may claim, and what becomes of them in each mode.
fn forged_sources_are_dropped(check: &str, foreign: u64, forbidden: u64) {
    let mut path = up(&format!("vxlan+source-check={check}"));
    let (peer, envelope) = (Sender::peer(&path), Envelope::to_a(&path));
    let near = path.subnet(Side::A);
    let sources = [
        // Somebody else's, whose ever.
        ELSEWHERE,
        Ipv4Addr::new(8, 8, 8, 8),
        // Ours.
        near.host(9),
        near.gateway(),
        near.base,
        Side::A.underlay(),
        // Nobody's.
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(224, 0, 0, 5),
        Ipv4Addr::new(0, 0, 0, 9),
        Ipv4Addr::BROADCAST,
    ];
    let forged = sources.map(|source| envelope.around(&inner(source, near.container(), b"forged")));
    peer.send(&envelope, forged.into_iter());
    let honest = inner(address(&path, Side::B), near.container(), b"honest");
    let hears = listener(&path);
    peer.send(&envelope, std::iter::once(envelope.around(&honest)));
    hears.set_nonblocking(false).unwrap();
    hears
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    // What others may say, they may say first.
    let mut heard = [0; 64];
    while hears.recv(&mut heard).unwrap() == 0 || &heard[..6] != b"honest" {}
    let log = path.daemon(Side::A).unwrap().log();
    assert_eq!(log.contains("--source-check=off"), check == "off", "{log}");
    let counts = account(&mut path);
    let refused = ["in_foreign_source", "in_forbidden_source"].map(|name| count(&counts, name));
    assert_eq!(refused, [foreign, forbidden], "{counts:?}");
}

#[test]
fn a_peer_cannot_send_from_our_addresses_or_nobodys() {
    forged_sources_are_dropped("peers", 0, 8);
}

#[test]
fn a_peer_can_be_held_to_its_own_addresses() {
    forged_sources_are_dropped("strict", 2, 8);
}

#[test]
fn a_peer_cannot_send_from_nobodys_address_even_without_a_check() {
    forged_sources_are_dropped("off", 0, 4);
}

/// Every network identifier there could be, but ours, in strides; from a stranger and a peer.
#[test]
fn a_scan_for_networks_is_met_with_silence() {
    let mut path = up("vxlan");
    let envelope = Envelope::to_a(&path);
    let packet = inner(address(&path, Side::B), address(&path, Side::A), b"anyone?");
    let scan = || {
        let others = (0..1 << 24).step_by(251).filter(|vni| *vni != 1);
        others.map(|vni| envelope.of_network(vni).around(&packet))
    };
    let mut wire = Wire::open(&path);
    for sender in [Sender::stranger(&path), Sender::peer(&path)] {
        sender.send(&envelope, scan());
        assert!(!sender.was_answered());
        assert_eq!(wire.packets_to(&sender), Vec::<Vec<u8>>::new());
    }
    let counts = account(&mut path);
    let scanned = scan().count() as u64;
    assert_eq!(count(&counts, "in_vxlan_vni"), scanned, "{counts:?}");
    assert_eq!(count(&counts, "in_not_a_peer"), scanned, "{counts:?}");
}

/// Asks so often, whether or not anybody answers.
fn ping(container: &Namespace, count: u64, whom: Ipv4Addr) {
    let _ = container.run(&format!("ping -c {count} -i 0.02 -W 1 {whom}"));
}

/// A believes that B has a subnet which B knows nothing of, or believes to be A's.
#[test]
fn packets_do_not_go_round_between_nodes_that_err() {
    let mut path = up("udp");
    let record = |subnet: &str, address: Ipv4Addr| {
        let value = format!(r#"{{"PublicIP":"{address}","PublicIPv6":null}}"#);
        let file = path.lab().scratch().join("store/subnets").join(subnet);
        std::fs::write(file, value).unwrap();
    };
    record("10.5.250.0-24", Side::B.underlay());
    let container = path.lab().container(Side::A);
    // Unreachable at first, until A has read the record.
    let sent = 50;
    thread::sleep(Duration::from_millis(500));
    ping(container, sent, ELSEWHERE);
    let b = path.daemon(Side::B).unwrap();
    b.stop().unwrap();
    let log = b.log();
    let counts = account(&mut path);
    assert!(log.contains(&format!("in_not_ours {sent}")), "{log}");
    assert_eq!(
        count(&counts, "in_not_ours"),
        0,
        "nothing came back: {counts:?}"
    );
}

/// The host's routes lead the tunnel's own datagrams into the tunnel.
#[test]
fn the_tunnel_does_not_enter_itself() {
    let mut path = up("vxlan");
    let node = path.lab().node(Side::A);
    let to_b = format!("{}/32 dev flannel0", Side::B.underlay());
    node.ip(&format!("route add {to_b}")).unwrap();
    let (container, _) = path.container(Side::A);
    let far = address(&path, Side::B);
    let sent = 20;
    ping(container, sent, far);
    node.ip(&format!("route del {to_b}")).unwrap();
    path.wait_until_connected().unwrap();
    let counts = account(&mut path);
    let refused = count(&counts, "out_no_route");
    assert!((1..=3 * sent).contains(&refused), "each once: {counts:?}");
}

/// A small generator: what is changed must differ from run to run of a loop, not of the test.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % sides
    }
}

/// Honest datagrams, each damaged in one to four places or cut short.
fn damaged(good: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    let mut dice = Dice(7);
    (0..MANY).map(move |_| {
        let mut bytes = good.clone();
        for _ in 0..=dice.roll(4) {
            let place = dice.roll(bytes.len());
            bytes[place] = dice.roll(256) as u8;
        }
        if dice.roll(4) == 0 {
            bytes.truncate(dice.roll(bytes.len()));
        }
        bytes
    })
}

fn damaged_packets_cost_no_other(spec: &str) -> Outcome {
    let mut path = up(spec);
    let (peer, envelope) = (Sender::peer(&path), Envelope::to_a(&path));
    let good = inner(
        address(&path, Side::B),
        path.subnet(Side::A).host(77),
        &[7; 64],
    );
    let watch = probe(&path);
    let sent = peer.send(&envelope, damaged(envelope.around(&good)));
    let outcome = watch.stop();
    report(
        &format!("{sent} damaged packets of a peer, {spec}"),
        Some(&outcome),
        &[],
    );
    path.daemon(Side::A).unwrap().still_running().unwrap();
    account(&mut path);
    outcome
}

#[test]
fn damaged_packets_cost_no_other_in_udp_form() {
    assert_none_lost(&damaged_packets_cost_no_other("udp"));
}

#[test]
fn damaged_packets_cost_no_other_over_vxlan() {
    assert_none_lost(&damaged_packets_cost_no_other("vxlan"));
}

//! The way to the store fails: refused, swallowed, or silent behind an open door.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use benches::etcd::Api;
use benches::frames::FramePort;
use benches::{Namespace, Side};

use super::scene::{
    BACK, LOST, PORT, Scene, Stage, by_both_versions, lane, lasting, on_road, told,
};
use super::table::{assert_none_lost, ms, report};

by_both_versions!(an_etcd_out_of_reach_is_tried_at_leisure_and_found_again,);

/// What becomes of packets from a node to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// They are answered with a reset.
    Refuse,
    /// Nothing is heard of them.
    Drop,
    /// Connections open, and nothing is ever said on them.
    Silence,
}

/// Cuts a node off from the store.
pub(crate) fn cut(scene: &Scene, side: Side, how: Cut) {
    let (node, road) = (on_road(side), &scene.road);
    let toward = format!("-s {node} -p tcp --dport {PORT}");
    let back = format!("-d {node} -p tcp --sport {PORT}");
    let rules = match how {
        Cut::Refuse => vec![format!("INPUT {toward} -j REJECT --reject-with tcp-reset")],
        Cut::Drop => vec![
            format!("INPUT {toward} -j DROP"),
            format!("OUTPUT {back} -j DROP"),
        ],
        Cut::Silence => vec![
            format!("OUTPUT {back} --tcp-flags SYN SYN -j ACCEPT"),
            format!("OUTPUT {back} -j DROP"),
        ],
    };
    for rule in rules {
        road.run(&format!("iptables -w -A {rule}")).unwrap();
    }
}

/// Lets everybody through again.
pub(crate) fn heal(scene: &Scene) {
    scene.road.run("iptables -w -F").unwrap();
}

/// How often a store that cannot be reached is tried, and how soon it is found again.
fn outage(api: Api, how: Cut, name: &str) {
    let mut scene = Stage::new("udp").by(api).up();
    let probe = scene.probe();
    let busy = scene.path.daemon(Side::A).unwrap().cpu_seconds();
    let mark = scene.mark(Side::A);
    cut(&scene, Side::A, how);
    let noticed = scene.await_line(&mark, LOST);
    let attempts = attempts(&scene.road, lasting(6, 300));
    let busy = scene.path.daemon(Side::A).unwrap().cpu_seconds() - busy;
    let healed = scene.mark(Side::A);
    heal(&scene);
    let back = scene.await_line(&healed, BACK);
    let outcome = probe.stop();
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let range = |pick: Option<&Duration>| ms(pick.copied().unwrap_or_default());
    report(
        &format!("way to etcd {name}{}", told(api)),
        Some(&outcome),
        &[
            ("noticed", ms(noticed)),
            ("attempts", attempts.len().to_string()),
            ("pause from", range(pauses.iter().min())),
            ("to", range(pauses.iter().max())),
            ("processor time", format!("{busy:.2} s")),
            ("back after heal", ms(back)),
        ],
    );
    assert_none_lost(&outcome);
    assert!(!attempts.is_empty(), "a lost registry is tried again");
    scene.assert_told_once(&mark);
}

/// When node A begins connections to the store, for a while.
fn attempts(road: &Namespace, time: Duration) -> Vec<Duration> {
    let mut port = FramePort::open(road, lane(Side::A)).unwrap();
    let begun = Instant::now();
    // A connection is known by its port: the kernel repeats what is not answered.
    let mut seen = BTreeMap::new();
    while let Some(frame) = port.receive(begun + time).unwrap() {
        if let Some(source) = opens_connection(frame) {
            seen.entry(source).or_insert_with(|| begun.elapsed());
        }
    }
    let mut times: Vec<_> = seen.into_values().collect();
    times.sort();
    times
}

/// The source port of a TCP SYN to the store.
fn opens_connection(frame: &[u8]) -> Option<u16> {
    let packet = frame.get(14..)?;
    let tcp = packet.get(usize::from(packet.first()? & 15) * 4..)?;
    let from_node = packet.get(12..16)? == on_road_v4().octets();
    let word = |place: usize| Some(u16::from_be_bytes([*tcp.get(place)?, *tcp.get(place + 1)?]));
    let syn = tcp.get(13)? & 0x12 == 0x02;
    (from_node && packet[9] == 6 && syn && word(2)? == PORT).then_some(word(0)?)
}

fn on_road_v4() -> Ipv4Addr {
    on_road(Side::A).to_string().parse().unwrap()
}

fn an_etcd_out_of_reach_is_tried_at_leisure_and_found_again(api: Api) {
    // Nearly all of this is waiting: side by side it takes a third.
    thread::scope(|scope| {
        scope.spawn(|| outage(api, Cut::Refuse, "refused"));
        scope.spawn(|| outage(api, Cut::Drop, "swallowed"));
        scope.spawn(|| outage(api, Cut::Silence, "open and silent"));
    });
}

/// For tests that need a moment in which nothing happens.
pub(crate) fn a_moment() {
    thread::sleep(Duration::from_millis(300));
}

//! What a daemon leaves behind when it is told to stop: nothing, and a true account.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use benches::measure::{Metric, measure};
use benches::{Lab, Path, PathSpec, Profile, Side};

use super::setup::{flanneld, up, versions};

/// Everything in a node's namespace a daemon could have changed; the bridge is the test's own.
fn state_of(lab: &Lab, side: Side) -> Vec<String> {
    let questions = [
        "-oneline link show",
        "-4 -oneline addr show",
        "-4 route show table all",
        "-4 rule show",
    ];
    let answers = questions.map(|question| lab.node(side).run(&format!("ip {question}")).unwrap());
    let lines = answers.iter().flat_map(|answer| answer.lines());
    let own = |line: &&str| !line.contains("cni0") && !line.contains("pod0");
    lines.filter(own).map(without_carrier).collect()
}

/// Drops what changes by itself when the far end of a veth comes up.
fn without_carrier(line: &str) -> String {
    let states = ["UP", "DOWN", "LOWERLAYERDOWN", "UNKNOWN"];
    let lasting = |word: &&str| !word.starts_with('<') && !states.contains(word);
    line.split_whitespace()
        .filter(lasting)
        .collect::<Vec<_>>()
        .join(" ")
}

fn nothing_is_left(name: &str) {
    let lab = Lab::new(Profile::Offload).unwrap();
    let before = Side::BOTH.map(|side| state_of(&lab, side));
    let spec: PathSpec = name.parse().unwrap();
    let mut path = Path::connect(lab, &spec, flanneld()).unwrap();
    for side in Side::BOTH {
        assert_ne!(
            state_of(path.lab(), side),
            before[side as usize],
            "a running daemon changes something"
        );
        let status = path.daemon(side).unwrap().stop().unwrap();
        assert!(status.success(), "{status}\n{}", path.logs());
        assert_eq!(
            settled(path.lab(), side, &before[side as usize]),
            before[side as usize],
            "node {side:?}\n{}",
            path.logs()
        );
    }
}

/// The state once it is as `wanted`, or as it is after a while: the kernel lets go of an io_uring,
/// and of the device behind it, a moment after the process has ended.
fn settled(lab: &Lab, side: Side, wanted: &[String]) -> Vec<String> {
    for _ in 0..100 {
        if state_of(lab, side) == wanted {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    state_of(lab, side)
}

versions! { nothing_is_left:
    a_stopped_daemon_leaves_nothing_of_the_udp_form("udp");
    a_stopped_daemon_leaves_nothing_of_the_vxlan_form("vxlan");
    a_stopped_daemon_leaves_nothing_over_epoll("udp+io=epoll");
    a_stopped_daemon_leaves_nothing_over_a_single_queue("udp+io=single-queue");
}

/// The counters a daemon names when it ends: `... Packets: from_tun_packets 12, ...`.
pub(crate) fn account(log: &str) -> BTreeMap<String, u64> {
    let line = log
        .lines()
        .rfind(|line| line.contains("Packets: "))
        .unwrap_or_else(|| panic!("the daemon ends with an account, not with\n{log}"));
    let (_, counts) = line.split_once("Packets: ").unwrap();
    let pairs = counts.split(", ").filter_map(|pair| pair.rsplit_once(' '));
    pairs
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect()
}

fn every_packet_is_accounted_for(name: &str) {
    let mut path = up(name, Profile::Offload);
    let short = Duration::from_millis(300);
    for metric in [Metric::Tcp(2), Metric::Packets(64), Metric::Flood(1400)] {
        measure(&path, metric, Side::A, short).unwrap();
    }
    for side in Side::BOTH {
        // A node of the kernel's own has no daemon, and keeps no account.
        let Some(daemon) = path.daemon(side) else {
            continue;
        };
        let status = daemon.stop().unwrap();
        let log = daemon.log();
        assert!(status.success(), "{status}\n{log}");
        assert_balanced(&account(&log));
    }
}

pub(crate) fn assert_balanced(counts: &BTreeMap<String, u64>) {
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let came =
        count("from_tun_packets") + count("from_underlay_packets") + count("created_packets");
    let went = count("to_tun_packets") + count("to_underlay_packets");
    let is_drop = |name: &str| name.starts_with("in_") || name.starts_with("out_");
    let drops = counts.iter().filter(|(name, _)| is_drop(name));
    let dropped: u64 = drops.map(|(_, count)| count).sum();
    assert!(came > 1000, "there was traffic: {counts:?}");
    assert_eq!(came, went + dropped, "{counts:?}");
}

versions! { every_packet_is_accounted_for:
    every_packet_is_accounted_for_in_udp_form("udp");
    every_packet_is_accounted_for_in_vxlan_form("vxlan");
    every_packet_is_accounted_for_over_epoll("udp+io=epoll");
    every_packet_is_accounted_for_over_io_uring_oneshot("udp+io=uring-oneshot");
    every_packet_is_accounted_for_over_a_single_queue("udp+io=single-queue");
    every_packet_is_accounted_for_without_offloads("vxlan+no-offload=all");
    every_packet_is_accounted_for_beside_kernel_vxlan("mixed-vxlan");
}

/// The kernel may hold on to what an io_uring held for a while after its process has ended.
fn a_daemon_starts_again_at_once(name: &str) {
    let mut path = up(name, Profile::Offload);
    let subnet = path.subnet(Side::A);
    for _ in 0..8 {
        path.restart(Side::A, flanneld())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(path.subnet(Side::A), subnet, "the subnet is kept");
        path.wait_until_connected()
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

versions! { a_daemon_starts_again_at_once:
    a_daemon_starts_again_at_once_over_io_uring_multishot("udp+io=uring-multishot");
    a_daemon_starts_again_at_once_over_epoll("vxlan+io=epoll");
    a_daemon_starts_again_at_once_over_io_uring_oneshot("udp+io=uring-oneshot");
    a_daemon_starts_again_at_once_over_a_single_queue("udp+io=single-queue");
}

//! Datagrams are taken off the underlay device ahead of the kernel's stack, where that can be had.

use std::net::UdpSocket;
use std::process::Command;

use benches::deprive::Kernel;
use benches::{Lab, Path, Profile, Side};

use super::exit::account;
use super::missing::{carries, connect, stopped};
use super::setup::{flanneld, up, versions};
use super::traffic::{datagrams, stream};

const TAKEN: &str = "datagrams for us are taken off eth0";
const NOT_TAKEN: &str = "datagrams are not taken off eth0";

fn talk(path: &Path) {
    for from in Side::BOTH {
        datagrams(path, from);
        stream(path, from);
    }
}

fn containers_talk(name: &str, profile: Profile) {
    let mut path = up(name, profile);
    talk(&path);
    let log = stopped(&mut path);
    assert!(log.contains(TAKEN), "{log}");
}

versions! { containers_talk:
    containers_talk_ahead_of_the_stack_in_udp_form("udp+shortcut", Profile::Wire);
    containers_talk_ahead_of_the_stack_over_vxlan("vxlan+shortcut", Profile::Wire);
    containers_talk_ahead_of_the_stack_between_ipv6_addresses("udp+shortcut+inner=6", Profile::Wire);
    containers_talk_ahead_of_the_stack_over_plain_calls("vxlan+shortcut+io=epoll", Profile::Wire);
    containers_talk_ahead_of_the_stack_with_the_calls_left_to_workers("vxlan+shortcut+sandbox=kill", Profile::Wire);
    containers_talk_ahead_of_the_stack_over_two_workers("udp+shortcut+workers=2", Profile::Wire);
    containers_talk_ahead_of_the_stack_with_kernel_vxlan("mixed-vxlan+shortcut", Profile::Wire);
    containers_talk_ahead_of_a_stack_that_joins("udp+shortcut", Profile::WireGro);
    containers_talk_ahead_of_a_stack_that_leaves_checksums_unfinished("vxlan+shortcut", Profile::Offload);
}

/// Without the right to load a program everything goes on through sockets.
#[test]
fn without_the_right_to_load_programs_sockets_do() {
    let kernel = Kernel::whole().with_capabilities(&["net_admin"]);
    let log = carries("udp+shortcut", kernel, "");
    assert!(log.contains(NOT_TAKEN) && log.contains("CAP_BPF"), "{log}");
}

/// Frames longer than what was made room for go through the stack, as does the device as a whole.
#[test]
fn at_a_device_with_long_frames_sockets_do() {
    let lab = Lab::new(Profile::Wire).unwrap();
    for side in Side::BOTH {
        lab.node(side).ip("link set eth0 mtu 4000").unwrap();
    }
    let mut path = connect(lab, "udp+shortcut").unwrap();
    stream(&path, Side::A);
    let log = stopped(&mut path);
    assert!(log.contains(NOT_TAKEN) && log.contains("MTU"), "{log}");
}

/// What no worker could take, and what goes another way, is counted like everything else.
#[test]
fn every_datagram_is_counted_whichever_way_it_comes() {
    const BURST: u64 = 4000;
    const STRANGERS: u64 = 10;
    let mut path = up("udp+shortcut", Profile::Wire);
    let node = path.lab().node(Side::B);
    node.ip("addr add 192.168.77.66/24 dev eth0").unwrap();
    let target = (Side::A.underlay(), 8285);
    let from = |address: &str| node.enter(|| UdpSocket::bind((address, 0))).unwrap();
    let (peer, stranger) = (from("192.168.77.2"), from("192.168.77.66"));
    let daemon = path.daemon(Side::A).unwrap().id();
    signal(daemon, "STOP");
    for _ in 0..BURST {
        peer.send_to(b"no packet", target).unwrap();
    }
    signal(daemon, "CONT");
    // The kernel sends it in pieces, which it alone can put together.
    peer.send_to(&[0; 4000], target).unwrap();
    for _ in 0..STRANGERS {
        stranger.send_to(b"no packet", target).unwrap();
    }
    talk(&path);
    let counts = account(&stopped(&mut path));
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert!(count("in_shortcut_full") > 0, "{counts:?}");
    let garbage = count("in_shortcut_full") + count("in_malformed");
    assert_eq!(garbage, BURST + 1, "{counts:?}");
    assert_eq!(count("in_not_a_peer"), STRANGERS, "{counts:?}");
}

fn signal(process: u32, name: &str) {
    let [name, process] = [format!("-{name}"), process.to_string()];
    let sent = Command::new("kill").args([name, process]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_daemon_that_is_not_relieved_after_all_goes_ahead_of_the_stack_again() {
    let mut path = up("udp+shortcut", Profile::Wire);
    let flags = ["--takeover", "--public-ip=192.168.77.9"];
    let old = path.add(Side::A, flanneld(), &flags).unwrap();
    assert!(!path.daemon(Side::A).unwrap().wait().unwrap().success());
    path.put_back(Side::A, old).unwrap();
    talk(&path);
    let log = stopped(&mut path);
    assert_eq!(log.matches(TAKEN).count(), 2, "{log}");
}

/// A queue of the device has one such socket at a time.
#[test]
fn a_daemon_that_takes_over_goes_through_sockets_and_says_so() {
    let mut path = up("udp+shortcut", Profile::Wire);
    let mut old = path.add(Side::A, flanneld(), &["--takeover"]).unwrap();
    assert!(old.wait().unwrap().success());
    talk(&path);
    let log = stopped(&mut path);
    assert!(
        log.contains("are not taken off eth0 by a daemon that takes over"),
        "{log}"
    );
}

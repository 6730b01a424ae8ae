//! Every error that a call of the packet engine can give, at the first such call and at the
//! thousandth, and queues that overflow: the worker goes on, and what is lost is counted.

use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use benches::{Path, Profile, Side};

use super::exit::{account, assert_balanced};
use super::offloads::column_sum;
use super::refusals::Injection;
use super::setup::{up, versions};
use super::traffic::{bound, stream};

/// Enough for the thousandth call of any kind.
const EXCHANGES: u32 = 1020;
const AT: &str = "1+999";
const LATE: Duration = Duration::from_millis(500);

/// What a send may answer: to this packet, or for an earlier one.
const OF_SENDS: &[&str] = &[
    "EIO",
    "EINVAL",
    "ENOBUFS",
    "ENOMEM",
    "EPERM",
    "EACCES",
    "EAGAIN",
    "EINTR",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ENETDOWN",
    "ECONNREFUSED",
    "EOPNOTSUPP",
    "EMSGSIZE",
    "EFAULT",
];
const OF_RECEIVES: &[&str] = &[
    "EAGAIN",
    "EINTR",
    "ENOMEM",
    "ENOBUFS",
    "ECONNREFUSED",
    "EHOSTUNREACH",
    "EIO",
];
const OF_READS: &[&str] = &[
    "EAGAIN", "EINTR", "ENOMEM", "ENOBUFS", "EFAULT", "EINVAL", "EIO",
];
const OF_WRITES: &[&str] = &[
    "EAGAIN", "EINTR", "ENOMEM", "ENOBUFS", "EFAULT", "EINVAL", "EMSGSIZE",
];
const OF_WAITS: &[&str] = &["EINTR", "EAGAIN", "ENOMEM", "EINVAL", "EFAULT"];
const OF_RINGS: &[&str] = &["EINTR", "EAGAIN", "EBUSY", "ENOMEM", "EFAULT", "ENXIO"];

/// Asks from one container, and is answered by the other, one question after the other; how many
/// answers did not come, up to ten.
fn exchange(path: &Path, count: u32) -> u32 {
    let [near, far] = Side::BOTH.map(|side| bound(path, side));
    near.connect(far.local_addr().unwrap()).unwrap();
    near.set_read_timeout(Some(LATE)).unwrap();
    far.set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| echo(&far, &done));
        let lost = (0..count)
            .filter(|&number| !answered(&near, number))
            .take(10)
            .count();
        done.store(true, Ordering::Relaxed);
        lost as u32
    })
}

fn echo(far: &UdpSocket, done: &AtomicBool) {
    let mut question = [0; 64];
    while !done.load(Ordering::Relaxed) {
        if let Ok((len, from)) = far.recv_from(&mut question) {
            far.send_to(&question[..len], from).unwrap();
        }
    }
}

fn answered(near: &UdpSocket, number: u32) -> bool {
    near.send(&number.to_ne_bytes()).unwrap();
    let mut answer = [0; 64];
    while let Ok(len) = near.recv(&mut answer) {
        if answer[..len] == number.to_ne_bytes() {
            return true;
        }
    }
    false
}

/// What the kernel calls the device: another number is another device.
fn device(path: &Path) -> String {
    let shown = path
        .lab()
        .node(Side::A)
        .run("ip -oneline link show flannel0")
        .unwrap();
    shown.split(':').next().unwrap().to_owned()
}

fn errors_are_borne(name: &str, call: &str, errors: &[&str]) {
    let mut path = up(name, Profile::Offload);
    let before = device(&path);
    for error in errors {
        let injection = Injection::into(&mut path, Side::A, call, error, AT);
        let lost = exchange(&path, EXCHANGES);
        drop(injection);
        assert_eq!(lost, 0, "{call} {error}\n{}", path.logs());
    }
    assert_eq!(device(&path), before, "no worker ended\n{}", path.logs());
    let daemon = path.daemon(Side::A).unwrap();
    assert!(daemon.stop().unwrap().success(), "{}", daemon.log());
    assert_balanced(&account(&daemon.log()));
}

versions! { errors_are_borne:
    every_error_of_a_send_is_borne("udp+io=epoll", "sendmmsg", OF_SENDS);
    every_error_of_a_receive_is_borne("vxlan+io=epoll", "recvmmsg", OF_RECEIVES);
    every_error_of_a_read_is_borne("udp+io=epoll", "read", OF_READS);
    every_error_of_a_write_is_borne("vxlan+io=epoll", "writev", OF_WRITES);
    every_error_of_a_wait_is_borne("udp+io=epoll", "poll", OF_WAITS);
    every_error_of_a_ring_with_multishot_reads_is_borne("udp+io=uring-multishot", "io_uring_enter", OF_RINGS);
    every_error_of_a_ring_with_batched_reads_is_borne("udp+io=uring-oneshot", "io_uring_enter", OF_RINGS);
}

/// What does not fit is tried once more, as what the error is about may be an earlier one; it costs that packet, and is
/// counted.
#[test]
fn a_datagram_too_long_for_the_kernel_is_counted() {
    let mut path = up("udp+io=epoll", Profile::Offload);
    let injection = Injection::into(&mut path, Side::A, "sendmmsg", "EMSGSIZE", "1+");
    let lost = exchange(&path, 3);
    drop(injection);
    let daemon = path.daemon(Side::A).unwrap();
    daemon.stop().unwrap();
    let counts = account(&daemon.log());
    assert!(lost > 0);
    assert_eq!(counts.get("out_too_big"), Some(&lost.into()), "{counts:?}");
}

fn signal(process: u32, name: &str) {
    let mut kill = Command::new("kill");
    let status = kill.args([name, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Far more than any queue of the daemon's holds.
fn flood(path: &Path, from: Side) {
    let near = bound(path, from);
    let (_, to) = path.container(from.other());
    near.connect((to, 9)).unwrap();
    for _ in 0..30_000 {
        // What the kernel has no room for, it may refuse.
        let _ = near.send(&[7; 1200]);
    }
}

/// Rings run empty and sockets full while the daemon stands still; then it goes on.
fn a_daemon_that_stood_still_goes_on(name: &str) {
    let mut path = up(name, Profile::Offload);
    let before = device(&path);
    let process = path.daemon(Side::A).unwrap().id();
    for _ in 0..3 {
        signal(process, "-STOP");
        Side::BOTH.iter().for_each(|&side| flood(&path, side));
        signal(process, "-CONT");
        path.wait_until_connected().unwrap();
    }
    stream(&path, Side::A);
    stream(&path, Side::B);
    assert_eq!(device(&path), before, "no worker ended\n{}", path.logs());
    let daemon = path.daemon(Side::A).unwrap();
    assert!(daemon.stop().unwrap().success(), "{}", daemon.log());
    assert_balanced(&account(&daemon.log()));
}

versions! { a_daemon_that_stood_still_goes_on:
    a_daemon_that_stood_still_goes_on_over_epoll("vxlan+io=epoll");
    a_daemon_that_stood_still_goes_on_over_io_uring_multishot("udp+io=uring-multishot");
    a_daemon_that_stood_still_goes_on_over_io_uring_oneshot("vxlan+io=uring-oneshot");
    a_daemon_that_stood_still_goes_on_over_a_single_queue("udp+io=single-queue");
}

/// What the kernel had no room for: at the daemon's socket, and in front of its device.
fn overflown(path: &Path, side: Side) -> [u64; 2] {
    let node = path.lab().node(side);
    let sockets = node.run("cat /proc/net/udp").unwrap();
    // Ports are in hexadecimal; the last column counts datagrams.
    let own = sockets.lines().filter(|line| line.contains(":205D 0"));
    let dropped = own.filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
    let shown = node.run("ip -json -s link show flannel0").unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let device = shown[0]["stats64"]["tx"]["dropped"].as_u64();
    [dropped.sum(), device.unwrap()]
}

/// IPv4 packets that a container has sent.
fn sent(path: &Path, side: Side) -> u64 {
    let table = path.container(side).0.run("cat /proc/net/snmp").unwrap();
    column_sum(&table.lines().take(2).collect::<Vec<_>>(), "OutRequests")
}

/// The daemon counts what it gets, and the kernel what it had no room for: together all that was sent, to the packet.
#[test]
fn what_overflows_is_counted_to_the_packet() {
    let mut path = up("udp+io=epoll", Profile::Offload);
    let process = path.daemon(Side::A).unwrap().id();
    signal(process, "-STOP");
    Side::BOTH.iter().for_each(|&side| flood(&path, side));
    signal(process, "-CONT");
    path.wait_until_connected().unwrap();
    let ([at_socket, at_device], sent) = (overflown(&path, Side::A), sent(&path, Side::A));
    let [here, there] = Side::BOTH.map(|side| {
        let daemon = path.daemon(side).unwrap();
        assert!(daemon.stop().unwrap().success());
        account(&daemon.log())
    });
    assert!(
        at_device > 1000,
        "{at_device} did not fit into the device's queue"
    );
    assert_eq!(here["from_tun_packets"] + at_device, sent, "{here:?}");
    assert_eq!(
        here["from_underlay_packets"] + at_socket,
        there["to_underlay_packets"],
        "{at_socket} did not fit into the socket: {here:?} {there:?}"
    );
}

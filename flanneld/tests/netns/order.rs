//! Two workers share the flows; the scheduler moves the workers about; no flow notices.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use benches::{Profile, Side};

use super::setup::{up, versions};
use super::traffic::bound;

const FLOWS: u32 = 64;
const ROUNDS: u32 = 600;
/// So few are under way that no queue overflows.
const IN_FLIGHT: u32 = 128;

fn flows_keep_their_order(name: &str) {
    let mut path = up(name, Profile::Offload);
    let workers: Vec<u32> = Side::BOTH
        .into_iter()
        .flat_map(|side| workers(path.daemon(side).unwrap().id()))
        .collect();
    assert_eq!(workers.len(), 4, "two workers on each side");
    let (received, done) = (AtomicU32::new(0), AtomicBool::new(false));
    let senders: Vec<_> = (0..FLOWS).map(|_| bound(&path, Side::A)).collect();
    let far = bound(&path, Side::B);
    let target = far.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| move_about(&workers, &done));
        scope.spawn(|| send_all(&senders, target, &received, &done));
        let checked = scope.spawn(|| check_all(&far, &received)).join();
        done.store(true, Ordering::Relaxed);
        checked.unwrap();
    });
}

/// The threads of a daemon that carry packets.
fn workers(daemon: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{daemon}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().path())
        .filter(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("worker-"))
        })
        .map(|task| task.file_name().unwrap().to_str().unwrap().parse().unwrap())
        .collect()
}

/// Sends each thread to another processor every few milliseconds.
fn move_about(threads: &[u32], done: &AtomicBool) {
    let processors = thread::available_parallelism().unwrap().get();
    for turn in 0.. {
        for (index, thread) in threads.iter().enumerate() {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let processor = ((index + turn) % processors).to_string();
            let moved = Command::new("taskset")
                .args(["--pid", "--cpu-list", &processor, &thread.to_string()])
                .output()
                .unwrap();
            assert!(moved.status.success(), "{moved:?}");
        }
    }
}

/// Each flow counts its packets.
fn send_all(senders: &[UdpSocket], target: SocketAddr, received: &AtomicU32, done: &AtomicBool) {
    let mut sent = 0;
    for round in 0..ROUNDS {
        for sender in senders {
            while sent - received.load(Ordering::Relaxed) >= IN_FLIGHT {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                thread::yield_now();
            }
            sender.send_to(&round.to_be_bytes(), target).unwrap();
            sent += 1;
        }
    }
}

fn check_all(far: &UdpSocket, received: &AtomicU32) {
    let mut next: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    let mut number = [0; 4];
    for _ in 0..FLOWS * ROUNDS {
        let flow = next_from(far, &mut number);
        received.fetch_add(1, Ordering::Relaxed);
        let next = next.entry(flow).or_default();
        assert_eq!(u32::from_be_bytes(number), *next, "the next of flow {flow}");
        *next += 1;
    }
}

/// Who sent the next packet; a receive with a time limit ends early when the process was stopped.
fn next_from(far: &UdpSocket, number: &mut [u8]) -> SocketAddr {
    loop {
        match far.recv_from(number) {
            Ok((_, flow)) => return flow,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("a packet did not arrive: {error}"),
        }
    }
}

versions! { flows_keep_their_order:
    flows_keep_their_order_while_workers_move_in_udp_form("udp+workers=2+pin=false");
    flows_keep_their_order_while_workers_move_in_vxlan_form("vxlan+workers=2+pin=false");
    flows_keep_their_order_while_workers_move_over_plain_calls("udp+workers=2+pin=false+io=epoll");
}

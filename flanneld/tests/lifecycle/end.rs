//! A daemon that is asked to end does so at once and gives its account, whatever else is the matter.

use std::thread;
use std::time::{Duration, Instant};

use benches::Side;

use super::stage::{Stage, UDP, signal};

const A: Side = Side::A;

/// Stops the daemon at side A; what it did, and in how much time, is printed.
fn ends_well(stage: &mut Stage) {
    let begun = Instant::now();
    let status = stage.stop(A);
    println!("ended in {:?}", begun.elapsed());
    assert!(status.success(), "{status}");
    assert_eq!(stage.times(A, "Exiting cleanly. Packets:"), 1);
}

#[test]
fn a_daemon_ends_with_its_account_while_etcd_is_frozen() {
    let mut stage = Stage::up(UDP);
    stage.etcd.freeze().unwrap();
    // Its lease is being renewed, which takes as long as etcd likes.
    stage.ip(
        A,
        "addr del 192.168.77.1/24 dev eth0\naddr add 192.168.77.11/24 dev eth0",
    );
    stage.wait_for(A, "the interface to other nodes is now");
    ends_well(&mut stage);
    stage.etcd.thaw().unwrap();
}

#[test]
fn a_daemon_ends_with_its_account_under_load() {
    let mut stage = Stage::up(UDP);
    let target = stage.subnet(Side::B).unwrap().container();
    let flood = thread::scope(|scope| {
        let lab = &stage.lab;
        let sender = || {
            lab.container(A).enter(|| {
                let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
                let end = Instant::now() + Duration::from_millis(300);
                // What is refused or lost is of no interest.
                while Instant::now() < end {
                    let _ = socket.send_to(&[0; 1000], (target, 9));
                }
                Ok(())
            })
        };
        scope.spawn(sender).join().unwrap()
    });
    flood.unwrap();
    ends_well(&mut stage);
    assert!(stage.log(A).contains("from_tun_packets"));
}

#[test]
fn a_daemon_without_a_config_ends_with_an_empty_account() {
    let mut stage = Stage::without_config();
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "no network config found");
    ends_well(&mut stage);
}

#[test]
fn a_daemon_that_cannot_reach_etcd_at_its_start_ends_with_an_empty_account() {
    let mut stage = Stage::new(UDP);
    stage.etcd.freeze().unwrap();
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "starting");
    thread::sleep(Duration::from_millis(50));
    ends_well(&mut stage);
    stage.etcd.thaw().unwrap();
}

#[test]
fn a_second_signal_ends_a_daemon_at_once() {
    let mut stage = Stage::up(UDP);
    // Stopped, it finds both signals when it goes on.
    for name in ["STOP", "TERM", "INT", "CONT"] {
        signal(stage.id(A), name);
    }
    let status = stage.stop(A);
    // In which order they are taken is the kernel's choice, and by the second all may be done.
    assert!(matches!(status.code(), Some(0 | 130 | 143)), "{status}");
}

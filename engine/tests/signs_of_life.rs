//! A worker answers when it is called, asleep or at work, in every way of moving packets; and one
//! that is told to halt has counted everything.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::{Engine, IoChoice};
use loopback::{HEADERS, Loopback, config};
use std::thread::sleep;
use std::time::Duration;

fn heeded(engine: &Engine) -> bool {
    let looked = (0..1000).any(|_| {
        sleep(Duration::from_millis(5));
        engine.heeds()
    });
    looked && engine.heeds()
}

fn a_worker_answers(io: IoChoice) {
    let lab = Loopback::start(config(io));
    for round in 0..3 {
        lab.engine.call();
        assert!(heeded(&lab.engine), "call {round}");
        lab.inner.send(&[7; 100]).unwrap();
        assert_eq!(
            lab.peer_receives(&mut [0; 2048]).len(),
            100 + HEADERS,
            "and works on"
        );
    }
    let counters = lab.engine.halt(Duration::from_secs(10));
    assert_eq!(counters.imbalance(), 0);
    // The device goes away with its worker, sooner or later.
    let _ = lab.inner.send(&[7; 100]);
    sleep(Duration::from_millis(20));
    assert_eq!(
        lab.engine.counters(),
        counters,
        "nothing moves after a halt"
    );
}

#[test]
fn a_worker_answers_over_epoll() {
    a_worker_answers(IoChoice::Epoll);
}

#[test]
fn a_worker_answers_over_io_uring_multishot() {
    a_worker_answers(IoChoice::UringMultishot);
}

#[test]
fn a_worker_answers_over_io_uring_oneshot() {
    a_worker_answers(IoChoice::UringOneshot);
}

#[test]
fn a_worker_answers_over_a_single_queue() {
    a_worker_answers(IoChoice::SingleQueue);
}

#[test]
fn a_worker_whose_device_is_gone_answers_no_more() {
    let lab = Loopback::start(config(IoChoice::Epoll));
    loopback::oracle::run(&format!("ip link del {}", lab.engine.tun_name()));
    let why = lab.engine.failures().recv_timeout(Duration::from_secs(10));
    assert!(why.unwrap().contains("worker 0 ended"));
    lab.engine.call();
    sleep(Duration::from_millis(20));
    assert!(!lab.engine.heeds());
}

//! The daemon itself stands still for a while, and the store goes on.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use benches::Side;
use benches::etcd::{Api, Gateway};

use super::scene::{Stage, by_both_versions, lasting, record, told};
use super::table::{ms, report};

by_both_versions!(a_daemon_that_read_nothing_for_a_while_catches_up,);

/// Nodes whose records change all the time.
const RESTLESS: u32 = 100;
/// How often each of them does, within a second.
const ROUNDS: u32 = 10;

/// A thousand changes, in a second.
fn change(gateway: &Gateway) {
    let begun = Instant::now();
    for round in 0..ROUNDS {
        let value = format!(
            r#"{{"PublicIP":"192.168.78.{}","PublicIPv6":null}}"#,
            60 + round
        );
        let pairs: Vec<_> = (0..RESTLESS)
            .map(|n| {
                (
                    record(&format!("10.5.{}.0-24", 100 + n)),
                    value.clone().into_bytes(),
                )
            })
            .collect();
        gateway.put_all(&pairs).unwrap();
    }
    thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
}

fn signal(process: u32, name: &str) {
    let mut kill = Command::new("kill");
    let status = kill.args([name, &process.to_string()]).status().unwrap();
    assert!(status.success());
}

fn a_daemon_that_read_nothing_for_a_while_catches_up(api: Api) {
    let seconds = lasting(2, 30).as_secs();
    let mut scene = Stage::new("udp").by(api).up();
    let gateway = scene.gateway();
    let daemon = scene.path.daemon(Side::A).unwrap();
    let (process, before) = (daemon.id(), daemon.peak_memory_kib().unwrap());
    signal(process, "-STOP");
    (0..seconds).for_each(|_| change(&gateway));
    let last = record("10.5.99.0-24");
    gateway
        .put(&last, br#"{"PublicIP":"192.168.78.60"}"#)
        .unwrap();
    let mark = scene.mark(Side::A);
    signal(process, "-CONT");
    let caught_up = scene.await_line(&mark, &format!("{} peer subnets", RESTLESS + 2));
    let daemon = scene.path.daemon(Side::A).unwrap();
    let more = (daemon.peak_memory_kib().unwrap() - before) as f64 / 1024.0;
    report(
        &format!(
            "daemon stopped for {seconds} s of 1000 changes each{}",
            told(api)
        ),
        None,
        &[
            ("caught up after", ms(caught_up)),
            ("peak memory more by", format!("{more:.1} MiB")),
        ],
    );
    scene.path.wait_until_connected().unwrap();
    scene.assert_running();
}

//! Starts while etcd is away, from what the run before wrote down.

use std::fs;
use std::time::Instant;

use benches::Side;

use super::stage::{CONFIG, Stage, UDP, VXLAN, wait};

const A: Side = Side::A;

/// Two nodes at work, what A knows written down, and then no etcd and no A.
fn orphaned(config: &str) -> Stage {
    let mut stage = Stage::up(config);
    let written = || {
        let state = fs::read_to_string(stage.state_file(A)).unwrap_or_default();
        Side::BOTH.iter().all(|side| {
            let subnet = stage.subnet(*side).unwrap();
            state.contains(&format!("\n{}-{} ", subnet.base, subnet.length))
        })
    };
    wait("the state of both nodes", written);
    stage.etcd.kill();
    stage.kill(A);
    stage
}

fn a_node_starts_without_etcd_from_the_last_known_table(config: &str) {
    // Stock waits until etcd is back.
    let mut stage = orphaned(config);
    let subnet = stage.subnet(A);
    assert!(!stage.echoes(), "the tunnel went with the daemon");
    let begun = Instant::now();
    stage.start(A, &["--iface=eth0"]);
    stage.wait_until_connected();
    println!("first packet after {:?}", begun.elapsed());
    assert_eq!(stage.subnet(A), subnet);
    assert_eq!(stage.times(A, "Starting with what this node knew"), 1);

    stage.etcd.run().unwrap();
    wait("the lease renewed", || stage.times(A, "renewed") == 1);
    stage.wait_until_connected();
    assert_eq!(stage.times(A, "starting over"), 0, "all is as remembered");
}

#[test]
fn a_node_starts_without_etcd_from_the_last_known_table_in_udp_form() {
    a_node_starts_without_etcd_from_the_last_known_table(UDP);
}

#[test]
fn a_node_starts_without_etcd_from_the_last_known_table_in_vxlan_form() {
    a_node_starts_without_etcd_from_the_last_known_table(VXLAN);
}

#[test]
fn a_frozen_etcd_holds_up_no_start_from_memory() {
    let mut stage = orphaned(UDP);
    stage.etcd.run().unwrap();
    stage.etcd.freeze().unwrap();
    let begun = Instant::now();
    stage.start(A, &["--iface=eth0"]);
    stage.wait_until_connected();
    println!("first packet after {:?}", begun.elapsed());
    // Packets may pass before the daemon has waited long enough for an answer; one that came in time would be used.
    stage.wait_for(A, "Starting with what this node knew");
    stage.etcd.thaw().unwrap();
    wait("the lease renewed", || stage.times(A, "renewed") == 1);
}

#[test]
fn a_subnet_lost_while_the_node_was_started_from_memory_is_not_fought_over() {
    let mut stage = orphaned(UDP);
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "Starting with what this node knew");
    let taken = r#"{"PublicIP":"192.168.77.99","PublicIPv6":null}"#;
    let subnet = stage.subnet(A).unwrap();
    let key = format!("/coreos.com/network/subnets/{}-24", subnet.base);
    // Nobody sees etcd before the record is there.
    stage.ip(Side::A, "link set eth0 down");
    stage.etcd.run().unwrap();
    stage.etcd.put(&key, taken).unwrap();
    stage.ip(Side::A, "link set eth0 up");
    stage.wait_for(A, "is now held by a record of another node");
    assert_eq!(stage.record(A), taken);
    stage.assert_running(A);
}

#[test]
fn a_lease_that_vanished_while_etcd_was_away_is_taken_back() {
    let mut stage = orphaned(UDP);
    let before = stage.subnet(A);
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "Starting with what this node knew");
    stage.etcd.wipe().unwrap();
    stage.etcd.put(CONFIG, UDP).unwrap();
    stage.wait_for(A, "is in the registry again");
    assert_eq!(stage.subnet(A), before);
    assert!(stage.record(A).contains("192.168.77.1"));
}

#[test]
fn a_network_config_changed_while_etcd_was_away_is_taken_up_like_at_any_start() {
    let mut stage = orphaned(UDP);
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "Starting with what this node knew");
    stage.ip(A, "link set eth0 down");
    stage.etcd.run().unwrap();
    stage
        .etcd
        .put(CONFIG, r#"{"Network":"10.9.0.0/16"}"#)
        .unwrap();
    stage.ip(A, "link set eth0 up");
    stage.wait_for(A, "starting over with the network config as it is now");
    let moved = || {
        let subnet = stage.subnet(A);
        subnet.is_some_and(|subnet| subnet.base.octets()[1] == 9)
    };
    wait("a subnet of the new network", moved);
    stage.assert_running(A);
}

/// A start that finds what `spoil` has made of the state file waits for etcd, and says why in one line.
fn is_ignored(why: &str, spoil: impl Fn(&std::path::Path, &Stage)) {
    let mut stage = orphaned(UDP);
    spoil(&stage.state_file(A), &stage);
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "Waiting");
    assert_eq!(stage.times(A, why), 1, "{}", stage.log(A));
    assert_eq!(stage.times(A, "Starting with what this node knew"), 0);
    stage.etcd.run().unwrap();
    stage.wait_for(A, "lease acquired");
    stage.wait_until_connected();
}

#[test]
fn a_corrupted_state_is_ignored_with_a_reason() {
    is_ignored("it is corrupted", |state, _| {
        let text = fs::read_to_string(state).unwrap();
        fs::write(state, text.replace("10.5.0.0", "10.6.0.0")).unwrap();
    });
}

#[test]
fn a_state_of_another_version_is_ignored_with_a_reason() {
    is_ignored("it is of another version", |state, _| {
        let text = fs::read_to_string(state).unwrap();
        fs::write(state, text.replace("flanneld-state 1", "flanneld-state 0")).unwrap();
    });
}

#[test]
fn a_linked_state_is_ignored_with_a_reason() {
    is_ignored("is a symbolic link", |state, _| {
        let elsewhere = state.with_extension("elsewhere");
        fs::rename(state, &elsewhere).unwrap();
        std::os::unix::fs::symlink(elsewhere, state).unwrap();
    });
}

#[test]
fn a_state_of_another_user_is_ignored_with_a_reason() {
    is_ignored("belongs to another user", |state, _| {
        std::os::unix::fs::chown(state, Some(65_534), None).unwrap();
    });
}

#[test]
fn a_state_copied_from_another_node_is_ignored_with_a_reason() {
    is_ignored("from another host", |state, stage| {
        let theirs = stage.state_file(Side::B);
        wait("the other's state", || theirs.exists());
        fs::copy(theirs, state).unwrap();
    });
}

/// What a daemon wrote down, as if it had been so long ago.
fn age_by_weeks(text: &str) -> String {
    let (head, body) = text.split_once('\n').unwrap();
    let (first, rest) = body.split_once('\n').unwrap();
    let saved: u64 = first.strip_prefix("saved ").unwrap().parse().unwrap();
    let body = format!("saved {}\n{rest}", saved - 3 * 7 * 86_400);
    let sum = body.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let version = head.rsplit_once(' ').unwrap().0;
    format!("{version} {sum:016x}\n{body}")
}

#[test]
fn a_node_that_was_away_for_weeks_has_its_subnet_again() {
    let mut stage = Stage::up(UDP);
    let subnet = stage.subnet(A).unwrap();
    let key = format!("/coreos.com/network/subnets/{}-24", subnet.base);
    let state = stage.state_file(A);
    wait("the state", || state.exists());
    stage.kill(A);
    // The machine is switched off: the subnet file goes with /run, and the lease runs out.
    fs::remove_file(stage.subnet_file(A)).unwrap();
    let text = fs::read_to_string(&state).unwrap();
    fs::write(&state, age_by_weeks(&text)).unwrap();
    let lease = stage.etcd.ctl(&["lease", "grant", "1"]).unwrap();
    let lease = lease.split(' ').nth(1).unwrap().to_owned();
    let value = stage.etcd.get(&key).unwrap();
    let words = ["put", &format!("--lease={lease}"), "--", &key, &value];
    stage.etcd.ctl(&words).unwrap();
    wait("the end of the lease", || {
        stage.etcd.get(&key).unwrap().is_empty()
    });
    stage.start(A, &["--iface=eth0"]);
    stage.settle();
    assert_eq!(stage.subnet(A), Some(subnet));
    assert_eq!(stage.times(A, "days old"), 1);
}

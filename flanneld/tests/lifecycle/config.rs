//! The network config changes, breaks and is mended, before and after a daemon has started.

use benches::Side;

use super::stage::{CONFIG, Stage, UDP, wait};

const A: Side = Side::A;

#[test]
fn a_changed_config_is_told_in_one_line_and_taken_up_at_the_next_start() {
    let mut stage = Stage::up(UDP);
    let (subnet, before) = (stage.subnet(A), stage.record(A));
    let other = r#"{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan"}}"#;
    stage.etcd.put(CONFIG, other).unwrap();
    let line = r#"the network config has changed: Backend.Type nothing -> "vxlan", Network "10.5.0.0/16" -> "10.6.0.0/16". Running on"#;
    stage.wait_for(A, line);
    stage.wait_until_connected();
    assert_eq!((stage.subnet(A), stage.record(A)), (subnet, before));
    assert_eq!(stage.times(A, "the network config"), 1);
    stage.stop(A);
    stage.start(A, &["--iface=eth0"]);
    let moved = || {
        let subnet = stage.subnet(A);
        subnet.is_some_and(|subnet| subnet.base.octets()[1] == 6)
    };
    wait("a subnet of the new network", moved);
}

#[test]
fn a_config_broken_and_mended_costs_one_line_each() {
    let mut stage = Stage::up(UDP);
    stage.etcd.put(CONFIG, "{").unwrap();
    stage.wait_for(A, "the network config was changed and cannot be used");
    stage.etcd.put(CONFIG, UDP).unwrap();
    stage.wait_for(A, "again the one in force");
    assert_eq!(stage.times(A, "the network config"), 2);
    stage.wait_until_connected();
    stage.assert_running(A);
}

#[test]
fn a_daemon_waits_for_a_config_with_one_line_for_each_fault() {
    let mut stage = Stage::without_config();
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "no network config found");
    stage.etcd.put(CONFIG, r#"{"Network":"nonsense"}"#).unwrap();
    stage.wait_for(A, "cannot be used: Network: invalid CIDR address");
    stage.etcd.put(CONFIG, r#"{"Backend":{}}"#).unwrap();
    stage.wait_for(A, "please define a correct Network parameter");
    stage.etcd.put(CONFIG, UDP).unwrap();
    stage.wait_for(A, "lease acquired");
    assert_eq!(stage.times(A, ". Waiting"), 3);
}

//! One identity, two nodes: copies of one machine, or several behind one address.

use benches::Side;

use super::stage::{Stage, UDP};

const A: Side = Side::A;
const B: Side = Side::B;

#[test]
fn two_running_nodes_with_one_public_address_both_say_so() {
    // Stock nodes share a subnet in silence, and the containers of one of them get nothing.
    let mut stage = Stage::new(UDP);
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "peer subnets");
    stage.start(B, &["--iface=eth0", "--public-ip=192.168.77.1"]);
    for side in Side::BOTH {
        stage.wait_for(side, "another node runs with our public address");
    }
    assert_eq!(stage.subnet(A), stage.subnet(B), "which is the trouble");
    stage.stop(B);
    stage.start(B, &["--iface=eth0"]);
    stage.wait_for(B, "peer subnets");
    stage.settle();
    assert_ne!(stage.subnet(A), stage.subnet(B));
    assert_eq!(stage.times(A, "another node runs with"), 1);
}

#[test]
fn a_restarted_node_is_not_taken_for_a_second_one() {
    let mut stage = Stage::up(UDP);
    for _ in 0..3 {
        stage.kill(A);
        stage.start(A, &["--iface=eth0"]);
        stage.wait_for(A, "peer subnets");
    }
    stage.wait_until_connected();
    for side in Side::BOTH {
        assert_eq!(stage.times(side, "another node runs with"), 0);
    }
}

#[test]
fn a_copy_of_another_nodes_subnet_file_does_not_steal_its_subnet() {
    let mut stage = Stage::new(UDP);
    stage.start(A, &["--iface=eth0"]);
    stage.wait_for(A, "peer subnets");
    std::fs::copy(stage.subnet_file(A), stage.subnet_file(B)).unwrap();
    let theirs = stage.subnet(A);
    stage.start(B, &["--iface=eth0"]);
    stage.wait_for(B, "now belongs to another node");
    stage.wait_for(B, "peer subnets");
    stage.settle();
    assert_eq!(stage.subnet(A), theirs);
    assert_ne!(stage.subnet(B), theirs);
}

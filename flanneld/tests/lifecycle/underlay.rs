//! The interface to the other nodes changes while packets flow, and the tunnel's own device is taken away.

use std::time::Instant;

use benches::Side;

use super::stage::{HOST_GW, KERNEL_VXLAN, Stage, UDP, VXLAN, exists, wait};

const A: Side = Side::A;

/// The far side knows the way by now.
fn follows(stage: &Stage, address: &str) {
    let wanted = format!(r#""PublicIP":"{address}""#);
    wait(&wanted, || stage.record(A).contains(&wanted));
    stage.wait_until_connected();
}

fn an_underlay_address_that_moved_is_published_and_the_subnet_kept(config: &str) {
    // Stock goes on announcing the old address, and after a restart takes another subnet.
    let mut stage = Stage::up(config);
    let (subnet, before) = (stage.subnet(A), stage.record(A));
    stage.ip(
        A,
        "addr del 192.168.77.1/24 dev eth0\naddr add 192.168.77.11/24 dev eth0",
    );
    let begun = Instant::now();
    follows(&stage, "192.168.77.11");
    println!(
        "published, and packets carried, after {:?}",
        begun.elapsed()
    );
    assert_eq!(stage.subnet(A), subnet);
    let after = stage.record(A).replace("77.11", "77.1");
    assert_eq!(after, before, "nothing else is said differently");
    assert_eq!(stage.times(A, "the interface to other nodes is now"), 1);
    stage.assert_running(A);
}

#[test]
fn an_underlay_address_that_moved_is_published_and_the_subnet_kept_in_udp_form() {
    an_underlay_address_that_moved_is_published_and_the_subnet_kept(UDP);
}

#[test]
fn an_underlay_address_that_moved_is_published_and_the_subnet_kept_in_vxlan_form() {
    an_underlay_address_that_moved_is_published_and_the_subnet_kept(VXLAN);
}

#[test]
fn an_underlay_address_that_moved_is_published_and_the_subnet_kept_by_the_kernels_vxlan() {
    an_underlay_address_that_moved_is_published_and_the_subnet_kept(KERNEL_VXLAN);
}

#[test]
fn an_underlay_address_that_moved_is_published_and_the_subnet_kept_by_plain_routes() {
    an_underlay_address_that_moved_is_published_and_the_subnet_kept(HOST_GW);
}

#[test]
fn an_address_that_moved_while_etcd_was_away_is_published_when_it_is_back() {
    let mut stage = Stage::up(UDP);
    stage.etcd.kill();
    stage.ip(
        A,
        "addr del 192.168.77.1/24 dev eth0\naddr add 192.168.77.11/24 dev eth0",
    );
    stage.wait_for(A, "the interface to other nodes is now");
    stage.etcd.run().unwrap();
    follows(&stage, "192.168.77.11");
    assert_eq!(stage.times(A, "now held by"), 0);
}

#[test]
fn an_underlay_of_another_size_is_followed_by_device_and_file() {
    let stage = Stage::up(UDP);
    stage.ip(A, "link set eth0 mtu 1400");
    wait("another MTU", || stage.mtu(A) == Some(1372));
    let shown = || stage.lab.node(A).run("ip link show flannel0");
    let carries = || shown().is_ok_and(|shown| shown.contains("mtu 1372"));
    wait("a narrower device", carries);
    stage.wait_until_connected();
}

#[test]
fn an_interface_that_was_down_carries_packets_again() {
    let stage = Stage::up(UDP);
    stage.ip(A, "link set eth0 down");
    assert!(!stage.echoes());
    stage.ip(A, "link set eth0 up");
    stage.wait_until_connected();
    assert_eq!(stage.times(A, "starting the engine anew"), 0);
}

#[test]
fn an_interface_deleted_and_made_again_carries_packets_again_in_vxlan_form() {
    an_interface_deleted_and_made_again_carries_packets_again(VXLAN);
}

#[test]
fn an_interface_deleted_and_made_again_carries_packets_again_by_the_kernels_vxlan() {
    an_interface_deleted_and_made_again_carries_packets_again(KERNEL_VXLAN);
}

#[test]
fn an_interface_deleted_and_made_again_carries_packets_again_by_plain_routes() {
    an_interface_deleted_and_made_again_carries_packets_again(HOST_GW);
}

fn an_interface_deleted_and_made_again_carries_packets_again(config: &str) {
    let mut stage = Stage::up(config);
    stage.ip(A, "link del eth0");
    stage.wait_for(A, "is not there any more");
    let far = stage.lab.node(Side::B).path();
    stage.ip(
        A,
        &format!("link add eth0 type veth peer name eth0 netns {far}"),
    );
    for side in Side::BOTH {
        let address = side.underlay();
        stage.ip(
            side,
            &format!("addr add {address}/24 dev eth0\nlink set eth0 up"),
        );
    }
    stage.wait_until_connected();
    stage.wait_for(A, "is there again");
    assert_eq!(stage.times(A, "is not there any more"), 1);
    stage.assert_running(A);
}

#[test]
fn a_public_address_given_by_hand_that_is_gone_is_told_once_and_nothing_ends() {
    let mut stage = Stage::new(UDP);
    stage.start(A, &["--public-ip=192.168.77.1"]);
    stage.start(Side::B, &["--iface=eth0"]);
    stage.settle();
    let before = stage.record(A);
    stage.ip(
        A,
        "addr add 192.168.77.11/24 dev eth0\naddr del 192.168.77.1/24 dev eth0",
    );
    stage.wait_for(A, "no interface has the public address 192.168.77.1");
    stage.ip(A, "link set lo mtu 60000\nlink set lo mtu 65536");
    stage.ip(A, "addr add 192.168.77.1/24 dev eth0");
    stage.wait_for(A, "is there again");
    stage.wait_until_connected();
    assert_eq!(stage.times(A, "is not there any more"), 1);
    assert_eq!(stage.record(A), before);
    stage.assert_running(A);
}

fn a_deleted_device_is_made_again(io: &str) {
    // Stock spins on it or ends.
    let mut stage = Stage::new(UDP);
    for side in Side::BOTH {
        stage.start(side, &["--iface=eth0", io]);
    }
    stage.settle();
    for _ in 0..2 {
        stage.ip(A, "link del flannel0");
        wait("the device", || exists(&stage, A, "flannel0"));
        stage.wait_until_connected();
    }
    assert_eq!(stage.times(A, "starting the engine anew"), 2);
    assert!(!exists(&stage, A, "flannel1"), "one device is enough");
    stage.assert_running(A);
}

#[test]
fn a_deleted_device_is_made_again_over_epoll() {
    a_deleted_device_is_made_again("--io=epoll");
}

#[test]
fn a_deleted_device_is_made_again_over_io_uring() {
    a_deleted_device_is_made_again("--io=uring");
}

#[test]
fn a_deleted_device_is_made_again_with_two_workers() {
    a_deleted_device_is_made_again("--workers=2");
}

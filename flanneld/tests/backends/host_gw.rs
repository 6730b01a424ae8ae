//! host-gw and alloc: what the kernel does alone, and what nobody does.

use std::fs;
use std::process::Command;

use crate::cluster::Cluster;
use crate::probe::Probe;

const HOST_GW: &str = r#"{"Type":"host-gw"}"#;

#[test]
fn containers_talk_over_host_gw() {
    let cluster = Cluster::up(2, HOST_GW);
    assert_eq!(
        cluster.record(0),
        r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"host-gw"}"#
    );
    assert_eq!(cluster.node(0).subnet_value("FLANNEL_MTU"), "1500");
    assert_eq!(cluster.traces(0), "10.5.12.0/24 via 192.168.77.2 dev eth0");
}

#[test]
fn host_gw_routes_outlive_the_daemon_and_carry_on_under_the_next() {
    a_restart_loses_no_packet(HOST_GW);
}

#[test]
fn a_kernel_device_outlives_the_daemon_and_carries_on_under_the_next() {
    a_restart_loses_no_packet(r#"{"Type":"vxlan","Datapath":"kernel"}"#);
}

fn a_restart_loses_no_packet(backend: &str) {
    let mut cluster = Cluster::up(2, backend);
    let probe = Probe::start(&cluster);
    for node in [0, 1, 0] {
        cluster.site.nodes[node].daemon().stop().unwrap();
        cluster.ping(1 - node, node);
        cluster.start_only(node);
        cluster.site.nodes[node].await_log("1 peer subnets");
        cluster.ping(node, 1 - node);
    }
    assert_eq!(probe.lost(), 0);
}

#[test]
fn a_deleted_route_comes_back_and_so_does_one_lost_with_its_link() {
    let cluster = Cluster::up(2, HOST_GW);
    for damage in [
        "route del 10.5.12.0/24",
        "link set eth0 down\nlink set eth0 up",
    ] {
        cluster.node(0).host.ip(damage).unwrap();
        cluster.await_routes(0, &["10.5.12.0/24 via 192.168.77.2 dev eth0"]);
        cluster.ping(0, 1);
    }
}

#[test]
fn host_gw_refuses_a_public_address_that_is_not_the_interfaces() {
    let cluster = Cluster::new(1, HOST_GW);
    let mut command = cluster
        .node(0)
        .host
        .command(env!("CARGO_BIN_EXE_flanneld"))
        .unwrap();
    let output = told(
        command
            .arg(format!("--store=file:{}", cluster.store.path().display()))
            .args(["--iface=eth0", "--public-ip=198.51.100.7"]),
    );
    assert!(
        output.contains("your PublicIP 198.51.100.7 differs from interface IP"),
        "{output}"
    );
    assert!(
        output.contains("Leave out --public-ip, or use vxlan or udp"),
        "{output}"
    );
    let leases = fs::read_dir(cluster.store.path().join("subnets")).map(Iterator::count);
    assert_eq!(leases.unwrap_or(0), 0, "no lease is taken");
}

/// What a daemon says that ends by itself, in failure.
fn told(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_lease_of_another_backend_costs_one_line() {
    let mut cluster = Cluster::up(2, HOST_GW);
    let lease = r#"{"PublicIP":"192.168.77.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}}"#;
    cluster.write_record("10.5.90.0-24", lease);
    cluster.site.nodes[0].await_log("10.5.90.0-24 is not used");
    cluster.write_record(
        "10.5.91.0-24",
        &lease.replace("192.168.77.9", "192.168.77.8"),
    );
    cluster.site.nodes[0].await_log("10.5.91.0-24 is not used");
    let log = cluster.node(0).log();
    assert_eq!(log.matches("10.5.90.0-24").count(), 1, "{log}");
    assert_eq!(
        cluster.routes(0),
        ["10.5.12.0/24 via 192.168.77.2 dev eth0"]
    );
}

#[test]
fn alloc_gives_a_subnet_and_touches_nothing() {
    let mut cluster = Cluster::new(2, r#"{"Type":"alloc"}"#);
    cluster.start_all();
    assert_eq!(
        cluster.record(0),
        r#"{"PublicIP":"192.168.77.1","PublicIPv6":null}"#
    );
    assert_eq!(cluster.node(0).subnet_value("FLANNEL_MTU"), "1500");
    cluster.site.nodes[0].await_log("1 peer subnets");
    assert_eq!(cluster.traces(0), "");
}

#[test]
fn a_blackhole_route_costs_no_line_while_the_bridge_has_its_own() {
    // Stock says every few seconds that it cannot add it.
    let mut cluster = Cluster::new(1, r#"{"Type":"alloc"}"#);
    cluster.start(0, &["--ip-blackhole-route"]);
    let blackhole = "blackhole 10.5.11.0/24 metric 4294967295";
    cluster.await_routes(0, &[blackhole]);
    let host = &cluster.node(0).host;
    host.ip("link set docker0 down\nlink set docker0 up")
        .unwrap();
    host.ip("route del blackhole 10.5.11.0/24 metric 4294967295")
        .unwrap();
    cluster.await_routes(0, &[blackhole]);
    let way = cluster.node(0).lines("ip route get 10.5.11.2").concat();
    assert!(way.contains("dev docker0"), "{way}");
    let log = cluster.node(0).log();
    let complaints = log.lines().filter(|line| !line.starts_with('I'));
    assert_eq!(complaints.count(), 0, "{log}");
}

#[test]
fn a_backend_that_is_not_there_is_answered_with_those_that_are() {
    let mut cluster = Cluster::new(1, r#"{"Type":"wireguard"}"#);
    let store = format!("--store=file:{}", cluster.store.path().display());
    let node = &mut cluster.site.nodes[0];
    node.start(&[&store]);
    node.await_log(
        "there is no backend wireguard in this build; udp, vxlan, host-gw and alloc are served",
    );
}

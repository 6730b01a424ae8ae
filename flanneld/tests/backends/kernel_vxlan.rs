//! VXLAN by a device of the kernel's.

use crate::cluster::Cluster;

const KERNEL: &str = r#"{"Type":"vxlan","datapath":"Kernel"}"#;

/// The device's Ethernet address.
fn mac(cluster: &Cluster, node: usize) -> String {
    let link = cluster
        .node(node)
        .lines("ip -oneline link show flannel.1")
        .concat();
    let after = link.split("link/ether ").nth(1).unwrap();
    after.split(' ').next().unwrap().to_owned()
}

#[test]
fn containers_talk_over_kernel_devices() {
    let cluster = Cluster::up(2, KERNEL);
    let (ours, theirs) = (mac(&cluster, 0), mac(&cluster, 1));
    let lease = format!(
        r#"{{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{ours}"}}}}"#
    );
    assert_eq!(cluster.record(0), lease);
    assert_eq!(cluster.node(0).subnet_value("FLANNEL_MTU"), "1450");
    let traces = cluster.traces(0);
    let wanted = format!(
        "10.5.12.0 dev flannel.1 lladdr {theirs} PERMANENT\n\
         {theirs} dev flannel.1 dst 192.168.77.2 self permanent\n\
         10.5.12.0/24 via 10.5.12.0 dev flannel.1 onlink"
    );
    let known: Vec<&str> = traces.lines().skip(1).collect();
    assert_eq!(known, wanted.lines().collect::<Vec<_>>());
    assert!(!traces.contains("flannel0"), "{traces}");
}

#[test]
fn a_kernel_device_and_the_engine_understand_each_other() {
    let mut cluster = Cluster::new(2, r#"{"Type":"vxlan"}"#);
    cluster.start(0, &["--vxlan-datapath=kernel"]);
    cluster.start(1, &[]);
    cluster.talk();
    assert!(cluster.traces(0).contains("flannel.1:") && cluster.traces(1).contains("flannel0:"));
    // The other way round, with the addresses they had.
    let before = [cluster.record(0), cluster.record(1)];
    cluster.start(0, &["--vxlan-datapath=userspace"]);
    cluster.start(1, &["--vxlan-datapath=kernel"]);
    cluster.talk();
    assert_eq!([cluster.record(0), cluster.record(1)], before);
    assert!(
        !cluster.traces(0).contains("flannel.1"),
        "{}",
        cluster.traces(0)
    );
}

#[test]
fn the_mac_is_kept_over_restarts_with_and_without_the_device() {
    let mut cluster = Cluster::up(2, KERNEL);
    let first = mac(&cluster, 0);
    cluster.site.nodes[0].daemon().stop().unwrap();
    cluster.ping(0, 1);
    cluster.start(0, &[]);
    assert_eq!(mac(&cluster, 0), first);
    cluster.site.nodes[0].daemon().stop().unwrap();
    cluster.node(0).host.ip("link del flannel.1").unwrap();
    cluster.start(0, &[]);
    assert_eq!(mac(&cluster, 0), first);
    cluster.ping(1, 0);
}

#[test]
fn a_deleted_device_carries_packets_again_with_the_same_mac() {
    // Stock makes one with another address, which nobody knows.
    let cluster = Cluster::up(2, KERNEL);
    let first = mac(&cluster, 0);
    cluster.node(0).host.ip("link del flannel.1").unwrap();
    cluster.await_routes(0, &["10.5.12.0/24 via 10.5.12.0 dev flannel.1 onlink"]);
    assert_eq!(mac(&cluster, 0), first);
    cluster.ping(0, 1);
    cluster.ping(1, 0);
    for damage in [
        "neigh del 10.5.12.0 dev flannel.1",
        "link set flannel.1 address 0a:00:00:00:00:02",
    ] {
        cluster.node(0).host.ip(damage).unwrap();
        cluster.ping(0, 1);
    }
}

#[test]
fn a_public_address_of_a_nat_is_not_the_tunnels_source() {
    // Stock sends from it, although the host does not have it.
    let mut cluster = Cluster::new(1, KERNEL);
    cluster.start(0, &["--public-ip=198.51.100.7"]);
    let device = cluster.node(0).lines("ip -d link show flannel.1").concat();
    assert!(device.contains("local 192.168.77.1 "), "{device}");
    assert!(cluster.record(0).contains("198.51.100.7"));
}

#[test]
fn an_mtu_that_has_changed_reaches_the_device_that_is_there() {
    let mut cluster = Cluster::new(1, KERNEL);
    cluster.start(0, &[]);
    cluster.configure(r#"{"Type":"vxlan","Datapath":"kernel","MTU":1300}"#);
    cluster.start(0, &[]);
    let device = cluster.node(0).lines("ip link show flannel.1").concat();
    assert!(device.contains("mtu 1250"), "{device}");
    assert_eq!(cluster.node(0).subnet_value("FLANNEL_MTU"), "1250");
}

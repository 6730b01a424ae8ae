//! A node whose underlay address moves, in the backends the kernel carries out: subnet and Ethernet address stay, and
//! peers follow.

use crate::cluster::Cluster;

/// Two nodes; the first gets another address.
fn a_moved_node_is_followed(backend: &str, route_there: &str) -> Cluster {
    let mut cluster = Cluster::up(2, backend);
    let moved = "addr del 192.168.77.1/24 dev eth0\naddr add 192.168.77.101/24 dev eth0\n\
                 route add default via 192.168.77.254";
    cluster.node(0).host.ip(moved).unwrap();
    cluster.site.nodes[0].await_log("192.168.77.101");
    cluster.await_routes(1, &[route_there]);
    cluster.talk();
    assert!(cluster.record(0).contains("192.168.77.101"));
    cluster
}

#[test]
fn host_gw_peers_follow_a_node_that_moved() {
    let cluster = a_moved_node_is_followed(
        r#"{"Type":"host-gw"}"#,
        "10.5.11.0/24 via 192.168.77.101 dev eth0",
    );
    assert_eq!(
        cluster.routes(0),
        ["10.5.12.0/24 via 192.168.77.2 dev eth0"]
    );
}

#[test]
fn a_kernel_device_of_a_node_that_moved_has_the_new_source_and_the_old_mac() {
    let cluster = a_moved_node_is_followed(
        r#"{"Type":"vxlan","Datapath":"kernel"}"#,
        "10.5.11.0/24 via 10.5.11.0 dev flannel.1 onlink",
    );
    let device = cluster.node(0).lines("ip -d link show flannel.1").concat();
    assert!(device.contains("local 192.168.77.101 "), "{device}");
    let known = cluster.traces(1);
    assert!(
        known.contains("dst 192.168.77.101") && !known.contains("dst 192.168.77.1 "),
        "{known}"
    );
    let (_, mac) = known.split_once("10.5.11.0 dev flannel.1 lladdr ").unwrap();
    assert!(device.contains(mac.split(' ').next().unwrap()), "{device}");
}

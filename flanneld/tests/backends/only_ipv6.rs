//! Networks of IPv6 alone: containers, records, routes and files know no IPv4, though the hosts do.

use std::collections::BTreeSet;
use std::fs;

use crate::cluster::Cluster;
use crate::talk::{reaches, tcp, udp};

/// Two nodes that choose their subnets themselves. Stock gives both the same.
fn ipv6_alone_is_carried(backend: &str, mtu: &str) -> Cluster {
    let mut cluster = Cluster::new(2, backend);
    let fields = r#","EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd05::/48""#;
    cluster.configure_also(backend, fields);
    cluster.site.add_ipv6();
    for node in 0..2 {
        fs::remove_file(cluster.node(node).subnet_file()).unwrap();
        cluster.start_only(node);
        let written = cluster.node(node).subnet_env();
        let subnet = cluster.node(node).subnet_value("FLANNEL_IPV6_SUBNET");
        assert_eq!(
            written,
            format!(
                "FLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET={subnet}\nFLANNEL_MTU={mtu}\nFLANNEL_IPMASQ=false\n"
            )
        );
    }
    let records = fs::read_dir(cluster.store.path().join("subnets")).unwrap();
    let names = records.map(|record| record.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = names.filter(|name| !name.starts_with('.')).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(
        names.iter().all(|name| name.starts_with("0.0.0.0-0&fd05:")),
        "{names:?}"
    );
    let addresses = [0, 1].map(|node| cluster.node(node).run_container_ipv6());
    for (from, to) in [(0, 1), (1, 0)] {
        let (near, far) = (cluster.node(from), cluster.node(to));
        reaches(&near.container, addresses[to]);
        tcp(&near.container, (&far.container, addresses[to]));
        udp(&near.container, (&far.container, addresses[to]));
    }
    assert_eq!(cluster.routes(0), [""; 0], "no IPv4 route");
    cluster
}

#[test]
fn udp_carries_ipv6_alone() {
    ipv6_alone_is_carried(r#"{"Type":"udp"}"#, "1452");
}

#[test]
fn vxlan_carries_ipv6_alone() {
    ipv6_alone_is_carried(r#"{"Type":"vxlan"}"#, "1430");
}

#[test]
fn kernel_vxlan_carries_ipv6_alone() {
    ipv6_alone_is_carried(r#"{"Type":"vxlan","Datapath":"kernel"}"#, "1430");
}

#[test]
fn host_gw_routes_ipv6_alone() {
    ipv6_alone_is_carried(r#"{"Type":"host-gw"}"#, "1500");
}

#[test]
fn direct_routing_routes_ipv6_alone() {
    let cluster = ipv6_alone_is_carried(r#"{"Type":"udp","DirectRouting":true}"#, "1452");
    let routes = cluster.node(0).lines("ip -6 route show");
    assert!(
        routes
            .iter()
            .any(|line| line.contains("via fd77::2 dev eth0")),
        "{routes:?}"
    );
}

//! IPv4 and IPv6 side by side, in the backends the kernel carries out.

use crate::cluster::Cluster;
use crate::talk::reaches;

/// Two nodes with an address of each family on the underlay, and what leads from the first to the second.
fn both_families_are_carried(backend: &str, route: &str) {
    let mut cluster = Cluster::of_both_families(2, backend);
    cluster.start_all();
    cluster.talk();
    for node in &cluster.site.nodes {
        node.run_container_ipv6();
    }
    let first = cluster.node(0);
    first.prints("ip -6 route show", route);
    reaches(&first.container, cluster.container_ipv6(1));
}

#[test]
fn alloc_gives_subnets_of_both_families_and_routes_none() {
    let mut cluster = Cluster::of_both_families(1, r#"{"Type":"alloc"}"#);
    cluster.start(0, &[]);
    assert_eq!(
        cluster.node(0).subnet_env(),
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.11.1/24\nFLANNEL_IPV6_NETWORK=fd05::/48\n\
         FLANNEL_IPV6_SUBNET=fd05:0:0:11::1/64\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"
    );
    let routes = cluster.node(0).lines("ip -6 route show");
    assert!(
        !routes.iter().any(|line| line.contains("fd05:")),
        "{routes:?}"
    );
}

#[test]
fn a_blackhole_of_either_family_stands_beside_the_bridges_routes() {
    let mut cluster = Cluster::of_both_families(1, r#"{"Type":"vxlan"}"#);
    cluster.start(0, &["--ip-blackhole-route"]);
    cluster.node(0).run_container_ipv6();
    let held = |question: &str, wanted: &str| {
        let lines = cluster.node(0).lines(question);
        lines.iter().any(|line| line.contains(wanted))
    };
    assert!(held("ip -4 route show", "blackhole 10.5.11.0/24"));
    assert!(held("ip -6 route show", "blackhole fd05:0:0:11::/64"));
    assert!(held("ip -6 route get fd05:0:0:11::2", "dev docker0"));
}

#[test]
fn host_gw_routes_both_families() {
    both_families_are_carried(
        r#"{"Type":"host-gw"}"#,
        "fd05:0:0:12::/64 via fd77::2 dev eth0 metric 1024 pref medium",
    );
}

#[test]
fn kernel_vxlan_has_a_device_for_each_family() {
    both_families_are_carried(
        r#"{"Type":"vxlan","Datapath":"kernel"}"#,
        "fd05:0:0:12::/64 via fd05:0:0:12:: dev flannel-v6.1 metric 1024 onlink pref medium",
    );
}

#[test]
fn direct_routing_routes_both_families() {
    both_families_are_carried(
        r#"{"Type":"vxlan","DirectRouting":true}"#,
        "fd05:0:0:12::/64 via fd77::2 dev eth0 metric 1024 pref medium",
    );
}

//! IPv4 and IPv6 side by side, in the backends the kernel carries out.

use std::fs;

use crate::cluster::Cluster;

/// Two nodes with an address of each family on the underlay, and what leads from the first to the second.
fn both_families_are_carried(backend: &str, route: &str) {
    let mut cluster = Cluster::new(2, backend);
    cluster.configure_also(backend, r#","EnableIPv6":true,"IPv6Network":"fd05::/48""#);
    for (number, subnet) in ["fd05:0:0:11::1/64", "fd05:0:0:12::1/64"]
        .iter()
        .enumerate()
    {
        let node = cluster.node(number);
        let underlay = format!("addr add fd77::{}/64 dev eth0 nodad", number + 1);
        node.host.ip(&underlay).unwrap();
        node.host.set("net/ipv6/conf/all/forwarding", "1").unwrap();
        let lines = format!("FLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET={subnet}\n");
        fs::write(node.subnet_file(), node.subnet_env() + &lines).unwrap();
    }
    cluster.start_all();
    cluster.talk();
    for number in 0..2 {
        let bridge = format!("addr add fd05:0:0:1{}::1/64 dev docker0 nodad", number + 1);
        cluster.node(number).host.ip(&bridge).unwrap();
    }
    let first = cluster.node(0);
    first.prints("ip -6 route show", route);
    let ping = "ping -n -6 -c 1 -W 1 -I fd05:0:0:11::1 fd05:0:0:12::1";
    let answered = (0..20).any(|_| first.host.run(ping).is_ok());
    assert!(answered, "{ping}: no answer");
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

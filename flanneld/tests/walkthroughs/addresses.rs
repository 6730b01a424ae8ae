//! Whose address the other side sees: with masquerading and without, inside the overlay network and outside.

use std::net::Ipv4Addr;

use benches::etcd::Etcd;

use crate::site::Site;
use crate::talk::{reaches, tcp};

/// A server outside: beyond the nodes' default gateway.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);

/// Two nodes whose FORWARD chain refuses by default, as docker makes it with iptables; docker itself adds no rule.
fn two_nodes(backend: &str, config: &str, flags: &[&str]) -> (Site, Etcd) {
    let mut site = Site::new("10.4.7.254", &["10.4.7.21", "10.4.7.22"]);
    site.switch
        .ip(&format!("addr add {OUTSIDE}/32 dev lo"))
        .unwrap();
    let etcd = site.etcd();
    let config =
        format!(r#"{{"Network":"172.7.0.0/16","Backend":{{"Type":"{backend}"}}{config}}}"#);
    etcd.put("/coreos.com/network/config", &config).unwrap();
    let endpoints = format!("--etcd-endpoints={}", etcd.endpoints());
    for (node, subnet) in site
        .nodes
        .iter_mut()
        .zip(["172.7.21.1/24", "172.7.22.1/24"])
    {
        if !config.contains("EnableNFTables") {
            node.host.run("iptables -P FORWARD DROP").unwrap();
        }
        node.preset("172.7.0.0/16", subnet);
        node.start(&[&[endpoints.as_str()], flags].concat());
        node.await_ready();
        node.run_container(2);
    }
    reaches(&site.nodes[0].container, Ipv4Addr::new(172, 7, 22, 2));
    (site, etcd)
}

/// Who a container on node 1 is to servers in a container on node 2, and on node 2 itself.
fn seen_inside(site: &Site) -> [String; 2] {
    let [one, two] = &site.nodes[..] else {
        panic!("two nodes")
    };
    let container = (&two.container, Ipv4Addr::new(172, 7, 22, 2));
    let host = (&two.host, Ipv4Addr::new(172, 7, 22, 0));
    [container, host].map(|server| tcp(&one.container, server).to_string())
}

/// Who it is to the server outside.
fn seen_outside(site: &Site) -> String {
    tcp(&site.nodes[0].container, (&site.switch, OUTSIDE)).to_string()
}

#[test]
fn without_masquerading_a_server_sees_the_clients_own_address() {
    let (site, _etcd) = two_nodes("vxlan", "", &[]);
    assert_eq!(seen_inside(&site), ["172.7.21.2", "172.7.21.2"]);
    assert_eq!(site.nodes[0].subnet_value("FLANNEL_IPMASQ"), "false");
    let rules = site.nodes[0].lines("iptables-save -t nat").join("\n");
    assert!(!rules.contains("MASQUERADE"), "{rules}");
}

/// The guide's own rule for docker is nowhere, and not needed.
fn masquerades_outside_alone(backend: &str, config: &str) {
    let (site, _etcd) = two_nodes(backend, config, &["--ip-masq"]);
    assert_eq!(seen_inside(&site), ["172.7.21.2", "172.7.21.2"]);
    assert_eq!(seen_outside(&site), "10.4.7.21");
    assert_eq!(site.nodes[0].subnet_value("FLANNEL_IPMASQ"), "true");
}

#[test]
fn with_vxlan_only_traffic_that_leaves_the_network_is_masqueraded() {
    masquerades_outside_alone("vxlan", "");
}

#[test]
fn with_udp_only_traffic_that_leaves_the_network_is_masqueraded() {
    masquerades_outside_alone("udp", "");
}

#[test]
fn with_nftables_only_traffic_that_leaves_the_network_is_masqueraded() {
    masquerades_outside_alone("vxlan", r#","EnableNFTables":true"#);
}

//! IPv4 and IPv6 side by side, with a stock node in the kernel and without.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use benches::etcd::Etcd;
use serde_json::Value;

use crate::site::{Node, Site};
use crate::talk::{reaches, tcp, udp};

const SUBNETS: &str = "/coreos.com/network/subnets";
const KERNEL_MACS: [&str; 2] = ["12:30:d8:f4:40:de", "fa:81:9d:10:9c:1f"];

fn site(backend: &str) -> (Site, Etcd) {
    let site = Site::new("192.168.77.254", &["192.168.77.1", "192.168.77.2"]);
    site.add_ipv6();
    let etcd = site.etcd();
    let config = format!(
        r#"{{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{{"Type":"{backend}"}}}}"#
    );
    etcd.put("/coreos.com/network/config", &config).unwrap();
    (site, etcd)
}

/// A subnet file of an earlier run with both families; the number is the same in both.
fn preset(node: &Node, number: u8) {
    let text = format!(
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.{number}.1/24\nFLANNEL_IPV6_NETWORK=fd05::/48\n\
         FLANNEL_IPV6_SUBNET=fd05:0:0:{number}::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    );
    std::fs::write(node.subnet_file(), text).unwrap();
}

fn start(node: &mut Node, etcd: &Etcd, number: u8) {
    preset(node, number);
    node.start(&[&format!("--etcd-endpoints={}", etcd.endpoints())]);
    node.await_ready();
}

fn run_containers(node: &Node) -> [IpAddr; 2] {
    [
        node.run_container(2).into(),
        node.run_container_ipv6().into(),
    ]
}

fn everything_is_carried_both_ways(site: &Site, containers: [[IpAddr; 2]; 2]) {
    let [one, two] = &site.nodes[..] else {
        panic!("two nodes")
    };
    for family in [0, 1] {
        for (node, other, to, own) in [
            (one, two, containers[1][family], containers[0][family]),
            (two, one, containers[0][family], containers[1][family]),
        ] {
            reaches(&node.container, to);
            reaches(&node.host, to);
            assert_eq!(tcp(&node.container, (&other.container, to)), own);
            udp(&node.container, (&other.container, to));
        }
    }
}

fn two_daemons(backend: &str) -> (Site, Etcd) {
    let (mut site, etcd) = site(backend);
    start(&mut site.nodes[0], &etcd, 47);
    start(&mut site.nodes[1], &etcd, 96);
    let containers = [
        run_containers(&site.nodes[0]),
        run_containers(&site.nodes[1]),
    ];
    everything_is_carried_both_ways(&site, containers);
    (site, etcd)
}

#[test]
fn vxlan_carries_both_families_with_records_as_stocks() {
    let (site, etcd) = two_daemons("vxlan");
    let key = format!("{SUBNETS}/10.5.47.0-24&fd05:0:0:47::-64");
    let value = etcd.get(&key).unwrap();
    let lease: Value = serde_json::from_str(&value).unwrap();
    let mac = |data: &str| lease[data]["VtepMAC"].as_str().unwrap().to_owned();
    let (four, six) = (mac("BackendData"), mac("BackendV6Data"));
    assert_eq!(
        value,
        format!(
            r#"{{"PublicIP":"192.168.77.1","PublicIPv6":"fd77::1","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{four}"}},"BackendV6Data":{{"VNI":1,"VtepMAC":"{six}"}}}}"#
        )
    );
    // IPv6 packets of more than 1430 bytes do not fit; their senders are told so.
    assert_eq!(
        site.nodes[0].subnet_env(),
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.47.1/24\nFLANNEL_IPV6_NETWORK=fd05::/48\n\
         FLANNEL_IPV6_SUBNET=fd05:0:0:47::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    );
}

#[test]
fn udp_carries_both_families() {
    two_daemons("udp");
}

#[test]
fn host_gw_routes_both_families_as_stock_does() {
    let (site, etcd) = two_daemons("host-gw");
    let node = &site.nodes[0];
    node.prints("ip route show", "10.5.96.0/24 via 192.168.77.2 dev eth0");
    let route = "fd05:0:0:96::/64 via fd77::2 dev eth0 metric 1024 pref medium";
    node.prints("ip -6 route show", route);
    assert_eq!(
        etcd.get(&format!("{SUBNETS}/10.5.47.0-24&fd05:0:0:47::-64"))
            .unwrap(),
        r#"{"PublicIP":"192.168.77.1","PublicIPv6":"fd77::1","BackendType":"host-gw"}"#
    );
}

#[test]
fn nodes_with_ipv6_alone_have_a_subnet_each() {
    // Stock tells nodes apart by their IPv4 address, and gives all of them the same subnet.
    let (mut site, etcd) = site("vxlan");
    let config = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#;
    etcd.put("/coreos.com/network/config", config).unwrap();
    for node in &mut site.nodes {
        node.start(&[&format!("--etcd-endpoints={}", etcd.endpoints())]);
        node.await_ready();
    }
    let leases = etcd.keys(SUBNETS).unwrap();
    assert_eq!(leases.len(), 2, "{leases:?}");
    assert!(
        leases
            .iter()
            .all(|key| key.starts_with(&format!("{SUBNETS}/0.0.0.0-0&fd05:")))
    );
    let [one, two] = &site.nodes[..] else {
        panic!("two nodes")
    };
    let (near, far) = (one.run_container_ipv6(), two.run_container_ipv6());
    reaches(&one.container, far);
    assert_eq!(tcp(&two.container, (&one.container, near)), far);
}

#[test]
fn a_stock_node_and_this_one_carry_both_families_both_ways() {
    let (mut site, etcd) = site("vxlan");
    start(&mut site.nodes[1], &etcd, 96);
    preset(&site.nodes[0], 47);
    let containers = [
        run_containers(&site.nodes[0]),
        run_containers(&site.nodes[1]),
    ];
    set_up_as_stock_does(&site.nodes[0], &etcd);
    everything_is_carried_both_ways(&site, containers);
}

/// The lease, devices, routes, neighbours and forwarding entries of a stock node for the daemon's.
fn set_up_as_stock_does(node: &Node, etcd: &Etcd) {
    let [four, six] = KERNEL_MACS;
    let lease = format!(
        r#"{{"PublicIP":"192.168.77.1","PublicIPv6":"fd77::1","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{four}"}},"BackendV6Data":{{"VNI":1,"VtepMAC":"{six}"}}}}"#
    );
    etcd.put(&format!("{SUBNETS}/10.5.47.0-24&fd05:0:0:47::-64"), &lease)
        .unwrap();
    let value = etcd
        .get(&format!("{SUBNETS}/10.5.96.0-24&fd05:0:0:96::-64"))
        .unwrap();
    let peer: Value = serde_json::from_str(&value).unwrap();
    let mac = |data: &str| peer[data]["VtepMAC"].as_str().unwrap().to_owned();
    let (peer4, peer6) = (mac("BackendData"), mac("BackendV6Data"));
    let (net4, net6) = (
        Ipv4Addr::new(10, 5, 96, 0),
        "fd05:0:0:96::".parse::<Ipv6Addr>().unwrap(),
    );
    node.host
        .ip(&format!(
            "link add flannel.1 address {four} type vxlan id 1 dev eth0 local 192.168.77.1 dstport 8472 nolearning\n\
             link add flannel-v6.1 address {six} type vxlan id 1 dev eth0 local fd77::1 dstport 8472 nolearning\n\
             link set flannel.1 mtu 1450 up\nlink set flannel-v6.1 mtu 1430 up\n\
             addr add 10.5.47.0/32 dev flannel.1\naddr add fd05:0:0:47::/128 dev flannel-v6.1 nodad\n\
             neigh add {net4} lladdr {peer4} dev flannel.1 nud permanent\n\
             neigh add {net6} lladdr {peer6} dev flannel-v6.1 nud permanent\n\
             route add {net4}/24 via {net4} dev flannel.1 onlink\n\
             route add {net6}/64 via {net6} dev flannel-v6.1 onlink"
        ))
        .unwrap();
    for (device, mac, to) in [
        ("flannel.1", peer4, "192.168.77.2"),
        ("flannel-v6.1", peer6, "fd77::2"),
    ] {
        let entry = format!("bridge fdb append {mac} dev {device} dst {to} self permanent");
        node.host.run(&entry).unwrap();
    }
}

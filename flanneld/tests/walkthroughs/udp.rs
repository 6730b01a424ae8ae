//! UDP mode on two nodes, the oldest guide of all.

use std::net::Ipv4Addr;

use benches::etcd::Etcd;

use crate::site::Site;
use crate::talk::{reaches, tcp, udp};
use crate::underlay::{Underlay, inner_ends};

const CONFIG: &str = r#"{"Network":"100.96.0.0/16","Backend":{"Type":"udp"}}"#;

/// Two nodes with the daemon running, and their containers.
fn two_nodes() -> (Site, Etcd, [Ipv4Addr; 2]) {
    let mut site = Site::new("10.168.0.254", &["10.168.0.2", "10.168.0.3"]);
    let etcd = site.etcd();
    etcd.put("/coreos.com/network/config", CONFIG).unwrap();
    for (node, subnet) in site
        .nodes
        .iter_mut()
        .zip(["100.96.1.1/24", "100.96.2.1/24"])
    {
        node.preset("100.96.0.0/16", subnet);
        node.start(&[&format!("--etcd-endpoints={}", etcd.endpoints())]);
    }
    site.nodes.iter_mut().for_each(|node| node.await_ready());
    let containers = [
        site.nodes[0].run_container(2),
        site.nodes[1].run_container(3),
    ];
    (site, etcd, containers)
}

#[test]
fn udp_mode_sets_up_what_the_guide_shows() {
    let (site, etcd, _) = two_nodes();
    assert_eq!(
        etcd.keys("/coreos.com/network/").unwrap(),
        [
            "/coreos.com/network/config",
            "/coreos.com/network/subnets/100.96.1.0-24",
            "/coreos.com/network/subnets/100.96.2.0-24",
        ]
    );
    for (node, third) in site.nodes.iter().zip([1, 2]) {
        let key = format!("/coreos.com/network/subnets/100.96.{third}.0-24");
        let value = format!(r#"{{"PublicIP":"{}","PublicIPv6":null}}"#, node.address);
        assert_eq!(etcd.get(&key).unwrap(), value);
        assert_eq!(
            node.subnet_env(),
            format!(
                "FLANNEL_NETWORK=100.96.0.0/16\nFLANNEL_SUBNET=100.96.{third}.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"
            )
        );
        let device = node.lines("ip -details link show flannel0").join("\n");
        for part in [
            "POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP",
            "mtu 1472",
            "tun type tun pi off",
            "persist off",
        ] {
            assert!(device.contains(part), "no `{part}`: {device}");
        }
        node.prints("ip route show", "100.96.0.0/16 dev flannel0");
        node.prints(
            "ip route show",
            &format!(
                "100.96.{third}.0/24 dev docker0 proto kernel scope link src 100.96.{third}.1"
            ),
        );
        let addresses = node
            .lines("ip -oneline -4 addr show dev flannel0")
            .join("\n");
        assert!(
            addresses.contains(&format!("inet 100.96.{third}.0/32 scope global flannel0")),
            "{addresses}"
        );
        let listening = node
            .lines("ss --no-header --listening --udp --numeric")
            .join("\n");
        assert!(
            listening.contains(&format!("{}:8285", node.address)),
            "{listening}"
        );
    }
}

#[test]
fn udp_mode_connects_containers_and_hosts_both_ways() {
    let (site, _etcd, [one, two]) = two_nodes();
    let [near, far] = &site.nodes[..] else {
        panic!("two nodes")
    };
    assert_eq!(
        [one, two],
        [Ipv4Addr::new(100, 96, 1, 2), Ipv4Addr::new(100, 96, 2, 3)]
    );
    for (node, other, container, back) in [(near, far, two, one), (far, near, one, two)] {
        reaches(&node.container, container);
        reaches(&node.host, container);
        reaches(&node.container, other.overlay_address());
        assert_eq!(tcp(&node.container, (&other.container, container)), back);
        udp(&node.container, (&other.container, container));
        tcp(&node.host, (&other.container, container));
    }
}

#[test]
fn udp_mode_puts_one_bare_packet_into_each_datagram() {
    let (site, _etcd, [one, two]) = two_nodes();
    let [near, far] = &site.nodes[..] else {
        panic!("two nodes")
    };
    reaches(&near.container, two);
    let (mut here, mut there) = (Underlay::of(near), Underlay::of(far));
    reaches(&near.container, two);
    for (seen, from, to, packet) in [
        (there.arrived_at(8285), near, far, (one, two)),
        (here.arrived_at(8285), far, near, (two, one)),
    ] {
        assert!(!seen.is_empty(), "nothing on port 8285");
        for datagram in seen {
            assert_eq!(datagram.source, (from.address, 8285));
            assert_eq!(datagram.destination, (to.address, 8285));
            assert_eq!(inner_ends(&datagram.payload), packet);
        }
    }
}

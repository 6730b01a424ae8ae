//! VXLAN mode on two nodes, the first of which runs stock's set-up in the kernel, or this daemon, too.

use std::net::Ipv4Addr;

use benches::etcd::Etcd;
use serde_json::Value;

use crate::site::{Node, Site};
use crate::talk::{reaches, tcp, udp};
use crate::underlay::{Datagram, Underlay, inner_ends};

const CONFIG: &str = r#"{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}"#;
const KERNEL_MAC: &str = "5e:f8:4f:00:e3:37";
const SUBNETS: &str = "/coreos.com/network/subnets";

/// What carries node 1's packets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// The kernel, as stock sets it up.
    Kernel,
    /// The kernel, as this daemon sets it up.
    KernelByDaemon,
    /// This daemon itself.
    Daemon,
}

struct Scene {
    site: Site,
    etcd: Etcd,
    containers: [Ipv4Addr; 2],
}

impl Scene {
    fn new(first: First) -> Self {
        let mut site = Site::new("10.168.0.254", &["10.168.0.2", "10.168.0.3"]);
        let etcd = site.etcd();
        etcd.put("/coreos.com/network/config", CONFIG).unwrap();
        let endpoints = format!("--etcd-endpoints={}", etcd.endpoints());
        for (node, subnet) in site.nodes.iter_mut().zip(["10.1.15.1/24", "10.1.16.1/24"]) {
            node.preset("10.1.0.0/16", subnet);
            match first {
                First::Kernel if subnet.starts_with("10.1.15.") => continue,
                First::KernelByDaemon if subnet.starts_with("10.1.15.") => {
                    node.start(&[&endpoints, "--vxlan-datapath=kernel"]);
                }
                _ => node.start(&[&endpoints]),
            }
            node.await_ready();
        }
        let scene = Self {
            etcd,
            containers: [
                site.nodes[0].run_container(2),
                site.nodes[1].run_container(2),
            ],
            site,
        };
        if first == First::Kernel {
            scene.set_up_as_stock_does();
        }
        scene
    }

    /// The lease, device, route, neighbour and forwarding entry of a stock node for the daemon's.
    fn set_up_as_stock_does(&self) {
        let lease = format!(
            r#"{{"PublicIP":"10.168.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{KERNEL_MAC}"}}}}"#
        );
        self.etcd
            .put(&format!("{SUBNETS}/10.1.15.0-24"), &lease)
            .unwrap();
        let (host, peer) = (&self.site.nodes[0].host, self.mac("10.1.16.0-24"));
        host.ip(&format!(
            "link add flannel.1 address {KERNEL_MAC} type vxlan id 1 dev eth0 local 10.168.0.2 dstport 8472 nolearning\n\
             link set flannel.1 mtu 1450 up\naddr add 10.1.15.0/32 dev flannel.1\n\
             neigh add 10.1.16.0 lladdr {peer} dev flannel.1 nud permanent\n\
             route add 10.1.16.0/24 via 10.1.16.0 dev flannel.1 onlink\n\
             link set veth0 mtu 1450\nlink set docker0 mtu 1450"
        ))
        .unwrap();
        let entry = format!("bridge fdb append {peer} dev flannel.1 dst 10.168.0.3 self permanent");
        host.run(&entry).unwrap();
        self.site.nodes[0]
            .container
            .ip("link set eth0 mtu 1450")
            .unwrap();
    }

    /// The VtepMAC in a lease.
    fn mac(&self, name: &str) -> String {
        let value = self.etcd.get(&format!("{SUBNETS}/{name}")).unwrap();
        let lease: Value = serde_json::from_str(&value).unwrap();
        lease["BackendData"]["VtepMAC"].as_str().unwrap().to_owned()
    }

    fn ends(&self) -> [(&Node, &Node, Ipv4Addr); 2] {
        let [one, two] = &self.site.nodes[..] else {
            panic!("two nodes")
        };
        [
            (one, two, self.containers[1]),
            (two, one, self.containers[0]),
        ]
    }
}

fn carries_everything_both_ways(first: First) {
    let scene = Scene::new(first);
    for (node, other, container) in scene.ends() {
        reaches(&node.container, container);
        reaches(&node.host, container);
        reaches(&node.host, other.overlay_address());
        let own = scene
            .containers
            .into_iter()
            .find(|address| *address != container);
        assert_eq!(
            Some(tcp(&node.container, (&other.container, container)).to_string()),
            own.map(|own| own.to_string())
        );
        udp(&node.container, (&other.container, container));
    }
}

#[test]
fn a_stock_node_and_this_one_carry_everything_both_ways() {
    carries_everything_both_ways(First::Kernel);
}

#[test]
fn two_nodes_of_this_daemon_carry_everything_both_ways() {
    carries_everything_both_ways(First::Daemon);
}

#[test]
fn a_node_with_the_kernels_device_and_one_without_carry_everything_both_ways() {
    carries_everything_both_ways(First::KernelByDaemon);
}

#[test]
fn unsegmented_frames_cross_a_veth_underlay_both_ways() {
    // Kernel nodes put tens of kilobytes with unfinished checksums into one datagram there.
    let scene = Scene::new(First::Kernel);
    for (node, other, container) in scene.ends() {
        reaches(&node.container, container);
        let mut underlay = Underlay::of(other);
        tcp(&node.container, (&other.container, container));
        let largest = underlay
            .arrived_at(8472)
            .iter()
            .map(|datagram| datagram.payload.len())
            .max();
        assert!(largest > Some(3000), "all datagrams were cut: {largest:?}");
    }
}

#[test]
fn the_lease_and_the_datagrams_are_those_of_the_guide() {
    let scene = Scene::new(First::Kernel);
    let mac = scene.mac("10.1.16.0-24");
    assert_eq!(
        scene.etcd.get(&format!("{SUBNETS}/10.1.16.0-24")).unwrap(),
        format!(
            r#"{{"PublicIP":"10.168.0.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
        )
    );
    assert_eq!(
        scene.site.nodes[1].subnet_env(),
        "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.16.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    );
    let [one, two] = scene.containers;
    reaches(&scene.site.nodes[1].container, one);
    let mut at_kernel = Underlay::of(&scene.site.nodes[0]);
    reaches(&scene.site.nodes[1].container, one);
    let seen = at_kernel.arrived_at(8472);
    assert!(!seen.is_empty(), "nothing on port 8472");
    for datagram in seen {
        assert_is_flannels(&datagram, KERNEL_MAC, &mac);
        assert_eq!(inner_ends(&datagram.payload[22..]), (two, one));
    }
}

/// The header fields that kernel nodes check, and those that underlays look at.
fn assert_is_flannels(datagram: &Datagram, to: &str, from: &str) {
    let (address, port) = datagram.source;
    assert_eq!(address, Ipv4Addr::new(10, 168, 0, 3));
    assert!((32768..=60999).contains(&port), "source port {port}");
    assert_eq!(datagram.destination, (Ipv4Addr::new(10, 168, 0, 2), 8472));
    assert_eq!((datagram.hops, datagram.may_be_fragmented), (64, true));
    let payload = &datagram.payload;
    assert_eq!(payload[..8], [8, 0, 0, 0, 0, 0, 1, 0], "the VXLAN header");
    assert_eq!([text(&payload[8..14]), text(&payload[14..20])], [to, from]);
    assert_eq!(payload[20..22], [8, 0]);
}

fn text(mac: &[u8]) -> String {
    mac.iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

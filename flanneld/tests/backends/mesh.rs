//! Nodes of four kinds in one network: the kernel's VXLAN as stock programs it, a peer that moves one packet at a time in
//! UDP form, and two of ours with both forms, one with a udp lease and one with a vxlan lease.

use std::fs;
use std::net::IpAddr;

use benches::baseline::{Config, OnePacketPeer};
use console::answers::{Peers, Status};
use console::client::ask;
use console::protocol::Question;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::talk::{reaches, tcp, udp};

const KERNEL: usize = 0;
const ONE_PACKET: usize = 1;
const UDP: usize = 2;
const VXLAN: usize = 3;
const KERNEL_MACS: [&str; 2] = ["12:30:d8:f4:40:de", "fa:81:9d:10:9c:1f"];

/// What a node is on the underlay, and its subnets there.
fn name(node: usize) -> String {
    format!("10.5.{0}.0-24&fd05:0:0:{0}::-64", 11 + node)
}

/// The four nodes, and what must not end before they do.
struct Mesh {
    _peer: OnePacketPeer,
    cluster: Cluster,
}

impl Mesh {
    fn up(flags: &[&str]) -> Self {
        let mut cluster = Cluster::of_both_families(4, r#"{"Type":"vxlan"}"#);
        let [four, six] = KERNEL_MACS;
        fs::create_dir_all(cluster.store.path().join("subnets")).unwrap();
        cluster.write_record(
            &name(KERNEL),
            &format!(
                r#"{{"PublicIP":"192.168.77.1","PublicIPv6":"fd77::1","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{four}"}},"BackendV6Data":{{"VNI":1,"VtepMAC":"{six}"}}}}"#
            ),
        );
        cluster.write_record(
            "10.5.12.0-24",
            r#"{"PublicIP":"192.168.77.2","PublicIPv6":null}"#,
        );
        for (node, forms) in [(UDP, "--forms=udp,vxlan"), (VXLAN, "--forms=vxlan,udp")] {
            cluster.start(node, &[&[forms], flags].concat());
        }
        program_as_stock_does(&cluster);
        let peer = one_packet_peer(&cluster);
        for (node, mtu) in [(KERNEL, 1450), (ONE_PACKET, 1472)] {
            let node = cluster.node(node);
            let told = format!("FLANNEL_MTU={mtu}");
            let text = node.subnet_env().replace("FLANNEL_MTU=1500", &told);
            fs::write(node.subnet_file(), text).unwrap();
        }
        for (number, node) in cluster.site.nodes.iter().enumerate() {
            node.run_container(2);
            if number != ONE_PACKET {
                node.run_container_ipv6();
            }
        }
        Self {
            _peer: peer,
            cluster,
        }
    }

    fn exchange(&self, from: usize, to: usize) {
        let (near, far) = (self.cluster.node(from), self.cluster.node(to));
        let mut addresses: Vec<IpAddr> = vec![self.cluster.container(to).into()];
        if from != ONE_PACKET && to != ONE_PACKET {
            addresses.push(self.cluster.container_ipv6(to).into());
        }
        for address in addresses {
            reaches(&near.container, address);
            reaches(&near.host, address);
            tcp(&near.container, (&far.container, address));
            udp(&near.container, (&far.container, address));
        }
    }

    /// What the daemon on a node answers.
    fn ask(&self, node: usize, question: Question) -> String {
        let file = self.cluster.node(node).subnet_file();
        ask(&console::socket_beside(&file), question).unwrap()
    }

    /// Nodes and forms of the peers a node has.
    fn forms(&self, node: usize) -> Vec<(String, String)> {
        let peers: Peers = serde_json::from_str(&self.ask(node, Question::Peers)).unwrap();
        let peers = peers.peers.into_iter();
        peers
            .map(|peer| (peer.address.to_string(), peer.form))
            .collect()
    }
}

/// Devices, neighbours, forwarding lines and routes of a stock node: for nodes with a vxlan lease, and for no others.
fn program_as_stock_does(cluster: &Cluster) {
    let record = cluster.store.path().join("subnets").join(name(VXLAN));
    let record: Value = serde_json::from_str(&fs::read_to_string(record).unwrap()).unwrap();
    let node = &cluster.node(KERNEL).host;
    let ends = [
        (
            "flannel.1",
            1450,
            "192.168.77",
            "10.5.N.0",
            "24",
            "BackendData",
        ),
        (
            "flannel-v6.1",
            1430,
            "fd77:",
            "fd05:0:0:N::",
            "64",
            "BackendV6Data",
        ),
    ];
    for (number, (device, mtu, underlay, base, length, data)) in ends.into_iter().enumerate() {
        let dot = if number == 0 { "." } else { ":" };
        let mac = record[data]["VtepMAC"].as_str().unwrap();
        let [own, peer] = [KERNEL, VXLAN].map(|node| base.replace('N', &(11 + node).to_string()));
        let [local, remote] = [KERNEL, VXLAN].map(|node| format!("{underlay}{dot}{}", 1 + node));
        let own_mac = KERNEL_MACS[number];
        let whole = if number == 0 { "/32" } else { "/128 nodad" };
        node.ip(&format!(
            "link add {device} address {own_mac} type vxlan id 1 dev eth0 local {local} dstport 8472 nolearning\n\
             link set {device} mtu {mtu} up\n\
             addr add {own}{whole} dev {device}\n\
             neigh add {peer} lladdr {mac} dev {device} nud permanent\n\
             route add {peer}/{length} via {peer} dev {device} onlink"
        ))
        .unwrap();
        let entry = format!("bridge fdb append {mac} dev {device} dst {remote} self permanent");
        node.run(&entry).unwrap();
    }
}

/// Sends to every node it knows in UDP form, whatever the node's lease says, as stock does.
fn one_packet_peer(cluster: &Cluster) -> OnePacketPeer {
    let socket = |node: usize| format!("192.168.77.{}:8285", 1 + node).parse().unwrap();
    let subnet = |node: usize| format!("10.5.{}.1/24", 11 + node).parse().unwrap();
    let config = Config {
        listen: socket(ONE_PACKET),
        subnet: subnet(ONE_PACKET),
        network: "10.5.0.0/16".parse().unwrap(),
        mtu: 1472,
        peers: [KERNEL, UDP, VXLAN]
            .map(|node| (subnet(node), socket(node)))
            .to_vec(),
    };
    OnePacketPeer::start(&cluster.node(ONE_PACKET).host, &config).unwrap()
}

fn all_that_can_talk_do(flags: &[&str]) -> Mesh {
    let mesh = Mesh::up(flags);
    for (one, other) in [
        (UDP, VXLAN),
        (UDP, ONE_PACKET),
        (VXLAN, ONE_PACKET),
        (VXLAN, KERNEL),
    ] {
        mesh.exchange(one, other);
        mesh.exchange(other, one);
    }
    mesh
}

#[test]
fn kernel_vxlan_and_one_packet_peers_and_ours_of_both_leases_form_one_network() {
    let mesh = all_that_can_talk_do(&[]);
    let peer = |address: &str, form: &str| (address.to_owned(), form.to_owned());
    assert_eq!(
        mesh.forms(VXLAN),
        [
            peer("192.168.77.1", "vxlan"),
            peer("192.168.77.2", "udp"),
            peer("192.168.77.3", "udp"),
            peer("fd77::1", "vxlan"),
            peer("fd77::3", "udp"),
        ]
    );
    let status: Status = serde_json::from_str(&mesh.ask(VXLAN, Question::Status)).unwrap();
    let ports: Vec<u16> = status.network.unwrap().ports().collect();
    assert_eq!(ports, [8472, 8285]);
    let others = status.others.unwrap();
    assert_eq!((others.routes, others.udp, others.vxlan), (5, 3, 2));
    // Stock nodes take leases of their own form alone, so their network ends where no lease is of that form.
    for (from, to) in [(KERNEL, UDP), (KERNEL, ONE_PACKET), (ONE_PACKET, KERNEL)] {
        let ping = format!("ping -n -c 1 -W 1 {}", mesh.cluster.container(to));
        let answer = mesh.cluster.node(from).container.run(&ping);
        assert!(answer.is_err(), "{from} to {to}: {answer:?}");
    }
}

#[test]
fn each_takes_in_the_others_form_alone_from_whom_it_comes_with_a_strict_check() {
    all_that_can_talk_do(&["--source-check=strict"]);
}

#[test]
fn both_forms_work_with_two_workers_within_the_sandbox() {
    let mesh = all_that_can_talk_do(&["--workers=2", "--sandbox=kill", "--io=epoll"]);
    let record = mesh.cluster.store.path().join("subnets").join(name(UDP));
    let record = fs::read_to_string(record).unwrap();
    // A udp lease states its VXLAN address as well, which stock nodes pass over.
    assert!(
        !record.contains("BackendType") && record.contains("VtepMAC"),
        "{record}"
    );
}

#[test]
fn the_kernels_device_speaks_no_other_form() {
    let mut cluster = Cluster::new(1, r#"{"Type":"vxlan"}"#);
    let store = format!("--store=file:{}", cluster.store.path().display());
    let flags = [
        "--iface=eth0",
        "--vxlan-datapath=kernel",
        "--forms=vxlan,udp",
    ];
    let node = &mut cluster.site.nodes[0];
    node.start(&[&[store.as_str()], &flags[..]].concat());
    assert_eq!(node.await_end(), Some(1));
    assert_eq!(node.log().matches("speaks no other form").count(), 1);
}

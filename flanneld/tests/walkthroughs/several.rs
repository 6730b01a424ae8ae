//! More than one of something: daemons on a host, restarts in turn.

use benches::etcd::Etcd;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::Duration;

use crate::site::{Node, Site};
use crate::talk::reaches;

fn start_all(site: &mut Site, etcd: &Etcd) {
    for node in &mut site.nodes {
        node.start(&[&format!("--etcd-endpoints={}", etcd.endpoints())]);
    }
    site.nodes.iter_mut().for_each(|node| node.await_ready());
}

#[test]
fn restarting_every_daemon_in_turn_keeps_each_nodes_subnet_and_its_connections() {
    let mut site = Site::new("10.168.0.254", &["10.168.0.2", "10.168.0.3", "10.168.0.4"]);
    let etcd = site.etcd();
    let config = r#"{"Network":"10.1.0.0/16","Backend":{"Type":"vxlan"}}"#;
    etcd.put("/coreos.com/network/config", config).unwrap();
    start_all(&mut site, &etcd);
    let containers: Vec<_> = site
        .nodes
        .iter()
        .map(|node| node.run_container(2))
        .collect();
    let files: Vec<_> = site.nodes.iter().map(|node| node.subnet_env()).collect();
    let records = etcd
        .ctl(&["get", "--prefix", "/coreos.com/network/subnets"])
        .unwrap();
    for (number, file) in files.iter().enumerate() {
        let node = &mut site.nodes[number];
        assert!(node.daemon().stop().unwrap().success());
        node.start(&[&format!("--etcd-endpoints={}", etcd.endpoints())]);
        node.await_ready();
        assert_eq!(node.subnet_env(), *file);
        for (from, node) in site.nodes.iter().enumerate() {
            let others = containers.iter().enumerate().filter(|(to, _)| *to != from);
            others.for_each(|(_, address)| reaches(&node.container, *address));
        }
    }
    let after = etcd
        .ctl(&["get", "--prefix", "/coreos.com/network/subnets"])
        .unwrap();
    assert_eq!(after, records, "peers need not learn anything anew");
}

/// Pings the far node's address in one of the networks, and tells by which device that goes.
fn device_to(node: &Node, address: Ipv4Addr) -> String {
    reaches(&node.host, address);
    let route = node.lines(&format!("ip route get {address}")).join(" ");
    let words: Vec<_> = route.split(' ').collect();
    let device = words.iter().position(|word| *word == "dev").unwrap();
    words[device + 1].to_owned()
}

#[test]
fn two_daemons_on_a_host_serve_two_networks_and_leave_each_other_alone() {
    let site = Site::new("10.168.0.254", &["10.168.0.2", "10.168.0.3"]);
    let etcd = site.etcd();
    let networks = [
        ("one", "10.5.0.0/16", "vxlan"),
        ("two", "10.6.0.0/16", "host-gw"),
    ];
    let mut daemons = Vec::new();
    for (name, network, backend) in networks {
        let config = format!(r#"{{"Network":"{network}","Backend":{{"Type":"{backend}"}}}}"#);
        etcd.put(&format!("/{name}/network/config"), &config)
            .unwrap();
        for node in &site.nodes {
            let endpoints = format!("--etcd-endpoints={}", etcd.endpoints());
            let prefix = format!("--etcd-prefix=/{name}/network");
            let words = [
                endpoints.as_str(),
                &prefix,
                "--ip-masq",
                "--iptables-resync=1",
            ];
            let mut daemon = node.start_beside(name, &words);
            daemon.await_ready();
            daemons.push(daemon);
        }
    }
    let [near_one, far_one, near_two, far_two] = &mut daemons[..] else {
        panic!("four daemons")
    };
    // host-gw has no address of its own on the host; the bridges of containers have.
    far_two
        .host
        .ip(&format!(
            "addr add {}/32 dev docker0",
            far_two.overlay_address()
        ))
        .unwrap();
    assert_eq!(device_to(near_one, far_one.overlay_address()), "flannel0");
    assert_eq!(device_to(near_two, far_two.overlay_address()), "eth0");
    sleep(Duration::from_millis(3500));
    for network in ["10.5.0.0/16", "10.6.0.0/16"] {
        for rule in [
            format!(
                r#"-A FLANNEL-FWD -s {network} -m comment --comment "flanneld forward" -j ACCEPT"#
            ),
            format!(
                r#"-A FLANNEL-POSTRTG -s {network} ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully"#
            ),
        ] {
            near_one.prints("iptables-save", &rule);
        }
    }
    for daemon in [near_one, near_two] {
        let restored = daemon.count_log("firewall rules were changed");
        assert!(
            restored <= 1,
            "daemons undo each other's rules:\n{}",
            daemon.log()
        );
    }
}

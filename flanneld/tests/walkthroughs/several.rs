//! More than one of something: daemons on a host, restarts in turn.

use benches::etcd::Etcd;

use crate::site::Site;
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

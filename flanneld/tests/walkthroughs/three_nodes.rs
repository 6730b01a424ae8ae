//! Three nodes, an etcd behind TLS with a member on each, and a prefix of their own.

use benches::etcd::{Clients, Etcd};

use crate::site::Site;
use crate::talk::reaches;

const CONFIG: &str = r#"{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;

fn cluster(site: &Site) -> Etcd {
    let mut plan = Etcd::plan().clients(Clients::Certified);
    for node in &site.nodes {
        plan = plan.member(&node.host, node.address.into()).unwrap();
    }
    plan.launch().unwrap()
}

#[test]
fn three_nodes_with_tls_and_their_own_prefix_reach_each_other() {
    let mut site = Site::new(
        "172.20.0.254",
        &["172.20.0.113", "172.20.0.114", "172.20.0.115"],
    );
    let etcd = cluster(&site);
    etcd.put("/kube-centos/network/config", CONFIG).unwrap();
    assert_eq!(
        etcd.endpoints(),
        "https://172.20.0.113:2379,https://172.20.0.114:2379,https://172.20.0.115:2379"
    );
    start_in_every_spelling(&mut site, &etcd);
    site.nodes.iter_mut().for_each(|node| node.await_ready());

    let leases = etcd.keys("/kube-centos/network/subnets").unwrap();
    let mut subnets: Vec<_> = site
        .nodes
        .iter()
        .map(|node| node.overlay_address())
        .collect();
    subnets.sort_by_key(ToString::to_string);
    let wanted: Vec<_> = subnets
        .iter()
        .map(|base| format!("/kube-centos/network/subnets/{base}-24"))
        .collect();
    assert_eq!(leases, wanted, "one /24 for each node");
    for node in &site.nodes {
        assert_eq!(node.subnet_value("FLANNEL_NETWORK"), "172.30.0.0/16");
        for other in site
            .nodes
            .iter()
            .filter(|other| other.address != node.address)
        {
            reaches(&node.host, other.overlay_address());
        }
    }
}

/// One dash with `=`, two dashes with a blank, and the environment.
fn start_in_every_spelling(site: &mut Site, etcd: &Etcd) {
    let [authority, certificate, key] = etcd
        .client_files()
        .unwrap()
        .map(|file| file.display().to_string());
    let endpoints = etcd.endpoints();
    let values = [
        ("etcd-endpoints", endpoints.as_str()),
        ("etcd-prefix", "/kube-centos/network"),
        ("etcd-cafile", &authority),
        ("etcd-certfile", &certificate),
        ("etcd-keyfile", &key),
    ];
    let joined = values.map(|(name, value)| format!("-{name}={value}"));
    site.nodes[0].start(&joined.each_ref().map(String::as_str));
    let parted = values.map(|(name, value)| [format!("--{name}"), value.to_owned()]);
    let parted: Vec<_> = parted.iter().flatten().map(String::as_str).collect();
    site.nodes[1].start(&parted);
    let variables =
        values.map(|(name, _)| format!("FLANNELD_{}", name.replace('-', "_").to_uppercase()));
    let env: Vec<_> = variables
        .iter()
        .zip(values)
        .map(|(name, (_, value))| (name.as_str(), value))
        .collect();
    site.nodes[2].start_with(&[], &env);
}

//! What stands in etcd, in files and on a host, letter by letter as stock leaves it.
//!
//! The golden files hold the output of stock. Where this daemon means to differ the line in the file is ours,
//! and the test says why.

use benches::etcd::Etcd;

use crate::site::{Node, Site};
use crate::talk::reaches;

const ROOT: &str = "/coreos.com/network";

/// Two nodes with the daemon, whose subnets are known.
fn two_nodes(config: &str, flags: &[&str]) -> (Site, Etcd) {
    let mut site = Site::new("192.168.77.254", &["192.168.77.1", "192.168.77.2"]);
    let etcd = site.etcd();
    etcd.put(&format!("{ROOT}/config"), config).unwrap();
    let endpoints = format!("--etcd-endpoints={}", etcd.endpoints());
    for (node, subnet) in site.nodes.iter_mut().zip(["10.5.26.1/24", "10.5.35.1/24"]) {
        node.preset("10.5.0.0/16", subnet);
        node.start(&[&[endpoints.as_str()], flags].concat());
    }
    site.nodes.iter_mut().for_each(Node::await_ready);
    let peer = site.nodes[1].run_container(2);
    site.nodes[0].run_container(2);
    if !config.contains("alloc") {
        reaches(&site.nodes[0].container, peer);
    }
    (site, etcd)
}

/// The state in the form of the golden files.
fn state(etcd: &Etcd, node: &Node) -> String {
    let mut text = String::from("## etcd\n");
    for key in etcd.keys(ROOT).unwrap() {
        text += &format!("{key}\n{}\n", etcd.get(&key).unwrap());
    }
    text += &format!(
        "## node {}\n-- subnet.env\n{}",
        node.address,
        node.subnet_env()
    );
    let questions = [
        ("links", "ip -oneline link show"),
        ("addr", "ip -oneline -4 addr show scope global"),
        ("route", "ip -4 route show"),
        ("neigh", "ip neigh show nud permanent"),
        ("fdb", "bridge fdb show"),
        ("iptables", "iptables-save"),
    ];
    for (title, question) in questions {
        text += &format!("-- {title}\n");
        for line in node
            .lines(question)
            .iter()
            .filter_map(|line| lasting(title, line))
        {
            text += &line;
            text += "\n";
        }
    }
    without_macs(&text)
}

/// What of a line is the same on every machine, if the line is the daemon's matter at all.
fn lasting(title: &str, line: &str) -> Option<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    match title {
        // Number, name, flags and MTU; the rest depends on the machine.
        "links" => words[1]
            .starts_with("flannel")
            .then(|| words[1..5].join(" ")),
        // Up to the scope's device, which ends in a backslash.
        "addr" => {
            let words = words[1..].join(" ");
            let (address, _) = words.split_once('\\')?;
            (!address.starts_with("docker0")).then(|| address.to_owned())
        }
        "fdb" => line.contains("flannel").then(|| line.to_owned()),
        "iptables" => (!line.starts_with('#')).then(|| match line.split_once(" [") {
            Some((chain, _)) => format!("{chain} [0:0]"),
            None => line.to_owned(),
        }),
        _ => Some(line.to_owned()),
    }
}

/// Every Ethernet address is random, and the same wherever it is written.
fn without_macs(text: &str) -> String {
    let is_mac = |word: &str| {
        word.len() == 17
            && word.split(':').count() == 6
            && word.split(':').all(|byte| byte.len() == 2)
    };
    let mut known: Vec<String> = Vec::new();
    let words = text.split_inclusive([' ', '\n', '"']).map(|word| {
        let bare = word.trim_end_matches([' ', '\n', '"']);
        if !is_mac(bare) {
            return word.to_owned();
        }
        let number = known.iter().position(|mac| mac == bare).unwrap_or_else(|| {
            known.push(bare.to_owned());
            known.len() - 1
        });
        word.replace(bare, &format!("MAC{}", number + 1))
    });
    words.collect()
}

/// Compares line by line, so that a difference is seen at once.
fn assert_golden(etcd: &Etcd, node: &Node, golden: &str) {
    let found = state(etcd, node);
    let lines = |text: &str| {
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&found), lines(golden), "found:\n{found}");
}

#[test]
fn udp_is_as_stock_leaves_it() {
    let (site, etcd) = two_nodes(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}"#, &[]);
    assert_golden(&etcd, &site.nodes[0], include_str!("golden/udp.txt"));
}

/// The tunnel's device is flannel0 with one route for the whole network, as in udp mode: user space needs no
/// neighbours, forwarding entries or routes for single peers.
#[test]
fn vxlan_from_user_space_is_as_stock_but_for_the_device() {
    let (site, etcd) = two_nodes(
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#,
        &[],
    );
    assert_golden(&etcd, &site.nodes[0], include_str!("golden/vxlan.txt"));
}

#[test]
fn vxlan_in_the_kernel_is_as_stock_leaves_it() {
    let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
    let (site, etcd) = two_nodes(config, &["--vxlan-datapath=kernel"]);
    assert_golden(
        &etcd,
        &site.nodes[0],
        include_str!("golden/kernel-vxlan.txt"),
    );
}

#[test]
fn host_gw_is_as_stock_leaves_it() {
    let (site, etcd) = two_nodes(
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#,
        &[],
    );
    assert_golden(&etcd, &site.nodes[0], include_str!("golden/host-gw.txt"));
}

#[test]
fn alloc_is_as_stock_leaves_it() {
    let (site, etcd) = two_nodes(
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"alloc"}}"#,
        &[],
    );
    assert_golden(&etcd, &site.nodes[0], include_str!("golden/alloc.txt"));
}

/// As with vxlan above, flannel0 and its route stand ready for peers on other links.
#[test]
fn direct_routing_is_as_stock_but_for_the_device() {
    let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","DirectRouting":true}}"#;
    let (site, etcd) = two_nodes(config, &[]);
    assert_golden(
        &etcd,
        &site.nodes[0],
        include_str!("golden/direct-routing.txt"),
    );
}

/// One rule is ours: what goes from one overlay address to another keeps its source even if neither is in this
/// node's subnet. Stock masquerades it.
#[test]
fn masquerade_rules_are_stocks_but_for_one() {
    let (site, etcd) = two_nodes(
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}"#,
        &["-ip-masq"],
    );
    assert_golden(&etcd, &site.nodes[0], include_str!("golden/masquerade.txt"));
}

/// Beside the rule above, two differences from stock: traffic from outside to this node's own pods keeps its
/// source, all other traffic from outside into the network is masqueraded (stock lets both pass by mistake), and
/// kube-proxy's mark is looked for under its mask.
#[test]
fn the_nftables_flavour_says_the_same() {
    let config = r#"{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"udp"}}"#;
    let (site, _etcd) = two_nodes(config, &["-ip-masq"]);
    let ruleset = site.nodes[0].lines("nft list ruleset").join("\n") + "\n";
    assert_eq!(ruleset, include_str!("golden/nftables.txt"));
}

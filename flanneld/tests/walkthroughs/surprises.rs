//! What an operator would not expect of stock, done as they would expect it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::Duration;

use benches::etcd::Etcd;

use crate::site::Site;
use crate::talk::{reaches, tcp};
use crate::underlay::Underlay;

const SUBNETS: &str = "/coreos.com/network/subnets";
const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

fn site(config: &str) -> (Site, Etcd, String) {
    let site = Site::new("10.168.0.254", &["10.168.0.2", "10.168.0.3"]);
    let etcd = site.etcd();
    etcd.put("/coreos.com/network/config", config).unwrap();
    let endpoints = format!("--etcd-endpoints={}", etcd.endpoints());
    (site, etcd, endpoints)
}

/// Both daemons run, and the containers reach each other; their addresses.
fn two_nodes() -> (Site, Etcd, [Ipv4Addr; 2]) {
    let (mut site, etcd, endpoints) = site(CONFIG);
    for (node, subnet) in site.nodes.iter_mut().zip(["10.5.1.1/24", "10.5.2.1/24"]) {
        node.preset("10.5.0.0/16", subnet);
        node.start(&[&endpoints]);
        node.await_ready();
    }
    let containers = [
        site.nodes[0].run_container(2),
        site.nodes[1].run_container(2),
    ];
    reaches(&site.nodes[0].container, containers[1]);
    (site, etcd, containers)
}

/// The etcd lease of a record, and who it belongs to.
fn record(etcd: &Etcd, name: &str) -> Option<(i64, String)> {
    let shown = etcd
        .ctl(&["get", "--write-out=json", &format!("{SUBNETS}/{name}")])
        .unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let found = shown["kvs"].get(0)?;
    let value = etcd.get(&format!("{SUBNETS}/{name}")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&value).unwrap();
    let owner = value["PublicIP"].as_str().unwrap_or_default().to_owned();
    Some((found["lease"].as_i64().unwrap_or(0), owner))
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("{what}: not in time");
}

#[test]
fn garbage_among_the_records_costs_one_log_line_each_and_no_packet() {
    // Stock takes it for an empty list, and removes the routes to all nodes.
    let (mut site, etcd, [_, two]) = two_nodes();
    etcd.put(&format!("{SUBNETS}/garbage"), "x").unwrap();
    etcd.put(&format!("{SUBNETS}/10.5.7.0-24"), "{broken")
        .unwrap();
    let node = &mut site.nodes[0];
    node.await_log("garbage");
    node.await_log("10.5.7.0-24");
    reaches(&node.container, two);
    etcd.put(
        &format!("{SUBNETS}/10.5.8.0-24"),
        r#"{"PublicIP":"10.168.0.9"}"#,
    )
    .unwrap();
    node.await_log("10.5.8.0-24");
    assert_eq!(
        node.count_log("lease record \"garbage\""),
        1,
        "{}",
        node.log()
    );
    reaches(&node.container, two);
}

#[test]
fn an_own_lease_that_is_revoked_is_taken_back_while_packets_flow() {
    // Stock ends, with exit code 0, so that no service manager starts it again.
    let (mut site, etcd, [_, two]) = two_nodes();
    let (lease, _) = record(&etcd, "10.5.1.0-24").unwrap();
    etcd.ctl(&["lease", "revoke", &format!("{lease:x}")])
        .unwrap();
    wait_for("our record", || record(&etcd, "10.5.1.0-24").is_some());
    let (again, owner) = record(&etcd, "10.5.1.0-24").unwrap();
    assert!(again != lease && owner == "10.168.0.2");
    site.nodes[0].daemon().still_running().unwrap();
    reaches(&site.nodes[0].container, two);
    reaches(&site.nodes[1].container, Ipv4Addr::new(10, 5, 1, 2));
}

#[test]
fn a_reservation_for_a_node_is_taken_and_lasts() {
    // With etcd v3 stock attaches its lease of a day, after which the reservation is gone.
    let (mut site, etcd, endpoints) = site(CONFIG);
    let reserved = r#"{"PublicIP":"10.168.0.2"}"#;
    etcd.put(&format!("{SUBNETS}/10.5.44.0-24"), reserved)
        .unwrap();
    let node = &mut site.nodes[0];
    node.start(&[&endpoints]);
    node.await_ready();
    assert_eq!(node.subnet_value("FLANNEL_SUBNET"), "10.5.44.1/24");
    assert_eq!(
        record(&etcd, "10.5.44.0-24"),
        Some((0, "10.168.0.2".to_owned()))
    );
}

#[test]
fn a_daemon_started_before_etcd_says_so_and_comes_up_with_it() {
    // Stock waits without a word.
    let (mut site, mut etcd, endpoints) = site(CONFIG);
    etcd.stop().unwrap();
    let node = &mut site.nodes[0];
    node.start(&[&endpoints]);
    node.await_log("Couldn't fetch network config");
    etcd.run().unwrap();
    node.await_ready();
    assert_eq!(
        node.count_log("Couldn't fetch network config"),
        1,
        "{}",
        node.log()
    );
}

#[test]
fn a_config_that_cannot_be_used_is_told_once_and_waited_out() {
    // A backend without a type ends stock.
    let (mut site, etcd, endpoints) = site(r#"{"Network":"10.5.0.0/16","Backend":{}}"#);
    let node = &mut site.nodes[0];
    node.start(&[&endpoints]);
    node.await_log("the network config cannot be used");
    sleep(Duration::from_millis(1200));
    etcd.put("/coreos.com/network/config", CONFIG).unwrap();
    node.await_ready();
    assert_eq!(node.count_log("cannot be used"), 1, "{}", node.log());
}

#[test]
fn a_public_address_of_a_router_in_front_is_published_but_not_sent_from() {
    // Stock makes it the tunnel's source address, although the host does not have it.
    let (mut site, etcd, endpoints) = site(CONFIG);
    let [near, far] = &mut site.nodes[..] else {
        panic!("two nodes")
    };
    near.preset("10.5.0.0/16", "10.5.1.1/24");
    near.start(&[&endpoints, "--iface=eth0", "--public-ip=198.51.100.7"]);
    near.await_ready();
    assert_eq!(record(&etcd, "10.5.1.0-24").unwrap().1, "198.51.100.7");
    far.start(&[&endpoints]);
    far.await_ready();
    let (target, mut underlay) = (far.run_container(2), Underlay::of(far));
    near.run_container(2);
    wait_for("datagrams at the other node", || {
        let _unanswered = near.container.run(&format!("ping -n -c 1 -W 1 {target}"));
        let seen = underlay.arrived_at(8472);
        assert!(
            seen.iter()
                .all(|datagram| datagram.source.0 == near.address)
        );
        !seen.is_empty()
    });
}

#[test]
fn a_public_address_alone_must_be_on_this_host() {
    let (mut site, _etcd, endpoints) = site(CONFIG);
    let node = &mut site.nodes[0];
    node.start(&[&endpoints, "--public-ip=198.51.100.7"]);
    assert_eq!(node.await_end(), Some(1));
    assert!(node.log().contains("198.51.100.7"), "{}", node.log());
}

#[test]
fn host_gw_behind_a_router_is_refused_with_its_cause() {
    let config = CONFIG.replace("vxlan", "host-gw");
    let (mut site, etcd, endpoints) = site(&config);
    let node = &mut site.nodes[0];
    node.start(&[&endpoints, "--iface=eth0", "--public-ip=198.51.100.7"]);
    assert_eq!(node.await_end(), Some(1));
    let log = node.log();
    assert!(
        log.contains("your PublicIP 198.51.100.7 differs from interface IP"),
        "{log}"
    );
    assert!(
        etcd.keys(SUBNETS).unwrap().is_empty(),
        "no subnet is taken for nothing"
    );
}

#[test]
fn a_port_for_probes_that_is_taken_is_an_error_with_its_cause() {
    // Stock panics.
    let (mut site, _etcd, endpoints) = site(CONFIG);
    let node = &mut site.nodes[0];
    let _taken = node
        .host
        .enter(|| TcpListener::bind("0.0.0.0:2401"))
        .unwrap();
    node.start(&[&endpoints, "--healthz-port=2401"]);
    assert_eq!(node.await_end(), Some(1));
    let log = node.log();
    assert!(
        log.contains("cannot answer probes on 0.0.0.0:2401") && !log.contains("panicked"),
        "{log}"
    );
}

#[test]
fn a_key_that_begins_like_ours_is_not_ours() {
    // Stock watches its own record as a prefix: 10.5.1.0-2 ends the node of 10.5.1.0-24.
    let (mut site, etcd, [_, two]) = two_nodes();
    etcd.put(
        &format!("{SUBNETS}/10.5.1.0-2"),
        r#"{"PublicIP":"10.168.0.9"}"#,
    )
    .unwrap();
    etcd.delete(&format!("{SUBNETS}/10.5.1.0-2")).unwrap();
    let before = record(&etcd, "10.5.1.0-24");
    reaches(&site.nodes[0].container, two);
    site.nodes[0].daemon().still_running().unwrap();
    assert_eq!(record(&etcd, "10.5.1.0-24"), before);
}

#[test]
fn firewall_tools_that_are_not_needed_need_not_be_there() {
    // Stock runs the tools of the other flavour and of IPv6, and ends when one is missing.
    let (mut site, _etcd, endpoints) = site(CONFIG);
    let node = &mut site.nodes[0];
    let tools = node.subnet_file().with_file_name("bin");
    fs::create_dir(&tools).unwrap();
    for tool in ["iptables-save", "iptables-restore"] {
        let found = node.host.run(&format!("which {tool}")).unwrap();
        symlink(found.trim(), tools.join(tool)).unwrap();
    }
    node.start_with(
        &[&endpoints, "--ip-masq"],
        &[("PATH", tools.to_str().unwrap())],
    );
    node.await_ready();
    node.prints(
        "iptables-save -t filter",
        r#"-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD"#,
    );
}

#[test]
fn forwarding_is_allowed_in_front_of_a_rule_that_refuses_everything() {
    // Stock appends its jump behind it.
    let (mut site, _etcd, endpoints) = site(CONFIG);
    for node in &mut site.nodes {
        node.host.run("iptables -A FORWARD -j REJECT").unwrap();
        node.start(&[&endpoints]);
        node.await_ready();
    }
    let [one, two] = &site.nodes[..] else {
        panic!("two nodes")
    };
    let (near, far) = (one.run_container(2), two.run_container(2));
    reaches(&one.container, far);
    assert_eq!(tcp(&one.container, (&two.container, far)), near);
}

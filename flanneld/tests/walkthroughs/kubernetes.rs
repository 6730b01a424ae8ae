//! A cluster: nodes take their subnets from it, say in annotations how they are reached, and carry pods' packets.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use benches::kube::ApiServer;
use benches::scratch::Scratch;
use serde_json::json;

use crate::site::{Node, Site};
use crate::talk::{reaches, tcp, udp};

const PREFIX: &str = "flannel.alpha.coreos.com/";
const TOKEN: &str = "token-that-is-in-no-log-line";
const LONG: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);
const GATEWAY: &str = "10.168.0.254";
const ADDRESSES: [&str; 3] = ["10.168.0.1", "10.168.0.2", "10.168.0.3"];

/// A cluster with some nodes of it.
struct Cluster {
    site: Site,
    server: ApiServer,
    scratch: Scratch,
}

impl Cluster {
    /// Nodes that were given the subnets 10.244.1.0/24 and so on.
    fn new(nodes: usize, backend: &str) -> Self {
        let cluster = Self::bare(nodes, backend);
        for number in 1..=nodes {
            let subnet = format!("10.244.{number}.0/24");
            cluster.server.add_node(&name(number), &[&subnet]);
        }
        cluster
    }

    /// Machines that the cluster knows nothing of yet.
    fn bare(nodes: usize, backend: &str) -> Self {
        let site = Site::new(GATEWAY, &ADDRESSES[..nodes]);
        let server = ApiServer::start(&site.switch, site.gateway.into()).unwrap();
        let scratch = Scratch::new().unwrap();
        server.accept_only(TOKEN, LONG);
        server.write_kubeconfig(scratch.path(), TOKEN).unwrap();
        let cluster = Self {
            site,
            server,
            scratch,
        };
        cluster.configure(&format!(
            r#"{{"Network":"10.244.0.0/16","Backend":{backend}}}"#
        ));
        cluster
    }

    fn configure(&self, config: &str) {
        fs::write(self.scratch.path().join("net-conf.json"), config).unwrap();
    }

    /// The flags of a pod's daemon, but for how it logs in.
    fn flags(&self, more: &[&str]) -> Vec<String> {
        let file = |name: &str| self.scratch.path().join(name).display().to_string();
        let flags = [
            "--kube-subnet-mgr".to_owned(),
            format!("--kubeconfig-file={}", file("kubeconfig")),
            format!("--net-config-path={}", file("net-conf.json")),
            "--iface=eth0".to_owned(),
        ];
        let more = more.iter().map(|&flag| flag.to_owned());
        flags.into_iter().chain(more).collect()
    }

    /// Starts the daemon of a node.
    fn start(&mut self, number: usize, more: &[&str]) {
        let flags = self.flags(more);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let name = name(number);
        self.node(number)
            .start_with(&flags, &[("NODE_NAME", name.as_str())]);
    }

    /// Starts all daemons and waits until they are ready.
    fn start_all(&mut self, more: &[&str]) {
        let nodes = self.site.nodes.len();
        (1..=nodes).for_each(|number| self.start(number, more));
        self.site.nodes.iter_mut().for_each(Node::await_ready);
    }

    fn node(&mut self, number: usize) -> &mut Node {
        &mut self.site.nodes[number - 1]
    }

    /// A container on every node; their addresses.
    fn run_containers(&self) -> Vec<Ipv4Addr> {
        let nodes = self.site.nodes.iter();
        nodes.map(|node| node.run_container(2)).collect()
    }

    /// What a node says of itself, a line each.
    fn record(&self, number: usize) -> Vec<String> {
        let annotations = self.server.annotations(&name(number)).into_iter();
        let ours = annotations.filter_map(|(name, text)| {
            let name = name.strip_prefix(PREFIX)?;
            Some(format!("{name}={text}"))
        });
        ours.collect()
    }

    /// Nodes that no machine is behind.
    fn add_peers(&self, count: usize) {
        for number in 0..count {
            let (high, low) = (number / 250, number % 250 + 1);
            let node = format!("peer-{number}");
            self.server
                .add_node(&node, &[&format!("10.{}.{low}.0/24", 224 + high)]);
            let mac = format!("0a:58:0a:00:{high:02x}:{low:02x}");
            let record = [
                ("backend-data", format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)),
                ("backend-type", "vxlan".to_owned()),
                ("kube-subnet-manager", "true".to_owned()),
                ("public-ip", format!("10.167.{high}.{low}")),
            ];
            let record = record.map(|(name, text)| (format!("{PREFIX}{name}"), text.into()));
            let record: serde_json::Map<_, _> = record.into_iter().collect();
            let change = json!({"metadata": {"annotations": record}});
            self.server.change_node(&node, &change);
        }
    }

    fn annotate(&self, number: usize, key: &str, text: Option<&str>) {
        let change = json!({"metadata": {"annotations": {format!("{PREFIX}{key}"): text}}});
        self.server.change_node(&name(number), &change);
    }

    fn says(&self, number: usize, line: &str) -> bool {
        self.record(number).iter().any(|known| known == line)
    }

    /// Every container exchanges everything with every other.
    fn everybody_talks(&self, addresses: &[Ipv4Addr]) {
        for (near, _) in addresses.iter().enumerate() {
            for (far, address) in addresses.iter().enumerate().filter(|(far, _)| *far != near) {
                let (near, far) = (&self.site.nodes[near], &self.site.nodes[far]);
                reaches(&near.container, *address);
                reaches(&near.host, *address);
                tcp(&near.container, (&far.container, *address));
                udp(&near.container, (&far.container, *address));
            }
        }
    }
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// The address of a VXLAN node inside its record.
fn mac(record: &[String]) -> String {
    let data = record
        .iter()
        .find_map(|line| line.strip_prefix("backend-data="));
    let data: serde_json::Value = serde_json::from_str(data.unwrap()).unwrap();
    data["VtepMAC"].as_str().unwrap().to_owned()
}

#[test]
fn nodes_of_a_cluster_take_their_pod_cidrs_and_carry_everything_over_vxlan() {
    let mut cluster = Cluster::new(3, r#"{"Type":"vxlan"}"#);
    cluster.start(1, &[]);
    cluster.start(2, &["--sandbox=kill", "-v=10"]);
    cluster.start(3, &["--vxlan-datapath=kernel"]);
    cluster.site.nodes.iter_mut().for_each(Node::await_ready);
    for number in 1..=3 {
        let env = cluster.node(number).subnet_env();
        let wanted = format!(
            "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.{number}.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
        );
        assert_eq!(env, wanted);
        let record = cluster.record(number);
        let mac = mac(&record);
        let wanted = [
            format!(r#"backend-data={{"VNI":1,"VtepMAC":"{mac}"}}"#),
            "backend-type=vxlan".to_owned(),
            "kube-subnet-manager=true".to_owned(),
            format!("public-ip=10.168.0.{number}"),
        ];
        assert_eq!(record, wanted);
        wait_for("the node's condition", || {
            let told = cluster
                .server
                .condition(&name(number), "NetworkUnavailable");
            told.is_some_and(|told| told["status"] == "False" && told["reason"] == "FlannelIsUp")
        });
    }
    let addresses = cluster.run_containers();
    cluster.everybody_talks(&addresses);
    for node in &cluster.site.nodes {
        assert!(!node.log().contains(TOKEN), "{}", node.log());
    }
}

#[test]
fn a_vxlan_nodes_mac_outlives_its_device_in_the_annotations() {
    let mut cluster = Cluster::new(1, r#"{"Type":"vxlan"}"#);
    cluster.start_all(&["--state-file=none"]);
    let before = mac(&cluster.record(1));
    cluster.start_all(&["--state-file=none"]);
    assert_eq!(mac(&cluster.record(1)), before);
}

#[test]
fn every_other_backend_works_in_a_cluster_too() {
    for (backend, kind, mtu) in [("udp", "", "1472"), ("host-gw", "host-gw", "1500")] {
        let mut cluster = Cluster::new(2, &format!(r#"{{"Type":"{backend}"}}"#));
        cluster.start_all(&[]);
        let wanted = [
            "backend-data=null".to_owned(),
            format!("backend-type={kind}"),
            "kube-subnet-manager=true".to_owned(),
            "public-ip=10.168.0.1".to_owned(),
        ];
        assert_eq!(cluster.record(1), wanted);
        assert_eq!(cluster.node(1).subnet_value("FLANNEL_MTU"), mtu);
        let addresses = cluster.run_containers();
        cluster.everybody_talks(&addresses);
    }
    let mut cluster = Cluster::new(1, r#"{"Type":"alloc"}"#);
    cluster.start_all(&[]);
    let subnet = cluster.node(1).subnet_value("FLANNEL_SUBNET");
    assert_eq!(subnet, "10.244.1.1/24");
}

#[test]
fn pods_of_both_families_reach_each_other() {
    let mut cluster = Cluster::bare(2, "");
    cluster.site.add_ipv6();
    cluster.configure(r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{"Type":"vxlan"}}"#);
    for number in 1..=2 {
        let subnets = [
            format!("10.244.{number}.0/24"),
            format!("fd05:0:0:{number}::/64"),
        ];
        let subnets = subnets.each_ref().map(String::as_str);
        cluster.server.add_node(&name(number), &subnets);
    }
    cluster.start_all(&[]);
    assert!(
        cluster.says(2, "public-ipv6=fd77::2"),
        "{:?}",
        cluster.record(2)
    );
    let addresses = cluster.run_containers();
    cluster.everybody_talks(&addresses);
    let nodes = &cluster.site.nodes;
    let ipv6: Vec<_> = nodes.iter().map(Node::run_container_ipv6).collect();
    reaches(&nodes[0].container, ipv6[1]);
    tcp(&nodes[1].container, (&nodes[0].container, ipv6[0]));
}

#[test]
fn a_node_waits_for_the_right_pod_cidr_and_says_what_to_do() {
    let mut cluster = Cluster::bare(1, r#"{"Type":"udp"}"#);
    cluster.start(1, &[]);
    cluster.node(1).await_log("there is no node node-1");
    cluster.server.add_node("node-1", &[]);
    cluster
        .node(1)
        .await_log(r#"node "node-1" pod cidr not assigned"#);
    cluster.node(1).await_log("--allocate-node-cidrs=true");
    cluster.server.remove_node("node-1");
    cluster.server.add_node("node-1", &["10.9.1.0/24"]);
    cluster
        .node(1)
        .await_log("doesn't contain PodCIDR 10.9.1.0/24");
    assert!(cluster.record(1).is_empty(), "nothing is promised yet");
    cluster.server.remove_node("node-1");
    cluster.server.add_node("node-1", &["10.244.1.0/24"]);
    cluster.node(1).await_ready();
    let told = cluster.node(1).count_log("pod cidr not assigned");
    assert_eq!(told, 1, "one line, and not one for each try");
}

#[test]
fn an_overwritten_public_address_is_published_and_the_flag_of_a_node_counts() {
    let mut cluster = Cluster::new(2, r#"{"Type":"udp"}"#);
    cluster.annotate(1, "public-ip-overwrite", Some("203.0.113.7"));
    let second = "addr add 10.168.0.102/24 dev eth0";
    cluster.node(2).host.ip(second).unwrap();
    cluster.annotate(2, "node-public-ip", Some("10.168.0.102"));
    cluster.start_all(&[]);
    assert!(
        cluster.says(1, "public-ip=203.0.113.7"),
        "{:?}",
        cluster.record(1)
    );
    assert!(cluster.says(1, "public-ip-overwrite=203.0.113.7"));
    assert!(
        cluster.says(2, "public-ip=10.168.0.102"),
        "{:?}",
        cluster.record(2)
    );
    cluster.node(2).await_log("1 peer subnets");
    assert_eq!(cluster.node(1).count_log("another node"), 0);
}

#[test]
fn a_nodes_record_comes_back_when_somebody_removes_or_changes_it() {
    let mut cluster = Cluster::new(2, r#"{"Type":"udp"}"#);
    cluster.start_all(&[]);
    let addresses = cluster.run_containers();
    reaches(&cluster.site.nodes[0].container, addresses[1]);
    let before = cluster.record(2);
    for (key, text) in [
        ("kube-subnet-manager", None),
        ("public-ip", None),
        ("backend-data", Some("{")),
    ] {
        cluster.annotate(2, key, text);
        wait_for("the record", || cluster.record(2) == before);
    }
    reaches(&cluster.site.nodes[0].container, addresses[1]);
}

#[test]
fn packets_flow_while_the_api_is_away_and_a_restart_needs_none() {
    let mut cluster = Cluster::new(3, r#"{"Type":"vxlan"}"#);
    for number in 1..=2 {
        cluster.start(number, &[]);
        cluster.node(number).await_ready();
    }
    let one = cluster.node(1).run_container(2);
    let two = cluster.node(2).run_container(2);
    reaches(&cluster.site.nodes[0].container, two);
    wait_for("what is known to be written down", || {
        let file = cluster.site.nodes[0]
            .subnet_file()
            .with_file_name("subnet.env.state");
        fs::read_to_string(file).is_ok_and(|text| text.contains("10.168.0.2"))
    });
    cluster.server.set_silent(true);
    cluster.server.cut();
    cluster.start(1, &[]);
    cluster.node(1).await_log("the store does not answer");
    cluster.node(1).await_ready();
    reaches(&cluster.site.nodes[0].container, two);
    reaches(&cluster.site.nodes[1].container, one);
    cluster.server.set_silent(false);
    cluster.start(3, &[]);
    cluster.node(3).await_ready();
    let three = cluster.node(3).run_container(2);
    reaches(&cluster.site.nodes[0].container, three);
}

#[test]
fn a_start_among_five_thousand_nodes_takes_them_all_in() {
    let mut cluster = Cluster::new(2, r#"{"Type":"vxlan"}"#);
    cluster.configure(r#"{"Network":"10.224.0.0/11","Backend":{"Type":"vxlan"}}"#);
    cluster.add_peers(4998);
    cluster.start(2, &[]);
    cluster.node(2).await_log(" 4998 peer subnets");
    let begun = Instant::now();
    cluster.start(1, &[]);
    cluster.node(1).await_log(" 4999 peer subnets");
    println!(
        "a node knows 4999 others {:?} after its start",
        begun.elapsed()
    );
    let addresses = cluster.run_containers();
    reaches(&cluster.site.nodes[0].container, addresses[1]);
}

#[test]
fn a_daemon_that_was_relieved_waits_for_its_end_instead_of_coming_back() {
    let mut cluster = Cluster::new(2, r#"{"Type":"vxlan"}"#);
    cluster.start_all(&["--takeover"]);
    let addresses = cluster.run_containers();
    reaches(&cluster.site.nodes[1].container, addresses[0]);
    let pings = cluster.site.nodes[1].container.command("ping").unwrap();
    let mut pings = Pings::start(pings, addresses[0]);
    let flags = cluster.flags(&["--takeover"]);
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let mut old = cluster
        .node(1)
        .start_successor(&flags, &[("NODE_NAME", "node-1")]);
    cluster.node(1).await_log("taking over from process");
    wait_for("the old daemon to rest", || {
        old.log().contains("waiting to be ended")
    });
    reaches(&cluster.site.nodes[1].container, addresses[0]);
    old.still_running().unwrap();
    assert_eq!(old.stop().unwrap().code(), Some(0));
    reaches(&cluster.site.nodes[1].container, addresses[0]);
    assert_eq!(pings.lost(), 0);
}

/// Pings that go on until they are counted.
struct Pings(std::process::Child);

impl Pings {
    fn start(mut command: Command, to: Ipv4Addr) -> Self {
        command
            .args(["-n", "-i", "0.02", "-W", "2"])
            .arg(to.to_string());
        command.stdout(std::process::Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// How many went unanswered.
    fn lost(&mut self) -> u32 {
        // The program tells when it is interrupted.
        let interrupt = Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .status();
        assert!(interrupt.unwrap().success());
        let mut said = String::new();
        let mut output = self.0.stdout.take().unwrap();
        std::io::Read::read_to_string(&mut output, &mut said).unwrap();
        self.0.wait().unwrap();
        let summary = said
            .lines()
            .find(|line| line.contains("packets transmitted"));
        let summary = summary.unwrap_or_else(|| panic!("no summary in {said}"));
        let counts: Vec<u32> = summary
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        // The last may still have been under way.
        (counts[0] - counts[1]).saturating_sub(1)
    }
}

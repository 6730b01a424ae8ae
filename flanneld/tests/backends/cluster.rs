//! Nodes on one link that share a directory of leases.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use crate::site::{Node, Site};
use crate::talk::{reaches, tcp};

/// What makes a network config one of both families.
const IPV6: &str = r#","EnableIPv6":true,"IPv6Network":"fd05::/48""#;

/// Nodes, their containers, and the store.
pub(crate) struct Cluster {
    pub(crate) site: Site,
    pub(crate) store: TempDir,
}

impl Cluster {
    /// Nodes 192.168.77.1 and on with subnets 10.5.11.0/24 and on; no daemon yet.
    pub(crate) fn new(nodes: usize, backend: &str) -> Self {
        let addresses: Vec<String> = (1..=nodes).map(|n| format!("192.168.77.{n}")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let site = Site::new("192.168.77.254", &addresses);
        for (number, node) in site.nodes.iter().enumerate() {
            node.preset("10.5.0.0/16", &format!("10.5.{}.1/24", 11 + number));
        }
        let store = tempfile::tempdir().unwrap();
        let cluster = Self { site, store };
        cluster.configure(backend);
        cluster
    }

    /// The same with fd77::1 and on, and subnets fd05:0:0:11::/64 and on besides.
    pub(crate) fn of_both_families(nodes: usize, backend: &str) -> Self {
        let cluster = Self::new(nodes, backend);
        cluster.configure_also(backend, IPV6);
        cluster.site.add_ipv6();
        for (number, node) in cluster.site.nodes.iter().enumerate() {
            let subnet = 11 + number;
            let lines = format!(
                "FLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET=fd05:0:0:{subnet}::1/64\n"
            );
            fs::write(node.subnet_file(), node.subnet_env() + &lines).unwrap();
        }
        cluster
    }

    /// The same with daemons at work and containers in touch.
    pub(crate) fn up(nodes: usize, backend: &str) -> Self {
        let mut cluster = Self::new(nodes, backend);
        cluster.start_all();
        cluster.talk();
        cluster
    }

    /// Writes the network config with this `Backend` object.
    pub(crate) fn configure(&self, backend: &str) {
        self.configure_also(backend, "");
    }

    /// The same with more fields.
    pub(crate) fn configure_also(&self, backend: &str, fields: &str) {
        let config = format!(r#"{{"Network":"10.5.0.0/16","Backend":{backend}{fields}}}"#);
        fs::write(self.store.path().join("config"), config).unwrap();
    }

    /// Starts the daemon on a node in place of the one before, and gives its container an address.
    pub(crate) fn start(&mut self, node: usize, flags: &[&str]) {
        self.start_with(node, flags);
        self.site.nodes[node].run_container(2);
    }

    /// The same without a container.
    pub(crate) fn start_only(&mut self, node: usize) {
        self.start_with(node, &[]);
    }

    fn start_with(&mut self, node: usize, flags: &[&str]) {
        let words = self.words(flags);
        let node = &mut self.site.nodes[node];
        node.start(&words.iter().map(String::as_str).collect::<Vec<_>>());
        node.await_ready();
    }

    /// Has another daemon take over on a node.
    pub(crate) fn relieve(&mut self, node: usize, flags: &[&str]) {
        let words = self.words(flags);
        self.site.nodes[node].relieve(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn words(&self, flags: &[&str]) -> Vec<String> {
        let store = format!("--store=file:{}", self.store.path().display());
        let usual = [store, "--iface=eth0".to_owned()].into_iter();
        usual
            .chain(flags.iter().map(|flag| (*flag).to_owned()))
            .collect()
    }

    pub(crate) fn start_all(&mut self) {
        for node in 0..self.site.nodes.len() {
            self.start(node, &[]);
        }
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        &self.site.nodes[node]
    }

    /// A node's container.
    pub(crate) fn container(&self, node: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 5, 11 + node as u8, 2)
    }

    /// A node's container in networks of both families.
    pub(crate) fn container_ipv6(&self, node: usize) -> Ipv6Addr {
        format!("fd05:0:0:{}::2", 11 + node).parse().unwrap()
    }

    /// Every container reaches every other, and TCP carries what it is given.
    pub(crate) fn talk(&self) {
        for from in 0..self.site.nodes.len() {
            for to in (0..self.site.nodes.len()).filter(|to| *to != from) {
                self.ping(from, to);
                let server = (&self.node(to).container, self.container(to));
                tcp(&self.node(from).container, server);
            }
        }
    }

    /// One container reaches another.
    pub(crate) fn ping(&self, from: usize, to: usize) {
        reaches(&self.node(from).container, self.container(to));
    }

    /// A node's record in the store.
    pub(crate) fn record(&self, node: usize) -> String {
        let name = format!("subnets/10.5.{}.0-24", 11 + node);
        fs::read_to_string(self.store.path().join(name)).unwrap()
    }

    /// Writes a record as another node would: whole or not at all.
    pub(crate) fn write_record(&self, name: &str, lease: &str) {
        let draft = self.store.path().join("draft");
        fs::write(&draft, lease).unwrap();
        fs::rename(draft, self.store.path().join("subnets").join(name)).unwrap();
    }

    /// Routes of the overlay network on a node, without the bridge's.
    pub(crate) fn routes(&self, node: usize) -> Vec<String> {
        let mut lines = self.node(node).lines("ip -4 route show");
        lines.retain(|line| line.contains("10.5.") && !line.contains("docker0"));
        lines
    }

    /// Devices, routes, neighbours and forwarding lines a node has for the overlay network.
    pub(crate) fn traces(&self, node: usize) -> String {
        let questions = [
            "ip -oneline link show",
            "ip neigh show nud permanent",
            "bridge fdb show",
        ];
        let lines = questions
            .iter()
            .flat_map(|question| self.node(node).lines(question));
        let ours = lines.filter(|line| line.contains("flannel") || line.contains("10.5."));
        let mut traces: Vec<String> = ours.collect();
        traces.extend(self.routes(node));
        traces.join("\n")
    }

    /// Waits until the routes of a node are these.
    pub(crate) fn await_routes(&self, node: usize, wanted: &[&str]) {
        let stand = (0..500).any(|_| {
            sleep(Duration::from_millis(10));
            self.routes(node) == wanted
        });
        assert!(stand, "{:#?} are not {wanted:#?}", self.routes(node));
    }
}

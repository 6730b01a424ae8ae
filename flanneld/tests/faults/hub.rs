//! Any number of nodes on one switch with an etcd, each with its own daemon.

use std::fs;
use std::path::PathBuf;

use benches::Namespace;
use benches::daemon::Daemon;
use benches::etcd::{Api, Etcd, Gateway};
use benches::scratch::Scratch;

use super::scene::{PREFIX, api_flag, await_until, flanneld, open_road, put, serving};

/// The nodes' places on the switch begin here.
const FIRST: usize = 20;

/// A switch with an etcd on it. Fields end in this order.
pub(crate) struct Hub {
    daemons: Vec<Daemon>,
    etcd: Etcd,
    api: Api,
    nodes: Vec<Namespace>,
    switch: Namespace,
    scratch: Scratch,
}

impl Hub {
    /// A switch with a store that holds a network config and nothing else.
    pub(crate) fn new(api: Api, config: &str) -> Self {
        let switch = Namespace::new().unwrap();
        let etcd = open_road(&switch, 1, |plan| serving(plan, api));
        let hub = Self {
            daemons: Vec::new(),
            etcd,
            api,
            nodes: Vec::new(),
            switch,
            scratch: Scratch::new().unwrap(),
        };
        hub.configure(config);
        hub
    }

    /// Writes the network config.
    pub(crate) fn configure(&self, config: &str) {
        put(&self.etcd, self.api, &format!("{PREFIX}/config"), config);
    }

    /// The store's gateway.
    pub(crate) fn gateway(&mut self) -> Gateway {
        self.etcd.member(0).gateway().unwrap().by(self.api)
    }

    /// Plugs so many more nodes in.
    pub(crate) fn plug(&mut self, count: usize) {
        for _ in 0..count {
            let node = Namespace::new().unwrap();
            let place = FIRST + self.nodes.len();
            let port = format!("port{place}");
            node.ip(&format!(
                "link add eth0 type veth peer name {port} netns {}\n\
                 addr add 192.168.78.{place}/24 dev eth0\n\
                 link set eth0 up",
                self.switch.path()
            ))
            .unwrap();
            self.switch
                .ip(&format!("link set {port} master hub\nlink set {port} up"))
                .unwrap();
            self.nodes.push(node);
        }
    }

    /// Starts the next node's daemon.
    pub(crate) fn start(&mut self, flags: &[&str]) {
        let number = self.daemons.len();
        let program = flanneld().to_string_lossy();
        let mut command = self.nodes[number].command(&program).unwrap();
        command.arg(format!("--etcd-endpoints={}", self.etcd.endpoints()));
        command.arg(format!(
            "--subnet-file={}",
            self.subnet_file(number).display()
        ));
        command.arg(format!("--{}", api_flag(self.api)));
        command.arg("--iface=eth0").args(flags);
        let log = self.scratch.path().join(format!("node{number}.log"));
        self.daemons
            .push(Daemon::start(&mut command, &log).unwrap());
    }

    /// A node's daemon.
    pub(crate) fn daemon(&mut self, number: usize) -> &mut Daemon {
        &mut self.daemons[number]
    }

    /// The subnet a node has written down for container runtimes, if any.
    pub(crate) fn subnet(&self, number: usize) -> Option<String> {
        let text = fs::read_to_string(self.subnet_file(number)).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="));
        line.map(str::to_owned)
    }

    /// Waits until a daemon has logged something.
    pub(crate) fn await_line(&mut self, number: usize, text: &str) {
        let daemon = &mut self.daemons[number];
        await_until(
            || {
                daemon.still_running().unwrap();
                daemon.log().contains(text)
            },
            || format!("no {text:?}"),
        );
    }

    fn subnet_file(&self, number: usize) -> PathBuf {
        self.scratch.path().join(format!("subnet{number}.env"))
    }
}

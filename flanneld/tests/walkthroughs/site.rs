//! The machines of a guide: nodes on one link with a container each, and a switch that is their way out.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

use benches::Namespace;
use benches::daemon::Daemon;
use benches::etcd::Etcd;
use benches::scratch::Scratch;

const PATIENCE: Duration = Duration::from_secs(20);

/// Everything a guide is played on, gone with this value.
pub(crate) struct Site {
    pub(crate) nodes: Vec<Node>,
    pub(crate) switch: Namespace,
    pub(crate) gateway: Ipv4Addr,
    scratch: Scratch,
}

impl Site {
    /// Nodes with these addresses, whose default route leads to `gateway` on the switch.
    pub(crate) fn new(gateway: &str, nodes: &[&str]) -> Self {
        let (switch, scratch) = (Namespace::new().unwrap(), Scratch::new().unwrap());
        let bridge =
            format!("link add br0 type bridge\naddr add {gateway}/24 dev br0\nlink set br0 up");
        switch.ip(&bridge).unwrap();
        let nodes = nodes.iter().enumerate().map(|(number, address)| {
            let dir = scratch.path().join(format!("node{}", number + 1));
            Node::join(&switch, gateway, number, address, dir)
        });
        Self {
            nodes: nodes.collect(),
            gateway: gateway.parse().unwrap(),
            switch,
            scratch,
        }
    }

    /// One more node, on a link of its own behind the switch, which routes between them.
    pub(crate) fn add_node_behind_router(&mut self, gateway: &str, address: &str) {
        let (number, dir) = (self.nodes.len(), self.scratch.path().join(address));
        let bridge =
            format!("link add br1 type bridge\naddr add {gateway}/24 dev br1\nlink set br1 up");
        self.switch.ip(&bridge).unwrap();
        self.switch.set("net/ipv4/ip_forward", "1").unwrap();
        let node = Node::join(&self.switch, gateway, number, address, dir);
        self.switch
            .ip(&format!("link set port{number} master br1"))
            .unwrap();
        self.nodes.push(node);
    }

    /// Gives the link IPv6 as well: fd77::1 to the first node, and so on.
    pub(crate) fn add_ipv6(&self) {
        self.switch
            .ip("addr add fd77::fe/64 dev br0 nodad")
            .unwrap();
        for (number, node) in self.nodes.iter().enumerate() {
            node.host.set("net/ipv6/conf/all/forwarding", "1").unwrap();
            let lines = format!(
                "addr add fd77::{}/64 dev eth0 nodad\nroute add ::/0 via fd77::fe",
                number + 1
            );
            node.host.ip(&lines).unwrap();
        }
    }

    /// A store of one member on the switch.
    pub(crate) fn etcd(&self) -> Etcd {
        let plan = Etcd::plan().member(&self.switch, self.gateway.into());
        plan.unwrap().launch().unwrap()
    }
}

/// A host with one container.
pub(crate) struct Node {
    pub(crate) host: Namespace,
    pub(crate) container: Namespace,
    pub(crate) address: Ipv4Addr,
    dir: PathBuf,
    daemon: Option<Daemon>,
}

impl Node {
    fn join(switch: &Namespace, gateway: &str, number: usize, address: &str, dir: PathBuf) -> Self {
        let (host, container) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let (out, inside) = (switch.path(), container.path());
        let links = format!(
            "link add eth0 type veth peer name port{number} netns {out}\n\
             addr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {gateway}\n\
             link add docker0 type bridge\nlink set docker0 up\n\
             link add veth0 type veth peer name eth0 netns {inside}\n\
             link set veth0 master docker0\nlink set veth0 up"
        );
        host.ip(&links).unwrap();
        host.set("net/ipv4/ip_forward", "1").unwrap();
        let port = format!("link set port{number} master br0\nlink set port{number} up");
        switch.ip(&port).unwrap();
        fs::create_dir_all(&dir).unwrap();
        Self {
            host,
            container,
            address: address.parse().unwrap(),
            dir,
            daemon: None,
        }
    }

    /// Leaves a subnet file as an earlier run, or an operator, would have.
    pub(crate) fn preset(&self, network: &str, subnet: &str) {
        let text = format!(
            "FLANNEL_NETWORK={network}\nFLANNEL_SUBNET={subnet}\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"
        );
        fs::write(self.subnet_file(), text).unwrap();
    }

    /// Where the daemon writes its subnet, unless it is told otherwise.
    pub(crate) fn subnet_file(&self) -> PathBuf {
        self.dir.join("subnet.env")
    }

    /// What it wrote.
    pub(crate) fn subnet_env(&self) -> String {
        fs::read_to_string(self.subnet_file()).unwrap()
    }

    /// One value of that.
    pub(crate) fn subnet_value(&self, name: &str) -> String {
        let text = self.subnet_env();
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        let found = lines.find(|(known, _)| *known == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {text}"))
            .1
            .to_owned()
    }

    /// Starts the daemon with these flags.
    pub(crate) fn start(&mut self, words: &[&str]) {
        self.start_with(words, &[]);
    }

    /// Starts one more daemon beside the first, with a subnet file of its own: the node as that daemon has it.
    pub(crate) fn start_beside(&self, name: &str, words: &[&str]) -> Self {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).unwrap();
        let mut beside = Self {
            host: self.host.share().unwrap(),
            container: self.container.share().unwrap(),
            address: self.address,
            dir,
            daemon: None,
        };
        beside.start(words);
        beside
    }

    /// As `start`, with these variables in the environment, too.
    pub(crate) fn start_with(&mut self, words: &[&str], env: &[(&str, &str)]) {
        self.daemon = None;
        self.daemon = Some(self.launch(words, env, "log"));
    }

    /// As `start_with`, beside the daemon that runs, which is given back.
    pub(crate) fn start_successor(&mut self, words: &[&str], env: &[(&str, &str)]) -> Daemon {
        let successor = self.launch(words, env, "log-of-the-successor");
        self.daemon
            .replace(successor)
            .expect("a daemon was started")
    }

    fn launch(&self, words: &[&str], env: &[(&str, &str)], log: &str) -> Daemon {
        let mut command = self.host.command(env!("CARGO_BIN_EXE_flanneld")).unwrap();
        command.args(words).current_dir(&self.dir);
        command.env("FLANNELD_SUBNET_FILE", self.subnet_file());
        command.envs(env.iter().copied());
        Daemon::start(&mut command, &self.dir.join(log)).unwrap()
    }

    /// Has another daemon with these flags take over from the one at work.
    pub(crate) fn relieve(&mut self, words: &[&str]) {
        let mut old = self.daemon.take().expect("a daemon was started");
        // The old one goes on writing to the file it has.
        fs::remove_file(self.dir.join("log")).unwrap();
        self.start(&[words, &["--takeover"]].concat());
        self.await_log("took over from process");
        assert!(old.wait().unwrap().success(), "{}", old.log());
    }

    /// Waits until the daemon has written its subnet file.
    pub(crate) fn await_ready(&mut self) {
        self.await_log("] wrote ");
    }

    /// Waits until the daemon has logged a text.
    pub(crate) fn await_log(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            self.daemon().still_running().unwrap();
            assert!(Instant::now() < deadline, "no `{text}` in\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// The running daemon.
    pub(crate) fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("a daemon was started")
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.daemon.as_ref().map(Daemon::log).unwrap_or_default()
    }

    /// Fails if the daemon has ended, and tells how often it has logged a text.
    pub(crate) fn count_log(&mut self, text: &str) -> usize {
        self.daemon().still_running().unwrap();
        self.log().matches(text).count()
    }

    /// Waits until the daemon has ended by itself; its exit code.
    pub(crate) fn await_end(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while self.daemon().still_running().is_ok() {
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
        self.daemon().stop().unwrap().code()
    }

    /// Gives docker0 and the container their addresses as the subnet file says; the container's is the
    /// `number`th. Tells it.
    pub(crate) fn run_container(&self, number: u32) -> Ipv4Addr {
        let (gateway, mtu) = (
            self.subnet_value("FLANNEL_SUBNET"),
            self.subnet_value("FLANNEL_MTU"),
        );
        let bare: Ipv4Addr = gateway.split('/').next().unwrap().parse().unwrap();
        let address = Ipv4Addr::from_bits(bare.to_bits() - 1 + number);
        let bridge = format!(
            "addr replace {gateway} dev docker0\nlink set veth0 mtu {mtu}\nlink set docker0 mtu {mtu}"
        );
        self.host.ip(&bridge).unwrap();
        let inside = format!(
            "link set eth0 mtu {mtu} up\naddr replace {address}/24 dev eth0\nroute replace default via {bare}"
        );
        self.container.ip(&inside).unwrap();
        address
    }

    /// As `run_container` for IPv6, where the container is always the second of its subnet.
    pub(crate) fn run_container_ipv6(&self) -> Ipv6Addr {
        let gateway = self.subnet_value("FLANNEL_IPV6_SUBNET");
        let bare: Ipv6Addr = gateway.split('/').next().unwrap().parse().unwrap();
        let address = Ipv6Addr::from_bits(bare.to_bits() + 1);
        let bridge = format!("addr add {gateway} dev docker0 nodad");
        self.host.ip(&bridge).unwrap();
        let inside = format!(
            "link set eth0 up\naddr add {address}/64 dev eth0 nodad\nroute add ::/0 via {bare}"
        );
        self.container.ip(&inside).unwrap();
        address
    }

    /// The first address of the node's subnet: its own inside the overlay network.
    pub(crate) fn overlay_address(&self) -> Ipv4Addr {
        let subnet = self.subnet_value("FLANNEL_SUBNET");
        let bare: Ipv4Addr = subnet.split('/').next().unwrap().parse().unwrap();
        Ipv4Addr::from_bits(bare.to_bits() - 1)
    }

    /// The lines a command prints on the host.
    pub(crate) fn lines(&self, command: &str) -> Vec<String> {
        let printed = self.host.run(command).unwrap();
        printed
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// Asserts that a command on the host prints this line among others.
    pub(crate) fn prints(&self, command: &str, line: &str) {
        let lines = self.lines(command);
        assert!(
            lines.iter().any(|known| known == line),
            "`{command}` has no line `{line}`: {lines:#?}"
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if panicking() {
            eprintln!("--- {} ---\n{}", self.address, self.log());
        }
    }
}

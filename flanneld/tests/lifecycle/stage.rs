//! What all tests begin with: two nodes, an etcd on the second, and daemons when they are wanted.

use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use benches::daemon::Daemon;
use benches::etcd::Etcd;
use benches::lab::Subnet;
use benches::{Lab, Profile, Side};

/// Where the config is.
pub(crate) const CONFIG: &str = "/coreos.com/network/config";
/// What most tests write there.
pub(crate) const UDP: &str = r#"{"Network":"10.5.0.0/16"}"#;
/// Plain routes from node to node.
pub(crate) const HOST_GW: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#;
/// VXLAN by a device of the kernel's.
pub(crate) const KERNEL_VXLAN: &str =
    r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Datapath":"kernel"}}"#;
/// The same over VXLAN.
pub(crate) const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// Two nodes. Dropping it ends everything.
pub(crate) struct Stage {
    daemons: [Option<Daemon>; 2],
    pub(crate) etcd: Etcd,
    pub(crate) lab: Lab,
}

impl Stage {
    /// Nodes, and an etcd that knows the network config; no daemon yet.
    pub(crate) fn new(config: &str) -> Self {
        let stage = Self::without_config();
        stage.etcd.put(CONFIG, config).unwrap();
        stage
    }

    /// The same before anybody has written a config.
    pub(crate) fn without_config() -> Self {
        let lab = Lab::new(Profile::Offload).unwrap();
        let plan = Etcd::plan().member(lab.node(Side::B), Side::B.underlay().into());
        Self {
            daemons: [None, None],
            etcd: plan.unwrap().launch().unwrap(),
            lab,
        }
    }

    /// Both daemons at work and the containers in touch.
    pub(crate) fn up(config: &str) -> Self {
        let mut stage = Self::new(config);
        for side in Side::BOTH {
            stage.start(side, &["--iface=eth0"]);
        }
        stage.settle();
        stage
    }

    /// Starts a daemon.
    pub(crate) fn start(&mut self, side: Side, flags: &[&str]) {
        let mut command = self.command(side);
        self.start_as(side, command.args(flags));
    }

    /// Starts a daemon by this command line.
    pub(crate) fn start_as(&mut self, side: Side, command: &mut Command) {
        let daemon = Daemon::start(command, &self.log_file(side)).unwrap();
        self.daemons[side as usize] = Some(daemon);
    }

    /// Returns the daemon of a node, which goes on writing to its log.
    pub(crate) fn set_aside(&mut self, side: Side) -> Daemon {
        let log = self.log_file(side);
        std::fs::rename(&log, log.with_extension("before")).unwrap();
        self.daemons[side as usize].take().unwrap()
    }

    /// Starts another daemon beside the one on a node; returns the one before, which goes on writing to its log.
    pub(crate) fn add(&mut self, side: Side, flags: &[&str]) -> Daemon {
        let before = self.set_aside(side);
        self.start(side, flags);
        before
    }

    /// Ends the daemon of a side, and goes on with another.
    pub(crate) fn put_back(&mut self, side: Side, daemon: Daemon) {
        self.daemons[side as usize] = Some(daemon);
        let log = self.log_file(side);
        std::fs::rename(log.with_extension("before"), log).unwrap();
    }

    /// Waits until the daemon on a node ends by itself.
    pub(crate) fn outlive(&mut self, side: Side) -> ExitStatus {
        self.daemons[side as usize].take().unwrap().wait().unwrap()
    }

    /// The daemon's command line on a node, to be added to.
    pub(crate) fn command(&self, side: Side) -> Command {
        let node = self.lab.node(side);
        let mut command = node.command(env!("CARGO_BIN_EXE_flanneld")).unwrap();
        command.arg(format!("--etcd-endpoints={}", self.etcd.url()));
        let file = self.subnet_file(side);
        command.arg(format!("--subnet-file={}", file.display()));
        command
    }

    /// Waits until both nodes have a subnet, and connects the containers with them.
    pub(crate) fn settle(&self) {
        for side in Side::BOTH {
            wait(&format!("a subnet: {}", self.log(side)), || {
                self.subnet(side).is_some()
            });
            let (subnet, mtu) = (self.subnet(side).unwrap(), self.mtu(side).unwrap());
            self.lab.address(side, subnet, mtu).unwrap();
        }
        self.wait_until_connected();
    }

    /// The subnet a node's file names.
    pub(crate) fn subnet(&self, side: Side) -> Option<Subnet> {
        self.in_subnet_file(side, "FLANNEL_SUBNET=")?.parse().ok()
    }

    /// The MTU a node's file names.
    pub(crate) fn mtu(&self, side: Side) -> Option<u32> {
        self.in_subnet_file(side, "FLANNEL_MTU=")?.parse().ok()
    }

    fn in_subnet_file(&self, side: Side, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.subnet_file(side)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.to_owned())
    }

    /// A node's own directory.
    pub(crate) fn directory(&self, side: Side) -> PathBuf {
        let directory = self.lab.scratch().join(format!("{side:?}"));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    pub(crate) fn subnet_file(&self, side: Side) -> PathBuf {
        self.directory(side).join("subnet.env")
    }

    pub(crate) fn state_file(&self, side: Side) -> PathBuf {
        self.directory(side).join("subnet.env.state")
    }

    fn log_file(&self, side: Side) -> PathBuf {
        self.directory(side).join("log")
    }

    /// What a node's last daemon has said.
    pub(crate) fn log(&self, side: Side) -> String {
        std::fs::read_to_string(self.log_file(side)).unwrap_or_default()
    }

    /// How often a node's last daemon has said something.
    pub(crate) fn times(&self, side: Side, words: &str) -> usize {
        let log = self.log(side);
        log.lines().filter(|line| line.contains(words)).count()
    }

    /// Waits until a node's daemon has said something.
    pub(crate) fn wait_for(&self, side: Side, words: &str) {
        wait(&format!("{words:?}"), || self.times(side, words) > 0);
    }

    pub(crate) fn id(&self, side: Side) -> u32 {
        self.daemons[side as usize].as_ref().unwrap().id()
    }

    /// Asks a daemon to end; returns how it did.
    pub(crate) fn stop(&mut self, side: Side) -> ExitStatus {
        self.daemons[side as usize].take().unwrap().stop().unwrap()
    }

    /// Ends a daemon without asking.
    pub(crate) fn kill(&mut self, side: Side) {
        signal(self.id(side), "KILL");
        let status = self.stop(side);
        assert_eq!(status.signal(), Some(9));
    }

    /// Fails unless a daemon still runs.
    pub(crate) fn assert_running(&mut self, side: Side) {
        let daemon = self.daemons[side as usize].as_mut().unwrap();
        daemon.still_running().unwrap();
    }

    /// The record of a node's subnet, as it stands in etcd.
    pub(crate) fn record(&self, side: Side) -> String {
        let Subnet { base, length } = self.subnet(side).unwrap();
        let key = format!("/coreos.com/network/subnets/{base}-{length}");
        let shown = self.etcd.ctl(&["get", "--print-value-only", &key]);
        shown.unwrap().trim().to_owned()
    }

    /// Waits until a datagram gets through both ways.
    pub(crate) fn wait_until_connected(&self) {
        wait("a connection", || self.echoes());
    }

    /// Whether a datagram gets from one container to the other and back within a short while.
    pub(crate) fn echoes(&self) -> bool {
        let [near, far] = Side::BOTH.map(|side| self.container_socket(side));
        let (Some(near), Some(far)) = (near, far) else {
            return false;
        };
        let mut buffer = [0; 8];
        // A refusal by a host without a route is a loss like any other.
        let _ = near.send_to(b"hello", far.local_addr().unwrap());
        let Ok((_, from)) = far.recv_from(&mut buffer) else {
            return false;
        };
        let _ = far.send_to(b"hello", from);
        near.recv_from(&mut buffer).is_ok()
    }

    fn container_socket(&self, side: Side) -> Option<UdpSocket> {
        let address = self.subnet(side)?.container();
        let bind = || UdpSocket::bind((address, 0));
        let socket = self.lab.container(side).enter(bind).ok()?;
        let patience = Duration::from_millis(100);
        socket.set_read_timeout(Some(patience)).unwrap();
        Some(socket)
    }

    /// Runs `ip` commands on a node.
    pub(crate) fn ip(&self, side: Side, lines: &str) -> String {
        self.lab.node(side).ip(lines).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if thread::panicking() {
            for side in Side::BOTH {
                eprintln!("--- {side:?}\n{}", self.log(side));
            }
        }
    }
}

/// Waits for something that must become true.
pub(crate) fn wait(what: &str, condition: impl Fn() -> bool) {
    let came = (0..1500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        condition()
    });
    assert!(came, "waited in vain for {what}");
}

/// Sends a signal by its name.
pub(crate) fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Whether a device exists on a node.
pub(crate) fn exists(stage: &Stage, side: Side, device: &str) -> bool {
    let shown = stage.lab.node(side).run(&format!("ip link show {device}"));
    shown.is_ok()
}

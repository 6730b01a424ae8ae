//! Many leases: how long a daemon takes to make routes of all of them, and what that takes of memory and store.

mod churn;

pub use churn::Churn;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::etcd::{Etcd, Gateway};
use crate::namespace::Namespace;
use crate::scratch::Scratch;

/// Room for 262,144 nodes; those that are written lie above the range of the daemon's own.
const CONFIG: &str = r#"{"Network":"10.0.0.0/8","SubnetLen":26,"SubnetMin":"10.0.0.0","SubnetMax":"10.15.255.192","Backend":{"Type":"vxlan"}}"#;
const PREFIX: &str = "/coreos.com/network";
const FIRST_SUBNET: u32 = u32::from_be_bytes([10, 16, 0, 0]);
const FIRST_NODE: u32 = u32::from_be_bytes([172, 16, 0, 0]);
const SUBNET_SIZE: u32 = 64;
/// What a daemon asks of etcd.
const CALLS: [&str; 4] = ["Range", "Txn", "LeaseGrant", "Watch"];
/// By then what was only needed to load is given back.
const SETTLE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(120);

/// A node beside an etcd that holds the leases of many others. Fields end in this order.
#[derive(Debug)]
pub struct Scale {
    gateway: Gateway,
    _etcd: Etcd,
    node: Namespace,
    scratch: Scratch,
    flanneld: PathBuf,
    written: usize,
}

/// What a daemon that starts has come to when every lease is a route.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many there are.
    pub leases: usize,
    /// From the start of the process on.
    pub time: Duration,
    /// From one more lease in the store to its route.
    pub change: Duration,
    /// Resident memory of the whole process, engine included, a second later, in KiB.
    pub memory_kib: u64,
    /// The most it had.
    pub peak_kib: u64,
    /// Calls to etcd.
    pub calls: u64,
}

impl Scale {
    /// A node with an etcd that holds nothing but the network config.
    pub fn new(flanneld: &Path) -> io::Result<Self> {
        let node = Namespace::new()?;
        node.ip("link add eth0 type veth peer name far0\n\
             addr add 192.168.77.1/24 dev eth0\n\
             link set eth0 up\n\
             link set far0 up")?;
        let here = [127, 0, 0, 1].into();
        let mut etcd = Etcd::plan().member(&node, here)?.launch()?;
        etcd.put(&format!("{PREFIX}/config"), CONFIG)?;
        Ok(Self {
            gateway: etcd.member(0).gateway()?,
            _etcd: etcd,
            node,
            scratch: Scratch::new()?,
            flanneld: flanneld.to_owned(),
            written: 0,
        })
    }

    /// Sees to it that the store holds this many leases, and starts a daemon.
    pub fn load(&mut self, leases: usize) -> io::Result<Load> {
        self.write(leases)?;
        let before = self.calls()?;
        let begun = Instant::now();
        let mut daemon = self.start()?;
        await_peers(&mut daemon, leases)?;
        let (time, calls) = (begun.elapsed(), self.calls()? - before);
        thread::sleep(SETTLE);
        let memory_kib = daemon.memory_kib().unwrap_or_default();
        let begun = Instant::now();
        self.write(leases + 1)?;
        await_peers(&mut daemon, leases + 1)?;
        let change = begun.elapsed();
        self.remove_last()?;
        let peak_kib = daemon.peak_memory_kib().unwrap_or_default();
        daemon.stop()?;
        Ok(Load {
            leases,
            time,
            change,
            memory_kib,
            peak_kib,
            calls,
        })
    }

    fn start(&self) -> io::Result<Daemon> {
        let mut command = self.node.command(&self.flanneld.to_string_lossy())?;
        let file = self.scratch.path().join("subnet.env");
        command.args(["--etcd-endpoints=http://127.0.0.1:2379", "--iface=eth0"]);
        command.arg(format!("--subnet-file={}", file.display()));
        Daemon::start(&mut command, &self.scratch.path().join("flanneld.log"))
    }

    /// Writes the leases that are missing, as stock nodes would.
    fn write(&mut self, leases: usize) -> io::Result<()> {
        let missing: Vec<_> = (self.written..leases).map(lease).collect();
        self.written = self.written.max(leases);
        self.gateway.put_all(&missing)
    }

    fn remove_last(&mut self) -> io::Result<()> {
        self.written -= 1;
        self.gateway.delete(&lease(self.written).0)
    }

    fn calls(&self) -> io::Result<u64> {
        CALLS.iter().map(|kind| self.gateway.calls(kind)).sum()
    }
}

/// The record of one node.
fn lease(number: usize) -> (String, Vec<u8>) {
    lease_of(number, 0)
}

/// The same once the node has had so many addresses before.
fn lease_of(number: usize, moves: usize) -> (String, Vec<u8>) {
    let (number, moves) = (number as u32, moves as u32 % 8);
    let node = FIRST_NODE + number + (moves << 17);
    let [subnet, node] = [FIRST_SUBNET + number * SUBNET_SIZE, node].map(Ipv4Addr::from_bits);
    let [_, a, b, c] = node.octets();
    let value = format!(
        r#"{{"PublicIP":"{node}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:{a:02x}:{b:02x}:{c:02x}"}}}}"#
    );
    (format!("{PREFIX}/subnets/{subnet}-26"), value.into_bytes())
}

/// Waits until the daemon says that it has so many routes.
fn await_peers(daemon: &mut Daemon, peers: usize) -> io::Result<()> {
    let line = format!(" {peers} peer subnets");
    let deadline = Instant::now() + PATIENCE;
    while !daemon.log().contains(&line) {
        daemon.still_running()?;
        if Instant::now() > deadline {
            let log = daemon.log();
            return Err(io::Error::other(format!("never{line}:\n{log}")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

impl fmt::Display for Load {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(
            out,
            "all routes after {:.0} ms, one more after {:.1} ms, memory {:.1} MiB, at most {:.1} MiB, {} calls to etcd",
            ms(self.time),
            ms(self.change),
            mib(self.memory_kib),
            mib(self.peak_kib),
            self.calls
        )
    }
}

//! What carries packets between the two containers.
//!
//! A path is two ends, one per node; the ends may differ as long as they speak the same form.

mod ends;
mod spec;
mod store;
mod watch;

pub use spec::{End, Form, KNOWN, Known, OPTIONS, PathSpec};
pub use watch::Watch;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::lab::{Lab, Profile, Side, Subnet};
use crate::namespace::Namespace;
use ends::{Carrier, Lease};
use store::Store;

/// By how much a packet between IPv6 addresses has less room.
const LONGER_HEADERS: u32 = 20;
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer is waited for: short at first, to see soon that the path is up, then longer,
/// because on a busy machine answers come late.
const FIRST_PATIENCE: Duration = Duration::from_millis(2);
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// A lab whose containers reach each other. Dropping it stops the daemons and removes everything.
#[derive(Debug)]
pub struct Path {
    // The carriers stop before the lab below them goes away: fields drop in this order.
    carriers: [Carrier; 2],
    store: Store,
    leases: [Lease; 2],
    mtu: u32,
    spec: PathSpec,
    program: PathBuf,
    lab: Lab,
}

impl Path {
    /// Builds a lab, starts the ends, and waits until a datagram gets through both ways.
    ///
    /// `program` is the daemon, or the stock daemon, at the ends that have one.
    pub fn up(spec: &PathSpec, profile: Profile, program: &std::path::Path) -> io::Result<Self> {
        let lab = Lab::new(profile)?;
        let path = Self::connect(lab, spec, program)?;
        path.wait_until_connected()?;
        Ok(path)
    }

    /// Starts the ends in a lab that exists already.
    pub fn connect(lab: Lab, spec: &PathSpec, program: &std::path::Path) -> io::Result<Self> {
        if spec.outer_ipv6 {
            lab.add_ipv6()?;
        }
        let store = Store::create(&lab, spec)?;
        Self::start(lab, store, spec, program)
    }

    /// Starts the ends where their store is ready.
    fn start(
        lab: Lab,
        store: Store,
        spec: &PathSpec,
        program: &std::path::Path,
    ) -> io::Result<Self> {
        let (carriers, leases) = ends::start(&lab, spec, &store, program)?;
        let mtu = leases
            .iter()
            .filter_map(|lease| lease.mtu)
            .min()
            .unwrap_or_else(|| spec.form.mtu());
        for side in Side::BOTH {
            ends::address(&lab, side, &leases[side as usize], mtu)?;
        }
        Ok(Self {
            carriers,
            store,
            leases,
            mtu,
            spec: spec.clone(),
            program: program.to_owned(),
            lab,
        })
    }

    /// The lab below.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// What it was built from.
    pub fn spec(&self) -> &PathSpec {
        &self.spec
    }

    /// The largest packet that goes from container to container in one piece.
    pub fn mtu(&self) -> u32 {
        match self.spec.form {
            Form::Udp | Form::Vxlan if self.spec.ipv6 && self.spec.outer_ipv6 => {
                self.mtu - LONGER_HEADERS
            }
            _ => self.mtu,
        }
    }

    /// A node's container network.
    pub fn subnet(&self, side: Side) -> Subnet {
        self.leases[side as usize].subnet
    }

    /// The namespace and address of the container on a node.
    pub fn container(&self, side: Side) -> (&Namespace, IpAddr) {
        if self.spec.ends == [End::Loopback; 2] {
            let own: IpAddr = match self.spec.ipv6 {
                false => Ipv4Addr::LOCALHOST.into(),
                true => Ipv6Addr::LOCALHOST.into(),
            };
            return (self.lab.container(Side::A), own);
        }
        let Lease { subnet, ipv6, .. } = self.leases[side as usize];
        let address = match ipv6.filter(|_| self.spec.ipv6) {
            None => subnet.container().into(),
            Some(subnet) => subnet.container().into(),
        };
        (self.lab.container(side), address)
    }

    /// Has somebody look at both nodes for as long as the value lives, where the path is one with that.
    pub fn watch(&self) -> io::Result<Option<Watch>> {
        let begin = || Watch::begin(&self.lab);
        self.spec.watched.then(begin).transpose()
    }

    /// Processor seconds the ends have used so far, where they are programs at all.
    pub fn carriers_cpu_seconds(&self) -> f64 {
        self.carriers.iter().map(Carrier::cpu_seconds).sum()
    }

    /// The larger of the daemons' peaks of resident memory, in KiB.
    pub fn peak_memory_kib(&self) -> Option<u64> {
        self.carriers
            .iter()
            .filter_map(Carrier::peak_memory_kib)
            .max()
    }

    /// The daemon at a side, if there is one.
    pub fn daemon(&mut self, side: Side) -> Option<&mut Daemon> {
        match &mut self.carriers[side as usize] {
            Carrier::Daemon(daemon) => Some(daemon),
            _ => None,
        }
    }

    /// The process of the daemon at a side, if there is one.
    pub fn process(&self, side: Side) -> Option<u32> {
        match &self.carriers[side as usize] {
            Carrier::Daemon(daemon) => Some(daemon.id()),
            _ => None,
        }
    }

    /// The directory of the records, where leases are kept in one.
    pub fn records(&self) -> PathBuf {
        self.lab.scratch().join("store/subnets")
    }

    /// What the record of a subnet is called there.
    pub fn record_name(&self, subnet: Subnet) -> String {
        format!("{}-{}", subnet.base, subnet.length)
    }

    /// Stops the daemon at a side and starts another at once.
    pub fn restart(&mut self, side: Side, flanneld: &std::path::Path) -> io::Result<()> {
        let carrier = &mut self.carriers[side as usize];
        let lease = ends::restart(
            &self.lab,
            side,
            &self.spec,
            (&self.store, flanneld),
            carrier,
        )?;
        self.leases[side as usize] = lease;
        ends::address(&self.lab, side, &lease, self.mtu)
    }

    /// Ends the daemon at a side by a signal and starts another at once, as a supervisor would; says how long the first
    /// took to end.
    pub fn revive(
        &mut self,
        side: Side,
        flanneld: &std::path::Path,
        signal: i32,
    ) -> io::Result<Duration> {
        let (begun, carrier) = (Instant::now(), &mut self.carriers[side as usize]);
        if let Carrier::Daemon(daemon) = carrier {
            daemon.stop_with(signal)?;
        }
        let ended = begun.elapsed();
        let another = ends::launch(&self.lab, side, &self.spec, &self.store, flanneld, &[])?;
        self.carriers[side as usize] = another;
        Ok(ended)
    }

    /// Starts another daemon beside the one at a side, with more flags; returns the one before. What that has logged is
    /// beside the new one's log.
    pub fn add(
        &mut self,
        side: Side,
        flanneld: &std::path::Path,
        flags: &[&str],
    ) -> io::Result<Daemon> {
        let log = ends::log_file(&self.lab, side);
        std::fs::rename(&log, log.with_extension("before"))?;
        let another = ends::launch(&self.lab, side, &self.spec, &self.store, flanneld, flags)?;
        match std::mem::replace(&mut self.carriers[side as usize], another) {
            Carrier::Daemon(before) => Ok(before),
            _ => Err(io::Error::other("there was no daemon")),
        }
    }

    /// Puts a daemon back in the place of the one at a side, which is returned.
    pub fn put_back(&mut self, side: Side, daemon: Daemon) -> io::Result<Daemon> {
        let log = ends::log_file(&self.lab, side);
        std::fs::rename(log.with_extension("before"), log)?;
        match std::mem::replace(&mut self.carriers[side as usize], Carrier::Daemon(daemon)) {
            Carrier::Daemon(daemon) => Ok(daemon),
            _ => Err(io::Error::other("there was no daemon")),
        }
    }

    /// What the daemons have logged, for error messages.
    pub fn logs(&self) -> String {
        let logs = Side::BOTH.map(|side| (side, self.carriers[side as usize].log()));
        let written = logs.iter().filter(|(_, log)| !log.is_empty());
        written
            .map(|(side, log)| format!("--- {side:?}\n{log}"))
            .collect()
    }

    /// Builds the same once more beside this one, and says how long it takes from starting what
    /// carries packets, in a lab that is ready, to the first ping between the containers.
    pub fn time_to_first_ping(&self) -> io::Result<Duration> {
        let lab = Lab::new(self.lab.profile())?;
        if self.spec.outer_ipv6 {
            lab.add_ipv6()?;
        }
        let store = Store::create(&lab, &self.spec)?;
        let started = Instant::now();
        let twin = Self::start(lab, store, &self.spec, &self.program)?;
        twin.wait_until_connected()?;
        Ok(started.elapsed())
    }

    /// Waits until a datagram gets through both ways.
    pub fn wait_until_connected(&self) -> io::Result<()> {
        let [near, far] = Side::BOTH.map(|side| self.bound(side));
        let (near, far) = (near?, far?);
        near.connect(far.local_addr()?)?;
        far.connect(near.local_addr()?)?;
        let deadline = Instant::now() + CONNECT_PATIENCE;
        let mut patience = FIRST_PATIENCE;
        for number in 0_u64.. {
            if Instant::now() > deadline {
                break;
            }
            // When the last question has been answered, no earlier one is still under way.
            if answered(&near, &far, number, patience)? {
                return Ok(());
            }
            patience = (patience * 5 / 4).min(LAST_PATIENCE);
        }
        let (name, logs) = (&self.spec.name, self.logs());
        Err(io::Error::other(format!(
            "`{name}` carries no packet\n{logs}"
        )))
    }

    fn bound(&self, side: Side) -> io::Result<UdpSocket> {
        let (container, address) = self.container(side);
        container.enter(|| UdpSocket::bind((address, 0)))
    }
}

/// Asks `far` once; whether the answer to this very question comes within about `patience`.
fn answered(
    near: &UdpSocket,
    far: &UdpSocket,
    number: u64,
    patience: Duration,
) -> io::Result<bool> {
    near.set_read_timeout(Some(patience))?;
    far.set_read_timeout(Some(patience))?;
    let mut datagram = number.to_ne_bytes();
    // What the path cannot carry yet, it may refuse in many ways: only time tells.
    let _ = near.send(&datagram);
    while far.recv(&mut datagram).is_ok() {
        let _ = far.send(&datagram);
        if datagram == number.to_ne_bytes() {
            break;
        }
    }
    while near.recv(&mut datagram).is_ok() {
        if datagram == number.to_ne_bytes() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The daemon's program next to the one that runs now: both come out of the same build.
pub fn flanneld_beside_this_program() -> io::Result<PathBuf> {
    let here = std::env::current_exe()?;
    Ok(here.with_file_name("flanneld"))
}

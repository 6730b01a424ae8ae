//! What carries packets between the two containers.
//!
//! A path is two ends, one per node; the ends may differ as long as they speak the same form.

mod ends;
mod store;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Profile, Side, Subnet};
use crate::namespace::Namespace;
use ends::Carrier;
use store::Store;

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer is waited for: short at first, to see soon that the path is up, then longer,
/// because on a busy machine answers come late.
const FIRST_PATIENCE: Duration = Duration::from_millis(2);
const LAST_PATIENCE: Duration = Duration::from_millis(100);

/// What stands at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A plain route to the other node.
    Plain,
    /// The loopback of one container: what the traffic generator can do by itself.
    Loopback,
    /// The kernel's VXLAN, set up as flannel does.
    KernelVxlan,
    /// A peer that moves one packet at a time in flannel's UDP form.
    OnePacket,
    /// The daemon of this repository.
    Flanneld,
    /// A stock daemon, which keeps its lease in etcd.
    Stock,
}

impl End {
    /// Whether it is a program of its own that takes a lease.
    fn is_daemon(self) -> bool {
        matches!(self, Self::Flanneld | Self::Stock)
    }
}

/// The bytes on the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Inner packets as they are.
    Plain,
    /// The bare inner packet in a UDP datagram.
    Udp,
    /// An Ethernet frame in VXLAN.
    Vxlan,
}

impl Form {
    /// The containers' MTU over an underlay of 1500 bytes.
    pub fn mtu(self) -> u32 {
        match self {
            Self::Plain => 1500,
            Self::Udp => 1472,
            Self::Vxlan => 1450,
        }
    }
}

/// A path by name, with options for the daemon: `vxlan+io=epoll+workers=2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSpec {
    /// As it was written; how reports call it.
    pub name: String,
    /// The form both ends speak.
    pub form: Form,
    /// What stands at side A and side B.
    pub ends: [End; 2],
    /// Options of the daemon, without their leading dashes.
    pub options: Vec<String>,
}

/// A path by name, what it is, and how it is built.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// As commands and reports call it.
    pub name: &'static str,
    /// In a few words.
    pub about: &'static str,
    form: Form,
    ends: [End; 2],
}

/// Every path that can be built.
pub const KNOWN: [Known; 13] = [
    Known {
        name: "plain",
        about: "a route between the nodes, nothing else",
        form: Form::Plain,
        ends: [End::Plain; 2],
    },
    Known {
        name: "kernel-vxlan",
        about: "the kernel's VXLAN, set up as flannel does",
        form: Form::Vxlan,
        ends: [End::KernelVxlan; 2],
    },
    Known {
        name: "one-packet",
        about: "the shape of flannel's original proxy: one packet read, one packet sent",
        form: Form::Udp,
        ends: [End::OnePacket; 2],
    },
    Known {
        name: "udp",
        about: "flanneld's UDP form",
        form: Form::Udp,
        ends: [End::Flanneld; 2],
    },
    Known {
        name: "vxlan",
        about: "flanneld's VXLAN form",
        form: Form::Vxlan,
        ends: [End::Flanneld; 2],
    },
    Known {
        name: "host-gw",
        about: "flanneld's host-gw backend: routes, no tunnel",
        form: Form::Plain,
        ends: [End::Flanneld; 2],
    },
    Known {
        name: "stock-udp",
        about: "stock flannel's UDP form, with an etcd started for it",
        form: Form::Udp,
        ends: [End::Stock; 2],
    },
    Known {
        name: "stock-vxlan",
        about: "stock flannel's VXLAN, carried by the kernel",
        form: Form::Vxlan,
        ends: [End::Stock; 2],
    },
    Known {
        name: "stock-host-gw",
        about: "stock flannel's host-gw",
        form: Form::Plain,
        ends: [End::Stock; 2],
    },
    Known {
        name: "mixed-udp",
        about: "flanneld's UDP form to the one-packet peer",
        form: Form::Udp,
        ends: [End::Flanneld, End::OnePacket],
    },
    Known {
        name: "mixed-vxlan",
        about: "flanneld's VXLAN form to kernel VXLAN",
        form: Form::Vxlan,
        ends: [End::Flanneld, End::KernelVxlan],
    },
    Known {
        name: "mixed-vxlan-back",
        about: "kernel VXLAN to flanneld's VXLAN form",
        form: Form::Vxlan,
        ends: [End::KernelVxlan, End::Flanneld],
    },
    Known {
        name: "loopback",
        about: "one container with itself: what the traffic generator can do",
        form: Form::Plain,
        ends: [End::Loopback; 2],
    },
];

impl FromStr for PathSpec {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut parts = name.split('+');
        let base = parts.next().unwrap_or_default();
        let known = KNOWN
            .iter()
            .find(|known| known.name == base)
            .ok_or_else(|| {
                let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
                format!("unknown path `{base}`: it is one of {}", names.join(", "))
            })?;
        let options: Vec<_> = parts.map(str::to_owned).collect();
        if !options.is_empty() && !known.ends.iter().any(|end| end.is_daemon()) {
            return Err(format!("`{base}` has no daemon that could take options"));
        }
        Ok(Self {
            name: name.to_owned(),
            form: known.form,
            ends: known.ends,
            options,
        })
    }
}

impl PathSpec {
    /// Whether a daemon is part of it.
    pub fn has_daemon(&self) -> bool {
        self.ends.iter().any(|end| end.is_daemon())
    }

    /// Whether a stock daemon is part of it.
    pub fn has_stock(&self) -> bool {
        self.ends.contains(&End::Stock)
    }
}

impl fmt::Display for PathSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

/// A lab whose containers reach each other. Dropping it stops the daemons and removes everything.
#[derive(Debug)]
pub struct Path {
    // The carriers stop before the lab below them goes away: fields drop in this order.
    carriers: [Carrier; 2],
    store: Store,
    subnets: [Subnet; 2],
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
            lab.address(side, leases[side as usize].subnet, mtu)?;
        }
        Ok(Self {
            carriers,
            store,
            subnets: leases.map(|lease| lease.subnet),
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

    /// The containers' MTU.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// A node's container network.
    pub fn subnet(&self, side: Side) -> Subnet {
        self.subnets[side as usize]
    }

    /// The namespace and address of the container on a node.
    pub fn container(&self, side: Side) -> (&Namespace, IpAddr) {
        if self.spec.ends == [End::Loopback; 2] {
            return (self.lab.container(Side::A), Ipv4Addr::LOCALHOST.into());
        }
        (
            self.lab.container(side),
            self.subnet(side).container().into(),
        )
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
    pub fn daemon(&mut self, side: Side) -> Option<&mut crate::daemon::Daemon> {
        match &mut self.carriers[side as usize] {
            Carrier::Daemon(daemon) => Some(daemon),
            _ => None,
        }
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
        self.subnets[side as usize] = lease.subnet;
        self.lab.address(side, lease.subnet, self.mtu)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_name_of_a_path() {
        let spec: PathSpec = "udp+io=epoll+spin=0".parse().unwrap();
        assert_eq!(spec.ends, [End::Flanneld, End::Flanneld]);
        assert_eq!(spec.options, ["io=epoll", "spin=0"]);
    }

    #[test]
    fn a_path_without_a_daemon_takes_no_options() {
        assert!("plain+io=epoll".parse::<PathSpec>().is_err());
        assert!("nothing".parse::<PathSpec>().is_err());
    }
}

//! What carries packets between the two containers.
//!
//! A path is two ends, one per node; the ends may differ as long as they speak the same form.

mod ends;
mod store;

use std::fmt;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Profile, Side, Subnet};
use crate::namespace::Namespace;
use ends::Carrier;

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// What stands at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A plain route to the other node.
    Plain,
    /// The kernel's VXLAN, set up as flannel does.
    KernelVxlan,
    /// A peer that moves one packet at a time in flannel's UDP form.
    OnePacket,
    /// The daemon of this repository.
    Flanneld,
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

/// The names and what they mean.
const KNOWN: [(&str, Form, [End; 2]); 8] = [
    ("plain", Form::Plain, [End::Plain, End::Plain]),
    (
        "kernel-vxlan",
        Form::Vxlan,
        [End::KernelVxlan, End::KernelVxlan],
    ),
    ("one-packet", Form::Udp, [End::OnePacket, End::OnePacket]),
    ("udp", Form::Udp, [End::Flanneld, End::Flanneld]),
    ("vxlan", Form::Vxlan, [End::Flanneld, End::Flanneld]),
    (
        "mixed-vxlan",
        Form::Vxlan,
        [End::Flanneld, End::KernelVxlan],
    ),
    ("mixed-udp", Form::Udp, [End::Flanneld, End::OnePacket]),
    (
        "mixed-vxlan-back",
        Form::Vxlan,
        [End::KernelVxlan, End::Flanneld],
    ),
];

impl FromStr for PathSpec {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut parts = name.split('+');
        let base = parts.next().unwrap_or_default();
        let known = KNOWN
            .iter()
            .find(|(known, ..)| *known == base)
            .ok_or_else(|| {
                let names: Vec<_> = KNOWN.iter().map(|(known, ..)| *known).collect();
                format!("unknown path `{base}`: it is one of {}", names.join(", "))
            })?;
        let options: Vec<_> = parts.map(str::to_owned).collect();
        if !options.is_empty() && !known.2.contains(&End::Flanneld) {
            return Err(format!("`{base}` has no daemon that could take options"));
        }
        Ok(Self {
            name: name.to_owned(),
            form: known.1,
            ends: known.2,
            options,
        })
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
    subnets: [Subnet; 2],
    mtu: u32,
    spec: PathSpec,
    lab: Lab,
}

impl Path {
    /// Builds a lab, starts the ends, and waits until a datagram gets through both ways.
    pub fn up(spec: &PathSpec, profile: Profile, flanneld: &std::path::Path) -> io::Result<Self> {
        let lab = Lab::new(profile)?;
        let path = Self::connect(lab, spec, flanneld)?;
        path.wait_until_connected()?;
        Ok(path)
    }

    /// Starts the ends in a lab that exists already.
    pub fn connect(lab: Lab, spec: &PathSpec, flanneld: &std::path::Path) -> io::Result<Self> {
        let (carriers, leases) = ends::start(&lab, spec, flanneld)?;
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
            subnets: leases.map(|lease| lease.subnet),
            mtu,
            spec: spec.clone(),
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
        let lease = ends::restart(&self.lab, side, &self.spec, flanneld, carrier)?;
        self.subnets[side as usize] = lease.subnet;
        self.lab.address(side, lease.subnet, self.mtu)
    }

    /// What the daemons have logged, for error messages.
    pub fn logs(&self) -> String {
        Side::BOTH
            .map(|side| format!("--- {side:?}\n{}", self.carriers[side as usize].log()))
            .concat()
    }

    /// Waits until a datagram gets through both ways.
    pub fn wait_until_connected(&self) -> io::Result<()> {
        let deadline = Instant::now() + CONNECT_PATIENCE;
        while !self.echoes()? {
            if Instant::now() > deadline {
                let name = &self.spec.name;
                return Err(io::Error::other(format!(
                    "`{name}` carries no packet\n{}",
                    self.logs()
                )));
            }
        }
        Ok(())
    }

    /// Whether a datagram gets from A to B and back within a short while.
    fn echoes(&self) -> io::Result<bool> {
        let [near, far] = Side::BOTH.map(|side| self.bound(side));
        let (near, far) = (near?, far?);
        let mut buffer = [0; 8];
        near.send_to(b"hello", far.local_addr()?)?;
        let Ok((_, from)) = far.recv_from(&mut buffer) else {
            return Ok(false);
        };
        far.send_to(b"hello", from)?;
        Ok(near.recv_from(&mut buffer).is_ok())
    }

    fn bound(&self, side: Side) -> io::Result<UdpSocket> {
        let (container, address) = self.container(side);
        let socket = container.enter(|| UdpSocket::bind((address, 0)))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(socket)
    }
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

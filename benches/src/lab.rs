//! Two nodes and two containers: the devices and addresses, not yet what connects them.

mod ipv6;

pub use ipv6::Subnet6;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::sync::LazyLock;
use std::thread;

use crate::deprive::Kernel;
use crate::namespace::{Namespace, on_own_thread};
use crate::scratch::Scratch;
use crate::sys;

/// Hands packets that arrive at a node's underlay device to these processors.
const STEER: &str = "mount -t sysfs sysfs /sys && \
    for queue in /sys/class/net/eth0/queues/rx-*; do echo \"$1\" > \"$queue/rps_cpus\" || exit; done";

/// What the underlay between the nodes does to large packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The defaults of a veth: packets of up to 64 KiB cross unsegmented, checksums unfinished.
    Offload,
    /// Only packets of MTU size cross, one by one: no segmentation offload, no GRO.
    Wire,
    /// As `Wire` with GRO at the receiver, as an ordinary network card does.
    WireGro,
    /// As `Wire`, and each node keeps to its own half of the processors, packets that arrive included.
    WirePinned,
}

impl Profile {
    /// Every profile, in the order of reports.
    pub const ALL: [Self; 4] = [Self::Offload, Self::Wire, Self::WireGro, Self::WirePinned];

    /// The name in commands and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offload => "offload",
            Self::Wire => "wire",
            Self::WireGro => "wiregro",
            Self::WirePinned => "wirepinned",
        }
    }

    /// What it means, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Offload => "a veth as it comes: packets of 64 KiB cross whole",
            Self::Wire => "packets of MTU size cross one by one",
            Self::WireGro => "the same with GRO at the receiver, as on a network card",
            Self::WirePinned => "as wire, each node on its own half of the processors",
        }
    }

    /// Whether each node keeps to its half of the processors.
    pub fn pins(self) -> bool {
        self == Self::WirePinned
    }

    /// The arguments of `ethtool -K eth0`, if anything differs from the defaults.
    fn device_features(self) -> Option<String> {
        let gro = if self == Self::WireGro { "on" } else { "off" };
        let wire = "tso off gso off tx-udp-segmentation off \
                    tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off";
        (self != Self::Offload).then(|| format!("{wire} gro {gro}"))
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|profile| profile.name() == name);
        known.ok_or_else(|| {
            format!("unknown profile `{name}`: it is offload, wire, wiregro or wirepinned")
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// One of the two nodes, or its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The node that sends unless said otherwise.
    A,
    /// The other one.
    B,
}

impl Side {
    /// Both sides.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The opposite side.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its half of the machine's processors.
    pub fn processors(self) -> Range<usize> {
        static ALL: LazyLock<usize> =
            LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));
        match self {
            Self::A => 0..*ALL / 2,
            Self::B => *ALL / 2..*ALL,
        }
    }

    /// The node's address on the underlay.
    pub fn underlay(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 77, 1 + self as u8)
    }

    /// The container network of a node whose lease no daemon chooses.
    pub fn default_subnet(self) -> Subnet {
        Subnet {
            base: Ipv4Addr::new(10, 5, 1 + self as u8, 0),
            length: 24,
        }
    }
}

/// A node's container network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The first address, which is the node's own on the overlay device.
    pub base: Ipv4Addr,
    /// The prefix length.
    pub length: u8,
}

impl Subnet {
    /// The bridge's address.
    pub fn gateway(self) -> Ipv4Addr {
        self.host(1)
    }

    /// The container's address.
    pub fn container(self) -> Ipv4Addr {
        self.host(2)
    }

    /// The address `number` places after the base.
    pub fn host(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + number)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.base, self.length)
    }
}

impl FromStr for Subnet {
    type Err = String;

    /// Reads `10.5.26.1/24`; the host part is cleared.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an IPv4 network");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let length: u8 = length
            .parse()
            .ok()
            .filter(|length| (1..=30).contains(length))
            .ok_or_else(wrong)?;
        let mask = u32::MAX << (32 - length);
        Ok(Self {
            base: Ipv4Addr::from_bits(address.to_bits() & mask),
            length,
        })
    }
}

/// The two nodes with their containers. Dropping it removes everything.
#[derive(Debug)]
pub struct Lab {
    nodes: [Namespace; 2],
    containers: [Namespace; 2],
    profile: Profile,
    kernels: [Kernel; 2],
    scratch: Scratch,
}

impl Lab {
    /// Builds the namespaces, the underlay and the bridges.
    pub fn new(profile: Profile) -> io::Result<Self> {
        let nodes = [Namespace::new()?, Namespace::new()?];
        let containers = [Namespace::new()?, Namespace::new()?];
        let kernels = Side::BOTH.map(|side| match profile.pins() {
            true => Kernel::whole().on_processors(side.processors()),
            false => Kernel::whole(),
        });
        let lab = Self {
            nodes,
            containers,
            profile,
            kernels,
            scratch: Scratch::new()?,
        };
        lab.lay_underlay()?;
        Side::BOTH
            .into_iter()
            .try_for_each(|side| lab.lay_bridge(side))?;
        Ok(lab)
    }

    /// The namespace of a node.
    pub fn node(&self, side: Side) -> &Namespace {
        &self.nodes[side as usize]
    }

    /// The namespace of the container on a node.
    pub fn container(&self, side: Side) -> &Namespace {
        &self.containers[side as usize]
    }

    /// Lets daemons that are started on a node from now on find such a kernel there.
    pub fn set_kernel(&mut self, side: Side, kernel: Kernel) {
        self.kernels[side as usize] = kernel;
    }

    /// A command for a daemon on a node.
    pub fn daemon(&self, side: Side, program: &Path) -> io::Result<Command> {
        self.kernels[side as usize].command(self.node(side), program)
    }

    /// Starts a thread for a node, on the node's processors if it has some of its own.
    pub(crate) fn on_processors_of<T: Send>(
        &self,
        side: Side,
        start: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        on_own_thread(|| {
            if self.profile.pins() {
                sys::keep_to(side.processors());
            }
            start()
        })
    }

    /// What the underlay does to large packets.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// A directory for logs and lease files, gone with the lab.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Gives the bridge and the container of a node their addresses out of `subnet`.
    pub fn address(&self, side: Side, subnet: Subnet, mtu: u32) -> io::Result<()> {
        let (gateway, container, length) = (subnet.gateway(), subnet.container(), subnet.length);
        self.node(side).ip(&format!(
            "addr replace {gateway}/{length} dev cni0\n\
             link set pod0 mtu {mtu}\n\
             link set cni0 mtu {mtu}"
        ))?;
        let inside = format!(
            "link set eth0 mtu {mtu}\n\
             addr replace {container}/{length} dev eth0\n\
             route replace default via {gateway}"
        );
        self.container(side).ip(&inside).map(drop)
    }

    fn lay_underlay(&self) -> io::Result<()> {
        let far = self.node(Side::B).path();
        self.node(Side::A).ip(&format!(
            "link add eth0 type veth peer name eth0 netns {far}"
        ))?;
        for side in Side::BOTH {
            let node = self.node(side);
            node.ip(&format!(
                "addr add {}/24 dev eth0\nlink set eth0 up",
                side.underlay()
            ))?;
            node.set("net/ipv4/ip_forward", "1")?;
            if let Some(features) = self.profile.device_features() {
                node.run(&format!("ethtool -K eth0 {features}"))?;
            }
            if self.profile.pins() {
                self.steer_arrivals(side)?;
            }
        }
        Ok(())
    }

    fn steer_arrivals(&self, side: Side) -> io::Result<()> {
        let mut command = self.node(side).command("unshare")?;
        let mask = processor_mask(side.processors());
        let output = command
            .args(["--mount", "sh", "-c", STEER, "sh", &mask])
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!(
            "packets cannot be steered to processors: {}",
            said.trim()
        )))
    }

    fn lay_bridge(&self, side: Side) -> io::Result<()> {
        let inside = self.container(side).path();
        self.node(side).ip(&format!(
            "link add cni0 type bridge\n\
             link set cni0 up\n\
             link add pod0 type veth peer name eth0 netns {inside}\n\
             link set pod0 master cni0\n\
             link set pod0 up"
        ))?;
        self.container(side).ip("link set eth0 up").map(drop)
    }
}

/// The processors as a set in the kernel's notation: words of 32 bits, the highest first.
fn processor_mask(processors: Range<usize>) -> String {
    let words = (0..processors.end.div_ceil(32)).rev();
    let word = |index: usize| {
        let bits = (0..32).filter(|bit| processors.contains(&(index * 32 + bit)));
        format!("{:08x}", bits.fold(0_u32, |word, bit| word | 1 << bit))
    };
    words.map(word).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_read_from_the_gateway_address() {
        let subnet: Subnet = "10.5.26.1/24".parse().unwrap();
        assert_eq!(subnet.to_string(), "10.5.26.0/24");
        assert_eq!(subnet.container(), Ipv4Addr::new(10, 5, 26, 2));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["10.5.26.1", "10.5.26.1/33", "10.5.26/24", ""] {
            assert!(text.parse::<Subnet>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_profile_is_found_by_its_name() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
        }
    }

    #[test]
    fn processors_are_written_as_the_kernel_reads_them() {
        assert_eq!(processor_mask(0..1), "00000001");
        assert_eq!(processor_mask(2..4), "0000000c");
        assert_eq!(processor_mask(30..34), "00000003,c0000000");
        assert_eq!(processor_mask(32..33), "00000001,00000000");
    }
}

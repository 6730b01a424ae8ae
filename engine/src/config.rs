//! What an engine is told when it starts.

use std::net::IpAddr;
use std::time::Duration;

use sandbox::calls::Refusal;

use crate::wire::Mac;

/// Which way the kernel is asked to move packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// Whatever measures faster on this kernel.
    #[default]
    Auto,
    /// io_uring, in the best form this kernel has.
    Uring,
    /// io_uring with one read that keeps delivering (Linux 6.7).
    UringMultishot,
    /// io_uring with batches of single reads.
    UringOneshot,
    /// Readiness, `read` and `writev`: for kernels and sandboxes without io_uring.
    Epoll,
    /// The same on a plain device: one queue, no virtio header, so no offload on the TUN.
    SingleQueue,
}

/// A wire format this node listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The bare inner packet as UDP payload.
    Udp {
        /// Where we listen, and what we send from.
        port: u16,
    },
    /// VXLAN.
    Vxlan {
        /// Where we listen.
        port: u16,
        /// The network's identifier.
        vni: u32,
        /// Our tunnel endpoint address, as published in our lease.
        mac: Mac,
    },
}

impl Form {
    /// The port this form listens on.
    pub fn port(&self) -> u16 {
        match *self {
            Self::Udp { port } | Self::Vxlan { port, .. } => port,
        }
    }
}

/// Offloads that may be used where the kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// TCP super-packets to and from the TUN.
    pub tso: bool,
    /// UDP super-packets to and from the TUN.
    pub uso: bool,
    /// Many datagrams in one send.
    pub gso: bool,
    /// Many datagrams in one receive.
    pub gro: bool,
    /// Consecutive inner packets joined before they are written to the TUN.
    pub merge: bool,
    /// A socket for the sender alone that most comes from, which saves the kernel a lookup a datagram.
    pub favourite: bool,
    /// Join only packets whose IPv4 identifications come back exactly. Packets that must not be
    /// fragmented need none (RFC 6864), and many senders number them all alike: those then stay
    /// alone.
    pub exact_ids: bool,
}

impl Default for Offloads {
    fn default() -> Self {
        Self {
            tso: true,
            uso: true,
            gso: true,
            gro: true,
            merge: true,
            favourite: true,
            exact_ids: false,
        }
    }
}

/// Whose packets are taken in. Whatever it says, the inner destination must be ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceCheck {
    /// Those of current peers, from any inner source that cannot be ours or nobody's.
    #[default]
    Peers,
    /// Those of current peers, from inner sources in the subnets of that very peer, and, over
    /// VXLAN, from the Ethernet address in its lease.
    Strict,
    /// Anybody's, as in stock flannel, from any inner source that is somebody's.
    Off,
}

/// A device that datagrams arrive at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Largest packet it carries.
    pub mtu: u32,
}

/// What an engine needs to know to start.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Name of the TUN device; `%d` becomes the next free number.
    pub tun_name: String,
    /// Worker threads; `None`: as many as measure well on this machine.
    pub workers: Option<usize>,
    /// Bind each worker to one processor; `None`: only where each has one to itself.
    pub pin: Option<bool>,
    /// How packets are moved.
    pub io: IoChoice,
    /// Which wire formats to listen for.
    pub forms: Vec<Form>,
    /// Outer addresses to bind, at most one of each family.
    pub bind: Vec<IpAddr>,
    /// Take datagrams off this device before the kernel's stack sees them.
    pub shortcut: Option<Device>,
    /// Largest inner packet.
    pub mtu: u16,
    /// Largest inner packet that gets to every peer, so that larger ones with an unfinished checksum
    /// were never segmented, and are cut to this.
    pub segment: u16,
    /// Our addresses on the TUN device, from which ICMP answers come.
    pub tun_addresses: Vec<IpAddr>,
    /// Which offloads may be used.
    pub offloads: Offloads,
    /// How long a worker looks for more before it sleeps; zero: not at all.
    pub spin: Duration,
    /// Spread the flows of the UDP form over source ports, as VXLAN always does.
    pub flow_ports: bool,
    /// Whose packets are taken in.
    pub source_check: SourceCheck,
    /// Workers give up what they do not need, and meet this with what they then try all the same;
    /// `None`: they keep all the process has.
    pub confine: Option<Refusal>,
}

//! What the control plane needs from a data plane: to be told where packets go.

use crate::mac::Mac;
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;

/// Where packets for one subnet go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Inner destinations.
    pub subnet: IpNet,
    /// Underlay address of the node that holds them.
    pub endpoint: IpAddr,
    /// How the node wants packets wrapped.
    pub form: PeerForm,
}

/// How a node wants packets wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerForm {
    /// Not at all.
    Plain,
    /// Bare in a UDP datagram.
    Udp,
    /// As VXLAN, addressed to this Ethernet address.
    Vxlan(Mac),
}

/// A data plane that forwards by a table of peers.
///
/// Both calls do all they can even if some of it fails, and then say what failed.
pub trait TableSink {
    /// Makes the given peers, sorted by subnet, the whole table.
    fn replace(&mut self, peers: &[Peer]) -> io::Result<()>;

    /// Looks at the host after it has changed, and mends what the last table needs; tells whether somebody else had
    /// undone something.
    fn restore(&mut self) -> io::Result<bool>;

    /// Whether packets for a peer's subnet go there unwrapped, by a plain route.
    fn is_plain(&self, subnet: IpNet) -> bool {
        let _ = subnet;
        false
    }
}

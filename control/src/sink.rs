//! What the control plane needs from a data plane: to be told where packets go.

use crate::mac::Mac;
use ipnet::IpNet;
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
    /// Bare in a UDP datagram.
    Udp,
    /// As VXLAN, addressed to this Ethernet address.
    Vxlan(Mac),
}

/// A data plane that forwards by a table of peers.
pub trait TableSink {
    /// Makes the given peers, sorted by subnet, the whole table.
    fn replace(&mut self, peers: &[Peer]);
}

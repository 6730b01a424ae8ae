//! Plain routes: every peer is a gateway on our own link, and packets travel as they are.

use super::peer_routes::PeerRoutes;
use crate::host::Entry;
use crate::sink::{Peer, TableSink};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::io;

/// Routes every peer's subnet to the peer's address.
#[derive(Debug)]
pub struct HostGw {
    routes: PeerRoutes,
    /// The interface all peers are behind.
    interface: String,
    /// The last table, once there was one.
    peers: Option<Vec<Peer>>,
}

impl HostGw {
    /// Starts without peers.
    pub fn new(routes: PeerRoutes, interface: &str) -> Self {
        Self {
            routes,
            interface: interface.to_owned(),
            peers: None,
        }
    }
}

impl TableSink for HostGw {
    fn replace(&mut self, peers: &[Peer]) -> io::Result<()> {
        self.peers = Some(peers.to_vec());
        self.restore().map(drop)
    }

    fn restore(&mut self) -> io::Result<bool> {
        let Some(peers) = &self.peers else {
            return Ok(false);
        };
        let interface = self.routes.netlink().index_of(&self.interface)?;
        let wanted = peers.iter().map(|peer| via(peer, interface));
        let wanted: BTreeSet<Entry> = wanted.collect();
        self.routes.keep(wanted).map_err(|error| match error.kind() {
            io::ErrorKind::NetworkUnreachable => io::Error::new(error.kind(), format!("{error}; host-gw needs all nodes on one link, use vxlan or udp where a router is between them")),
            _ => error,
        })
    }

    fn is_plain(&self, _subnet: IpNet) -> bool {
        true
    }
}

/// The plain route to a peer on a link.
pub(super) fn via(peer: &Peer, interface: u32) -> Entry {
    Entry::Route {
        to: peer.subnet,
        gateway: Some(peer.endpoint),
        interface,
        onlink: false,
    }
}

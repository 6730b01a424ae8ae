//! DirectRouting: peers on our own link by plain routes, all others through a tunnel.
//!
//! Which peer is which is asked of the kernel's routing table, again after every change of the host. A peer that
//! moves from one side to the other is never without a route: the new one takes the old one's place, and only
//! then what else belonged to the old way is removed.

use super::host_gw::via;
use super::peer_routes::PeerRoutes;
use crate::host::Entry;
use crate::sink::{Peer, TableSink};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use tracing::info;

/// Which peers get a plain route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// None: every peer is behind the tunnel.
    Never,
    /// Those on our own link.
    Neighbours,
}

/// Which peers the tunnel is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnelled {
    /// Those without a plain route: the tunnel routes each by itself.
    Others,
    /// All: one route leads the whole network into the tunnel, plain ones lead past it, and what neighbours send through it is still let in.
    All,
}

/// A tunnel, and plain routes past it.
#[derive(Debug)]
pub struct Direct<T> {
    routes: PeerRoutes,
    tunnel: T,
    plain: Plain,
    tunnelled: Tunnelled,
    /// The last table, once there was one.
    peers: Option<Vec<Peer>>,
    /// The plain routes as last decided; at first, those of an earlier run.
    direct: BTreeMap<IpNet, Entry>,
}

impl<T: TableSink> Direct<T> {
    /// Starts without peers.
    pub fn new(routes: PeerRoutes, plain: Plain, tunnel: T, tunnelled: Tunnelled) -> Self {
        let left = routes.ours().filter_map(|entry| match entry {
            Entry::Route { to, .. } => Some((to, entry)),
            _ => None,
        });
        Self {
            direct: left.collect(),
            routes,
            tunnel,
            plain,
            tunnelled,
            peers: None,
        }
    }

    /// Peers that are reached on a link without a gateway. A route that is lost, blackholed or to ourselves is none.
    fn neighbours(&mut self, peers: &[Peer]) -> io::Result<BTreeMap<IpNet, Entry>> {
        if self.plain == Plain::Never {
            return Ok(BTreeMap::new());
        }
        let endpoints: Vec<IpAddr> = peers.iter().map(|peer| peer.endpoint).collect();
        let found = self.routes.netlink().routes_to(&endpoints)?;
        let near = peers.iter().zip(found).filter_map(|(peer, found)| {
            let found = found.filter(|found| found.gateway.is_none())?;
            // A gateway of the other family is none.
            if peer.subnet.addr().is_ipv4() != peer.endpoint.is_ipv4() {
                return None;
            }
            Some((peer.subnet, via(peer, found.interface)))
        });
        Ok(near.collect())
    }

    /// Whoever leaves the plain routes keeps them until the tunnel has taken over.
    fn divide(&mut self, peers: &[Peer], direct: BTreeMap<IpNet, Entry>) -> io::Result<()> {
        let mut both = std::mem::replace(&mut self.direct, direct.clone());
        both.extend(direct);
        let leaving = both.len() > self.direct.len();
        let first = self.routes.keep(both.into_values().collect());
        let others = |peer: &&Peer| {
            self.tunnelled == Tunnelled::All || !self.direct.contains_key(&peer.subnet)
        };
        let tunnelled: Vec<Peer> = peers.iter().filter(others).copied().collect();
        let second = self.tunnel.replace(&tunnelled);
        let third = leaving.then(|| self.keep_direct());
        first?;
        second?;
        third.transpose().map(drop)
    }

    fn keep_direct(&mut self) -> io::Result<bool> {
        self.routes.keep(self.direct.values().copied().collect())
    }
}

impl<T: TableSink> TableSink for Direct<T> {
    fn replace(&mut self, peers: &[Peer]) -> io::Result<()> {
        self.peers = Some(peers.to_vec());
        let direct = self.neighbours(peers)?;
        self.divide(peers, direct)
    }

    fn restore(&mut self) -> io::Result<bool> {
        let Some(peers) = self.peers.clone() else {
            return self.tunnel.restore();
        };
        let direct = self.neighbours(&peers)?;
        if direct != self.direct {
            let (near, all) = (direct.len(), peers.len());
            info!("{near} of {all} peer subnets are now reached without the tunnel");
            return self.divide(&peers, direct).map(|()| false);
        }
        let routes = self.keep_direct();
        let tunnel = self.tunnel.restore();
        Ok(routes? | tunnel?)
    }

    fn is_plain(&self, subnet: IpNet) -> bool {
        self.direct.contains_key(&subnet)
    }
}

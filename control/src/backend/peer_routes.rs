//! Routes to peers' subnets by way of their nodes.
//!
//! They look exactly as stock flannel's, so nothing in them says whose they are. What says it is where they lead:
//! a route made by hand or by flannel, without a metric, through a gateway, to a part of the overlay network that
//! is not ours. Such routes found at start are taken for those of an earlier run: they go on carrying packets until
//! the first table, which keeps those it needs and drops the others. After that only what was put here is removed.

use crate::host::keeper::Keeper;
use crate::host::{Entry, FoundRoute, Interface, Netlink};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::io;
use tracing::info;

/// A metric that lets every other route win.
const WEAKEST: u32 = u32::MAX;

/// What routes are about on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ground {
    /// The overlay network, one per address family.
    pub networks: Vec<IpNet>,
    /// What it was in earlier runs.
    pub former_networks: Vec<IpNet>,
    /// This node's own subnets.
    pub own: Vec<IpNet>,
    /// Whether packets for our own subnets shall end here while no bridge takes them.
    pub blackhole: bool,
}

/// Keeps routes to peers' subnets.
#[derive(Debug)]
pub struct PeerRoutes {
    netlink: Netlink,
    ground: Ground,
    keeper: Keeper,
}

impl PeerRoutes {
    /// Takes over the routes of earlier runs; changes nothing yet.
    pub fn new(ground: Ground) -> io::Result<Self> {
        let mut routes = Self::beside_others(ground)?;
        let devices = flannel_vxlan_devices(&mut routes.netlink)?;
        let found = routes.found()?;
        let left = found
            .iter()
            .filter(|route| routes.ground.leftover(route, &devices));
        let left: Vec<Entry> = left.map(|route| route.entry).collect();
        if !left.is_empty() {
            info!(
                "{} routes of an earlier run are there; those no peer needs will go",
                left.len()
            );
        }
        routes.keeper.adopt(left);
        Ok(routes)
    }

    /// For a node on which somebody else routes: what is there already is theirs.
    pub fn beside_others(ground: Ground) -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            ground,
            keeper: Keeper::default(),
        })
    }

    /// The routes of an earlier run, and those put since.
    pub(super) fn ours(&self) -> impl Iterator<Item = Entry> {
        self.keeper.mine()
    }

    /// How the kernel is asked.
    pub(super) fn netlink(&mut self) -> &mut Netlink {
        &mut self.netlink
    }

    /// Makes these routes, and none else of ours, stand; tells whether somebody else had removed some.
    pub fn keep(&mut self, mut wanted: BTreeSet<Entry>) -> io::Result<bool> {
        wanted.extend(self.blackholes());
        let found = self.found()?;
        let standing = found.iter().filter(|route| route.usual || weakest(route));
        let standing = standing.map(|route| route.entry).collect();
        self.keeper.keep(&mut self.netlink, wanted, &standing)
    }

    fn blackholes(&self) -> impl Iterator<Item = Entry> {
        let own = self.ground.own.iter().filter(|_| self.ground.blackhole);
        own.map(|subnet| Entry::Blackhole {
            to: *subnet,
            metric: WEAKEST,
        })
    }

    fn found(&mut self) -> io::Result<Vec<FoundRoute>> {
        let mut found = Vec::new();
        for network in &self.ground.networks {
            found.extend(self.netlink.main_routes(network.addr().is_ipv4())?);
        }
        Ok(found)
    }
}

impl Ground {
    /// Whether flannel made a route. Those of a kernel VXLAN device are looked after with the device.
    fn leftover(&self, route: &FoundRoute, devices: &BTreeSet<u32>) -> bool {
        let (to, ours) = match route.entry {
            Entry::Route {
                to,
                gateway: Some(_),
                interface,
                ..
            } => (to, route.usual && !devices.contains(&interface)),
            Entry::Blackhole { to, .. } => (to, route.usual || weakest(route)),
            _ => return false,
        };
        ours && route.by_hand && self.is_a_nodes(to)
    }

    /// Whether a network can have been one node's subnet: a part of the overlay network, and no part of our subnet,
    /// inside of which routes are our containers' business.
    fn is_a_nodes(&self, net: IpNet) -> bool {
        let inside = |outer: &IpNet| outer.contains(&net) && *outer != net;
        self.networks
            .iter()
            .chain(&self.former_networks)
            .any(inside)
            && !self.own.iter().any(inside)
    }
}

fn flannel_vxlan_devices(netlink: &mut Netlink) -> io::Result<BTreeSet<u32>> {
    let interfaces = netlink.interfaces()?.into_iter();
    let devices = interfaces.filter(Interface::is_flannel_vxlan);
    Ok(devices.map(|interface| interface.index).collect())
}

fn weakest(route: &FoundRoute) -> bool {
    matches!(
        route.entry,
        Entry::Blackhole {
            metric: WEAKEST,
            ..
        }
    )
}

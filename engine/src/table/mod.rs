//! The next-hop table: which peer owns which subnet. Immutable once built, swapped whole.
//!
//! All subnets of one flannel network usually have the same length, so an IPv4 lookup is one
//! load from a flat array that has an entry for every subnet the network could hold:
//!
//! ```text
//!   10.5.0.0/16 in /24s:   address ── (address - 10.5.0.0) >> 8 ──> [ peer | peer | - | ... ]
//! ```
//! Its cost does not depend on the number of leases. Shorter prefixes fill ranges, longest last,
//! so the longest prefix wins. What would make the array too large (a stray host route in a /8),
//! and IPv6, goes through one hash map per prefix length, longest first.

mod lookup;
mod traffic;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Cache};
use ipnet::IpNet;

use crate::sys::mmsg::RawAddress;
use crate::wire::{Mac, vxlan};
use lookup::{PlainHash, Prefixes, V4};
use traffic::Lanes;
pub use traffic::Traffic;

/// How packets to a peer are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerForm {
    /// The bare inner packet as UDP payload.
    Udp,
    /// VXLAN, with an Ethernet header addressed to this MAC.
    Vxlan {
        /// The peer's tunnel endpoint address, from its lease.
        mac: Mac,
    },
}

/// A node that owns subnets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where its datagrams go and where they must come from.
    pub address: IpAddr,
    /// Destination port.
    pub port: u16,
    /// How packets to it are wrapped.
    pub form: PeerForm,
    /// Largest inner packet the path takes in one piece, where it is known to be below the tunnel's
    /// own.
    pub mtu: Option<u16>,
}

/// A subnet and the peer that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The inner addresses.
    pub subnet: IpNet,
    /// Who has them.
    pub peer: Peer,
}

/// A peer as the workers use it.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) peer: Peer,
    pub(crate) address: RawAddress,
    pub(crate) traffic: Lanes,
}

impl Hop {
    /// Bytes of a datagram's payload in front of the inner packet.
    pub(crate) fn overhead(&self) -> usize {
        match self.peer.form {
            PeerForm::Udp => 0,
            PeerForm::Vxlan { .. } => vxlan::OVERHEAD,
        }
    }
}

/// How many tables were ever built.
static BUILT: AtomicU64 = AtomicU64::new(0);

/// An immutable table of next hops; build one and publish it.
#[derive(Debug, Default)]
pub struct SubnetTable {
    own_v4: Vec<RangeInclusive<u32>>,
    own_v6: Vec<RangeInclusive<u128>>,
    addresses: Vec<IpAddr>,
    v4: V4,
    v6: Prefixes<u128>,
    hops: Vec<Hop>,
    number: u64,
    by_address: HashMap<IpAddr, u32, PlainHash>,
}

impl SubnetTable {
    /// Builds the table of a node that owns `own`, from the subnets of everybody else.
    pub fn build(own: Vec<IpNet>, routes: impl IntoIterator<Item = Route>) -> Self {
        let mut table = Self {
            number: BUILT.fetch_add(1, Ordering::Relaxed) + 1,
            ..Self::default()
        };
        for net in own {
            table.add_own(net);
        }
        let mut known = HashMap::new();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Route { subnet, peer } in routes {
            let key = (peer.address, peer.port, form_key(peer.form), peer.mtu);
            let hop = *known.entry(key).or_insert_with(|| table.add_hop(peer));
            match subnet {
                IpNet::V4(net) => v4.push((net.trunc(), hop)),
                IpNet::V6(net) => v6.push((u128::from(net.network()), net.prefix_len(), hop)),
            }
        }
        table.v4 = V4::build(v4);
        table.v6 = Prefixes::build(v6);
        table
    }

    /// Adds what else is ours: addresses outside the overlay network, from which no peer can send.
    pub fn with_addresses(self, addresses: Vec<IpAddr>) -> Self {
        Self { addresses, ..self }
    }

    /// Ranges, because a prefix would be turned into one for every packet.
    fn add_own(&mut self, net: IpNet) {
        match net {
            IpNet::V4(net) => self
                .own_v4
                .push(net.network().into()..=net.broadcast().into()),
            IpNet::V6(net) => self
                .own_v6
                .push(net.network().into()..=net.broadcast().into()),
        }
    }

    fn add_hop(&mut self, peer: Peer) -> u32 {
        let index = self.hops.len() as u32;
        let address = RawAddress::from(SocketAddr::new(peer.address, peer.port));
        let traffic = Lanes::default();
        self.hops.push(Hop {
            peer,
            address,
            traffic,
        });
        self.by_address.entry(peer.address).or_insert(index);
        index
    }

    /// Goes on counting where the table before left off, for so many workers.
    pub(crate) fn count_on(&mut self, before: &Self, workers: usize) {
        for index in 0..self.hops.len() {
            let address = self.hops[index].peer.address;
            // Ways to one node count together.
            let first = self
                .by_address
                .get(&address)
                .map_or(index, |&first| first as usize);
            let known = match first < index {
                true => Some(&self.hops[first]),
                false => before.sender(address).map(|hop| before.hop(hop)),
            };
            let known = known.map(|hop| hop.traffic.clone());
            let known = known.filter(|traffic| traffic.workers() == workers);
            self.hops[index].traffic = known.unwrap_or_else(|| Lanes::new(workers));
        }
    }

    /// What went to a peer and came from it.
    pub fn traffic(&self, peer: IpAddr) -> Option<Traffic> {
        let hop = self.sender(peer)?;
        Some(self.hop(hop).traffic.sum())
    }

    /// How many distinct peers the table has.
    pub fn peers(&self) -> usize {
        self.by_address.len()
    }

    /// Which peer owns `address`, if any.
    pub fn route(&self, address: IpAddr) -> Option<&Peer> {
        let index = match address {
            IpAddr::V4(v4) => self.lookup_v4(v4.into()),
            IpAddr::V6(v6) => self.lookup_v6(v6.into()),
        };
        index.map(|index| &self.hops[index as usize].peer)
    }

    pub(crate) fn lookup_v4(&self, address: u32) -> Option<u32> {
        self.v4.lookup(address)
    }

    pub(crate) fn lookup_v6(&self, address: u128) -> Option<u32> {
        self.v6.lookup(address)
    }

    pub(crate) fn hop(&self, index: u32) -> &Hop {
        &self.hops[index as usize]
    }

    /// Every hop, in order.
    pub(crate) fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Tells this table from every other.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The peer whose datagrams come from this outer address.
    pub(crate) fn sender(&self, address: IpAddr) -> Option<u32> {
        self.by_address.get(&address).copied()
    }

    /// Whether inner traffic for `address` is for this node.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => holds(&self.own_v4, v4.to_bits()),
            IpAddr::V6(v6) => holds(&self.own_v6, v6.to_bits()),
        }
    }

    /// Whether inner traffic from `address` can only come from this node.
    pub(crate) fn is_from_us(&self, address: IpAddr) -> bool {
        self.is_own(address) || self.addresses.contains(&address)
    }

    /// Whether `address` is in a subnet of the node behind this hop, which sends it, over VXLAN,
    /// from this Ethernet address. A node may send in a form that its lease does not state; over
    /// VXLAN nothing is known of its Ethernet address then.
    pub(crate) fn belongs_to(&self, address: IpAddr, hop: u32, mac: Option<Mac>) -> bool {
        let node = self.hop(hop).peer.address;
        let fits = |peer: &Peer| match (form_key(peer.form), mac) {
            (Some(stated), Some(used)) => stated == used,
            _ => true,
        };
        self.route(address)
            .is_some_and(|peer| peer.address == node && fits(peer))
    }
}

fn holds<T: PartialOrd>(ranges: &[RangeInclusive<T>], address: T) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

fn form_key(form: PeerForm) -> Option<Mac> {
    match form {
        PeerForm::Udp => None,
        PeerForm::Vxlan { mac } => Some(mac),
    }
}

/// The control side: replaces the table all workers read.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableWriter {
    shared: Arc<ArcSwap<SubnetTable>>,
}

impl TableWriter {
    pub(crate) fn publish(&self, table: SubnetTable) {
        self.shared.store(Arc::new(table));
    }

    pub(crate) fn reader(&self) -> TableReader {
        TableReader {
            cache: Cache::new(Arc::clone(&self.shared)),
        }
    }

    pub(crate) fn current(&self) -> Arc<SubnetTable> {
        self.shared.load_full()
    }
}

/// A worker's view: one load per turn, and the table of a turn never changes.
#[derive(Debug)]
pub(crate) struct TableReader {
    cache: Cache<Arc<ArcSwap<SubnetTable>>, Arc<SubnetTable>>,
}

impl TableReader {
    pub(crate) fn load(&mut self) -> &Arc<SubnetTable> {
        self.cache.load()
    }
}

#[cfg(test)]
mod tests;

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

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use ipnet::{IpNet, Ipv4Net};

use crate::sys::mmsg::RawAddress;
use crate::wire::Mac;

/// Most entries a flat array may have: 4 MB.
const FLAT_BITS_MAX: u32 = 20;
/// No peer, in the flat array.
const NOBODY: u32 = u32::MAX;

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
    /// Largest inner packet the path takes, where it is known to be below the tunnel's own.
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    pub(crate) peer: Peer,
    pub(crate) address: RawAddress,
}

/// An immutable table of next hops; build one and publish it.
#[derive(Debug, Default)]
pub struct SubnetTable {
    own: Vec<IpNet>,
    v4: V4,
    v6: Prefixes<u128>,
    hops: Vec<Hop>,
    by_address: HashMap<IpAddr, u32, PlainHash>,
}

#[derive(Debug, Default)]
enum V4 {
    #[default]
    Empty,
    Flat(Flat),
    Prefixes(Prefixes<u32>),
}

impl SubnetTable {
    /// Builds the table of a node that owns `own`, from the subnets of everybody else.
    pub fn build(own: Vec<IpNet>, routes: impl IntoIterator<Item = Route>) -> Self {
        let mut table = Self {
            own,
            ..Self::default()
        };
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

    fn add_hop(&mut self, peer: Peer) -> u32 {
        let index = self.hops.len() as u32;
        let address = RawAddress::from(SocketAddr::new(peer.address, peer.port));
        self.hops.push(Hop { peer, address });
        self.by_address.entry(peer.address).or_insert(index);
        index
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
        match &self.v4 {
            V4::Empty => None,
            V4::Flat(flat) => flat.lookup(address),
            V4::Prefixes(prefixes) => prefixes.lookup(address),
        }
    }

    pub(crate) fn lookup_v6(&self, address: u128) -> Option<u32> {
        self.v6.lookup(address)
    }

    pub(crate) fn hop(&self, index: u32) -> &Hop {
        &self.hops[index as usize]
    }

    /// The peer whose datagrams come from this outer address.
    pub(crate) fn sender(&self, address: IpAddr) -> Option<u32> {
        self.by_address.get(&address).copied()
    }

    /// Whether inner traffic for `address` is for this node.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.own.iter().any(|net| net.contains(&address))
    }
}

fn form_key(form: PeerForm) -> Option<Mac> {
    match form {
        PeerForm::Udp => None,
        PeerForm::Vxlan { mac } => Some(mac),
    }
}

impl V4 {
    fn build(mut nets: Vec<(Ipv4Net, u32)>) -> Self {
        let Some(cover) = common_prefix(&nets) else {
            return Self::Empty;
        };
        let longest = nets
            .iter()
            .map(|(net, _)| net.prefix_len())
            .max()
            .unwrap_or(0);
        let bits = u32::from(longest - cover.prefix_len());
        if bits > FLAT_BITS_MAX {
            let plain = nets
                .iter()
                .map(|(net, hop)| (net.network().into(), net.prefix_len(), *hop));
            return Self::Prefixes(Prefixes::build(plain.collect()));
        }
        nets.sort_by_key(|(net, _)| net.prefix_len());
        let mut flat = Flat::empty(cover, longest);
        for (net, hop) in nets {
            flat.fill(net, hop);
        }
        Self::Flat(flat)
    }
}

/// The longest prefix that covers every subnet.
fn common_prefix(nets: &[(Ipv4Net, u32)]) -> Option<Ipv4Net> {
    let (first, _) = nets.first()?;
    let base = u32::from(first.network());
    let shared = |net: &Ipv4Net| (u32::from(net.network()) ^ base).leading_zeros() as u8;
    let lengths = nets
        .iter()
        .map(|(net, _)| net.prefix_len().min(shared(net)));
    let length = lengths.min()?;
    Ipv4Net::new(first.network(), length)
        .ok()
        .map(|net| net.trunc())
}

/// One entry for each subnet the covering prefix could hold.
#[derive(Debug)]
struct Flat {
    base: u32,
    /// Addresses at or past `base + span` are in no subnet.
    span: u64,
    shift: u32,
    entries: Box<[u32]>,
}

impl Flat {
    fn empty(cover: Ipv4Net, longest: u8) -> Self {
        let span = 1u64 << (32 - cover.prefix_len());
        let shift = 32 - u32::from(longest);
        let entries = vec![NOBODY; (span >> shift) as usize].into_boxed_slice();
        Self {
            base: cover.network().into(),
            span,
            shift,
            entries,
        }
    }

    fn fill(&mut self, net: Ipv4Net, hop: u32) {
        let offset = u64::from(u32::from(net.network()) - self.base);
        let first = (offset >> self.shift) as usize;
        let count = ((1u64 << (32 - net.prefix_len())) >> self.shift) as usize;
        self.entries[first..first + count].fill(hop);
    }

    fn lookup(&self, address: u32) -> Option<u32> {
        let offset = u64::from(address.wrapping_sub(self.base));
        if offset >= self.span {
            return None;
        }
        let hop = self.entries[(offset >> self.shift) as usize];
        (hop != NOBODY).then_some(hop)
    }
}

/// Longest-prefix match over one hash map per length in use.
#[derive(Debug)]
struct Prefixes<A> {
    lengths: Vec<(A, HashMap<A, u32, PlainHash>)>,
}

impl<A> Default for Prefixes<A> {
    fn default() -> Self {
        Self {
            lengths: Vec::new(),
        }
    }
}

impl<A: Address> Prefixes<A> {
    fn build(nets: Vec<(A, u8, u32)>) -> Self {
        let mut by_length: HashMap<u8, HashMap<A, u32, PlainHash>> = HashMap::new();
        for (base, length, hop) in nets {
            by_length.entry(length).or_default().insert(base, hop);
        }
        let mut lengths: Vec<_> = by_length.into_iter().collect();
        lengths.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        Self {
            lengths: lengths
                .into_iter()
                .map(|(length, map)| (A::mask(length), map))
                .collect(),
        }
    }

    fn lookup(&self, address: A) -> Option<u32> {
        self.lengths
            .iter()
            .find_map(|(mask, map)| map.get(&address.masked(*mask)).copied())
    }
}

/// An address as a number.
trait Address: Copy + Eq + std::hash::Hash {
    fn mask(length: u8) -> Self;
    fn masked(self, mask: Self) -> Self;
}

impl Address for u32 {
    fn mask(length: u8) -> Self {
        Self::MAX.checked_shl(32 - Self::from(length)).unwrap_or(0)
    }
    fn masked(self, mask: Self) -> Self {
        self & mask
    }
}

impl Address for u128 {
    fn mask(length: u8) -> Self {
        Self::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
    }
    fn masked(self, mask: Self) -> Self {
        self & mask
    }
}

type PlainHash = std::hash::BuildHasherDefault<AddressHasher>;

/// A multiplicative hash for addresses. Its keys come from leases, not from packets, so nobody on
/// the wire can choose them to collide.
#[derive(Clone, Copy, Debug, Default)]
struct AddressHasher(u64);

impl std::hash::Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }
    fn write_u128(&mut self, value: u128) {
        self.write_u64(value as u64);
        self.write_u64((value >> 64) as u64);
    }
    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
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

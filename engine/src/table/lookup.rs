//! Finding the entry an address belongs to: flat for IPv4, by prefix length otherwise.

use std::collections::HashMap;

use ipnet::Ipv4Net;

/// Most entries a flat array may have: 4 MB.
const FLAT_BITS_MAX: u32 = 20;
/// No peer, in the flat array.
const NOBODY: u32 = u32::MAX;

/// The IPv4 half of a table.
#[derive(Debug, Default)]
pub(super) enum V4 {
    #[default]
    Empty,
    Flat(Flat),
    Prefixes(Prefixes<u32>),
}

impl V4 {
    /// Builds it from subnets and the hops that own them.
    pub(super) fn build(mut nets: Vec<(Ipv4Net, u32)>) -> Self {
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

    /// The hop that owns an address.
    pub(super) fn lookup(&self, address: u32) -> Option<u32> {
        match self {
            Self::Empty => None,
            Self::Flat(flat) => flat.lookup(address),
            Self::Prefixes(prefixes) => prefixes.lookup(address),
        }
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
pub(super) struct Flat {
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
pub(super) struct Prefixes<A> {
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
    /// Builds it from network addresses, their lengths and the hops that own them.
    pub(super) fn build(nets: Vec<(A, u8, u32)>) -> Self {
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

    /// The hop of the longest prefix an address is in.
    pub(super) fn lookup(&self, address: A) -> Option<u32> {
        self.lengths
            .iter()
            .find_map(|(mask, map)| map.get(&address.masked(*mask)).copied())
    }
}

/// An address as a number.
pub(super) trait Address: Copy + Eq + std::hash::Hash {
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

/// Builds [`AddressHasher`]s.
pub(super) type PlainHash = std::hash::BuildHasherDefault<AddressHasher>;

/// A multiplicative hash for addresses. Its keys come from leases, not from packets, so nobody on
/// the wire can choose them to collide.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AddressHasher(u64);

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

//! A pool: one address family's network and the range of equal subnets that nodes take from it. Pure arithmetic.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The subnets of one family that nodes may lease: `min..=max` in steps of one subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The whole overlay network, host bits cleared.
    pub network: IpNet,
    /// Prefix length of each node's subnet.
    pub subnet_len: u8,
    /// First subnet that may be leased.
    pub min: IpAddr,
    /// Last subnet that may be leased.
    pub max: IpAddr,
}

impl Pool {
    /// A pool over the whole network but its first subnet, which by custom stays free.
    pub(crate) fn whole(network: IpNet, subnet_len: u8) -> Self {
        let step = step(network, subnet_len);
        let first = to_bits(network.network());
        let last = to_bits(network.broadcast()) - (step - 1);
        let address = |bits| from_bits(bits, network);
        Self {
            network,
            subnet_len,
            min: address(first + step),
            max: address(last),
        }
    }

    /// Whether a node may keep a subnet under this configuration.
    pub fn allows(&self, subnet: IpNet) -> bool {
        let start = subnet.network();
        subnet.prefix_len() == self.subnet_len
            && start.is_ipv4() == self.min.is_ipv4()
            && self.min <= start
            && start <= self.max
    }

    /// Whether an address is the first one of some subnet of the pool's length.
    pub(crate) fn aligned(&self, address: IpAddr) -> bool {
        to_bits(address).is_multiple_of(step(self.network, self.subnet_len))
    }

    /// Every subnet of the pool in ascending order.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        let Self {
            network,
            subnet_len,
            min,
            max,
        } = *self;
        let (step, max) = (step(network, subnet_len), to_bits(max));
        let next = move |start: &u128| start.checked_add(step).filter(|next| *next <= max);
        let first = Some(to_bits(min)).filter(|first| *first <= max);
        std::iter::successors(first, next)
            .map(move |start| subnet(from_bits(start, network), subnet_len))
    }
}

fn step(network: IpNet, subnet_len: u8) -> u128 {
    1 << (network.max_prefix_len() - subnet_len)
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn from_bits(bits: u128, family: IpNet) -> IpAddr {
    match family {
        IpNet::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

/// A subnet whose length was checked when its pool was made.
fn subnet(start: IpAddr, len: u8) -> IpNet {
    IpNet::new_assert(start, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_subnet_of_the_network_stays_free() {
        let pool = Pool::whole("10.5.0.0/16".parse().unwrap(), 24);
        let subnets: Vec<String> = pool.subnets().map(|subnet| subnet.to_string()).collect();
        assert_eq!(
            (subnets.len(), &*subnets[0], &*subnets[254]),
            (255, "10.5.1.0/24", "10.5.255.0/24")
        );
    }

    #[test]
    fn the_end_of_the_address_space_is_no_obstacle() {
        let pool = Pool::whole("255.255.0.0/16".parse().unwrap(), 24);
        assert_eq!(
            pool.subnets().last().unwrap().to_string(),
            "255.255.255.0/24"
        );
        let pool = Pool::whole("ffff:ffff:ffff:ffff::/64".parse().unwrap(), 66);
        assert_eq!(pool.subnets().count(), 3);
    }

    #[test]
    fn a_range_upside_down_has_no_subnet() {
        let mut pool = Pool::whole("10.5.0.0/16".parse().unwrap(), 24);
        (pool.min, pool.max) = (pool.max, pool.min);
        assert_eq!(pool.subnets().count(), 0);
    }

    #[test]
    fn only_subnets_of_the_right_size_and_place_are_allowed() {
        let pool = Pool::whole("10.5.0.0/16".parse().unwrap(), 24);
        let allows = |text: &str| pool.allows(text.parse().unwrap());
        assert!(allows("10.5.1.0/24"));
        assert!(!allows("10.5.0.0/24"));
        assert!(!allows("10.5.1.0/25"));
        assert!(!allows("10.6.1.0/24"));
        assert!(!allows("fd05::/24"));
    }
}

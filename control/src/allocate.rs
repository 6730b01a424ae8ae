//! Picks a free subnet. Pure but for the dice it is given.

use crate::pool::Pool;
use crate::subnet_key::overlap;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Enough choice that nodes starting together seldom want the same subnet.
const CANDIDATES: usize = 100;

/// One of the first free subnets of each pool, each as likely as the next; `None` when all of one are taken.
///
/// Of every pool it is the one with the same number: nodes that start together want the same subnets or have none in
/// common. A store tells only those from each other who want the very same.
pub(crate) fn pick(
    pools: impl Iterator<Item = Pool>,
    taken: impl Iterator<Item = IpNet>,
    dice: &mut fastrand::Rng,
) -> Option<Vec<IpNet>> {
    let taken = Taken::new(taken);
    let free: Vec<Vec<IpNet>> = pools.map(|pool| taken.leave(&pool)).collect();
    let common = free.iter().map(Vec::len).min().filter(|len| *len > 0)?;
    let number = dice.usize(..common);
    Some(free.iter().map(|of_one| of_one[number]).collect())
}

/// Subnets in use, by first address. Where several start alike only the widest matters.
struct Taken(BTreeMap<IpAddr, IpNet>);

impl Taken {
    fn new(subnets: impl Iterator<Item = IpNet>) -> Self {
        let mut widest = BTreeMap::new();
        for subnet in subnets {
            let kept: &mut IpNet = widest.entry(subnet.network()).or_insert(subnet);
            if subnet.prefix_len() < kept.prefix_len() {
                *kept = subnet;
            }
        }
        Self(Self::without_nested(widest))
    }

    /// The first subnets of the pool that are free.
    fn leave(&self, pool: &Pool) -> Vec<IpNet> {
        let free = pool.subnets().filter(|subnet| !self.overlaps(*subnet));
        free.take(CANDIDATES).collect()
    }

    fn without_nested(mut subnets: BTreeMap<IpAddr, IpNet>) -> BTreeMap<IpAddr, IpNet> {
        let mut outer: Option<IpNet> = None;
        subnets.retain(|_, subnet| {
            let nested = outer.is_some_and(|outer| outer.contains(&*subnet));
            outer = if nested { outer } else { Some(*subnet) };
            !nested
        });
        subnets
    }

    /// As no two overlap, only the neighbours on both sides can overlap a third.
    fn overlaps(&self, subnet: IpNet) -> bool {
        let start = subnet.network();
        let before = self.0.range(..=start).next_back();
        let after = self.0.range(start..).next();
        before
            .into_iter()
            .chain(after)
            .any(|(_, other)| overlap(*other, subnet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn pool(network: &str) -> Pool {
        Pool::whole(network.parse().unwrap(), 24)
    }

    fn picks(pool: &Pool, taken: &[&str]) -> BTreeSet<IpNet> {
        let mut dice = fastrand::Rng::with_seed(7);
        (0..5000)
            .filter_map(|_| pick([*pool].into_iter(), nets(taken).into_iter(), &mut dice))
            .flatten()
            .collect()
    }

    #[test]
    fn a_fresh_network_yields_the_first_hundred_subnets() {
        let picked = picks(&pool("10.5.0.0/16"), &[]);
        assert_eq!(picked.len(), 100);
        assert_eq!(
            (picked.first(), picked.last()),
            (
                nets(&["10.5.1.0/24"]).first(),
                nets(&["10.5.100.0/24"]).first()
            )
        );
    }

    #[test]
    fn a_taken_subnet_is_never_picked_whatever_its_length() {
        let picked = picks(
            &pool("10.5.0.0/21"),
            &[
                "10.5.2.0/24",
                "10.5.3.16/28",
                "10.5.4.0/23",
                "10.5.4.0/24",
                "10.5.5.0/25",
                "fd05::/64",
            ],
        );
        assert_eq!(
            picked.into_iter().collect::<Vec<_>>(),
            nets(&["10.5.1.0/24", "10.5.6.0/24", "10.5.7.0/24"])
        );
    }

    #[test]
    fn nodes_that_start_together_want_the_same_subnets_or_have_none_in_common() {
        let pools = [
            pool("10.5.0.0/21"),
            Pool::whole("fd05::/48".parse().unwrap(), 64),
        ];
        let mut dice = fastrand::Rng::with_seed(7);
        let mut pick = || {
            pick(
                pools.into_iter(),
                nets(&["10.5.2.0/24"]).into_iter(),
                &mut dice,
            )
        };
        let picked: BTreeSet<_> = (0..5000).filter_map(|_| pick()).collect();
        assert_eq!(picked.len(), 6, "as many as the smaller pool has");
        for family in [0, 1] {
            let subnets: BTreeSet<_> = picked.iter().map(|both| both[family]).collect();
            assert_eq!(subnets.len(), 6, "{picked:?}");
        }
    }

    #[test]
    fn a_full_network_yields_nothing() {
        assert!(picks(&pool("10.5.0.0/22"), &["10.5.0.0/16"]).is_empty());
        assert!(
            picks(
                &pool("10.5.0.0/22"),
                &["10.5.1.0/24", "10.5.2.0/24", "10.5.3.0/24"]
            )
            .is_empty()
        );
    }
}

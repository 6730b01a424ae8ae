//! Gets a subnet for this node and keeps it: the one it has, else the one it had, else a free one. Where the store gives
//! out subnets itself, the one it gave.
//!
//! Another node may do the same at the same moment. Whoever writes first wins, and the loser reads again.

use crate::allocate;
use crate::lease::{Lease, LeaseAttrs};
use crate::network::NetworkConfig;
use crate::random;
use crate::registry::{Assigned, Registry, RegistryError, Snapshot};
use crate::subnet_key::SubnetKey;
use ipnet::IpNet;
use std::fmt;
use tracing::{info, warn};

/// Each lost race means that another node won one, so even a crowd is through long before this.
const TRIES: usize = 100;

/// What this node wants to write down.
pub struct Wish<'a> {
    /// The network config in force.
    pub network: &'a NetworkConfig,
    /// This node's attributes; the record it already has is given, to keep what must outlive a restart.
    pub attrs: &'a dyn Fn(Option<&LeaseAttrs>) -> LeaseAttrs,
    /// The subnet this node had before, if known.
    pub previous: Option<SubnetKey>,
}

impl fmt::Debug for Wish<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Wish")
            .field("network", self.network)
            .field("previous", &self.previous)
            .finish_non_exhaustive()
    }
}

/// Why this node has no subnet.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// Every subnet of the network is leased.
    #[error(
        "out of subnets: every subnet between SubnetMin and SubnetMax is leased; widen the range or remove stale leases"
    )]
    OutOfSubnets,
    /// What the store gave this node is not part of the network.
    #[error("{0}")]
    Unfit(String),
    /// The registry does not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Gets a lease.
pub fn acquire(registry: &dyn Registry, wish: &Wish<'_>) -> Result<Lease, AcquireError> {
    let mut tries = 0;
    loop {
        match attempt(registry, wish) {
            Err(AcquireError::Registry(RegistryError::Conflict(key))) if tries < TRIES => {
                tries += 1;
                info!("{key} went to another node; choosing again");
            }
            outcome => return outcome,
        }
    }
}

fn attempt(registry: &dyn Registry, wish: &Wish<'_>) -> Result<Lease, AcquireError> {
    if let Some(assigned) = registry.assigned()? {
        let key = fitting(wish.network, &assigned)?;
        let attrs = (wish.attrs)(assigned.attrs.as_ref());
        return Ok(registry.create(key, &attrs)?);
    }
    let snapshot = registry.snapshot()?;
    let fresh = (wish.attrs)(None);
    for mine in held_by(&fresh, &snapshot, wish.previous) {
        if compatible(wish.network, mine.key) {
            let attrs = (wish.attrs)(Some(&mine.attrs));
            return Ok(registry.renew(mine, &attrs)?);
        }
        info!("our lease {mine} does not fit the network config any more; giving it up");
        registry.remove(mine)?;
    }
    let key = previous(wish, &snapshot).or_else(|| free(wish.network, &snapshot));
    Ok(registry.create(key.ok_or(AcquireError::OutOfSubnets)?, &fresh)?)
}

/// Of what a node was given, what this network uses: a part of it in each of its families.
fn fitting(network: &NetworkConfig, assigned: &Assigned) -> Result<SubnetKey, AcquireError> {
    let mut used = Vec::new();
    for whole in network.networks() {
        let of_family = |subnet: &&IpNet| subnet.max_prefix_len() == whole.max_prefix_len();
        let given = assigned.subnets.iter().find(of_family);
        used.push(match given {
            Some(subnet) if whole.contains(subnet) => *subnet,
            given => return Err(AcquireError::Unfit(unfit(whole, given, &assigned.holder))),
        });
    }
    // Networks always have a family.
    SubnetKey::of(used).ok_or(AcquireError::OutOfSubnets)
}

fn unfit(whole: IpNet, given: Option<&IpNet>, holder: &str) -> String {
    let family = if whole.addr().is_ipv4() {
        "IPv4"
    } else {
        "IPv6"
    };
    match given {
        Some(subnet) => format!(
            "subnet {whole} specified in the flannel net config doesn't contain PodCIDR {subnet} of {holder}: make it the cluster's --cluster-cidr, in net-conf.json, and restart this daemon"
        ),
        None => format!(
            "{holder} has no {family} podCIDR, and the flannel net config asks for {whole}: give the cluster's --cluster-cidr one, or leave {family} out of net-conf.json"
        ),
    }
}

/// This node's records; the subnet it used last comes first.
fn held_by<'a>(
    node: &LeaseAttrs,
    snapshot: &'a Snapshot,
    previous: Option<SubnetKey>,
) -> Vec<&'a Lease> {
    let mut mine: Vec<&Lease> = snapshot
        .leases
        .iter()
        .filter(|lease| lease.attrs.same_node(node))
        .collect();
    mine.sort_by_key(|lease| Some(lease.key) != previous);
    mine
}

/// The subnet used before, if the config still allows it and nobody has it.
fn previous(wish: &Wish<'_>, snapshot: &Snapshot) -> Option<SubnetKey> {
    let key = wish.previous?;
    if !compatible(wish.network, key) {
        warn!("the previous subnet {key} does not fit the network config; taking another");
        return None;
    }
    if let Some(holder) = snapshot
        .keys()
        .find(|held| key.subnets().any(|subnet| held.overlaps(subnet)))
    {
        warn!(
            "the previous subnet {key} now belongs to another node (record {holder}); taking another"
        );
        return None;
    }
    Some(key)
}

fn free(network: &NetworkConfig, snapshot: &Snapshot) -> Option<SubnetKey> {
    let mut dice = random::generator();
    let taken = snapshot.keys().flat_map(|key| key.subnets());
    SubnetKey::of(allocate::pick(network.pools().copied(), taken, &mut dice)?)
}

/// Whether the config lets a node hold these subnets: right size, in range, and the families in use, no other.
pub fn compatible(network: &NetworkConfig, key: SubnetKey) -> bool {
    let families = key.ipv4().is_some() == network.ipv4.is_some()
        && key.ipv6().is_some() == network.ipv6.is_some();
    families
        && key
            .subnets()
            .all(|subnet| network.pools().any(|pool| pool.allows(subnet)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::FileRegistry;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(86400);

    fn store(dir: &Path) -> FileRegistry {
        FileRegistry::open(dir, DAY).unwrap()
    }

    fn network(text: &str) -> NetworkConfig {
        NetworkConfig::parse(text).unwrap()
    }

    fn usual() -> NetworkConfig {
        network(r#"{"Network":"10.5.0.0/16"}"#)
    }

    fn node(address: &str) -> LeaseAttrs {
        LeaseAttrs::parse(&format!(r#"{{"PublicIP":"{address}"}}"#)).unwrap()
    }

    fn get(
        store: &FileRegistry,
        network: &NetworkConfig,
        node: &LeaseAttrs,
        previous: Option<&str>,
    ) -> Result<Lease, AcquireError> {
        let previous = previous.map(|key| key.parse().unwrap());
        acquire(
            store,
            &Wish {
                network,
                attrs: &|_| node.clone(),
                previous,
            },
        )
    }

    fn name(lease: Result<Lease, AcquireError>) -> String {
        lease.unwrap().key.to_string()
    }

    #[test]
    fn acquire_lease_takes_one_in_range_and_the_same_one_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let first = get(&store, &usual(), &node("1.2.3.4"), None).unwrap();
        assert!(compatible(&usual(), first.key));
        let second = get(&store, &usual(), &node("1.2.3.4"), None).unwrap();
        assert_eq!(first.key, second.key);
    }

    #[test]
    fn acquire_lease_honours_the_previous_subnet() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            name(get(
                &store(dir.path()),
                &usual(),
                &node("1.2.3.4"),
                Some("10.5.77.0-24")
            )),
            "10.5.77.0-24"
        );
    }

    #[test]
    fn acquire_lease_ignores_a_previous_subnet_that_does_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let lease = get(
            &store(dir.path()),
            &usual(),
            &node("1.2.3.4"),
            Some("10.6.77.0-24"),
        )
        .unwrap();
        assert!(compatible(&usual(), lease.key));
    }

    #[test]
    fn a_previous_subnet_of_another_node_stays_with_it() {
        // Stock once took it over, and two nodes had the same subnet.
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        get(&store, &usual(), &node("1.2.3.4"), Some("10.5.77.0-24")).unwrap();
        assert_ne!(
            name(get(
                &store,
                &usual(),
                &node("1.2.3.5"),
                Some("10.5.77.0-24")
            )),
            "10.5.77.0-24"
        );
        let holder = store
            .snapshot()
            .unwrap()
            .leases
            .into_iter()
            .find(|lease| lease.key.to_string() == "10.5.77.0-24");
        assert_eq!(holder.unwrap().attrs, node("1.2.3.4"));
    }

    #[test]
    fn config_changed_means_a_new_subnet_and_the_old_one_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        get(&store, &usual(), &node("1.2.3.4"), None).unwrap();
        let moved = network(r#"{"Network":"10.6.0.0/16"}"#);
        let lease = get(&store, &moved, &node("1.2.3.4"), None).unwrap();
        assert!(compatible(&moved, lease.key));
        assert_eq!(store.snapshot().unwrap().leases.len(), 1);
    }

    #[test]
    fn nodes_without_ipv4_do_not_take_over_each_others_lease() {
        // All of them have PublicIP 0.0.0.0, which stock takes for one node.
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let network =
            network(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd05::/48"}"#);
        let node = |address: &str| LeaseAttrs {
            public_ipv6: Some(address.parse().unwrap()),
            ..LeaseAttrs::default()
        };
        let first = name(get(&store, &network, &node("fd77::1"), None));
        let second = name(get(&store, &network, &node("fd77::2"), None));
        assert_ne!(first, second);
        assert!(first.starts_with("0.0.0.0-0&fd05:"), "{first}");
    }

    #[test]
    fn a_full_network_is_said_to_be_full() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let tiny = network(r#"{"Network":"10.5.0.0/24","SubnetLen":26}"#);
        for host in 1..=3 {
            get(&store, &tiny, &node(&format!("1.2.3.{host}")), None).unwrap();
        }
        let refused = get(&store, &tiny, &node("1.2.3.4"), None);
        assert!(
            matches!(refused, Err(AcquireError::OutOfSubnets)),
            "{refused:?}"
        );
        assert!(get(&store, &tiny, &node("1.2.3.2"), None).is_ok());
    }

    #[test]
    fn sixty_four_nodes_starting_at_once_all_get_a_subnet() {
        // Two of ten stock daemons die of the lost race.
        let dir = tempfile::tempdir().unwrap();
        let snug =
            network(r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.64.0"}"#);
        let start = |host: u8| {
            name(get(
                &store(dir.path()),
                &snug,
                &node(&format!("1.2.3.{host}")),
                None,
            ))
        };
        let leases: BTreeSet<String> = std::thread::scope(|scope| {
            let starters: Vec<_> = (1..=64)
                .map(|host| scope.spawn(move || start(host)))
                .collect();
            starters
                .into_iter()
                .map(|starter| starter.join().unwrap())
                .collect()
        });
        assert_eq!(leases.len(), 64);
    }

    #[test]
    fn what_the_old_record_holds_can_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let attrs = |old: Option<&LeaseAttrs>| {
            let kept = old.map_or("first", |old| &*old.backend_type);
            LeaseAttrs {
                backend_type: format!("{kept}+"),
                ..node("1.2.3.4")
            }
        };
        let network = usual();
        let wish = Wish {
            network: &network,
            attrs: &attrs,
            previous: None,
        };
        assert_eq!(acquire(&store, &wish).unwrap().attrs.backend_type, "first+");
        assert_eq!(
            acquire(&store, &wish).unwrap().attrs.backend_type,
            "first++"
        );
    }
}

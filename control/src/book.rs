//! The lease book: every record as last reported, folded into the peers that packets can be sent to. Pure.

use crate::lease::{Lease, LeaseAttrs, Revision};
use crate::registry::{BadRecord, News, Snapshot};
use crate::screen::{Refusal, Screen};
use crate::sink::Peer;
use crate::subnet_key::{SubnetKey, overlap};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The records known, by subnet.
#[derive(Clone, Debug, Default)]
pub struct LeaseBook {
    records: BTreeMap<SubnetKey, LeaseAttrs>,
    bad: BTreeSet<BadRecord>,
    /// Kept although the last snapshot lacks them.
    doubted: BTreeSet<SubnetKey>,
}

/// What the book says about routing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Routes, sorted by subnet.
    pub routes: Vec<Peer>,
    /// Records that may not become routes, and why.
    pub refused: BTreeSet<(SubnetKey, Refusal)>,
}

impl LeaseBook {
    /// Takes in a report; tells whether any route may differ now.
    pub fn apply(&mut self, news: News) -> bool {
        match news {
            News::Snapshot(snapshot) => self.replace(snapshot),
            News::Put(lease) => self.put(lease),
            News::Gone(key) => self.forget(key),
            News::Bad(record) => self.distrust(record),
            News::Config(_) | News::Lost(_) | News::Regained => false,
        }
    }

    /// Takes in a snapshot of a registry that seems to have lost records: those it lacks stay until they are written again, removed, or [forgotten](Self::forget_doubted).
    pub fn apply_doubtful(&mut self, mut snapshot: Snapshot) -> bool {
        let present: BTreeSet<SubnetKey> = snapshot.keys().collect();
        let missing = self
            .records
            .iter()
            .filter(|(key, _)| !present.contains(*key));
        let kept: Vec<Lease> = missing
            .map(|(key, attrs)| remembered(*key, attrs))
            .collect();
        let doubted = kept.iter().map(|lease| lease.key).collect();
        snapshot.leases.extend(kept);
        let changed = self.replace(snapshot);
        self.doubted = doubted;
        changed
    }

    /// Lets go of what nobody wrote again.
    pub fn forget_doubted(&mut self) -> bool {
        let doubted = std::mem::take(&mut self.doubted);
        self.records.retain(|key, _| !doubted.contains(key));
        !doubted.is_empty()
    }

    /// Whether there is a record for a subnet that can be read.
    pub fn knows(&self, key: SubnetKey) -> bool {
        self.records.contains_key(&key)
    }

    /// Records that make no sense.
    pub fn bad(&self) -> &BTreeSet<BadRecord> {
        &self.bad
    }

    /// The records, by subnet.
    pub fn records(&self) -> impl Iterator<Item = (SubnetKey, &LeaseAttrs)> {
        self.records.iter().map(|(key, attrs)| (*key, attrs))
    }

    /// How many records are known, our own included.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record is known.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The peers by the rules of `screen`. Our own record is not among them.
    pub fn peers(&self, screen: &Screen) -> Peers {
        let mut table = Table::default();
        let others = self.records.iter().filter(|(key, _)| **key != screen.own);
        for (key, attrs) in others {
            for verdict in screen.peers(*key, attrs) {
                match verdict {
                    Ok(peer) if screen.usual_len(peer.subnet) => table.insert(*key, peer),
                    Ok(peer) => table.unusual.push((*key, peer)),
                    Err(refusal) => table.refuse(*key, refusal),
                }
            }
        }
        table.finish()
    }

    fn replace(&mut self, snapshot: Snapshot) -> bool {
        let records = snapshot
            .leases
            .into_iter()
            .map(|lease| (lease.key, lease.attrs))
            .collect();
        self.bad = snapshot.bad;
        self.doubted.clear();
        let changed = self.records != records;
        self.records = records;
        changed
    }

    fn put(&mut self, lease: Lease) -> bool {
        self.trust(lease.key);
        self.doubted.remove(&lease.key);
        let before = self.records.insert(lease.key, lease.attrs.clone());
        before.as_ref() != Some(&lease.attrs)
    }

    fn forget(&mut self, key: SubnetKey) -> bool {
        self.trust(key);
        self.records.remove(&key).is_some()
    }

    /// A record overwritten with nonsense no longer says where its subnet is.
    fn distrust(&mut self, record: BadRecord) -> bool {
        let key = record.name.parse();
        self.bad.retain(|known| known.name != record.name);
        self.bad.insert(record);
        key.is_ok_and(|key: SubnetKey| self.records.remove(&key).is_some())
    }

    fn trust(&mut self, key: SubnetKey) {
        if !self.bad.is_empty() {
            let name = key.to_string();
            self.bad.retain(|known| known.name != name);
        }
    }
}

fn remembered(key: SubnetKey, attrs: &LeaseAttrs) -> Lease {
    Lease {
        key,
        attrs: attrs.clone(),
        reserved: false,
        revision: Revision::default(),
    }
}

/// Routes found so far, none overlapping another.
///
/// The most specific route wins in the data plane, so a record for a part of a subnet would steal that part,
/// and one for a wider net would be believed instead of those inside. Records of the length the config asks
/// for cannot overlap; they come first, and others fill the gaps left.
#[derive(Default)]
struct Table {
    routes: BTreeMap<IpAddr, Peer>,
    unusual: Vec<(SubnetKey, Peer)>,
    refused: BTreeSet<(SubnetKey, Refusal)>,
}

impl Table {
    fn insert(&mut self, key: SubnetKey, peer: Peer) {
        match self.overlapping(peer.subnet) {
            Some(other) => self.refuse(key, Refusal::Overlap(peer.subnet, other)),
            None => drop(self.routes.insert(peer.subnet.network(), peer)),
        }
    }

    /// As no two routes overlap, only the neighbours on both sides can.
    fn overlapping(&self, subnet: IpNet) -> Option<IpNet> {
        let start = subnet.network();
        let before = self.routes.range(..=start).next_back();
        let after = self.routes.range(start..).next();
        let mut beside = before.into_iter().chain(after).map(|(_, peer)| peer.subnet);
        beside.find(|other| overlap(*other, subnet))
    }

    fn refuse(&mut self, key: SubnetKey, refusal: Refusal) {
        self.refused.insert((key, refusal));
    }

    fn finish(mut self) -> Peers {
        for (key, peer) in std::mem::take(&mut self.unusual) {
            self.insert(key, peer);
        }
        Peers {
            routes: self.routes.into_values().collect(),
            refused: self.refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::NetworkConfig;

    fn screen() -> Screen {
        Screen {
            network: NetworkConfig::parse(r#"{"Network":"10.5.0.0/16"}"#).unwrap(),
            own: "10.5.1.0-24".parse().unwrap(),
            underlay: vec!["192.168.77.1/24".parse().unwrap()],
            mac: None,
            across: false,
        }
    }

    fn lease(key: &str, address: &str) -> Lease {
        let attrs = LeaseAttrs {
            public_ip: Some(address.parse().unwrap()),
            ..LeaseAttrs::default()
        };
        Lease {
            key: key.parse().unwrap(),
            attrs,
            reserved: true,
            revision: Revision::default(),
        }
    }

    fn routes(book: &LeaseBook) -> Vec<String> {
        let told = |peer: &Peer| format!("{} via {}", peer.subnet, peer.endpoint);
        book.peers(&screen()).routes.iter().map(told).collect()
    }

    fn full() -> LeaseBook {
        let leases = vec![
            lease("10.5.2.0-24", "192.168.77.2"),
            lease("10.5.1.0-24", "192.168.77.1"),
            lease("10.5.3.0-24", "192.168.77.3"),
        ];
        let mut book = LeaseBook::default();
        assert!(book.apply(News::Snapshot(Snapshot {
            leases,
            bad: BTreeSet::new()
        })));
        book
    }

    #[test]
    fn our_own_lease_is_no_route() {
        assert_eq!(
            routes(&full()),
            [
                "10.5.2.0/24 via 192.168.77.2",
                "10.5.3.0/24 via 192.168.77.3"
            ]
        );
        assert!(full().peers(&screen()).refused.is_empty());
    }

    #[test]
    fn a_removed_lease_takes_only_its_own_route_along() {
        let mut book = full();
        assert!(book.apply(News::Gone("10.5.2.0-24".parse().unwrap())));
        assert_eq!(routes(&book), ["10.5.3.0/24 via 192.168.77.3"]);
        assert!(!book.apply(News::Gone("10.5.2.0-24".parse().unwrap())));
    }

    #[test]
    fn a_snapshot_with_a_changed_address_changes_the_route() {
        // Stock compares snapshots by subnet alone and keeps the stale address for ever.
        let mut book = full();
        let leases = vec![lease("10.5.2.0-24", "192.168.77.9")];
        assert!(book.apply(News::Snapshot(Snapshot {
            leases,
            bad: BTreeSet::new()
        })));
        assert_eq!(routes(&book), ["10.5.2.0/24 via 192.168.77.9"]);
    }

    #[test]
    fn a_renewed_lease_changes_nothing() {
        assert!(!full().apply(News::Put(lease("10.5.2.0-24", "192.168.77.2"))));
    }

    #[test]
    fn an_unreadable_record_affects_only_itself() {
        // Stock takes one for an empty snapshot and drops every route on every node.
        let mut book = full();
        let bad = |name: &str| {
            News::Bad(BadRecord {
                name: name.to_owned(),
                why: "nonsense".to_owned(),
            })
        };
        assert!(!book.apply(bad("garbage")));
        assert_eq!(routes(&book).len(), 2);
        assert!(book.apply(bad("10.5.2.0-24")));
        assert_eq!(routes(&book), ["10.5.3.0/24 via 192.168.77.3"]);
        assert!(book.apply(News::Put(lease("10.5.2.0-24", "192.168.77.2"))));
        assert_eq!(book.bad().len(), 1);
    }

    #[test]
    fn a_lost_registry_costs_no_route() {
        let mut book = full();
        assert!(!book.apply(News::Lost("down".to_owned())));
        assert_eq!(routes(&book).len(), 2);
    }

    #[test]
    fn a_registry_that_lost_records_is_given_time_to_get_them_back() {
        let mut book = full();
        assert!(!book.apply_doubtful(Snapshot {
            leases: vec![lease("10.5.3.0-24", "192.168.77.3")],
            bad: BTreeSet::new()
        }));
        assert_eq!(routes(&book).len(), 2);
        book.apply(News::Put(lease("10.5.1.0-24", "192.168.77.1")));
        assert!(book.forget_doubted());
        assert_eq!(routes(&book), ["10.5.3.0/24 via 192.168.77.3"]);
        assert!(book.knows("10.5.1.0-24".parse().unwrap()) && !book.forget_doubted());
    }

    #[test]
    fn a_part_of_anothers_subnet_cannot_be_stolen() {
        let mut book = full();
        book.apply(News::Put(lease("10.5.2.128-25", "192.168.77.66")));
        assert_eq!(
            routes(&book),
            [
                "10.5.2.0/24 via 192.168.77.2",
                "10.5.3.0/24 via 192.168.77.3"
            ]
        );
        let refused = book.peers(&screen()).refused;
        assert_eq!(
            refused.first().unwrap().1.to_string(),
            "10.5.2.128/25 overlaps 10.5.2.0/24 of another node"
        );
    }

    #[test]
    fn a_wide_record_cannot_drop_the_subnets_inside() {
        let mut book = full();
        book.apply(News::Put(lease("10.5.2.0-23", "192.168.77.66")));
        assert_eq!(
            routes(&book),
            [
                "10.5.2.0/24 via 192.168.77.2",
                "10.5.3.0/24 via 192.168.77.3"
            ]
        );
        book.apply(News::Gone("10.5.2.0-24".parse().unwrap()));
        book.apply(News::Gone("10.5.3.0-24".parse().unwrap()));
        assert_eq!(routes(&book), ["10.5.2.0/23 via 192.168.77.66"]);
    }
}

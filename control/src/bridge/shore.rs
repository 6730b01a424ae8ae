//! One of the two stores a bridge joins: what stands in it, as far as it has been told.

use super::Store;
use super::decide::Standing;
use crate::lease::Lease;
use crate::network::{Backend, NetworkConfig, VxlanConfig};
use crate::registry::{News, RegistryError};
use crate::subnet_key::SubnetKey;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A store and what is known of it.
pub(super) struct Shore {
    pub(super) store: Store,
    /// The name in our copies.
    bridge: Box<str>,
    records: BTreeMap<SubnetKey, Lease>,
    unreadable: BTreeSet<SubnetKey>,
    pub(super) in_touch: bool,
}

/// What a report changes.
#[derive(Debug)]
pub(super) enum Heard {
    Nothing,
    One(SubnetKey),
    All,
    /// The store is lost, and why.
    Lost(String),
    Back,
}

impl Shore {
    pub(super) fn new(store: Store, bridge: &str) -> Self {
        Self {
            store,
            bridge: bridge.into(),
            records: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            in_touch: false,
        }
    }

    /// Takes in a report.
    pub(super) fn hear(&mut self, news: News) -> Heard {
        match news {
            News::Snapshot(all) => {
                self.unreadable = all
                    .bad
                    .iter()
                    .filter_map(|bad| bad.name.parse().ok())
                    .collect();
                self.records = all.leases.into_iter().map(|one| (one.key, one)).collect();
                self.in_touch = true;
                Heard::All
            }
            News::Put(lease) => match self.records.get(&lease.key) == Some(&lease) {
                true => Heard::Nothing,
                false => self.put(lease),
            },
            News::Gone(key) => self.gone(key),
            News::Bad(bad) => bad.name.parse().map_or(Heard::Nothing, |key| {
                self.records.remove(&key);
                self.unreadable.insert(key);
                Heard::One(key)
            }),
            News::Config(_) => Heard::All,
            News::Lost(why) => {
                self.in_touch = false;
                Heard::Lost(why)
            }
            // etcd goes on with all there is, a directory with what has changed.
            News::Regained => {
                self.in_touch = true;
                Heard::Back
            }
        }
    }

    /// A record stands there, as told or as just written.
    pub(super) fn put(&mut self, lease: Lease) -> Heard {
        let key = lease.key;
        self.unreadable.remove(&key);
        self.records.insert(key, lease);
        Heard::One(key)
    }

    /// Nothing stands there, as told or after it was removed.
    pub(super) fn gone(&mut self, key: SubnetKey) -> Heard {
        self.unreadable.remove(&key);
        self.records.remove(&key);
        Heard::One(key)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = SubnetKey> {
        let readable = self.records.keys().copied();
        readable.chain(self.unreadable.iter().copied())
    }

    pub(super) fn standing(&self, key: SubnetKey) -> Standing<'_> {
        match self.records.get(&key) {
            None if self.unreadable.contains(&key) => Standing::Foreign,
            None => Standing::Nothing,
            Some(lease) => match &lease.attrs.bridge {
                None => Standing::Record(lease),
                Some(bridge) if *bridge == self.bridge => Standing::Copy(lease),
                Some(_) => Standing::Foreign,
            },
        }
    }

    /// Copies this bridge has here.
    pub(super) fn copies(&self) -> impl Iterator<Item = &Lease> {
        let of = |lease: &&Lease| lease.attrs.bridge.as_ref() == Some(&self.bridge);
        self.records.values().filter(of)
    }

    /// Another name with which a subnet would share addresses.
    pub(super) fn in_the_way(&self, key: SubnetKey) -> Option<SubnetKey> {
        self.keys()
            .find(|held| *held != key && key.subnets().any(|subnet| held.overlaps(subnet)))
    }

    /// How long a copy of a record may last: as long as the record.
    pub(super) fn time_left(&self, record: &Lease) -> Result<Duration, RegistryError> {
        let left = self.store.registry.left(record)?;
        Ok(left.unwrap_or_else(|| self.store.registry.lease_time()))
    }

    /// The part of the network config in which all nodes must agree.
    pub(super) fn agreement(&self) -> Result<Agreement, String> {
        let name = &self.store.name;
        let text = self.store.registry.config();
        let text = text.map_err(|error| format!("{name}: {error}"))?;
        let config = NetworkConfig::parse(&text)
            .map_err(|error| format!("{name}: the network config cannot be used: {error}"))?;
        Ok(Agreement::of(&config))
    }
}

/// What nodes on both sides must have alike; their ranges, and who carries packets, are their own affair.
#[derive(Debug)]
pub(super) struct Agreement {
    /// With the length of subnets.
    networks: Vec<(IpNet, u8)>,
    /// What nodes speak: first what their leases state.
    forms: Vec<Backend>,
}

impl Agreement {
    fn of(config: &NetworkConfig) -> Self {
        let networks = config.pools().map(|pool| (pool.network, pool.subnet_len));
        Self {
            networks: networks.collect(),
            forms: config.spoken().cloned().map(without_datapath).collect(),
        }
    }

    /// In what two networks differ that should be one, if in anything.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.networks != other.networks {
            return Some("network or subnet length");
        }
        let alike =
            |one: &Backend, another: &Backend| one.name() != another.name() || one == another;
        let alike = |one| other.forms.iter().all(|another| alike(one, another));
        if !self.forms.iter().all(alike) {
            return Some("the options of a backend");
        }
        let understood = self.understands(other) && other.understands(self);
        (!understood).then_some("backend, and one has no Beside for that of the other")
    }

    /// Whether what the other's leases state is spoken here.
    fn understands(&self, other: &Self) -> bool {
        let stated = other.forms.first();
        stated.is_none_or(|stated| self.forms.contains(stated))
    }
}

fn without_datapath(backend: Backend) -> Backend {
    match backend {
        Backend::Vxlan(options) => Backend::Vxlan(VxlanConfig {
            datapath: None,
            ..options
        }),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(backend: &str) -> Agreement {
        let text = format!(r#"{{"Network":"10.5.0.0/16","Backend":{backend}}}"#);
        Agreement::of(&NetworkConfig::parse(&text).unwrap())
    }

    #[test]
    fn nodes_understand_each_other_where_each_speaks_what_the_other_states() {
        const UDP: &str = r#"{"Type":"udp"}"#;
        const VXLAN: &str = r#"{"Type":"vxlan"}"#;
        const KERNEL: &str = r#"{"Type":"vxlan","Datapath":"kernel"}"#;
        const OTHER: &str = r#"{"Type":"vxlan","VNI":7}"#;
        const BOTH: &str = r#"{"Type":"udp","Beside":{"Type":"vxlan"}}"#;
        const TURNED: &str = r#"{"Type":"vxlan","Beside":{"Type":"udp"}}"#;
        const OTHER_BESIDE: &str = r#"{"Type":"udp","Beside":{"Type":"vxlan","VNI":7}}"#;
        let cases = [
            (UDP, UDP, None),
            (VXLAN, KERNEL, None),
            (BOTH, TURNED, None),
            (UDP, BOTH, None),
            (UDP, VXLAN, Some("Beside")),
            (UDP, TURNED, Some("Beside")),
            (VXLAN, OTHER, Some("options")),
            (VXLAN, OTHER_BESIDE, Some("options")),
            (BOTH, OTHER_BESIDE, Some("options")),
        ];
        for (one, other, expected) in cases {
            let [one, other] = [one, other].map(agreement);
            for difference in [one.difference(&other), other.difference(&one)] {
                match (difference, expected) {
                    (None, None) => {}
                    (Some(told), Some(word)) if told.contains(word) => {}
                    _ => panic!("{one:?} {other:?}: {difference:?}"),
                }
            }
        }
    }
}

//! The records of all nodes as last told, folded into news. Pure.

use super::store::lease;
use crate::lease::{Lease, LeaseAttrs};
use crate::registry::{BadRecord, News, Snapshot};
use crate::subnet_key::SubnetKey;
use std::collections::BTreeMap;

/// What a node's annotations say; an error says what is wrong with them.
pub(super) type Told = Result<(SubnetKey, LeaseAttrs), String>;

/// Every node with a record.
#[derive(Debug, Default)]
pub(super) struct Roll {
    /// This node's name.
    own: String,
    known: BTreeMap<String, (SubnetKey, LeaseAttrs)>,
    /// Which node a subnet is taken to be of.
    holders: BTreeMap<SubnetKey, String>,
    bad: BTreeMap<String, BadRecord>,
}

impl Roll {
    pub(super) fn new(own: String) -> Self {
        Self {
            own,
            ..Self::default()
        }
    }

    /// Takes in what a node says, or that it says nothing; gives what follows.
    pub(super) fn take(&mut self, node: &str, told: Option<Told>) -> Vec<News> {
        let was_bad = self.bad.remove(node).is_some();
        let mut news = match told {
            Some(Ok(record)) => self.put(node, record),
            // What is wrong with our own is for us to mend.
            Some(Err(why)) if node != self.own => self.distrust(node, &why),
            _ => self.release(node).into_iter().collect(),
        };
        if was_bad && !self.bad.contains_key(node) {
            news = vec![News::Snapshot(self.snapshot())];
        }
        news
    }

    /// Whether a name is this node's.
    pub(super) fn is_own(&self, node: &str) -> bool {
        self.own == node
    }

    /// All there is.
    pub(super) fn snapshot(&self) -> Snapshot {
        let held = |(node, (key, _)): &(&String, &(SubnetKey, LeaseAttrs))| {
            self.holders.get(key) == Some(*node)
        };
        let held = self.known.iter().filter(held);
        let leases: Vec<Lease> = held
            .map(|(_, (key, attrs))| lease(*key, attrs.clone()))
            .collect();
        Snapshot {
            leases,
            bad: self.bad.values().cloned().collect(),
        }
    }

    fn put(&mut self, node: &str, record: (SubnetKey, LeaseAttrs)) -> Vec<News> {
        if self.known.get(node) == Some(&record) {
            return Vec::new();
        }
        let (key, attrs) = record;
        let moved = self
            .known
            .get(node)
            .is_some_and(|(before, _)| *before != key);
        let mut news: Vec<News> = moved
            .then(|| self.release(node))
            .flatten()
            .into_iter()
            .collect();
        match self.holders.get(&key) {
            Some(holder) if holder != node && node != self.own => {
                let why = format!("node {holder} has the same podCIDR, {key}");
                news.extend(self.distrust(node, &why));
            }
            _ => {
                self.holders.insert(key, node.to_owned());
                self.known.insert(node.to_owned(), (key, attrs.clone()));
                news.push(News::Put(lease(key, attrs)));
            }
        }
        news
    }

    fn distrust(&mut self, node: &str, why: &str) -> Vec<News> {
        let bad = BadRecord::new(&format!("node {node}"), why);
        self.bad.insert(node.to_owned(), bad.clone());
        self.release(node)
            .into_iter()
            .chain([News::Bad(bad)])
            .collect()
    }

    fn release(&mut self, node: &str) -> Option<News> {
        let (key, _) = self.known.remove(node)?;
        if self.holders.get(&key).is_none_or(|holder| holder != node) {
            return None;
        }
        self.holders.remove(&key);
        Some(News::Gone(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, address: &str) -> Option<Told> {
        let attrs = LeaseAttrs {
            public_ip: Some(address.parse().unwrap()),
            ..LeaseAttrs::default()
        };
        Some(Ok((key.parse().unwrap(), attrs)))
    }

    fn told(news: &[News]) -> Vec<String> {
        let told = |news: &News| match news {
            News::Put(lease) => format!("+{} {}", lease.key, lease.attrs.public_ip.unwrap()),
            News::Gone(key) => format!("-{key}"),
            News::Bad(bad) => format!("!{}", bad.name),
            News::Snapshot(all) => format!("={} {}", all.leases.len(), all.bad.len()),
            other => format!("{other:?}"),
        };
        news.iter().map(told).collect()
    }

    #[test]
    fn only_changes_of_a_nodes_record_are_news() {
        let mut roll = Roll::new("own".to_owned());
        let mut say = |node: &str, record| told(&roll.take(node, record));
        assert_eq!(
            say("a", record("10.5.1.0-24", "1.1.1.1")),
            ["+10.5.1.0-24 1.1.1.1"]
        );
        assert!(say("a", record("10.5.1.0-24", "1.1.1.1")).is_empty());
        assert_eq!(
            say("a", record("10.5.1.0-24", "1.1.1.2")),
            ["+10.5.1.0-24 1.1.1.2"]
        );
        let moved = ["-10.5.1.0-24", "+10.5.2.0-24 1.1.1.2"];
        assert_eq!(say("a", record("10.5.2.0-24", "1.1.1.2")), moved);
        assert_eq!(say("a", None), ["-10.5.2.0-24"]);
        assert!(say("a", None).is_empty());
    }

    #[test]
    fn a_bad_record_removes_what_was_known_and_mending_it_brings_all_back() {
        let mut roll = Roll::new("own".to_owned());
        roll.take("a", record("10.5.1.0-24", "1.1.1.1"));
        let bad = roll.take("a", Some(Err("nonsense".to_owned())));
        assert_eq!(told(&bad), ["-10.5.1.0-24", "!node a"]);
        let mended = roll.take("a", record("10.5.1.0-24", "1.1.1.1"));
        assert_eq!(told(&mended), ["=1 0"]);
    }

    #[test]
    fn of_two_nodes_with_one_pod_cidr_the_first_counts_and_our_own_before_it() {
        let mut roll = Roll::new("own".to_owned());
        roll.take("a", record("10.5.1.0-24", "1.1.1.1"));
        let second = roll.take("b", record("10.5.1.0-24", "1.1.1.2"));
        assert_eq!(told(&second), ["!node b"]);
        let own = roll.take("own", record("10.5.1.0-24", "1.1.1.3"));
        assert_eq!(told(&own), ["+10.5.1.0-24 1.1.1.3"]);
        assert!(roll.take("a", None).is_empty(), "the subnet is ours now");
        let leases = roll.snapshot().leases;
        assert_eq!(leases[0].attrs.public_ip, Some([1, 1, 1, 3].into()));
        assert_eq!(leases.len(), 1);
    }

    #[test]
    fn what_is_wrong_with_our_own_record_counts_as_none() {
        let mut roll = Roll::new("own".to_owned());
        roll.take("own", record("10.5.1.0-24", "1.1.1.1"));
        let bad = roll.take("own", Some(Err("nonsense".to_owned())));
        assert_eq!(told(&bad), ["-10.5.1.0-24"]);
    }
}

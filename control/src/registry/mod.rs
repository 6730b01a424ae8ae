//! The registry: where nodes write down who holds which subnet.
//!
//! One trait serves every store. Calls block, for at most the store's own time limit; news arrive through a
//! callback on a thread the store owns. A record is only ever changed in the version its author has seen, so
//! no node can overwrite what another one wrote.

use crate::lease::{Lease, LeaseAttrs, Revision};
use crate::subnet_key::SubnetKey;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread::JoinHandle;
use std::time::Duration;

#[cfg(test)]
mod contract;
mod etcd;
mod file;
pub mod kube;
mod outage;

pub use etcd::{EtcdApi, EtcdOptions, EtcdRegistry, Found};
pub use file::FileRegistry;

/// A store of leases and the network config.
pub trait Registry: Send + Sync {
    /// The network config's text.
    fn config(&self) -> Result<String, RegistryError>;

    /// How long a lease lasts unless renewed.
    fn lease_time(&self) -> Duration;

    /// The subnets this node is given, where nodes do not choose their own.
    fn assigned(&self) -> Result<Option<Assigned>, RegistryError> {
        Ok(None)
    }

    /// What the store says about this node's addresses.
    fn addresses(&self) -> Result<Addresses, RegistryError> {
        Ok(Addresses::default())
    }

    /// Every record, complete; an answer that may lack some is an error instead.
    fn snapshot(&self) -> Result<Snapshot, RegistryError>;

    /// Writes a record that must not exist yet; it ends after the store's lease time unless renewed.
    fn create(&self, key: SubnetKey, attrs: &LeaseAttrs) -> Result<Lease, RegistryError>;

    /// Writes new attributes and a fresh lease time over the version given; a reservation stays one.
    fn renew(&self, seen: &Lease, attrs: &LeaseAttrs) -> Result<Lease, RegistryError>;

    /// Removes the version given; a record that is gone already is no error.
    fn remove(&self, seen: &Lease) -> Result<(), RegistryError>;

    /// Reports a snapshot, then every change, until the watch is dropped.
    fn watch(&self, news: Box<dyn FnMut(News) + Send>) -> Result<Watch, RegistryError>;
}

/// What operators and bridges do beyond what nodes do: records that last as long as wanted.
pub trait Steward: Registry {
    /// How long a record still lasts unless renewed, nothing where it is gone; `None` for a reservation.
    fn left(&self, seen: &Lease) -> Result<Option<Duration>, RegistryError>;

    /// Writes a record where there is none, or over the version given.
    fn write(&self, record: Record<'_>, over: Option<&Lease>) -> Result<Lease, RegistryError>;
}

/// A record as it is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The subnets it is about.
    pub key: SubnetKey,
    /// What its node says of itself.
    pub attrs: &'a LeaseAttrs,
    /// How long it is to last.
    pub term: Term,
}

impl<'a> Record<'a> {
    /// What a lease says, to last so long.
    pub fn of(lease: &'a Lease, term: Term) -> Self {
        Self {
            key: lease.key,
            attrs: &lease.attrs,
            term,
        }
    }

    /// One of a node that has none.
    pub(crate) fn first(key: SubnetKey, attrs: &'a LeaseAttrs, lease_time: Duration) -> Self {
        let term = Term::Leased(lease_time);
        Self { key, attrs, term }
    }

    /// One in the place of another: a reservation stays one.
    pub(crate) fn after(seen: &Lease, attrs: &'a LeaseAttrs, lease_time: Duration) -> Self {
        let first = Self::first(seen.key, attrs, lease_time);
        match seen.reserved {
            true => Self {
                term: Term::Reserved,
                ..first
            },
            false => first,
        }
    }

    /// The same once it is written.
    pub(crate) fn written(self, revision: Revision) -> Lease {
        Lease {
            key: self.key,
            attrs: self.attrs.clone(),
            reserved: self.term.is_reserved(),
            revision,
        }
    }
}

/// How long a record lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// So long, unless renewed; counted in whole seconds.
    Leased(Duration),
    /// Until somebody removes it.
    Reserved,
}

impl Term {
    /// Whether it lasts without being renewed.
    pub fn is_reserved(self) -> bool {
        self == Self::Reserved
    }
}

/// What a node is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Assigned {
    /// The node, in the store's words.
    pub holder: String,
    /// Its subnets; at least one.
    pub subnets: Vec<IpNet>,
    /// What its record says, if it has one.
    pub attrs: Option<LeaseAttrs>,
}

/// Addresses that count before those of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Address to advertise, which also chooses the interface.
    pub public_ip: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// Address to advertise instead of any other.
    pub advertised_ip: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub advertised_ipv6: Option<Ipv6Addr>,
}

/// What a watch reports.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// All there is: replaces everything known before. Comes first, and again whenever events may have been missed.
    Snapshot(Snapshot),
    /// A record was added or changed.
    Put(Lease),
    /// A record was removed or has run out.
    Gone(SubnetKey),
    /// A record cannot be read. What was known of its subnet before no longer holds.
    Bad(BadRecord),
    /// The network config's text changed.
    Config(String),
    /// The store cannot be reached. Nothing known so far is doubted for that.
    Lost(String),
    /// The store is there again.
    Regained,
}

/// Every record at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Records that can be read.
    pub leases: Vec<Lease>,
    /// Records that cannot, each worth one log line.
    pub bad: BTreeSet<BadRecord>,
}

/// A record that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BadRecord {
    /// Its name as found, or the beginning of a long one.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// What is told of a bad record at most: anyone could write megabytes.
const TOLD_MAX: usize = 200;
/// No node says more than this about itself.
const VALUE_MAX: usize = 16 << 10;

impl BadRecord {
    /// Tells of a record as much as fits in a log line.
    pub(crate) fn new(name: &str, why: &str) -> Self {
        Self {
            name: beginning(name),
            why: beginning(why),
        }
    }
}

/// What others wrote must not look like log lines of ours.
fn beginning(text: &str) -> String {
    let end = text.floor_char_boundary(TOLD_MAX);
    let dots = if end < text.len() { "..." } else { "" };
    let shown = text[..end].replace(char::is_control, "\u{fffd}");
    shown + dots
}

/// Why a store did not do what was asked, divided by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Somebody else was faster: read again, decide again.
    #[error("{0} was changed by another node meanwhile")]
    Conflict(SubnetKey),
    /// No network config has been written yet: wait, telling the operator how to write one.
    #[error("no network config found. {0}")]
    NoConfig(String),
    /// The store does not answer or refuses: try later.
    #[error("{0}")]
    Unavailable(String),
}

impl Snapshot {
    /// Every name in use, readable or not.
    pub fn keys(&self) -> impl Iterator<Item = SubnetKey> {
        let unreadable = self
            .bad
            .iter()
            .filter_map(|record| record.name.parse().ok());
        self.leases.iter().map(|lease| lease.key).chain(unreadable)
    }
}

/// Reads a record by its name and value; an error says what is wrong with it.
pub(crate) fn parse_record(name: &str, value: &[u8]) -> Result<(SubnetKey, LeaseAttrs), String> {
    let key = name
        .parse::<SubnetKey>()
        .map_err(|error| error.to_string())?;
    if value.len() > VALUE_MAX {
        return Err(format!("its value has {} bytes", value.len()));
    }
    let value = str::from_utf8(value).map_err(|_| "its value is not text".to_owned())?;
    let attrs = LeaseAttrs::parse(value).map_err(|error| error.to_string())?;
    Ok((key, attrs))
}

impl fmt::Display for BadRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "ignoring lease record {:?}: {}",
            self.name, self.why
        )
    }
}

/// A running watch; ends when dropped, and no news arrive afterwards.
pub struct Watch {
    wake: Option<Box<dyn FnOnce() + Send>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn new(thread: JoinHandle<()>, wake: impl FnOnce() + Send + 'static) -> Self {
        Self {
            wake: Some(Box::new(wake)),
            thread: Some(thread),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(wake) = self.wake.take() {
            wake();
        }
        if let Some(thread) = self.thread.take() {
            // A watch that panicked has printed why; there is nothing left to end.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watch").finish_non_exhaustive()
    }
}

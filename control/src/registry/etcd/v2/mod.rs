//! etcd by version 2 of its API: the only place that speaks it, by the keys and values of flannel up to 0.17.
//!
//! ```text
//! PREFIX/config                   network config
//! PREFIX/subnets/10.5.26.0-24     lease value, with a time to live, or without: a reservation
//! ```
//!
//! As with version 3, a runtime with a single thread's worth of work is driven by whoever waits. Every write names the
//! version it is based on (`prevExist`, `prevIndex`). Where the first answer was lost and the question was repeated,
//! the outcome is a conflict: whoever wrote then reads, and finds what stands there to be its own.

mod answer;
mod http;
#[cfg(test)]
mod tests;
mod watcher;

use super::pool::Pool;
use super::{EtcdOptions, clean};
use crate::lease::{Lease, LeaseAttrs, Revision};
use crate::registry::{
    BadRecord, News, Registry, RegistryError, Snapshot, Steward, Term, Watch, parse_record,
};
use crate::subnet_key::SubnetKey;
use answer::{COMPARE_FAILED, Change, EXISTS, NOT_FOUND, Node, Refusal, Said};
use http::{Client, Error};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use watcher::Watcher;

/// Where all keys are.
const KEYS: &str = "/v2/keys";
/// A reading that a majority agrees with.
const QUORUM: &str = "?quorum=true";

/// Leases kept in etcd by version 2 of its API.
#[derive(Clone, Debug)]
pub(crate) struct EtcdV2(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    store: Store,
}

/// The asynchronous side.
struct Store {
    pool: Pool<Client>,
    /// A path with a slash in front and none behind; nothing for the root.
    prefix: String,
    lease_time: Duration,
}

/// All there is at one moment.
#[derive(Default)]
struct Listing {
    snapshot: Snapshot,
    config: Option<String>,
    /// The number of the last change before it.
    index: u64,
}

/// What a path stands for.
enum Place<'a> {
    Config,
    /// A record's name, as far as it is one.
    Record(&'a str),
    /// A directory with all records in it.
    Above,
    Elsewhere,
}

impl EtcdV2 {
    /// Prepares to talk to etcd. No server is contacted yet, but files named must be readable.
    pub(crate) fn open(options: EtcdOptions) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let prefix = match clean(&options.prefix).trim_start_matches('/') {
            "" => String::new(),
            prefix => format!("/{prefix}"),
        };
        let lease_time = options.lease_time;
        let pool = Pool::new(options)?;
        Ok(Self(Arc::new(Inner {
            runtime,
            store: Store {
                pool,
                prefix,
                lease_time,
            },
        })))
    }

    /// How many records there are, and whether there is a config; `None` where this version is not spoken.
    pub(super) fn contents(&self) -> Result<Option<(usize, bool)>, RegistryError> {
        let store = &self.0.store;
        let listing = self.block(store.pool.call(
            async |client| match store.listing(&client).await {
                Err(Error::Unspoken) => Ok(None),
                listing => listing.map(Some),
            },
        ))?;
        Ok(listing.map(|all| (all.snapshot.keys().count(), all.config.is_some())))
    }

    /// Whether the server says that it is of before version 3.
    pub(super) fn is_before_v3(&self) -> bool {
        let old = self.block(
            self.0
                .store
                .pool
                .call(async |client| client.is_before_v3().await),
        );
        old.unwrap_or_default()
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(work)
    }
}

impl Registry for EtcdV2 {
    fn config(&self) -> Result<String, RegistryError> {
        let text = self.block(self.0.store.config())?;
        text.ok_or_else(|| RegistryError::NoConfig(self.0.store.config_cure()))
    }

    fn lease_time(&self) -> Duration {
        self.0.store.lease_time
    }

    fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        Ok(self.block(self.0.store.list())?.snapshot)
    }

    fn create(&self, key: SubnetKey, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        self.write(key, attrs, None, Term::Leased(self.lease_time()))
    }

    fn renew(&self, seen: &Lease, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        let term = Term::of(seen, self.lease_time());
        self.write(seen.key, attrs, Some(seen), term)
    }

    fn remove(&self, seen: &Lease) -> Result<(), RegistryError> {
        self.block(self.0.store.remove(seen))
    }

    fn watch(&self, news: Box<dyn FnMut(News) + Send>) -> Result<Watch, RegistryError> {
        Watcher::start(Arc::clone(&self.0), news)
            .map_err(|error| RegistryError::Unavailable(error.to_string()))
    }
}

impl Steward for EtcdV2 {
    fn left(&self, seen: &Lease) -> Result<Option<Duration>, RegistryError> {
        if seen.reserved {
            return Ok(None);
        }
        let seconds = match self.block(self.0.store.get(&seen.key.to_string()))? {
            Ok(node) if node.modified_index == seen.revision.0 => node.ttl.unwrap_or_default(),
            _ => 0,
        };
        let seconds = u64::try_from(seconds).unwrap_or_default();
        Ok(Some(Duration::from_secs(seconds)))
    }

    fn write(
        &self,
        key: SubnetKey,
        attrs: &LeaseAttrs,
        over: Option<&Lease>,
        term: Term,
    ) -> Result<Lease, RegistryError> {
        self.block(self.0.store.write(key, attrs, over, term))
    }
}

impl Store {
    fn config_cure(&self) -> String {
        let prefix = &self.prefix;
        format!(
            r#"Write one: ETCDCTL_API=2 etcdctl set {prefix}/config '{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan"}}}}'"#
        )
    }

    /// Where to ask about a path below the prefix.
    fn target(&self, path: &str) -> String {
        let parts = self.prefix.split('/').chain(path.split('/'));
        let parts = parts.filter(|part| !part.is_empty());
        let coded = parts.map(|part| format!("/{}", utf8_percent_encode(part, NON_ALPHANUMERIC)));
        KEYS.to_owned() + &coded.collect::<String>()
    }

    fn record_target(&self, name: &str) -> String {
        self.target(&format!("subnets/{name}"))
    }

    /// What a path of the store stands for.
    fn place<'a>(&self, path: &'a str) -> Place<'a> {
        let subnets = format!("{}/subnets", self.prefix);
        let below = |path: &'a str| path.strip_prefix(&subnets)?.strip_prefix('/');
        match below(path) {
            Some(name) => Place::Record(name),
            None if path == format!("{}/config", self.prefix) => Place::Config,
            None if format!("{subnets}/")
                .starts_with(&format!("{}/", path.trim_end_matches('/'))) =>
            {
                Place::Above
            }
            None => Place::Elsewhere,
        }
    }

    async fn ask(
        &self,
        method: Method,
        target: &str,
        form: &str,
    ) -> Result<Result<Node, Refusal>, RegistryError> {
        let ask = async |client: Client| client.ask(method.clone(), target, form.to_owned()).await;
        Ok(match self.pool.call(ask).await?.0 {
            Said::Done(Change { node, .. }) => Ok(node),
            Said::Refused(refusal) => Err(refusal),
        })
    }

    /// A record as it is now.
    async fn get(&self, name: &str) -> Result<Result<Node, Refusal>, RegistryError> {
        let target = self.record_target(name) + QUORUM;
        self.ask(Method::GET, &target, "").await
    }

    async fn config(&self) -> Result<Option<String>, RegistryError> {
        let target = self.target("config") + QUORUM;
        match self.ask(Method::GET, &target, "").await? {
            Ok(node) => Ok(node.value),
            Err(refusal) if refusal.code == NOT_FOUND => Ok(None),
            Err(refusal) => Err(RegistryError::Unavailable(refusal.why)),
        }
    }

    /// The config and every record.
    async fn list(&self) -> Result<Listing, RegistryError> {
        self.pool
            .call(async |client| self.listing(&client).await)
            .await
    }

    async fn listing(&self, client: &Client) -> Result<Listing, Error> {
        let target = self.target("") + QUORUM + "&recursive=true";
        let (said, index) = client.ask(Method::GET, &target, String::new()).await?;
        let mut listing = Listing {
            index,
            ..Listing::default()
        };
        match said {
            Said::Done(Change { node, .. }) => self.sort(node, &mut listing),
            // A directory nobody has made yet has nothing in it.
            Said::Refused(refusal) if refusal.code == NOT_FOUND => {}
            Said::Refused(refusal) => return Err(Error::Denied(refusal.why)),
        }
        Ok(listing)
    }

    fn sort(&self, node: Node, listing: &mut Listing) {
        match self.place(&node.key) {
            Place::Config => listing.config = node.value,
            Place::Record(name) => match record(name, &node) {
                Ok(lease) => listing.snapshot.leases.push(lease),
                Err(bad) => drop(listing.snapshot.bad.insert(bad)),
            },
            Place::Above => node
                .nodes
                .into_iter()
                .for_each(|node| self.sort(node, listing)),
            Place::Elsewhere => {}
        }
    }

    async fn write(
        &self,
        key: SubnetKey,
        attrs: &LeaseAttrs,
        over: Option<&Lease>,
        term: Term,
    ) -> Result<Lease, RegistryError> {
        let condition = match over {
            Some(seen) => format!("prevIndex={}", seen.revision.0),
            None => "prevExist=false".to_owned(),
        };
        let ttl = match term {
            Term::Leased(time) => format!("&ttl={}", time.as_secs().max(1)),
            Term::Reserved => String::new(),
        };
        let value = attrs.to_json();
        let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
        let form = format!("{condition}{ttl}&value={value}");
        let target = self.record_target(&key.to_string());
        match self.ask(Method::PUT, &target, &form).await? {
            Ok(node) => Ok(Lease {
                key,
                attrs: attrs.clone(),
                reserved: node.lasts(),
                revision: revision(&node),
            }),
            Err(refusal) => Err(conflict(key, refusal)),
        }
    }

    async fn remove(&self, seen: &Lease) -> Result<(), RegistryError> {
        let target = self.record_target(&seen.key.to_string());
        let target = format!("{target}?prevIndex={}", seen.revision.0);
        match self.ask(Method::DELETE, &target, "").await? {
            Err(refusal) if refusal.code != NOT_FOUND => Err(conflict(seen.key, refusal)),
            _ => Ok(()),
        }
    }
}

/// What a refusal to write means.
fn conflict(key: SubnetKey, refusal: Refusal) -> RegistryError {
    match refusal.code {
        NOT_FOUND | COMPARE_FAILED | EXISTS => RegistryError::Conflict(key),
        _ => RegistryError::Unavailable(refusal.why),
    }
}

fn revision(node: &Node) -> Revision {
    Revision(node.modified_index, 0)
}

/// Reads a node below `subnets`.
fn record(name: &str, node: &Node) -> Result<Lease, BadRecord> {
    let bad = |why: String| BadRecord::new(name, &why);
    let value = node.value.as_ref();
    let value = value.ok_or_else(|| bad("it is a directory".to_owned()))?;
    let (key, attrs) = parse_record(name, value.as_bytes()).map_err(bad)?;
    Ok(Lease {
        key,
        attrs,
        reserved: node.lasts(),
        revision: revision(node),
    })
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Store")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

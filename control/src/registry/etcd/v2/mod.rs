//! etcd by version 2 of its API: the only place that speaks it, by the keys and values of flannel up to 0.17.
//!
//! ```text
//! PREFIX/config                   network config
//! PREFIX/subnets/10.5.26.0-24     lease value, with a time to live, or without: a reservation
//! ```
//!
//! Every write names the version it is based on (`prevExist`, `prevIndex`). Where the first answer was lost and the
//! question was repeated, the outcome is a conflict: whoever wrote then reads, and finds what stands there to be its own.
//!
//! Nothing is asked about the prefix itself, only about what is below it: by a role that has the right to `PREFIX/*`, as
//! flannel's roles do, a server tells no more.

mod answer;
mod http;
#[cfg(test)]
mod tests;
mod watcher;

use super::clean;
use super::pool::Pool;
use super::speech::{Listing, Speech, Spoken};
use super::watcher::{End, Teller};
use crate::lease::{Lease, Revision};
use crate::registry::{BadRecord, Record, RegistryError, Term, parse_record};
use crate::subnet_key::SubnetKey;
use answer::{COMPARE_FAILED, Change, EXISTS, NOT_FOUND, Node, Refusal, Said};
use http::{Client, Error};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::convert::Infallible;
use std::time::Duration;

/// Where all keys are.
const KEYS: &str = "/v2/keys";
/// A reading that a majority agrees with.
const QUORUM: &str = "?quorum=true";
/// With all that is in a directory.
const RECURSIVE: &str = "&recursive=true";

/// The config, below the prefix.
const CONFIG: &str = "config";
/// The directory with all records in it.
const SUBNETS: &str = "subnets";

/// Leases kept in etcd by version 2 of its API.
pub(super) type EtcdV2 = Spoken<Store>;

/// The keys of a network on some servers.
pub(super) struct Store {
    pool: Pool<Client>,
    /// A path with a slash in front and none behind; nothing for the root.
    prefix: String,
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
    /// How many records there are, and whether there is a config; `None` where this version is not spoken.
    pub(super) fn contents(&self) -> Result<Option<(usize, bool)>, RegistryError> {
        let list = async |client| match self.store().list_by(&client).await {
            Err(Error::Unspoken) => Ok(None),
            listing => listing.map(Some),
        };
        let listing = self.block(self.store().pool.call(list))?;
        Ok(listing.map(|all| (all.snapshot.keys().count(), all.config.is_some())))
    }

    /// Whether the server says that it is of before version 3.
    pub(super) fn is_before_v3(&self) -> bool {
        let ask = async |client: Client| client.is_before_v3().await;
        self.block(self.store().pool.call(ask)).unwrap_or_default()
    }
}

impl Speech for Store {
    type Link = Client;
    /// How many signs of life were asked for.
    type Lesson = u32;

    fn new(pool: Pool<Client>, prefix: &str) -> Self {
        let prefix = match clean(prefix).trim_start_matches('/') {
            "" => String::new(),
            prefix => format!("/{prefix}"),
        };
        Self { pool, prefix }
    }

    fn pool(&self) -> &Pool<Client> {
        &self.pool
    }

    fn config_cure(&self) -> String {
        let prefix = &self.prefix;
        format!(
            r#"Write one: ETCDCTL_API=2 etcdctl set {prefix}/config '{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan"}}}}'"#
        )
    }

    async fn config(&self) -> Result<Option<String>, RegistryError> {
        let read = async |client: Client| self.config_by(&client).await;
        self.pool.call(read).await
    }

    async fn list(&self) -> Result<Listing, RegistryError> {
        let list = async |client: Client| self.list_by(&client).await;
        self.pool.call(list).await
    }

    async fn left(&self, seen: &Lease) -> Result<Duration, RegistryError> {
        let target = self.record_target(seen.key) + QUORUM;
        let seconds = match self.ask(Method::GET, &target, "").await? {
            Ok(node) if node.modified_index == seen.revision.0 => node.ttl.unwrap_or_default(),
            _ => 0,
        };
        let seconds = u64::try_from(seconds).unwrap_or_default();
        Ok(Duration::from_secs(seconds))
    }

    async fn write(
        &self,
        record: Record<'_>,
        over: Option<&Lease>,
    ) -> Result<Lease, RegistryError> {
        let condition = match over {
            Some(seen) => format!("prevIndex={}", seen.revision.0),
            None => "prevExist=false".to_owned(),
        };
        let ttl = match record.term {
            Term::Leased(time) => format!("&ttl={}", time.as_secs().max(1)),
            Term::Reserved => String::new(),
        };
        let value = record.attrs.to_json();
        let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
        let form = format!("{condition}{ttl}&value={value}");
        let target = self.record_target(record.key);
        match self.ask(Method::PUT, &target, &form).await? {
            Ok(node) => Ok(record.written(revision(&node))),
            Err(refusal) => Err(conflict(record.key, refusal)),
        }
    }

    async fn remove(&self, seen: &Lease) -> Result<(), RegistryError> {
        let target = self.record_target(seen.key);
        let target = format!("{target}?prevIndex={}", seen.revision.0);
        match self.ask(Method::DELETE, &target, "").await? {
            Err(refusal) if refusal.code != NOT_FOUND => Err(conflict(seen.key, refusal)),
            _ => Ok(()),
        }
    }

    async fn follow(
        &self,
        all: Listing,
        teller: &mut Teller,
        signs: &mut u32,
    ) -> Result<Infallible, End> {
        self.hear(all, teller, signs).await
    }
}

impl Store {
    /// Where to ask about a path below the prefix.
    fn target(&self, path: &str) -> String {
        let parts = self.prefix.split('/').chain(path.split('/'));
        let parts = parts.filter(|part| !part.is_empty());
        let coded = parts.map(|part| format!("/{}", utf8_percent_encode(part, NON_ALPHANUMERIC)));
        KEYS.to_owned() + &coded.collect::<String>()
    }

    fn record_target(&self, key: SubnetKey) -> String {
        self.target(&format!("{SUBNETS}/{key}"))
    }

    /// What a path of the store stands for.
    fn place<'a>(&self, path: &'a str) -> Place<'a> {
        let subnets = format!("{}/{SUBNETS}", self.prefix);
        let below = |path: &'a str| path.strip_prefix(&subnets)?.strip_prefix('/');
        match below(path) {
            Some(name) => Place::Record(name),
            None if path == format!("{}/{CONFIG}", self.prefix) => Place::Config,
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

    /// What is below the prefix: the records, and after them the config. So what is told of changes since the listing may
    /// be a config that has been read, and is never a record.
    async fn list_by(&self, client: &Client) -> Result<Listing, Error> {
        let target = self.target(SUBNETS) + QUORUM + RECURSIVE;
        let (subnets, revision) = client.read(&target).await?;
        let mut listing = Listing {
            revision,
            ..Listing::default()
        };
        for node in subnets.into_iter().flat_map(|directory| directory.nodes) {
            self.sort(&node, &mut listing);
        }
        listing.config = self.config_by(client).await?;
        Ok(listing)
    }

    async fn config_by(&self, client: &Client) -> Result<Option<String>, Error> {
        let (config, _) = client.read(&(self.target(CONFIG) + QUORUM)).await?;
        Ok(config.and_then(|node| node.value))
    }

    fn sort(&self, node: &Node, listing: &mut Listing) {
        let Place::Record(name) = self.place(&node.key) else {
            return;
        };
        match record(name, node) {
            Ok(lease) => listing.snapshot.leases.push(lease),
            Err(bad) => drop(listing.snapshot.bad.insert(bad)),
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

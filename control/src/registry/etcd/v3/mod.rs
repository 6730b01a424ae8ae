//! etcd by version 3 of its API: the only place that speaks it, by the keys and values of flannel 0.18 and later.
//!
//! ```text
//! PREFIX/config                   network config
//! PREFIX/subnets/10.5.26.0-24     lease value; attached to an etcd lease, or to none: a reservation
//! ```
//!
//! The client is asynchronous; here its runtime has a single thread's worth of work and is driven by whoever
//! waits: a caller in one of the blocking methods, or the watch's thread. Every write is one transaction that
//! names the version it is based on, and can be told from its outcome even when the first answer was lost.

mod link;
mod listing;
#[cfg(test)]
mod tests;
mod watcher;

use super::pool::Pool;
use super::{EtcdOptions, clean, text};
use crate::lease::{Lease, LeaseAttrs, Revision};
use crate::registry::{
    BadRecord, News, Registry, RegistryError, Snapshot, Steward, Term, Watch, parse_record,
};
use crate::subnet_key::SubnetKey;
use etcd_client::{
    Client, Compare, CompareOp, KeyValue, LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp,
    TxnOpResponse,
};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tracing::debug;
use watcher::Watcher;

/// Leases kept in etcd by version 3 of its API.
#[derive(Clone, Debug)]
pub(crate) struct EtcdV3(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    store: Store,
}

/// The asynchronous side.
#[derive(Debug)]
struct Store {
    pool: Pool<Client>,
    prefix: String,
    lease_time: Duration,
}

impl EtcdV3 {
    /// Prepares to talk to etcd. No server is contacted yet, but files named must be readable.
    pub(crate) fn open(options: EtcdOptions) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (prefix, lease_time) = (clean(&options.prefix), options.lease_time);
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

    /// How many records there are, and whether there is a config.
    pub(super) fn contents(&self) -> Result<(usize, bool), RegistryError> {
        let all = self.block(self.0.store.list())?;
        Ok((all.snapshot.keys().count(), all.config.is_some()))
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(work)
    }
}

impl Registry for EtcdV3 {
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

impl Steward for EtcdV3 {
    fn left(&self, seen: &Lease) -> Result<Option<Duration>, RegistryError> {
        self.block(self.0.store.left(seen))
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
    fn config_key(&self) -> String {
        format!("{}/config", self.prefix)
    }

    fn config_cure(&self) -> String {
        let key = self.config_key();
        format!(
            r#"Write one: etcdctl put {key} '{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan"}}}}'. A cluster of flannel 0.11 keeps it elsewhere: see --etcd-api"#
        )
    }

    /// With the slash at its end: what merely begins like it is somebody else's.
    fn subnets(&self) -> String {
        format!("{}/subnets/", self.prefix)
    }

    fn key(&self, key: SubnetKey) -> String {
        format!("{}{key}", self.subnets())
    }

    async fn config(&self) -> Result<Option<String>, RegistryError> {
        let key = self.config_key();
        let answer = self
            .pool
            .call(async |mut client: Client| client.get(&*key, None).await)
            .await?;
        Ok(answer.kvs().first().map(|found| text(found.value())))
    }

    /// Reads a key below `subnets`.
    fn record(&self, found: &KeyValue) -> Result<Lease, BadRecord> {
        let name = self.name(found.key());
        let (key, attrs) =
            parse_record(&name, found.value()).map_err(|why| BadRecord::new(&name, &why))?;
        let revision = Revision(found.mod_revision() as u64, found.lease() as u64);
        Ok(Lease {
            key,
            attrs,
            reserved: found.lease() == 0,
            revision,
        })
    }

    fn name(&self, key: &[u8]) -> String {
        let name = text(key);
        name.strip_prefix(&self.subnets())
            .map(str::to_owned)
            .unwrap_or(name)
    }

    async fn write(
        &self,
        key: SubnetKey,
        attrs: &LeaseAttrs,
        over: Option<&Lease>,
        term: Term,
    ) -> Result<Lease, RegistryError> {
        let condition = match over {
            Some(seen) => self.unchanged(seen),
            None => Compare::version(self.key(key), CompareOp::Equal, 0),
        };
        let lease = match term {
            Term::Leased(time) => self.grant(time).await?,
            Term::Reserved => 0,
        };
        let written = self.put_leased(key, attrs, condition, lease).await?;
        if let Some(seen) = over {
            self.drop_lease(seen.revision.1 as i64).await;
        }
        Ok(written)
    }

    async fn left(&self, seen: &Lease) -> Result<Option<Duration>, RegistryError> {
        if seen.reserved {
            return Ok(None);
        }
        let lease = seen.revision.1 as i64;
        let told = self
            .pool
            .call(async |mut client: Client| client.lease_time_to_live(lease, None).await)
            .await?;
        // Below zero where it has run out.
        let seconds = u64::try_from(told.ttl()).unwrap_or_default();
        Ok(Some(Duration::from_secs(seconds)))
    }

    async fn remove(&self, seen: &Lease) -> Result<(), RegistryError> {
        let key = self.key(seen.key);
        let delete = Txn::new()
            .when([self.unchanged(seen)])
            .and_then([TxnOp::delete(&*key, None)])
            .or_else([TxnOp::get(&*key, None)]);
        let answer = self
            .pool
            .call(async |mut client: Client| client.txn(delete.clone()).await)
            .await?;
        if !answer.succeeded() && found(&answer).is_some() {
            return Err(RegistryError::Conflict(seen.key));
        }
        self.drop_lease(seen.revision.1 as i64).await;
        Ok(())
    }

    fn unchanged(&self, seen: &Lease) -> Compare {
        Compare::mod_revision(self.key(seen.key), CompareOp::Equal, seen.revision.0 as i64)
    }

    /// Writes a record attached to a lease, which is given back if that fails.
    async fn put_leased(
        &self,
        key: SubnetKey,
        attrs: &LeaseAttrs,
        condition: Compare,
        lease: i64,
    ) -> Result<Lease, RegistryError> {
        let outcome = self.put(key, attrs, condition, lease).await;
        if outcome.is_err() {
            self.drop_lease(lease).await;
        }
        outcome
    }

    /// Writes a record under a condition. Where an answer got lost and the write was repeated, what stands there tells whether it was ours.
    async fn put(
        &self,
        key: SubnetKey,
        attrs: &LeaseAttrs,
        condition: Compare,
        lease: i64,
    ) -> Result<Lease, RegistryError> {
        let (name, value) = (self.key(key), attrs.to_json());
        let put = TxnOp::put(&*name, &*value, Some(PutOptions::new().with_lease(lease)));
        let write = Txn::new()
            .when([condition])
            .and_then([put])
            .or_else([TxnOp::get(&*name, None)]);
        let answer = self
            .pool
            .call(async |mut client: Client| client.txn(write.clone()).await)
            .await?;
        let written = |revision: i64| Lease {
            key,
            attrs: attrs.clone(),
            reserved: lease == 0,
            revision: Revision(revision as u64, lease as u64),
        };
        if answer.succeeded() {
            return Ok(written(
                answer.header().map_or(0, |header| header.revision()),
            ));
        }
        let ours = found(&answer).filter(|found| lease != 0 && found.lease() == lease);
        ours.map(|found| written(found.mod_revision()))
            .ok_or(RegistryError::Conflict(key))
    }

    async fn grant(&self, time: Duration) -> Result<i64, RegistryError> {
        let seconds = time.as_secs().max(1) as i64;
        let answer = self
            .pool
            .call(async |mut client: Client| client.lease_grant(seconds, None).await)
            .await?;
        Ok(answer.id())
    }

    /// Ends a lease nothing is attached to any more; stock leaves one behind at every renewal. It would run out anyway.
    async fn drop_lease(&self, lease: i64) {
        if lease == 0 {
            return;
        }
        let ended = self.pool.call(async |mut client: Client| {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            let attached = client.lease_time_to_live(lease, Some(options)).await?;
            if attached.ttl() > 0 && attached.keys().is_empty() {
                client.lease_revoke(lease).await?;
            }
            Ok(())
        });
        if let Err(error) = ended.await {
            debug!("lease {lease:x} is left to run out: {error}");
        }
    }
}

/// What a failed transaction found instead.
fn found(answer: &etcd_client::TxnResponse) -> Option<KeyValue> {
    answer
        .op_responses()
        .into_iter()
        .find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().cloned(),
            _ => None,
        })
}

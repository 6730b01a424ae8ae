//! etcd by version 3 of its API: the only place that speaks it, by the keys and values of flannel 0.18 and later.
//!
//! ```text
//! PREFIX/config                   network config
//! PREFIX/subnets/10.5.26.0-24     lease value; attached to an etcd lease, or to none: a reservation
//! ```
//!
//! Every write is one transaction that names the version it is based on, and can be told from its outcome even when the
//! first answer was lost.

#[cfg(test)]
mod liar;
mod link;
mod listing;
#[cfg(test)]
mod tests;
mod watcher;

use super::pool::Pool;
use super::speech::{Listing, Speech, Spoken};
use super::watcher::{End, Teller};
use super::{clean, text};
use crate::lease::{Lease, Revision};
use crate::registry::{BadRecord, Record, RegistryError, Term, parse_record};
use crate::subnet_key::SubnetKey;
use etcd_client::{
    Client, Compare, CompareOp, Error, KeyValue, LeaseTimeToLiveOptions, PutOptions, Txn, TxnOp,
    TxnOpResponse,
};
use listing::too_large;
use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;
use tracing::debug;

/// Leases kept in etcd by version 3 of its API.
pub(super) type EtcdV3 = Spoken<Store>;

/// The keys of a network on some servers.
pub(super) struct Store {
    pool: Pool<Client>,
    prefix: String,
}

impl EtcdV3 {
    /// How many records there are, and whether there is a config.
    pub(super) fn contents(&self) -> Result<(usize, bool), RegistryError> {
        let all = self.block(self.store().list())?;
        Ok((all.snapshot.keys().count(), all.config.is_some()))
    }
}

impl Speech for Store {
    type Link = Client;
    /// Whether the last stream ended at an event too large to be received.
    type Lesson = bool;

    fn new(pool: Pool<Client>, prefix: &str) -> Self {
        let prefix = clean(prefix);
        Self { pool, prefix }
    }

    fn pool(&self) -> &Pool<Client> {
        &self.pool
    }

    fn config_cure(&self) -> String {
        let key = self.config_key();
        format!(
            r#"Write one: etcdctl put {key} '{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan"}}}}'. A cluster of flannel 0.11 keeps it elsewhere: see --etcd-api"#
        )
    }

    async fn config(&self) -> Result<Option<String>, RegistryError> {
        let key = self.config_key();
        let answer = self
            .pool
            .call(async |mut client: Client| client.get(&*key, None).await)
            .await?;
        Ok(answer.kvs().first().map(|found| text(found.value())))
    }

    async fn list(&self) -> Result<Listing, RegistryError> {
        self.list_all().await
    }

    async fn left(&self, seen: &Lease) -> Result<Duration, RegistryError> {
        let lease = seen.revision.1 as i64;
        let told = self
            .pool
            .call(async |mut client: Client| client.lease_time_to_live(lease, None).await)
            .await?;
        // Below zero where it has run out.
        let seconds = u64::try_from(told.ttl()).unwrap_or_default();
        Ok(Duration::from_secs(seconds))
    }

    async fn write(
        &self,
        record: Record<'_>,
        over: Option<&Lease>,
    ) -> Result<Lease, RegistryError> {
        let condition = match over {
            Some(seen) => self.unchanged(seen),
            None => Compare::version(self.key(record.key), CompareOp::Equal, 0),
        };
        let held = over.map_or(0, |seen| seen.revision.1 as i64);
        let lease = match record.term {
            Term::Leased(time) if self.prolong(held, time).await? => held,
            Term::Leased(time) => self.grant(time).await?,
            Term::Reserved => 0,
        };
        let written = self.put_leased(record, condition, lease).await?;
        if lease != held {
            self.drop_lease(held).await;
        }
        Ok(written)
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

    async fn follow(
        &self,
        all: Listing,
        teller: &mut Teller,
        choked: &mut bool,
    ) -> Result<Infallible, End> {
        let end = self.hear(all, teller, *choked).await;
        *choked = matches!(&end, Err(End::Lost(why)) if too_large(why));
        end
    }
}

impl Store {
    fn config_key(&self) -> String {
        format!("{}/config", self.prefix)
    }

    /// With the slash at its end: what merely begins like it is somebody else's.
    fn subnets(&self) -> String {
        format!("{}/subnets/", self.prefix)
    }

    fn key(&self, key: SubnetKey) -> String {
        format!("{}{key}", self.subnets())
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

    fn unchanged(&self, seen: &Lease) -> Compare {
        Compare::mod_revision(self.key(seen.key), CompareOp::Equal, seen.revision.0 as i64)
    }

    /// Writes a record attached to a lease, which is given back if that fails.
    async fn put_leased(
        &self,
        record: Record<'_>,
        condition: Compare,
        lease: i64,
    ) -> Result<Lease, RegistryError> {
        let outcome = self.put(record, condition, lease).await;
        if outcome.is_err() {
            self.drop_lease(lease).await;
        }
        outcome
    }

    /// Writes a record under a condition. Where an answer got lost and the write was repeated, what stands there tells
    /// whether it was ours.
    async fn put(
        &self,
        record: Record<'_>,
        condition: Compare,
        lease: i64,
    ) -> Result<Lease, RegistryError> {
        let (name, value) = (self.key(record.key), record.attrs.to_json());
        let put = TxnOp::put(&*name, &*value, Some(PutOptions::new().with_lease(lease)));
        let write = Txn::new()
            .when([condition])
            .and_then([put])
            .or_else([TxnOp::get(&*name, None)]);
        let tries = Cell::new(0);
        let answer = self
            .pool
            .call(async |mut client: Client| {
                tries.set(tries.get() + 1);
                client.txn(write.clone()).await
            })
            .await?;
        let written = |revision: i64| record.written(Revision(revision as u64, lease as u64));
        if answer.succeeded() {
            return Ok(written(
                answer.header().map_or(0, |header| header.revision()),
            ));
        }
        let is_ours = |found: &KeyValue| {
            tries.get() > 1
                && lease != 0
                && found.lease() == lease
                && found.value() == value.as_bytes()
        };
        let ours = found(&answer).filter(is_ours);
        ours.map(|found| written(found.mod_revision()))
            .ok_or(RegistryError::Conflict(record.key))
    }

    /// Has a lease begin anew, if it is there and was given for that long; tells whether it did. Whoever is killed
    /// between asking for a lease and using it leaves one behind, so no more are asked for than needed.
    async fn prolong(&self, lease: i64, time: Duration) -> Result<bool, RegistryError> {
        if lease == 0 {
            return Ok(false);
        }
        let prolong = async |mut client: Client| {
            let told = client.lease_time_to_live(lease, None).await?;
            if told.ttl() <= 0 || told.granted_ttl() != seconds(time) {
                return Ok(false);
            }
            match client.lease_keep_alive(lease).await {
                // It ran out meanwhile.
                Err(Error::LeaseKeepAliveError(_)) => Ok(false),
                begun => begun.map(|_| true),
            }
        };
        self.pool.call(prolong).await
    }

    async fn grant(&self, time: Duration) -> Result<i64, RegistryError> {
        let seconds = seconds(time);
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

/// A time as leases have it.
fn seconds(time: Duration) -> i64 {
    time.as_secs().max(1) as i64
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

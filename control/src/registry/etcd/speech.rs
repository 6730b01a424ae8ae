//! A store by one version of etcd's API, for callers who wait. What a version can be asked is a [`Speech`].
//!
//! The clients are asynchronous; here their runtime has a single thread's worth of work and is driven by whoever
//! waits: a caller in one of the blocking methods, or the watch's thread.

use super::EtcdOptions;
use super::pool::{Link, Pool};
use super::watcher::{self, End, Teller};
use crate::lease::{Lease, LeaseAttrs};
use crate::registry::{News, Record, Registry, RegistryError, Snapshot, Steward, Watch};
use crate::subnet_key::SubnetKey;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// A version of the API: how to ask and to tell by it.
pub(super) trait Speech: Sized + Send + Sync + 'static {
    /// A connection to one server.
    type Link: Link;

    /// What following leaves to the next time.
    type Lesson: Default;

    /// Speaks to these servers about what is below a prefix.
    fn new(pool: Pool<Self::Link>, prefix: &str) -> Self;

    /// The servers.
    fn pool(&self) -> &Pool<Self::Link>;

    /// How an operator writes a config.
    fn config_cure(&self) -> String;

    /// The network config, where there is one.
    async fn config(&self) -> Result<Option<String>, RegistryError>;

    /// The config and every record.
    async fn list(&self) -> Result<Listing, RegistryError>;

    /// How long a lease still lasts.
    async fn left(&self, seen: &Lease) -> Result<Duration, RegistryError>;

    /// Writes a record where there is none, or over the version given.
    async fn write(&self, record: Record<'_>, over: Option<&Lease>)
    -> Result<Lease, RegistryError>;

    /// Removes the version given; a record that is gone already is no error.
    async fn remove(&self, seen: &Lease) -> Result<(), RegistryError>;

    /// Tells of a listing once the server watches, and of every change after it.
    async fn follow(
        &self,
        all: Listing,
        teller: &mut Teller,
        lesson: &mut Self::Lesson,
    ) -> Result<Infallible, End>;
}

/// All a network has in etcd.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) snapshot: Snapshot,
    pub(super) config: Option<String>,
    /// The number of the last change of which all is known.
    pub(super) revision: u64,
}

/// A store whose API is spoken.
pub(super) struct Spoken<S>(Arc<Inner<S>>);

pub(super) struct Inner<S> {
    pub(super) runtime: Runtime,
    pub(super) store: S,
    lease_time: Duration,
}

impl<S: Speech> Spoken<S> {
    /// Prepares to talk to etcd. No server is contacted yet, but files named must be readable.
    pub(super) fn open(options: EtcdOptions) -> io::Result<Self> {
        let (prefix, lease_time) = (options.prefix.clone(), options.lease_time);
        Ok(Self(Arc::new(Inner {
            runtime: Builder::new_current_thread().enable_all().build()?,
            store: S::new(Pool::new(options)?, &prefix),
            lease_time,
        })))
    }

    /// The asynchronous side.
    pub(super) fn store(&self) -> &S {
        &self.0.store
    }

    pub(super) fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(work)
    }
}

impl<S: Speech> Registry for Spoken<S> {
    fn config(&self) -> Result<String, RegistryError> {
        let text = self.block(self.store().config())?;
        text.ok_or_else(|| RegistryError::NoConfig(self.store().config_cure()))
    }

    fn lease_time(&self) -> Duration {
        self.0.lease_time
    }

    fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        Ok(self.block(self.store().list())?.snapshot)
    }

    fn create(&self, key: SubnetKey, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        self.write(Record::first(key, attrs, self.lease_time()), None)
    }

    fn renew(&self, seen: &Lease, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        self.write(Record::after(seen, attrs, self.lease_time()), Some(seen))
    }

    fn remove(&self, seen: &Lease) -> Result<(), RegistryError> {
        self.block(self.store().remove(seen))
    }

    fn watch(&self, news: Box<dyn FnMut(News) + Send>) -> Result<Watch, RegistryError> {
        watcher::start(Arc::clone(&self.0), news)
            .map_err(|error| RegistryError::Unavailable(error.to_string()))
    }
}

impl<S: Speech> Steward for Spoken<S> {
    fn left(&self, seen: &Lease) -> Result<Option<Duration>, RegistryError> {
        match seen.reserved {
            true => Ok(None),
            false => self.block(self.store().left(seen)).map(Some),
        }
    }

    fn write(&self, record: Record<'_>, over: Option<&Lease>) -> Result<Lease, RegistryError> {
        self.block(self.store().write(record, over))
    }
}

impl<S> Clone for Spoken<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Speech> fmt::Debug for Spoken<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Spoken")
            .field(self.store().pool())
            .finish()
    }
}

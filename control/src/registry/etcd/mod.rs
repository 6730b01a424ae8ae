//! etcd, by the version of its API that flannel's nodes use: [`v3`] since flannel 0.18, [`v2`] before. The two see
//! nothing of each other's records, though one server may serve both; [`choice`] finds out which one a cluster uses.

mod choice;
#[cfg(test)]
mod faults;
mod pool;
mod speech;
mod v2;
mod v3;
mod watcher;

use super::{News, Record, Registry, RegistryError, Snapshot, Steward, Watch};
use crate::lease::{Lease, LeaseAttrs};
use crate::subnet_key::SubnetKey;
use choice::{Choice, Version};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How to reach etcd.
#[derive(Clone, Default)]
pub struct EtcdOptions {
    /// Which version of its API to speak.
    pub api: EtcdApi,
    /// URLs, tried in turn.
    pub endpoints: Vec<String>,
    /// In front of every key.
    pub prefix: String,
    /// Certificates that may vouch for the servers; else the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// User and password.
    pub user: Option<(String, String)>,
    /// How long a lease lasts unless renewed.
    pub lease_time: Duration,
}

/// A version of etcd's API.
#[derive(Clone, Debug, Default)]
pub enum EtcdApi {
    /// That of flannel up to 0.17.
    V2,
    /// That of flannel since 0.18.
    #[default]
    V3,
    /// Whichever has the cluster's records; what was found once holds for all clones.
    Auto(Found),
}

/// What was found, if anything has been.
#[derive(Clone, Debug, Default)]
pub struct Found(Arc<OnceLock<Version>>);

/// Leases kept in etcd.
#[derive(Clone, Debug)]
pub struct EtcdRegistry(Choice);

impl EtcdRegistry {
    /// Prepares to talk to etcd. No server is contacted yet, but files named must be readable.
    pub fn open(options: EtcdOptions) -> io::Result<Self> {
        Choice::open(options).map(Self)
    }
}

impl Registry for EtcdRegistry {
    fn config(&self) -> Result<String, RegistryError> {
        self.0.made()?.config()
    }

    fn lease_time(&self) -> Duration {
        self.0.lease_time()
    }

    fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        self.0.made()?.snapshot()
    }

    fn create(&self, key: SubnetKey, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        self.0.made()?.create(key, attrs)
    }

    fn renew(&self, seen: &Lease, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        self.0.made()?.renew(seen, attrs)
    }

    fn remove(&self, seen: &Lease) -> Result<(), RegistryError> {
        self.0.made()?.remove(seen)
    }

    fn watch(&self, news: Box<dyn FnMut(News) + Send>) -> Result<Watch, RegistryError> {
        self.0.watch(news)
    }
}

impl Steward for EtcdRegistry {
    fn left(&self, seen: &Lease) -> Result<Option<Duration>, RegistryError> {
        self.0.made()?.left(seen)
    }

    fn write(&self, record: Record<'_>, over: Option<&Lease>) -> Result<Lease, RegistryError> {
        self.0.made()?.write(record, over)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key prefix the way paths are written: no doubled and no trailing slashes.
fn clean(prefix: &str) -> String {
    let root = if prefix.starts_with('/') { "/" } else { "" };
    let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
    format!("{root}{}", parts.join("/"))
}

impl fmt::Debug for EtcdOptions {
    /// Leaves the password out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(name, _)| name);
        let mut shown = formatter.debug_struct("EtcdOptions");
        shown
            .field("api", &self.api)
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("ca_file", &self.ca_file);
        shown
            .field("identity", &self.identity)
            .field("user", &user)
            .field("lease_time", &self.lease_time)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_written_like_a_path() {
        assert_eq!(clean("/coreos.com/network"), "/coreos.com/network");
        assert_eq!(clean("//kube-centos//network/"), "/kube-centos/network");
        assert_eq!(clean("network"), "network");
        assert_eq!(clean("/"), "/");
    }

    #[test]
    fn the_password_is_never_shown() {
        let options = EtcdOptions {
            user: Some(("root".to_owned(), "secret".to_owned())),
            ..EtcdOptions::default()
        };
        let shown = format!("{options:?}");
        assert!(
            shown.contains("root") && !shown.contains("secret"),
            "{shown}"
        );
    }
}

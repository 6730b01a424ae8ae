//! Where leases are kept, for commands that look after them without a daemon: by the flags and variables of the
//! daemon.

use clap::{Args, ValueEnum};
use control::registry::{EtcdApi, EtcdOptions, EtcdRegistry, FileRegistry, Found, Steward};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The daemon's flags for its store.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The store, by the daemon's flags or variables")]
pub(crate) struct Keeping {
    /// Where leases are kept: in etcd, or in a directory that all nodes share
    #[arg(
        long,
        value_name = "etcd|file:DIR",
        env = "FLANNELD_STORE",
        default_value = "etcd"
    )]
    store: String,

    /// Version of etcd's API; auto asks which has the cluster's records
    #[arg(long, value_enum, value_name = "VERSION", env = "FLANNELD_ETCD_API", default_value_t = Version::V3)]
    etcd_api: Version,

    /// etcd servers, tried in turn
    #[arg(
        long,
        value_name = "URL,...",
        value_delimiter = ',',
        env = "FLANNELD_ETCD_ENDPOINTS",
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379"
    )]
    etcd_endpoints: Vec<String>,

    /// What comes before every key in etcd
    #[arg(
        long,
        value_name = "PATH",
        env = "FLANNELD_ETCD_PREFIX",
        default_value = "/coreos.com/network"
    )]
    etcd_prefix: String,

    /// Certificates that vouch for etcd servers, PEM [default: the system's]
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_CAFILE")]
    etcd_cafile: Option<PathBuf>,

    /// Certificate to show to etcd servers, PEM
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_CERTFILE")]
    etcd_certfile: Option<PathBuf>,

    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", env = "FLANNELD_ETCD_KEYFILE")]
    etcd_keyfile: Option<PathBuf>,

    /// User name for etcd
    #[arg(long, value_name = "NAME", env = "FLANNELD_ETCD_USERNAME")]
    etcd_username: Option<String>,

    /// Password for etcd; others on this host see the command line, so rather use the environment
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "FLANNELD_ETCD_PASSWORD",
        hide_env_values = true
    )]
    etcd_password: Option<String>,

    /// How long a lease lasts unless renewed, as the daemons have it
    #[arg(long, value_name = "MINUTES", env = "FLANNELD_LEASE_TIME", default_value_t = 1440, value_parser = clap::value_parser!(u32).range(2..=5_256_000))]
    lease_time: u32,
}

/// A version of etcd's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Version {
    /// That of flannel up to 0.17
    V2,
    /// That of flannel since 0.18
    V3,
    /// Whichever has the cluster's records
    Auto,
}

impl From<Version> for EtcdApi {
    fn from(version: Version) -> Self {
        match version {
            Version::V2 => Self::V2,
            Version::V3 => Self::V3,
            Version::Auto => Self::Auto(Found::default()),
        }
    }
}

impl Keeping {
    /// Opens the store; nothing is asked of it yet.
    pub(crate) fn open(&self) -> Result<Arc<dyn Steward>, String> {
        let lease_time = self.lease_time();
        match (self.store.as_str(), self.store.strip_prefix("file:")) {
            ("etcd", _) => etcd(EtcdOptions {
                api: self.etcd_api.into(),
                endpoints: self.etcd_endpoints.clone(),
                prefix: self.etcd_prefix.clone(),
                ca_file: given(&self.etcd_cafile),
                identity: given(&self.etcd_certfile).zip(given(&self.etcd_keyfile)),
                user: user(self.etcd_username.as_deref(), self.etcd_password.as_deref()),
                lease_time,
            }),
            (_, Some(dir)) if !dir.is_empty() => directory(Path::new(dir), lease_time),
            (typed, _) => Err(format!(
                "--store={typed}: neither etcd nor of the form file:DIR"
            )),
        }
    }

    /// How long a lease lasts.
    pub(crate) fn lease_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.lease_time) * 60)
    }
}

/// Opens a directory that is there: a name mistyped is no new store.
pub(crate) fn directory(dir: &Path, lease_time: Duration) -> Result<Arc<dyn Steward>, String> {
    let store = match dir.is_dir() {
        true => FileRegistry::open(dir, lease_time).map_err(|error| error.to_string()),
        false => Err("there is no such directory".to_owned()),
    };
    let store = store.map_err(|why| format!("cannot open the store {}: {why}", dir.display()))?;
    Ok(Arc::new(store))
}

/// Opens etcd.
pub(crate) fn etcd(options: EtcdOptions) -> Result<Arc<dyn Steward>, String> {
    let store = EtcdRegistry::open(options);
    let store = store.map_err(|error| format!("cannot use etcd: {error}"))?;
    Ok(Arc::new(store))
}

/// A user and a password, where there is a user.
pub(crate) fn user(name: Option<&str>, password: Option<&str>) -> Option<(String, String)> {
    let name = name.filter(|name| !name.is_empty())?;
    Some((name.to_owned(), password.unwrap_or_default().to_owned()))
}

/// A variable that is empty is as good as none.
fn given(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| !path.as_os_str().is_empty())
}

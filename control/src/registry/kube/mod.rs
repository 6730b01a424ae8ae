//! Kubernetes: a node's subnets are those the cluster gave it, and its record stands in annotations of its Node object.
//!
//! ```text
//! spec.podCIDRs                                  the subnets
//! PREFIX/kube-subnet-manager: "true"             there is a record:
//! PREFIX/backend-type, backend-data, public-ip   for IPv4
//! PREFIX/backend-v6-data, public-ipv6            for IPv6
//! PREFIX/public-ip-overwrite, node-public-ip     written by operators, with IPv6 forms: addresses to use instead
//! status.conditions                              NetworkUnavailable is False once the network works
//! ```
//!
//! A node writes its own annotations alone, so no two writers ever meet, and a record lasts as long as its node. Built
//! in with the feature `kube`; without it there is nothing here but the words for what is missing.

#[cfg(feature = "kube")]
mod annotations;
#[cfg(feature = "kube")]
mod node;
mod prefix;
#[cfg(feature = "kube")]
mod roll;
#[cfg(feature = "kube")]
mod server;
#[cfg(feature = "kube")]
mod store;
#[cfg(test)]
#[cfg(feature = "kube")]
mod tests;
#[cfg(feature = "kube")]
mod watcher;

use super::Registry;
use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use prefix::Prefix;

/// Why this program cannot talk to the API, and the cure.
pub const MISSING: Option<&str> = if cfg!(feature = "kube") {
    None
} else {
    Some(
        "this program was built without Kubernetes: take a released one, or build it with the feature kube, which is \
         on unless cargo is given --no-default-features",
    )
};

/// How to reach the API, and as which node.
#[derive(Clone, Debug)]
pub struct KubeOptions {
    /// File that says how to log in; else what a pod is given.
    pub kubeconfig: Option<PathBuf>,
    /// The API server, instead of the one named there.
    pub api_url: Option<String>,
    /// What the names of annotations begin with.
    pub prefix: Prefix,
    /// File with the network config.
    pub net_config: PathBuf,
    /// Which node this is.
    pub node: NodeName,
    /// Whether to tell the cluster that the node's network works.
    pub tell_condition: bool,
}

/// Which node this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeName {
    /// By its name.
    Known(String),
    /// The one that this pod is on.
    OfPod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
    },
}

impl KubeOptions {
    /// Where the API is, as far as the settings tell.
    pub fn place(&self) -> String {
        let in_pod = || {
            let host = env::var("KUBERNETES_SERVICE_HOST").ok()?;
            let port = env::var("KUBERNETES_SERVICE_PORT").ok()?;
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host
            };
            Some(format!("https://{host}:{port}"))
        };
        let in_file = || {
            let file = self.kubeconfig.as_ref()?;
            Some(format!("the server named in {}", file.display()))
        };
        let place = self.api_url.clone().or_else(in_file).or_else(in_pod);
        place.unwrap_or_else(|| "the API server of the cluster".to_owned())
    }
}

/// Every file that is read to log in, also anew while the daemon runs.
pub fn files(options: &KubeOptions) -> Vec<PathBuf> {
    #[cfg(feature = "kube")]
    let named = server::files(options);
    #[cfg(not(feature = "kube"))]
    let named = Vec::new();
    options.kubeconfig.iter().cloned().chain(named).collect()
}

/// Prepares to talk to the API. No server is contacted yet, but what is needed to log in must be there.
#[cfg(feature = "kube")]
pub fn open(options: KubeOptions) -> io::Result<Arc<dyn Registry>> {
    Ok(Arc::new(store::KubeRegistry::open(options)?))
}

/// Without the feature nobody can.
#[cfg(not(feature = "kube"))]
pub fn open(_: KubeOptions) -> io::Result<Arc<dyn Registry>> {
    let missing = MISSING.unwrap_or_default();
    Err(io::Error::new(io::ErrorKind::Unsupported, missing))
}

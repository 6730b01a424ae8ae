//! A Kubernetes API server for tests: nodes and pods, as the API's documentation says they behave.
//!
//! It listens on TLS, knows its callers by bearer tokens and lets them do what they were granted; objects have versions,
//! lists have pages, watches go on from a version with bookmarks in between, and history can be forgotten. What can be
//! wrong with a real one can be asked for: it is too busy, it is silent, it cuts connections, it has forgotten.

mod access;
mod http;
mod objects;
mod patch;
mod serve;
mod status;
mod store;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::Namespace;
use crate::authority::Authority;
use serve::Shared;

pub use access::Rule;
pub use objects::node_name;

const PORT: u16 = 6443;

/// The server; it ends when dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    authority: Authority,
    shared: Arc<Shared>,
}

impl ApiServer {
    /// Starts one that listens at an address of a namespace.
    pub fn start(network: &Namespace, address: IpAddr) -> io::Result<Self> {
        let address = SocketAddr::new(address, PORT);
        Self::on(network.enter(|| TcpListener::bind(address))?)
    }

    /// Starts one for this process alone.
    pub fn local() -> io::Result<Self> {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
    }

    fn on(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let authority = Authority::new()?;
        let identity = authority.sign_server("apiserver", address.ip())?;
        let shared = Arc::new(Shared::new(&identity)?);
        serve::start(listener, Arc::clone(&shared));
        Ok(Self {
            address,
            authority,
            shared,
        })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate of the authority that vouches for it.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Adds a node that was given these subnets.
    pub fn add_node(&self, name: &str, subnets: &[&str]) {
        self.shared.store().put_node(objects::node(name, subnets));
    }

    /// Removes a node.
    pub fn remove_node(&self, name: &str) {
        self.shared.store().remove_node(name);
    }

    /// A node as it stands.
    pub fn node(&self, name: &str) -> Option<Value> {
        self.shared.store().node(name).cloned()
    }

    /// What the annotations of a node say.
    pub fn annotations(&self, name: &str) -> BTreeMap<String, String> {
        let node = self.node(name).unwrap_or_default();
        let annotations = node["metadata"]["annotations"].as_object().cloned();
        let annotations = annotations.unwrap_or_default().into_iter();
        annotations
            .map(|(name, text)| (name, text.as_str().unwrap_or_default().to_owned()))
            .collect()
    }

    /// Changes a node as somebody with every right might, by a merge patch.
    pub fn change_node(&self, name: &str, change: &Value) {
        self.shared.store().change_node(name, change);
    }

    /// One of the conditions of a node.
    pub fn condition(&self, node: &str, kind: &str) -> Option<Value> {
        let node = self.node(node)?;
        let mut conditions = node["status"]["conditions"].as_array()?.iter();
        conditions.find(|one| one["type"] == kind).cloned()
    }

    /// Adds a pod on a node.
    pub fn add_pod(&self, namespace: &str, name: &str, node: &str) {
        self.shared.store().put_pod(namespace, name, node);
    }

    /// Lets bearers of a token in, for a time; those of others no more.
    pub fn accept_only(&self, token: &str, lifetime: Duration) {
        self.shared.access().accept_only(token, lifetime);
    }

    /// Grants what these rules name, and nothing else.
    pub fn grant(&self, rules: Vec<Rule>) {
        self.shared.access().grant(rules);
    }

    /// Forgets what happened up to a version: watches and lists that go on from before are refused.
    pub fn forget_until(&self, version: u64) {
        self.shared.store().forget_until(version);
    }

    /// Forgets all that happened.
    pub fn forget_history(&self) {
        let mut store = self.shared.store();
        let latest = store.version() + 1;
        store.forget_until(latest);
    }

    /// Sends a bookmark to whoever watches; the version it tells.
    pub fn bookmark(&self) -> u64 {
        self.shared.store().bookmark()
    }

    /// Refuses every request from now on as too many, with the pause to ask for; `None` to serve again.
    pub fn set_busy(&self, pause: Option<Duration>) {
        self.shared.set_busy(pause);
    }

    /// Refuses every watch as too old.
    pub fn set_forgetful(&self, forgetful: bool) {
        self.shared.forgetful.store(forgetful, Ordering::Relaxed);
    }

    /// Takes requests and answers none.
    pub fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::Relaxed);
    }

    /// Closes every connection, in the middle of whatever is sent.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Requests served so far whose verb and path begin so, as `LIST /api/v1/nodes`, and `BOOKMARK`s sent.
    pub fn count(&self, beginning: &str) -> usize {
        self.shared.count(beginning)
    }

    /// The token of who may do everything.
    pub fn administrator(&self) -> &'static str {
        access::ADMIN
    }

    /// Writes a kubeconfig whose user has the token in a file beside it.
    pub fn write_kubeconfig(&self, directory: &Path, token: &str) -> io::Result<()> {
        fs::write(directory.join("token"), token)?;
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {
                "server": self.url(),
                "certificate-authority": self.authority.certificate(),
            }}],
            "users": [{"name": "flannel", "user": {"tokenFile": directory.join("token")}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "flannel"}}],
            "current-context": "lab",
        });
        fs::write(directory.join("kubeconfig"), config.to_string())
    }

    /// Writes what a pod is given to log in.
    pub fn write_service_account(&self, directory: &Path, token: &str) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::copy(self.authority.certificate(), directory.join("ca.crt"))?;
        fs::write(directory.join("namespace"), "kube-flannel")?;
        fs::write(directory.join("token"), token)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

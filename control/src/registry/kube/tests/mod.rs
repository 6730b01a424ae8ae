//! The registry against an API server that behaves as documented, or against a real one: `scripts/test-kube`.

mod anywhere;
mod faults;

use super::*;
use crate::acquire::{AcquireError, Wish, acquire};
use crate::lease::{Lease, LeaseAttrs};
use crate::network::NetworkConfig;
use crate::registry::{News, Registry, RegistryError, Watch};
use benches::kube::ApiServer;
use kube_client::Admin;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

mod kube_client;

/// Names the kubeconfig of a real cluster, whose user may make nodes and remove them.
const REAL: &str = "FLANNEL_TEST_KUBECONFIG";
const LONG: Duration = Duration::from_secs(3600);
/// Longer than anything here takes on a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const CONFIG: &str = r#"{"Network":"10.213.0.0/16","Backend":{"Type":"vxlan"}}"#;
const PREFIX: &str = "flannel.alpha.coreos.com";
const MAC: &str = "0a:5b:8b:ba:16:5f";

/// A cluster, and what nodes log in with.
struct Cluster {
    admin: Admin,
    /// None where the cluster is a real one.
    double: Option<ApiServer>,
    kubeconfig: PathBuf,
    directory: TempDir,
    /// What nodes of this test are called before anything else.
    prefix: String,
    nodes: Vec<String>,
}

impl Cluster {
    /// A double, or a real one where that is wanted, with nodes that have these subnets.
    fn with(nodes: &[(&str, &[&str])]) -> Self {
        match env::var_os(REAL) {
            Some(file) => Self::real(Path::new(&file)),
            None => Self::double(),
        }
        .and(nodes)
    }

    /// A double.
    fn double() -> Self {
        let (server, directory) = (ApiServer::local().unwrap(), tempfile::tempdir().unwrap());
        let admin = directory.path().join("admin");
        fs::create_dir(&admin).unwrap();
        server
            .write_kubeconfig(&admin, server.administrator())
            .unwrap();
        server.accept_only("one", LONG);
        server.write_kubeconfig(directory.path(), "one").unwrap();
        Self {
            admin: Admin::new(&admin.join("kubeconfig")),
            double: Some(server),
            kubeconfig: directory.path().join("kubeconfig"),
            directory,
            prefix: String::new(),
            nodes: Vec::new(),
        }
    }

    fn real(kubeconfig: &Path) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            admin: Admin::new(kubeconfig),
            double: None,
            kubeconfig: kubeconfig.to_owned(),
            directory: tempfile::tempdir().unwrap(),
            prefix: format!("flannel-test-{}-{number}-", std::process::id()),
            nodes: Vec::new(),
        }
    }

    fn and(mut self, nodes: &[(&str, &[&str])]) -> Self {
        fs::write(self.net_config(), CONFIG).unwrap();
        for (name, subnets) in nodes {
            self.add_node(name, subnets);
        }
        self
    }

    fn usual() -> Self {
        Self::with(&USUAL)
    }

    fn server(&self) -> &ApiServer {
        self.double.as_ref().expect("a double")
    }

    fn net_config(&self) -> PathBuf {
        self.directory.path().join("net-conf.json")
    }

    fn name(&self, node: &str) -> String {
        format!("{}{node}", self.prefix)
    }

    fn add_node(&mut self, node: &str, subnets: &[&str]) {
        let name = self.name(node);
        let spec = match subnets.first() {
            Some(first) => json!({"podCIDR": first, "podCIDRs": subnets, "unschedulable": true}),
            None => json!({"unschedulable": true}),
        };
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec});
        self.admin.create_node(&node);
        self.nodes.push(name);
    }

    fn remove_node(&self, node: &str) {
        self.admin.remove_node(&self.name(node));
    }

    fn node(&self, node: &str) -> Value {
        self.admin.node(&self.name(node))
    }

    fn condition(&self, node: &str, kind: &str) -> Option<Value> {
        let node = self.node(node);
        let mut conditions = node["status"]["conditions"].as_array()?.iter();
        conditions.find(|one| one["type"] == kind).cloned()
    }

    /// As a kubelet says when all is well.
    fn tell_ready(&self, node: &str) {
        let ready = json!({"type": "Ready", "status": "True", "reason": "KubeletReady"});
        let change = json!({"status": {"conditions": [ready]}});
        self.admin.change_status(&self.name(node), &change);
    }

    fn annotation(&self, node: &str, name: &str) -> Option<String> {
        let text = &self.node(node)["metadata"]["annotations"][format!("{PREFIX}/{name}")];
        text.as_str().map(str::to_owned)
    }

    fn annotate(&self, node: &str, name: &str, text: Option<&str>) {
        let name = format!("{PREFIX}/{name}");
        let change = json!({"metadata": {"annotations": {name: text}}});
        self.admin.change_node(&self.name(node), &change);
    }

    /// How often something was asked for; nobody knows of a real one.
    fn count(&self, what: &str) -> Option<usize> {
        self.double.as_ref().map(|server| server.count(what))
    }

    fn options(&self, node: NodeName) -> KubeOptions {
        KubeOptions {
            kubeconfig: Some(self.kubeconfig.clone()),
            api_url: None,
            prefix: PREFIX.parse().unwrap(),
            net_config: self.net_config(),
            node,
            tell_condition: true,
        }
    }

    fn registry(&self, node: &str) -> Arc<dyn Registry> {
        open(self.options(NodeName::Known(self.name(node)))).unwrap()
    }

    /// A node gets its lease, as a daemon does.
    fn join(&self, node: &str, address: &str) -> Lease {
        self.try_join(node, address, CONFIG).unwrap()
    }

    fn try_join(&self, node: &str, address: &str, config: &str) -> Result<Lease, AcquireError> {
        let network = NetworkConfig::parse(config).unwrap();
        let wish = Wish {
            network: &network,
            attrs: &|_| vxlan(address),
            previous: None,
        };
        acquire(&*self.registry(node), &wish)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.double.is_none() {
            self.nodes
                .iter()
                .for_each(|name| self.admin.try_remove_node(name));
        }
    }
}

/// What most tests begin with.
const USUAL: [(&str, &[&str]); 2] = [("a", &["10.213.1.0/24"]), ("b", &["10.213.2.0/24"])];

fn vxlan(address: &str) -> LeaseAttrs {
    let value = format!(
        r#"{{"PublicIP":"{address}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{MAC}"}}}}"#
    );
    LeaseAttrs::parse(&value).unwrap()
}

fn watch(registry: &dyn Registry) -> (Watch, Receiver<News>) {
    let (sender, news) = channel();
    let watch = registry.watch(Box::new(move |report| drop(sender.send(report))));
    (watch.unwrap(), news)
}

/// The first report that is wanted, passing over others.
fn await_news(news: &Receiver<News>, wanted: impl Fn(&News) -> bool) -> News {
    loop {
        let report = news.recv_timeout(PATIENCE).expect("no such news");
        if wanted(&report) {
            return report;
        }
    }
}

fn is_put(news: &News, address: &str) -> bool {
    matches!(news, News::Put(lease) if lease.attrs.public_ip == address.parse().ok())
}

/// The next complete report; the subnets in it.
fn await_snapshot(news: &Receiver<News>) -> Vec<String> {
    let all = await_news(news, |news| matches!(news, News::Snapshot(_)));
    let leases = match all {
        News::Snapshot(all) => all.leases,
        _ => Vec::new(),
    };
    leases.iter().map(|lease| lease.key.to_string()).collect()
}

fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn trouble<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> String {
    outcome.unwrap_err().to_string()
}

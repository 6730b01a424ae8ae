//! The registry over the API: calls about this node, and lists of all of them.

use super::annotations::{Annotations, Changes};
use super::node::{NETWORK_UNAVAILABLE, Node, Pod};
use super::server::{Fault, Question, Server};
use super::watcher::Watcher;
use super::{KubeOptions, NodeName};
use crate::lease::{Lease, LeaseAttrs, Revision};
use crate::network::{Backend, NetworkConfig};
use crate::registry::{Addresses, Assigned, News, Registry, RegistryError, Snapshot, Watch};
use crate::subnet_key::SubnetKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::Request;
use kube::core::params::GetParams;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Records last as long as their node; nothing is renewed by the clock.
const LEASE_TIME: Duration = Duration::from_secs(86400);
const NODES: &str = "/api/v1/nodes";

/// Leases kept by Kubernetes.
#[derive(Clone)]
pub(super) struct KubeRegistry(Arc<Inner>);

/// The runtime, and what runs on it.
pub(super) struct Inner {
    pub(super) runtime: Runtime,
    pub(super) store: Store,
}

/// The asynchronous side.
pub(super) struct Store {
    pub(super) server: Server,
    pub(super) annotations: Annotations,
    pub(super) tell_condition: bool,
    options: KubeOptions,
    /// Found out at the first call where only the pod is known.
    name: OnceLock<String>,
}

impl KubeRegistry {
    pub(super) fn open(options: KubeOptions) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let server = runtime.block_on(Server::new(options.clone()))?;
        let store = Store {
            server,
            annotations: Annotations::new(options.prefix.clone()),
            tell_condition: options.tell_condition,
            options,
            name: OnceLock::new(),
        };
        Ok(Self(Arc::new(Inner { runtime, store })))
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.runtime.block_on(work)
    }
}

impl Registry for KubeRegistry {
    fn config(&self) -> Result<String, RegistryError> {
        read_config(&self.0.store.options.net_config)
    }

    fn lease_time(&self) -> Duration {
        LEASE_TIME
    }

    fn assigned(&self) -> Result<Option<Assigned>, RegistryError> {
        self.block(self.0.store.assigned()).map(Some)
    }

    fn addresses(&self) -> Result<Addresses, RegistryError> {
        let node = self.block(self.0.store.own())?;
        let told = self.0.store.annotations.addresses(&node);
        told.map_err(|why| unavailable(format!("node {}: {why}", node.metadata.name)))
    }

    fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        let listed = self.block(super::watcher::list(&self.0.store));
        Ok(listed
            .map_err(|fault| RegistryError::from(&fault))?
            .snapshot)
    }

    fn create(&self, key: SubnetKey, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        self.block(self.0.store.write(key, attrs))
    }

    fn renew(&self, seen: &Lease, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        self.block(self.0.store.write(seen.key, attrs))
    }

    fn remove(&self, _: &Lease) -> Result<(), RegistryError> {
        self.block(self.0.store.clear())
    }

    fn watch(&self, news: Box<dyn FnMut(News) + Send>) -> Result<Watch, RegistryError> {
        Watcher::start(Arc::clone(&self.0), news).map_err(|error| unavailable(error.to_string()))
    }
}

impl Store {
    /// This node's name.
    pub(super) async fn name(&self) -> Result<String, Fault> {
        if let Some(name) = self.name.get() {
            return Ok(name.clone());
        }
        let name = match &self.options.node {
            NodeName::Known(name) => name.clone(),
            NodeName::OfPod { namespace, pod } => self.node_of(namespace, pod).await?,
        };
        Ok(self.name.get_or_init(|| name).clone())
    }

    async fn node_of(&self, namespace: &str, pod: &str) -> Result<String, Fault> {
        let pods = Request::new(format!("/api/v1/namespaces/{namespace}/pods"));
        let found: Pod = self
            .server
            .call(&built(pods.get(pod, &GetParams::default()))?)
            .await?;
        let name = found.spec.node_name;
        match name.is_empty() {
            true => Err(Fault::Trouble(format!(
                "pod {namespace}/{pod} is on no node"
            ))),
            false => Ok(name),
        }
    }

    /// This node, as it is now.
    pub(super) async fn own(&self) -> Result<Node, Fault> {
        let name = self.name().await?;
        let question = built(Request::new(NODES).get(&name, &GetParams::default()))?;
        let found = self.server.call(&question).await;
        found.map_err(|fault| match fault {
            Fault::Absent(why) => Fault::Trouble(format!(
                "there is no node {name} ({why}): NODE_NAME must be the name that `kubectl get nodes` shows"
            )),
            fault => fault,
        })
    }

    async fn assigned(&self) -> Result<Assigned, RegistryError> {
        let node = self.own().await?;
        let name = &node.metadata.name;
        let subnets = node.subnets();
        let subnets = subnets.map_err(|why| unavailable(format!("node {name}: {why}")))?;
        if subnets.is_empty() {
            return Err(unavailable(format!(
                "node {name:?} pod cidr not assigned: start kube-controller-manager with --allocate-node-cidrs=true and --cluster-cidr, or kubeadm with --pod-network-cidr"
            )));
        }
        let record = self.annotations.record(&node).and_then(Result::ok);
        Ok(Assigned {
            holder: format!("node {name}"),
            subnets,
            attrs: record.map(|(_, attrs)| attrs),
        })
    }

    /// Makes the node's annotations this record, if they are not.
    async fn write(&self, key: SubnetKey, attrs: &LeaseAttrs) -> Result<Lease, RegistryError> {
        let node = self.own().await?;
        let given = node.subnets().unwrap_or_default();
        if let Some(lost) = key.subnets().find(|subnet| !given.contains(subnet)) {
            let given: Vec<_> = given.iter().map(ToString::to_string).collect();
            return Err(unavailable(format!(
                "the cluster has given node {} another podCIDR, {} instead of {lost}, as after it was deleted and made anew: restart this daemon, then the pods of the node",
                node.metadata.name,
                given.join(" and ")
            )));
        }
        self.annotate(&node, self.annotations.changes(&node, attrs))
            .await?;
        Ok(lease(key, attrs.clone()))
    }

    async fn clear(&self) -> Result<(), RegistryError> {
        let node = self.own().await?;
        Ok(self
            .annotate(&node, self.annotations.removal(&node))
            .await?)
    }

    async fn annotate(&self, node: &Node, changes: Changes) -> Result<(), Fault> {
        if changes.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"annotations": changes}});
        self.patch(&node.metadata.name, patch).await
    }

    /// Tells the cluster that pods find a network on this node.
    pub(super) async fn tell_condition(&self) -> Result<(), Fault> {
        let now = Time(Timestamp::now());
        let condition = json!({
            "type": NETWORK_UNAVAILABLE,
            "status": "False",
            "reason": "FlannelIsUp",
            "message": "Flannel is running on this node",
            "lastTransitionTime": now,
            "lastHeartbeatTime": now,
        });
        let patch = json!({"status": {"conditions": [condition]}});
        self.patch(&self.name().await?, patch).await
    }

    async fn patch(&self, name: &str, patch: Value) -> Result<(), Fault> {
        let patch = Patch::Strategic(patch);
        let nodes = Request::new(NODES);
        let question = nodes.patch_subresource("status", name, &PatchParams::default(), &patch);
        let _: Node = self.server.call(&built(question)?).await?;
        Ok(())
    }

    /// Which nodes are of interest: none but this one where nothing is sent to others.
    pub(super) async fn selector(&self) -> Result<Option<String>, Fault> {
        let config = read_config(&self.options.net_config).ok();
        let network = config.and_then(|text| NetworkConfig::parse(&text).ok());
        match network.map(|network| network.backend) {
            Some(Backend::Alloc) => Ok(Some(format!("metadata.name={}", self.name().await?))),
            _ => Ok(None),
        }
    }

    pub(super) fn list_question(&self, params: &ListParams) -> Result<Question, Fault> {
        built(Request::new(NODES).list(params))
    }

    pub(super) fn watch_question(
        &self,
        params: &kube::api::WatchParams,
        since: &str,
    ) -> Result<Question, Fault> {
        built(Request::new(NODES).watch(params, since))
    }

    /// The config's text, if it can be read.
    pub(super) fn config(&self) -> Option<String> {
        read_config(&self.options.net_config).ok()
    }
}

/// A lease, which the cluster keeps for the node.
pub(super) fn lease(key: SubnetKey, attrs: LeaseAttrs) -> Lease {
    Lease {
        key,
        attrs,
        reserved: true,
        revision: Revision::default(),
    }
}

fn read_config(path: &Path) -> Result<String, RegistryError> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => RegistryError::NoConfig(format!(
            r#"There must be a file {}, as of the ConfigMap in deploy/kube-flannel.yml, with {{"Network":"10.244.0.0/16","Backend":{{"Type":"vxlan"}}}}"#,
            path.display()
        )),
        _ => unavailable(format!("{}: {error}", path.display())),
    })
}

/// Only a name that cannot be one makes a question that cannot be asked.
fn built(question: Result<Question, kube::core::request::Error>) -> Result<Question, Fault> {
    question.map_err(|error| Fault::Trouble(error.to_string()))
}

fn unavailable(why: String) -> RegistryError {
    RegistryError::Unavailable(why)
}

impl From<Fault> for RegistryError {
    fn from(fault: Fault) -> Self {
        Self::from(&fault)
    }
}

impl From<&Fault> for RegistryError {
    fn from(fault: &Fault) -> Self {
        unavailable(fault.told().to_owned())
    }
}

//! An administrator's hands on a cluster, by the API alone.

use http::Request;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, Error};
use serde_json::Value;
use std::path::Path;
use tokio::runtime::{Builder, Runtime};

const NODES: &str = "/api/v1/nodes";

/// Whoever may do everything with nodes.
pub(super) struct Admin {
    runtime: Runtime,
    client: Client,
}

impl Admin {
    /// Logs in as the kubeconfig says.
    pub(super) fn new(kubeconfig: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let read = Kubeconfig::read_from(kubeconfig).unwrap();
            let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
            Client::try_from(config.unwrap()).unwrap()
        });
        Self { runtime, client }
    }

    pub(super) fn create_node(&self, node: &Value) {
        self.ask("POST", NODES, "application/json", node.to_string())
            .unwrap();
    }

    pub(super) fn remove_node(&self, name: &str) {
        self.delete(name).unwrap();
    }

    /// As `remove_node`; one that is gone needs no removing.
    pub(super) fn try_remove_node(&self, name: &str) {
        drop(self.delete(name));
    }

    pub(super) fn node(&self, name: &str) -> Value {
        self.ask("GET", &path(name), "application/json", String::new())
            .unwrap()
    }

    /// All nodes.
    pub(super) fn nodes(&self) -> Value {
        self.ask("GET", NODES, "application/json", String::new())
            .unwrap()
    }

    /// Merges a change into a node.
    pub(super) fn change_node(&self, name: &str, change: &Value) {
        self.merge(&path(name), change);
    }

    /// Merges a change into what is told of a node; lists by their keys.
    pub(super) fn change_status(&self, name: &str, change: &Value) {
        let kind = "application/strategic-merge-patch+json";
        let place = format!("{}/status", path(name));
        self.ask("PATCH", &place, kind, change.to_string()).unwrap();
    }

    fn merge(&self, place: &str, change: &Value) {
        let kind = "application/merge-patch+json";
        self.ask("PATCH", place, kind, change.to_string()).unwrap();
    }

    fn delete(&self, name: &str) -> Result<Value, Error> {
        self.ask("DELETE", &path(name), "application/json", String::new())
    }

    fn ask(&self, method: &str, path: &str, kind: &str, body: String) -> Result<Value, Error> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(http::header::CONTENT_TYPE, kind);
        let request = request.body(body.into_bytes()).unwrap();
        self.runtime.block_on(self.client.request(request))
    }
}

fn path(name: &str) -> String {
    format!("{NODES}/{name}")
}

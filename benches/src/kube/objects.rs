//! Objects as a cluster has them, with as much around what matters as there usually is.

use serde_json::{Value, json};

/// Images a node has loaded, which are most of a Node object.
const IMAGES: usize = 25;

/// The name of the node with a number.
pub fn node_name(number: usize) -> String {
    format!("node-{number}")
}

/// A node that was given these subnets.
pub(super) fn node(name: &str, subnets: &[&str]) -> Value {
    let image = |number: usize| {
        let digest = format!("{number:064x}");
        json!({
            "names": [format!("example.com/app-{number}@sha256:{digest}"), format!("example.com/app-{number}:1.0")],
            "sizeBytes": 10_000_000 + number,
        })
    };
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let mut spec = json!({"providerID": format!("lab://{name}")});
    if let Some(first) = subnets.first() {
        spec["podCIDR"] = json!(first);
        spec["podCIDRs"] = json!(subnets);
    }
    json!({
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
            "annotations": {
                "node.alpha.kubernetes.io/ttl": "0",
                "volumes.kubernetes.io/controller-managed-attach-detach": "true",
            },
        },
        "spec": spec,
        "status": {
            "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("Ready", "True", "KubeletReady"),
            ],
            "addresses": [{"type": "Hostname", "address": name}],
            "nodeInfo": {"kernelVersion": "6.1.0", "osImage": "Linux", "architecture": "amd64"},
            "images": (0..IMAGES).map(image).collect::<Vec<_>>(),
        },
    })
}

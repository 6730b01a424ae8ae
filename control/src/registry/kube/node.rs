//! As much of a Node object as this project reads. Nodes carry a lot more, which is never kept.

use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

/// What every object has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    /// Of this object alone, also when another takes its name.
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) annotations: BTreeMap<String, String>,
}

/// What the cluster gave the node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

/// What is told about the node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    conditions: Vec<Condition>,
}

/// One thing told about it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    kind: String,
    pub(super) status: String,
    pub(super) reason: String,
}

/// A pod, for the node it is on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    pub(super) spec: PodSpec,
}

/// Where a pod runs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) node_name: String,
}

/// The condition that keeps pods off a node while it is true.
pub(super) const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";

impl Node {
    /// The subnets the cluster gave it; none before it did.
    pub(super) fn subnets(&self) -> Result<Vec<IpNet>, String> {
        let texts = match self.spec.pod_cidrs.is_empty() {
            true => std::slice::from_ref(&self.spec.pod_cidr),
            false => &self.spec.pod_cidrs,
        };
        let given = texts.iter().filter(|text| !text.is_empty());
        let read = given.map(|text| {
            let subnet = text.parse::<IpNet>().ok();
            subnet
                .map(|subnet| subnet.trunc())
                .ok_or_else(|| format!("its podCIDR {text:?} is none"))
        });
        read.collect()
    }

    /// What is told about its network.
    pub(super) fn network_condition(&self) -> Option<&Condition> {
        let mut conditions = self.status.conditions.iter();
        conditions.find(|condition| condition.kind == NETWORK_UNAVAILABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(spec: &str) -> Node {
        serde_json::from_str(&format!(r#"{{"kind":"Node","spec":{spec}}}"#)).unwrap()
    }

    fn subnets(spec: &str) -> Vec<String> {
        let subnets = node(spec).subnets().unwrap();
        subnets.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn pod_cidrs_count_before_the_single_one() {
        assert_eq!(subnets(r#"{"podCIDR":"10.244.1.0/24"}"#), ["10.244.1.0/24"]);
        let both = r#"{"podCIDR":"10.244.9.0/24","podCIDRs":["10.244.1.0/24","fd05:0:0:1::/64"]}"#;
        assert_eq!(subnets(both), ["10.244.1.0/24", "fd05:0:0:1::/64"]);
        assert!(subnets("{}").is_empty() && subnets(r#"{"podCIDR":""}"#).is_empty());
        assert!(node(r#"{"podCIDR":"10.244.1.0"}"#).subnets().is_err());
    }
}

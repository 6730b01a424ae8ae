//! What servers say by version 2: nodes of a tree, and refusals, both as JSON.

use serde::Deserialize;

/// A node of the tree: a key with its value, or a directory with the nodes in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Node {
    /// The whole path; none for the root.
    pub(super) key: String,
    /// None for a directory.
    pub(super) value: Option<String>,
    pub(super) nodes: Vec<Self>,
    pub(super) modified_index: u64,
    /// Seconds left; none for what lasts.
    pub(super) ttl: Option<i64>,
    /// The hour of its end, where there is one; on the last second `ttl` may be missing.
    expiration: Option<String>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u32,
    /// In words, with what it is about.
    pub(super) why: String,
}

/// There is no such key.
pub(super) const NOT_FOUND: u32 = 100;
/// The version named is not the present one.
pub(super) const COMPARE_FAILED: u32 = 101;
/// There is a key of this name already.
pub(super) const EXISTS: u32 = 105;
/// Changes since the index named are forgotten.
pub(super) const CLEARED: u32 = 401;

/// From this code on the server is in trouble, and another may do better.
const RAFT: std::ops::Range<u32> = 300..400;

/// What stands in a body.
#[derive(Debug)]
pub(super) enum Said {
    Done(Change),
    Refused(Refusal),
}

/// An action and the node it was done to.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) action: String,
    pub(super) node: Node,
}

/// A body as it comes: of these some are there.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Body {
    action: String,
    node: Option<Node>,
    error_code: u32,
    message: Option<String>,
    cause: String,
}

impl Said {
    /// Reads a body; `None` where it is not of this API.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let body: Body = serde_json::from_slice(body).ok()?;
        if let Some(node) = body.node {
            let action = body.action;
            return Some(Self::Done(Change { action, node }));
        }
        let message = body.message?;
        Some(Self::Refused(Refusal {
            code: body.error_code,
            why: match body.cause.as_str() {
                "" => message,
                cause => format!("{message} ({cause})"),
            },
        }))
    }
}

impl Refusal {
    /// Whether another server may do better.
    pub(super) fn is_trouble(&self) -> bool {
        RAFT.contains(&self.code)
    }
}

impl Node {
    /// Whether it lasts without being renewed.
    pub(super) fn lasts(&self) -> bool {
        self.ttl.is_none() && self.expiration.is_none()
    }
}

impl Change {
    /// Whether the node is gone by it.
    pub(super) fn removes(&self) -> bool {
        ["delete", "expire", "compareAndDelete"].contains(&self.action.as_str())
    }
}

//! The objects with their versions, what has happened to them, and lists of them page by page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar};

use serde_json::{Value, json};

use super::patch::Patch;
use super::status::Failure;

/// Events remembered; those before are forgotten, as in a real one after minutes.
const HISTORY: usize = 20_000;

type Nodes = BTreeMap<String, Arc<Value>>;
/// A node as it stands, or why there is none.
pub(super) type Outcome = Result<Arc<Value>, Failure>;

/// Something that happened to a node.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) kind: &'static str,
    pub(super) node: Arc<Value>,
}

/// All there is.
#[derive(Debug)]
pub(super) struct Store {
    nodes: Arc<Nodes>,
    pods: BTreeMap<(String, String), String>,
    version: u64,
    history: VecDeque<Event>,
    /// Up to here nothing is remembered.
    forgotten: u64,
    /// What lists go on with.
    lists: BTreeMap<u64, Arc<Nodes>>,
    /// How often a bookmark was asked for.
    pub(super) bookmarks: u64,
    pub(super) changed: Arc<Condvar>,
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            nodes: Arc::default(),
            pods: BTreeMap::new(),
            version: 1000,
            history: VecDeque::new(),
            forgotten: 1000,
            lists: BTreeMap::new(),
            bookmarks: 0,
            changed: Arc::default(),
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn node(&self, name: &str) -> Option<&Value> {
        self.nodes.get(name).map(|node| &**node)
    }

    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let place = (namespace.to_owned(), name.to_owned());
        let node = self.pods.get(&place)?;
        Some(json!({
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"nodeName": node, "hostNetwork": true},
        }))
    }

    pub(super) fn put_pod(&mut self, namespace: &str, name: &str, node: &str) {
        let place = (namespace.to_owned(), name.to_owned());
        self.pods.insert(place, node.to_owned());
    }

    pub(super) fn put_node(&mut self, mut node: Value) {
        let name = name_of(&node);
        let there = self
            .nodes
            .get(&name)
            .map(|node| node["metadata"]["uid"].clone());
        let kind = if there.is_some() { "MODIFIED" } else { "ADDED" };
        let fresh = json!(format!("00000000-0000-4000-8000-{:012}", self.version + 1));
        node["metadata"]["uid"] = there.unwrap_or(fresh);
        self.happened(kind, node);
    }

    pub(super) fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.get(name).cloned() {
            self.happened("DELETED", (*node).clone());
        }
    }

    pub(super) fn change_node(&mut self, name: &str, change: &Value) {
        if let Some(node) = self.nodes.get(name).cloned() {
            let patch = Patch::merge(change.clone());
            self.happened("MODIFIED", patch.applied(&node));
        }
    }

    /// A node that is not there yet.
    pub(super) fn create_node(&mut self, node: Value) -> Outcome {
        let name = name_of(&node);
        if name.is_empty() {
            return Err(Failure::invalid(&name, "metadata.name: Required value"));
        }
        if self.nodes.contains_key(&name) {
            return Err(Failure::already_exists(&name));
        }
        self.put_node(node);
        Ok(Arc::clone(&self.nodes[&name]))
    }

    /// A patch of a node itself, which changes nothing of its status, nor a subnet that was given.
    pub(super) fn patch_node(&mut self, name: &str, patch: &Patch) -> Outcome {
        let before = self.found(name)?;
        let mut after = patch.applied(&before);
        keep(&mut after, &before, "status");
        for given in ["podCIDR", "podCIDRs"] {
            if !before["spec"][given].is_null() && before["spec"][given] != after["spec"][given] {
                let why =
                    "spec: Forbidden: node updates may only change labels, taints, or capacity";
                return Err(Failure::invalid(name, why));
            }
        }
        self.replace(name, &before, after)
    }

    fn found(&self, name: &str) -> Outcome {
        let found = self.nodes.get(name).cloned();
        found.ok_or_else(|| Failure::not_found("nodes", name))
    }

    fn replace(&mut self, name: &str, before: &Value, after: Value) -> Outcome {
        check(name, before, &after)?;
        if after != *before {
            self.happened("MODIFIED", after);
        }
        Ok(Arc::clone(&self.nodes[name]))
    }

    /// A patch of a node's status, which may change its annotations, but nothing that the cluster decides.
    pub(super) fn patch_status(&mut self, name: &str, patch: &Patch) -> Outcome {
        let before = self.found(name)?;
        let version = &before["metadata"]["resourceVersion"];
        if patch.based_on().is_some_and(|based_on| based_on != version) {
            return Err(Failure::conflict(name));
        }
        let mut after = patch.applied(&before);
        for kept in ["kind", "apiVersion", "spec"] {
            keep(&mut after, &before, kept);
        }
        self.replace(name, &before, after)
    }

    fn happened(&mut self, kind: &'static str, mut node: Value) {
        self.version += 1;
        node["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let name = name_of(&node);
        let node = Arc::new(node);
        let nodes = Arc::make_mut(&mut self.nodes);
        match kind {
            "DELETED" => nodes.remove(&name),
            _ => nodes.insert(name, Arc::clone(&node)),
        };
        self.history.push_back(Event {
            version: self.version,
            kind,
            node,
        });
        if self.history.len() > HISTORY {
            self.forgotten = self.history.pop_front().map_or(0, |event| event.version);
        }
        self.changed.notify_all();
    }

    /// Forgets what happened up to a version, and the lists under way.
    pub(super) fn forget_until(&mut self, version: u64) {
        self.history.retain(|event| event.version > version);
        self.lists.clear();
        // As after events of other kinds, which move the version on too.
        self.version = self.version.max(version);
        self.forgotten = version;
        self.changed.notify_all();
    }

    /// Tells everyone who watches how far they are, which is that far.
    pub(super) fn bookmark(&mut self) -> u64 {
        self.version += 1;
        self.bookmarks += 1;
        self.changed.notify_all();
        self.version
    }

    /// What happened after a version.
    pub(super) fn since(&self, version: u64) -> Result<Vec<Event>, Failure> {
        if version < self.forgotten {
            return Err(Failure::expired(&format!(
                "too old resource version: {version} ({})",
                self.forgotten
            )));
        }
        if version > self.version {
            return Err(Failure::too_large(version, self.version));
        }
        let later = self.history.iter().filter(|event| event.version > version);
        Ok(later.cloned().collect())
    }

    /// A page of the list as it was when its first page was asked for.
    pub(super) fn list(
        &mut self,
        limit: usize,
        going_on: &str,
        select: impl Fn(&Value) -> bool,
    ) -> Result<Value, Failure> {
        let (version, after) = match going_on {
            "" => (self.version, ""),
            token => parse_token(token)?,
        };
        if going_on.is_empty() {
            self.lists.insert(version, Arc::clone(&self.nodes));
        }
        let all = self.lists.get(&version).cloned().ok_or_else(|| {
            Failure::expired(
                "The provided continue parameter is too old to display a consistent list result.",
            )
        })?;
        let rest = all
            .iter()
            .filter(|(name, node)| name.as_str() > after && select(node));
        let mut items: Vec<_> = rest
            .map(|(name, node)| (name, without_kind(node)))
            .collect();
        let limit = if limit == 0 { items.len() } else { limit };
        let left = items.len().saturating_sub(limit);
        items.truncate(limit);
        let mut metadata = json!({"resourceVersion": version.to_string()});
        match items.last().filter(|_| left > 0) {
            Some((last, _)) => {
                metadata["continue"] = json!(format!("v1:{version}:{last}"));
                metadata["remainingItemCount"] = json!(left);
            }
            None => drop(self.lists.remove(&version)),
        }
        let items: Vec<_> = items.into_iter().map(|(_, node)| node).collect();
        Ok(json!({"kind": "NodeList", "apiVersion": "v1", "metadata": metadata, "items": items}))
    }
}

fn name_of(node: &Value) -> String {
    let name = node["metadata"]["name"].as_str();
    name.unwrap_or_default().to_owned()
}

/// Items of lists do not say what they are.
fn without_kind(node: &Value) -> Value {
    let mut node = node.clone();
    if let Some(node) = node.as_object_mut() {
        node.remove("kind");
        node.remove("apiVersion");
    }
    node
}

fn parse_token(token: &str) -> Result<(u64, &str), Failure> {
    let parts = token
        .strip_prefix("v1:")
        .and_then(|rest| rest.split_once(':'));
    let read = parts.and_then(|(version, name)| Some((version.parse().ok()?, name)));
    read.ok_or_else(|| Failure::bad_request("continue key is not valid"))
}

/// Leaves a part of an object as it was.
fn keep(after: &mut Value, before: &Value, part: &str) {
    match (after.as_object_mut(), before.get(part)) {
        (Some(after), Some(before)) => drop(after.insert(part.to_owned(), before.clone())),
        (Some(after), None) => drop(after.remove(part)),
        (None, _) => {}
    }
}

/// What no patch may do.
fn check(name: &str, before: &Value, after: &Value) -> Result<(), Failure> {
    for fixed in ["name", "uid", "creationTimestamp"] {
        if before["metadata"][fixed] != after["metadata"][fixed] {
            let why = format!("metadata.{fixed}: Invalid value: field is immutable");
            return Err(Failure::invalid(name, &why));
        }
    }
    let annotations = after["metadata"]["annotations"].as_object();
    let mut texts = annotations.into_iter().flatten();
    match texts.find(|(_, text)| !text.is_string()) {
        Some((key, _)) => Err(Failure::bad_request(format!(
            "cannot unmarshal value of annotation {key} into Go value of type string"
        ))),
        None => Ok(()),
    }
}

//! Patches: JSON merge patches, in which lists are replaced, and strategic ones, in which those of a node's status are
//! merged by their key.

use serde_json::{Map, Value};

/// A change to an object.
#[derive(Debug)]
pub(super) struct Patch {
    change: Value,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Merge,
    Strategic,
}

impl Patch {
    /// By the type of a request's body.
    pub(super) fn of(content_type: &str, change: Value) -> Option<Self> {
        let kind = match content_type {
            "application/merge-patch+json" => Kind::Merge,
            "application/strategic-merge-patch+json" => Kind::Strategic,
            _ => return None,
        };
        Some(Self { change, kind })
    }

    /// One that replaces lists.
    pub(super) fn merge(change: Value) -> Self {
        let kind = Kind::Merge;
        Self { change, kind }
    }

    /// The object with the patch in it.
    pub(super) fn applied(&self, object: &Value) -> Value {
        patched(object, &self.change, self.kind)
    }

    /// The version of the object it was made for, if it names one.
    pub(super) fn based_on(&self) -> Option<&Value> {
        let version = &self.change["metadata"]["resourceVersion"];
        Some(version).filter(|version| !version.is_null())
    }
}

/// Lists that strategic patches merge, with what tells their elements apart.
const MERGED: [(&str, &str); 2] = [("conditions", "type"), ("addresses", "type")];

fn patched(object: &Value, patch: &Value, kind: Kind) -> Value {
    let Some(patch) = patch.as_object() else {
        return patch.clone();
    };
    let mut merged = object.as_object().cloned().unwrap_or_default();
    for (name, change) in patch {
        // In which order elements come matters to nobody here.
        if name.starts_with("$setElementOrder/") {
            continue;
        }
        merge(&mut merged, name, change, kind);
    }
    Value::Object(merged)
}

fn merge(merged: &mut Map<String, Value>, name: &str, change: &Value, kind: Kind) {
    let key = MERGED.iter().find(|(list, _)| *list == name);
    let before = merged.get(name);
    let after = match (change, key) {
        (Value::Null, _) => None,
        (Value::Array(changes), Some((_, key))) if kind == Kind::Strategic => {
            Some(merged_list(before, changes, key))
        }
        (Value::Object(_), _) => Some(patched(before.unwrap_or(&Value::Null), change, kind)),
        _ => Some(change.clone()),
    };
    match after {
        Some(after) => merged.insert(name.to_owned(), after),
        None => merged.remove(name),
    };
}

fn merged_list(before: Option<&Value>, changes: &[Value], key: &str) -> Value {
    let mut list = before
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for change in changes {
        let same = list.iter().position(|one| one[key] == change[key]);
        match same {
            Some(place) if change["$patch"] == "delete" => drop(list.remove(place)),
            Some(place) => list[place] = patched(&list[place], change, Kind::Strategic),
            None => list.push(change.clone()),
        }
    }
    Value::Array(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_replaced_or_merged_by_the_kind_of_patch() {
        let node = json!({"a": 1, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Net", "status": "True", "reason": "x"}
        ]}});
        let patch =
            json!({"a": null, "status": {"conditions": [{"type": "Net", "status": "False"}]}});
        let strategic = patched(&node, &patch, Kind::Strategic);
        assert_eq!(
            strategic,
            json!({"status": {"conditions": [
                {"type": "Ready", "status": "True"}, {"type": "Net", "status": "False", "reason": "x"}
            ]}})
        );
        let merged = patched(&node, &patch, Kind::Merge);
        let only = json!({"status": {"conditions": [{"type": "Net", "status": "False"}]}});
        assert_eq!(merged, only);
    }
}

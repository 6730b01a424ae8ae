//! Failures as the API tells them: a Status object with a code, a reason for programs and a message for people.

use serde_json::{Value, json};

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: u16,
    reason: &'static str,
    message: String,
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn forbidden(user: &str, verb: &str, resource: &str, name: &str) -> Self {
        Self::new(
            403,
            "Forbidden",
            format!(
                "{resource} {name:?} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group \"\" at the cluster scope"
            ),
        )
    }

    pub(super) fn not_found(resource: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found"))
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(super) fn already_exists(name: &str) -> Self {
        Self::new(
            409,
            "AlreadyExists",
            format!("nodes {name:?} already exists"),
        )
    }

    pub(super) fn conflict(name: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on nodes {name:?}: the object has been modified; please apply your changes to the latest version and try again"
            ),
        )
    }

    pub(super) fn expired(message: &str) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn unsupported(kind: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - {kind:?}"),
        )
    }

    pub(super) fn invalid(name: &str, why: &str) -> Self {
        Self::new(422, "Invalid", format!("Node {name:?} is invalid: {why}"))
    }

    pub(super) fn too_large(version: u64, current: u64) -> Self {
        Self::new(
            504,
            "Timeout",
            format!("Too large resource version: {version}, current: {current}"),
        )
    }

    /// The object.
    pub(super) fn status(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        })
    }
}

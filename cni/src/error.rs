//! CNI's error object: a code runtimes act on, what is wrong, and in the details what to do about it.

use serde_json::{Value, json};

/// The codes of the CNI specification that this plugin uses.
pub(crate) mod code {
    pub(crate) const VERSION: u64 = 1;
    pub(crate) const UNKNOWN_CONTAINER: u64 = 3;
    pub(crate) const ENVIRONMENT: u64 = 4;
    pub(crate) const IO: u64 = 5;
    pub(crate) const UNREADABLE: u64 = 6;
    pub(crate) const CONFIG: u64 = 7;
    pub(crate) const TRY_AGAIN: u64 = 11;
    pub(crate) const NOT_AVAILABLE: u64 = 50;
    /// The first that plugins may give a meaning: the delegate failed and did not say why.
    pub(crate) const DELEGATE: u64 = 100;
}

/// Why a call cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) code: u64,
    message: String,
    details: String,
}

impl Error {
    pub(crate) fn new(code: u64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: String::new(),
        }
    }

    /// The same with what to do about it.
    pub(crate) fn cure(self, details: impl Into<String>) -> Self {
        Self {
            details: details.into(),
            ..self
        }
    }

    /// The same as a failure of another kind.
    pub(crate) fn of_kind(self, code: u64) -> Self {
        Self { code, ..self }
    }

    /// What another plugin printed, if it is an error object.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let said: Value = serde_json::from_slice(text).ok()?;
        let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            code: said.get("code")?.as_u64()?,
            message: text("msg")?,
            details: text("details").unwrap_or_default(),
        })
    }

    /// Whether the message contains a text.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.message.contains(text)
    }

    /// The object runtimes read.
    pub(crate) fn render(&self, version: &str) -> String {
        let mut said = json!({"cniVersion": version, "code": self.code, "msg": self.message});
        if !self.details.is_empty() {
            said["details"] = json!(self.details);
        }
        format!("{said}\n")
    }
}

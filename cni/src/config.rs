//! The network config a runtime hands over on stdin.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::error::{Error, code};
use crate::request::{Attachment, is_name};
use crate::version::Version;

const SUBNET_FILE: &str = "/run/flannel/subnet.env";
const DATA_DIRECTORY: &str = "/var/lib/cni/flannel";

/// What it says, as far as this plugin has a use for it.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) version: Version,
    pub(crate) name: String,
    pub(crate) subnet_file: PathBuf,
    pub(crate) data_directory: PathBuf,
    /// What the plugin that does the work shall be told; the rest is filled in.
    pub(crate) delegate: Map<String, Value>,
    /// The same for the plugin that gives out addresses.
    pub(crate) ipam: Map<String, Value>,
    pub(crate) runtime: Option<Value>,
    /// What was answered to ADD.
    pub(crate) previous: Option<Value>,
    /// What exists according to the runtime, for GC.
    pub(crate) valid: Option<Value>,
}

/// A text that must be one JSON object, or nothing at all, which VERSION may be asked with.
pub(crate) fn parse_input(text: &str) -> Result<Value, Error> {
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let parsed = serde_json::from_str(text).ok().filter(Value::is_object);
    parsed.ok_or_else(|| {
        Error::new(
            code::UNREADABLE,
            "the network config on stdin is no JSON object",
        )
    })
}

/// The version of a config; one without is as old as can be.
pub(crate) fn version(input: &Value) -> Result<Version, Error> {
    text(input, "cniVersion")?.map_or(Ok(Version::OLDEST), Version::parse)
}

impl Config {
    pub(crate) fn parse(input: &Value) -> Result<Self, Error> {
        let name = text(input, "name")?.unwrap_or_default();
        if !is_name(name) {
            return Err(wrong(format!(
                "the network config has no usable name: \"{name}\""
            )));
        }
        let path = |field: &str, default: &str| {
            let path = text(input, field)?.filter(|path| !path.is_empty());
            Ok(PathBuf::from(path.unwrap_or(default)))
        };
        let present = |field: &str| input.get(field).filter(|value| !value.is_null()).cloned();
        Ok(Self {
            version: version(input)?,
            name: name.to_owned(),
            subnet_file: path("subnetFile", SUBNET_FILE)?,
            data_directory: path("dataDir", DATA_DIRECTORY)?,
            delegate: delegate(input)?,
            ipam: object(input, "ipam")?,
            runtime: present("runtimeConfig"),
            previous: present("prevResult"),
            valid: present("cni.dev/valid-attachments"),
        })
    }

    /// What exists according to the runtime. Without that nothing may be taken for gone.
    pub(crate) fn attachments(&self) -> Result<Vec<Attachment>, Error> {
        let missing = || wrong("GC needs cni.dev/valid-attachments".to_owned());
        let list = self.valid.as_ref().and_then(Value::as_array);
        let attachment = |value: &Value| {
            let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
            Attachment::new(text("containerID").to_owned(), text("ifname").to_owned())
                .map_err(|_| wrong(format!("cni.dev/valid-attachments has {value}")))
        };
        list.ok_or_else(missing)?.iter().map(attachment).collect()
    }
}

/// `delegate` without what only this plugin can know.
fn delegate(input: &Value) -> Result<Map<String, Value>, Error> {
    let delegate = object(input, "delegate")?;
    for (taken, instead) in [
        ("name", "the network's name is used"),
        ("ipam", "put ipam beside delegate"),
    ] {
        if delegate.contains_key(taken) {
            return Err(wrong(format!("delegate must not have `{taken}`")).cure(instead));
        }
    }
    match delegate.get("type") {
        None | Some(Value::String(_)) => Ok(delegate),
        Some(_) => Err(wrong("delegate.type must be a string".to_owned())),
    }
}

fn text<'a>(input: &'a Value, field: &str) -> Result<Option<&'a str>, Error> {
    match input.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(format!("{field} must be a string"))),
    }
}

fn object(input: &Value, field: &str) -> Result<Map<String, Value>, Error> {
    match input.get(field) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields.clone()),
        Some(_) => Err(wrong(format!("{field} must be an object"))),
    }
}

fn wrong(why: String) -> Error {
    Error::new(code::CONFIG, why)
}

//! The plugin that does the work: what it is told, where it is found, and what it says.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::error::{Error, code};
use crate::request::{self, Attachment};
use crate::subnet::Subnet;

const BRIDGE: &str = "bridge";

/// What the delegate is told to add a container to the node's subnet.
pub(crate) fn instructions(config: &Config, subnet: &Subnet) -> Map<String, Value> {
    let mut told = config.delegate.clone();
    told.insert("name".to_owned(), json!(config.name));
    told.insert("cniVersion".to_owned(), json!(config.version.name()));
    told.insert("ipam".to_owned(), ipam(config, subnet));
    if let Some(runtime) = &config.runtime {
        told.insert("runtimeConfig".to_owned(), runtime.clone());
    }
    let mut default = |name: &str, value: Value| {
        told.entry(name).or_insert(value);
    };
    default("type", json!(BRIDGE));
    // Of the two only one may hide the containers' addresses.
    default("ipMasq", json!(!subnet.masquerade));
    default("mtu", json!(subnet.mtu));
    if told.get("type") == Some(&json!(BRIDGE)) {
        told.entry("isGateway").or_insert(json!(true));
    }
    told
}

/// What the plugin that gives out addresses is told: one of each family, and where the network is.
fn ipam(config: &Config, subnet: &Subnet) -> Value {
    let mut told = config.ipam.clone();
    told.entry("type").or_insert(json!("host-local"));
    let ranges = subnet
        .subnets
        .iter()
        .map(|subnet| json!([{"subnet": subnet}]));
    told.insert("ranges".to_owned(), ranges.collect());
    let given = told.get("routes").and_then(Value::as_array).cloned();
    let networks = subnet
        .networks
        .iter()
        .map(|network| json!({"dst": network}));
    let routes = given.unwrap_or_default().into_iter().chain(networks);
    told.insert("routes".to_owned(), routes.collect());
    Value::Object(told)
}

/// A plugin that was found.
#[derive(Debug)]
pub(crate) struct Delegate {
    program: PathBuf,
    config: Map<String, Value>,
}

impl Delegate {
    /// Finds the plugin that a config is for.
    pub(crate) fn find(config: Map<String, Value>) -> Result<Self, Error> {
        let kind = config
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let directories = request::plugin_directories()?;
        let program = find(kind, &directories)?;
        Ok(Self { program, config })
    }

    /// The same plugin, told something more.
    pub(crate) fn with(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.config.insert(name.to_owned(), value);
        }
        self
    }

    /// Passes the runtime's call on.
    pub(crate) fn call(&self) -> Result<Vec<u8>, Error> {
        self.run(&mut Command::new(&self.program))
    }

    /// Has an attachment undone that the runtime does not speak of.
    pub(crate) fn call_to_delete(&self, attachment: &Attachment) -> Result<Vec<u8>, Error> {
        let mut command = Command::new(&self.program);
        command
            .env("CNI_COMMAND", "DEL")
            .env("CNI_CONTAINERID", &attachment.container)
            .env("CNI_IFNAME", &attachment.interface)
            .env_remove("CNI_NETNS");
        self.run(&mut command)
    }

    fn run(&self, command: &mut Command) -> Result<Vec<u8>, Error> {
        let output = feed(command, &Value::Object(self.config.clone()).to_string());
        let output = output.map_err(|error| {
            let why = format!("cannot run {}: {error}", self.program.display());
            Error::new(code::IO, why)
        })?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(self.failure(&output)),
        }
    }

    /// The plugin's own words where it has any, and a cure where this plugin knows better.
    fn failure(&self, output: &Output) -> Error {
        let Some(error) = Error::parse(&output.stdout) else {
            let why = format!("{} ended with {}", self.program.display(), output.status);
            let said = String::from_utf8_lossy(&output.stdout);
            return Error::new(code::DELEGATE, why).cure(said.trim());
        };
        if error.says("already has an IP address different from") {
            return error.cure(
                "this node's subnet is another than when the bridge was made: stop the containers that still use the \
                 old one, then delete the bridge (ip link delete cni0, or as delegate.bridge says)",
            );
        }
        error
    }
}

/// Runs a plugin with a config on its stdin. What it logs goes where this plugin's log goes.
fn feed(command: &mut Command, config: &str) -> io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends without reading says why by itself.
        let _ = input.write_all(config.as_bytes());
    }
    child.wait_with_output()
}

fn find(kind: &str, directories: &[PathBuf]) -> Result<PathBuf, Error> {
    // A type is a name, never a way to some other program.
    if Path::new(kind).file_name() != Some(OsStr::new(kind)) {
        let why = format!("delegate.type \"{kind}\" is no plugin's name");
        return Err(Error::new(code::CONFIG, why));
    }
    let mut programs = directories.iter().map(|directory| directory.join(kind));
    programs.find(|program| program.is_file()).ok_or_else(|| {
        let places: Vec<_> = directories.iter().map(|place| place.display().to_string()).collect();
        let why = format!("there is no plugin `{kind}` in {}", places.join(" or "));
        Error::new(code::CONFIG, why).cure(
            "install it there (the CNI project's plugins; Debian: containernetworking-plugins, which puts them into \
             /usr/lib/cni), or choose another with delegate.type",
        )
    })
}

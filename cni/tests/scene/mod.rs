//! A runtime's side: a directory with a subnet file, and plugins that are scripts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const ENV: &str = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

/// Writes down what it was asked and told; fails with what is in a file, if that is there.
const PLUGIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scene/plugin");

/// What is called, and how.
pub(crate) struct Scene {
    dir: TempDir,
    pub(crate) container: &'static str,
    pub(crate) interface: &'static str,
}

impl Scene {
    /// With a plugin `bridge` and this subnet file.
    pub(crate) fn new(subnet: &str) -> Self {
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
            container: "c1",
            interface: "eth0",
        };
        fs::create_dir(scene.path("plugins")).unwrap();
        scene.plugin("bridge");
        scene.write_subnet(subnet);
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn plugin(&self, name: &str) {
        symlink(PLUGIN, self.path("plugins").join(name)).unwrap();
    }

    pub(crate) fn subnet_file(&self) -> PathBuf {
        self.path("subnet.env")
    }

    pub(crate) fn write_subnet(&self, text: &str) {
        fs::write(self.subnet_file(), text).unwrap();
    }

    /// Lets every plugin fail with this on its stdout.
    pub(crate) fn fail(&self, said: &str) {
        fs::write(self.path("failure"), said).unwrap();
    }

    pub(crate) fn heal(&self) {
        fs::remove_file(self.path("failure")).unwrap();
    }

    /// Where what a container was added with is kept.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.path("state").join(name)
    }

    /// Every file there.
    pub(crate) fn states(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("state")).into_iter().flatten();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.flatten().map(name).collect();
        names.sort();
        names
    }

    /// The config a plugin got last.
    pub(crate) fn told(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("told")).unwrap()).unwrap()
    }

    /// The environment it had.
    pub(crate) fn variables(&self) -> String {
        fs::read_to_string(self.path("variables")).unwrap()
    }

    /// What plugins were asked so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn add(&self, config: &str) -> Result<Value, Value> {
        self.call("ADD", config)
    }

    /// The result, or the error object. Files are those of this scene unless the config names others.
    pub(crate) fn call(&self, command: &str, config: &str) -> Result<Value, Value> {
        self.run(&mut self.command(command), config)
    }

    pub(crate) fn command(&self, command: &str) -> Command {
        let mut call = Command::new(env!("CARGO_BIN_EXE_flannel"));
        call.env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", self.container)
            .env("CNI_IFNAME", self.interface)
            .env("CNI_NETNS", "/run/netns/c1")
            .env("CNI_ARGS", "K=V")
            .env(
                "CNI_PATH",
                format!("/nonexistent:{}", self.path("plugins").display()),
            );
        call
    }

    pub(crate) fn run(&self, command: &mut Command, config: &str) -> Result<Value, Value> {
        let input = self.path("input");
        fs::write(&input, self.complete(config)).unwrap();
        let input = fs::File::open(input).unwrap();
        let output = command
            .stdin(input)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let said = match &output.stdout[..] {
            [] => Value::Null,
            text => serde_json::from_slice(text).unwrap(),
        };
        match output.status.success() {
            true => Ok(said),
            false => Err(said),
        }
    }

    fn complete(&self, config: &str) -> String {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(config) else {
            return config.to_owned();
        };
        for (name, path) in [
            ("subnetFile", self.subnet_file()),
            ("dataDir", self.path("state")),
        ] {
            let path = path.to_str().unwrap();
            fields.entry(name).or_insert(Value::from(path));
        }
        Value::Object(fields).to_string()
    }
}

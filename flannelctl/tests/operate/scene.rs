//! What all tests begin with: a node's daemon, and the tool that asks it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use benches::daemon::Daemon;
use benches::etcd::Etcd;
use benches::{Lab, Profile, Side};
use serde_json::Value;

/// What the tests write into a store.
pub(crate) const UDP: &str = r#"{"Network":"10.5.0.0/16"}"#;
pub(crate) const CONFIG: &str = "/coreos.com/network/config";

/// The daemon of the same build.
pub(crate) fn flanneld() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_flannelctl")).with_file_name("flanneld")
}

/// One answer of the tool.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Answer {
    /// The document, where JSON was asked for.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The tool's command line for a daemon, to be added to.
pub(crate) fn tool(socket: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flannelctl"));
    command.args(words.split(' ')).arg("--socket").arg(socket);
    command
}

/// Asks the daemon on a socket.
pub(crate) fn ask(socket: &Path, words: &str) -> Answer {
    tool(socket, words).output().unwrap().into()
}

/// A node with a daemon that keeps its lease in an etcd beside it.
pub(crate) struct Scene {
    pub(crate) daemon: Option<Daemon>,
    pub(crate) etcd: Etcd,
    pub(crate) lab: Lab,
}

impl Scene {
    /// The daemon starts; whether there is a config yet is the test's choice.
    pub(crate) fn new(config: Option<&str>) -> Self {
        let lab = Lab::new(Profile::Offload).unwrap();
        let plan = Etcd::plan().member(lab.node(Side::A), Side::A.underlay().into());
        let etcd = plan.unwrap().launch().unwrap();
        if let Some(config) = config {
            etcd.put(CONFIG, config).unwrap();
        }
        let mut scene = Self {
            daemon: None,
            etcd,
            lab,
        };
        scene.daemon = Some(scene.start());
        scene
    }

    fn start(&self) -> Daemon {
        let node = self.lab.node(Side::A);
        let mut command = node.command(&flanneld().to_string_lossy()).unwrap();
        command.arg(format!("--etcd-endpoints={}", self.etcd.url()));
        command.arg(format!("--subnet-file={}", self.subnet_file().display()));
        command.arg("--iface=eth0");
        Daemon::start(&mut command, &self.lab.scratch().join("log")).unwrap()
    }

    pub(crate) fn subnet_file(&self) -> PathBuf {
        self.lab.scratch().join("subnet.env")
    }

    /// Where the daemon listens by itself.
    pub(crate) fn socket(&self) -> PathBuf {
        self.lab.scratch().join("subnet.env.sock")
    }

    pub(crate) fn put_config(&self, config: &str) {
        self.etcd.put(CONFIG, config).unwrap();
    }

    pub(crate) fn ask(&self, words: &str) -> Answer {
        ask(&self.socket(), words)
    }

    /// Asks until the answer is as wanted.
    pub(crate) fn wait_for(&self, words: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let log = || self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        patiently(|| format!("{words}\n{}", log()), || self.ask(words), wanted)
    }
}

/// Asks until the answer is as wanted.
pub(crate) fn patiently(
    what: impl Fn() -> String,
    ask: impl Fn() -> Answer,
    wanted: impl Fn(&Answer) -> bool,
) -> Answer {
    let mut last = None;
    for _ in 0..300 {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        last = Some(answer);
        thread::sleep(Duration::from_millis(50));
    }
    panic!("asked in vain, at last {last:?}: {}", what())
}

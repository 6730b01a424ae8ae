//! What starts containers: docker or podman, which take the same words but for a few.

use std::net::IpAddr;
use std::path::Path;

use benches::Namespace;

use crate::machine::{Machine, wait_for};

const IMAGE: &str = "busybox:lab";
/// Runtimes raise limits past what tests may do themselves, and not all of them let containers ping.
const LIMITS: [&str; 3] = [
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
    "--cap-add=NET_RAW",
];

/// The words every command of a runtime begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runtime(&'static [&'static str]);

/// Docker, with its daemon at the usual place.
pub(crate) const DOCKER: Runtime = Runtime(&["/usr/bin/docker"]);

/// Podman with CNI, in settings that work within any kind of control groups.
pub(crate) const PODMAN: Runtime = Runtime(&[
    "podman",
    "--runtime=runc",
    "--cgroup-manager=cgroupfs",
    "--events-backend=file",
    "--storage-driver=vfs",
    "--network-backend=cni",
]);

/// A running container.
pub(crate) struct Container<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) network: Namespace,
    /// Where others find it.
    pub(crate) address: IpAddr,
    runtime: Runtime,
    name: String,
}

impl Runtime {
    /// Makes the image known on a machine.
    pub(crate) fn import(self, machine: &Machine, image: &Path) {
        machine.feed(&self.words(&["import", "-", IMAGE]), image);
    }

    /// Starts a container that serves its files over HTTP.
    pub(crate) fn run<'a>(self, machine: &'a Machine, name: &str, flags: &[&str]) -> Container<'a> {
        self.try_run(machine, name, flags).unwrap();
        self.find(machine, name)
    }

    /// As `run`; what the runtime complains about if it fails.
    pub(crate) fn try_run(
        self,
        machine: &Machine,
        name: &str,
        flags: &[&str],
    ) -> Result<String, String> {
        let group = format!("--cgroup-parent=/{}", machine.cgroup);
        // The web server is a first process, which no signal but the last ends.
        let start = [
            "run",
            "--detach",
            "--stop-timeout=0",
            "--name",
            name,
            &group,
        ];
        let words = [
            &start[..],
            &LIMITS[..],
            flags,
            &[IMAGE, "httpd", "-f", "-h", "/www"],
        ]
        .concat();
        machine.try_run(&self.words(&words))
    }

    /// A container that was started before, once it has its address.
    pub(crate) fn find<'a>(self, machine: &'a Machine, name: &str) -> Container<'a> {
        let mut found = None;
        wait_for("a container's address", || {
            found = self.address(machine, name, "-4");
            found.is_some()
        });
        let key = self.inspect(machine, name, "{{.NetworkSettings.SandboxKey}}");
        // A link that leads to /run, and seen from here to this machine's own.
        let key = key.trim_start_matches("/var");
        Container {
            machine,
            network: Namespace::at(&machine.path(key)).unwrap(),
            address: found.expect("just found"),
            runtime: self,
            name: name.to_owned(),
        }
    }

    /// Removes a container.
    pub(crate) fn remove(self, machine: &Machine, name: &str) {
        machine.run(&self.words(&["rm", "--force", name]));
    }

    fn address(self, machine: &Machine, name: &str, family: &str) -> Option<IpAddr> {
        let show = [
            "exec", name, "ip", family, "-o", "addr", "show", "dev", "eth0", "scope", "global",
        ];
        let shown = machine.try_run(&self.words(&show)).ok()?;
        let address = shown.split_whitespace().nth(3)?.split('/').next()?;
        address.parse().ok()
    }

    fn inspect(self, machine: &Machine, name: &str, format: &str) -> String {
        machine.run(&self.words(&["inspect", "--format", format, name]))
    }

    fn words<'a>(self, words: &[&'a str]) -> Vec<&'a str> {
        [self.0, words].concat()
    }
}

impl Container<'_> {
    /// Runs a command line in the container.
    pub(crate) fn try_run(&self, line: &str) -> Result<String, String> {
        let words = ["exec", &self.name, "sh", "-c", line];
        self.machine.try_run(&self.runtime.words(&words))
    }

    /// As `try_run`, for what must not fail.
    pub(crate) fn run(&self, line: &str) -> String {
        let said = self.try_run(line);
        said.unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// The same container, found at its IPv6 address.
    pub(crate) fn in_ipv6(mut self) -> Self {
        let found = self.runtime.address(self.machine, &self.name, "-6");
        self.address = found.expect("an IPv6 address");
        self
    }

    /// Whether an address answers.
    pub(crate) fn reaches(&self, address: impl Into<IpAddr>) -> bool {
        let address = address.into();
        self.try_run(&format!("ping -c 1 -W 1 {address}")).is_ok()
    }
}

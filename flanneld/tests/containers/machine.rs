//! A machine: network, mounts and processes of its own, and services that run on it.
//!
//! All of its processes are below one, which dies with the test; mounts and namespaces go with the last of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

use benches::Namespace;
use benches::daemon::Daemon;

const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/containers/boot.sh");
const GROUPS: &str = "/sys/fs/cgroup";
const PATIENCE: Duration = Duration::from_secs(60);

/// One host of containers.
pub(crate) struct Machine {
    pub(crate) host: Namespace,
    /// The parent of all its containers' groups, unlike any other machine's.
    pub(crate) cgroup: String,
    /// Every hierarchy of groups, also after the machine's mounts are gone.
    hierarchies: Vec<File>,
    root: PathBuf,
    services: BTreeMap<&'static str, Daemon>,
    first: u32,
    holder: Daemon,
}

impl Machine {
    /// A machine on the network `host`, whose files are below `root`.
    pub(crate) fn boot(host: Namespace, root: PathBuf) -> Self {
        fs::create_dir_all(&root).unwrap();
        let mut command = host.command("unshare").unwrap();
        command
            .args(["--mount", "--propagation=unchanged"])
            .args(["--pid", "--fork", "--kill-child", "sh", BOOT])
            .arg(&root);
        let mut holder = Daemon::start(&mut command, &root.join("boot.log")).unwrap();
        wait_for("the machine to boot", || {
            holder.still_running().unwrap();
            root.join("run/booted").exists()
        });
        let lab = root.parent().and_then(Path::file_name).unwrap();
        let name = root.file_name().unwrap();
        let first = child_of(holder.id()).expect("the first process");
        Self {
            cgroup: format!("{}-{}", lab.display(), name.display()),
            hierarchies: hierarchies(&PathBuf::from(format!("/proc/{first}/root{GROUPS}"))),
            first,
            services: BTreeMap::new(),
            host,
            root,
            holder,
        }
    }

    /// A command that will run on the machine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.host.command("nsenter").unwrap();
        let target = self.first.to_string();
        command
            .args(["--mount", "--pid", "--root", "--wd", "--target", &target])
            .args(["--", program]);
        command
    }

    /// Runs a command; what it prints, and if it fails what it complains about.
    pub(crate) fn try_run(&self, words: &[&str]) -> Result<String, String> {
        let mut command = self.command(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        said(&command.output().unwrap())
    }

    /// As `try_run`, for what must not fail.
    pub(crate) fn run(&self, words: &[&str]) -> String {
        let said = self.try_run(words);
        said.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs a command with a file on its stdin.
    pub(crate) fn feed(&self, words: &[&str], input: &Path) -> String {
        let mut command = self.command(words[0]);
        command.args(&words[1..]).stdin(File::open(input).unwrap());
        said(&command.output().unwrap()).unwrap()
    }

    /// A file of the machine's as this process sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// Writes a file on the machine.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Puts a file of this project where a package would put it.
    pub(crate) fn install(&self, file: &Path, path: &str) {
        assert!(file.exists(), "build it first: {}", file.display());
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(file, path).unwrap();
    }

    /// Keeps a program running.
    pub(crate) fn start(&mut self, name: &'static str, mut command: Command) {
        let log = self.root.join(format!("{name}.log"));
        let service = Daemon::start(&mut command, &log).unwrap();
        self.services.insert(name, service);
    }

    /// Asks a program to end, and waits until it has.
    pub(crate) fn stop(&mut self, name: &'static str) {
        let mut service = self.services.remove(name).expect("it was started");
        if let Some(program) = child_of(service.id()) {
            let asked = Command::new("kill").arg(program.to_string()).status();
            assert!(asked.unwrap().success());
        }
        wait_for(name, || service.still_running().is_err());
    }

    /// Whether a program is running.
    pub(crate) fn runs(&mut self, name: &str) -> bool {
        let service = self.services.get_mut(name);
        service.is_some_and(|service| service.still_running().is_ok())
    }

    /// What a program has logged.
    pub(crate) fn log(&self, name: &str) -> String {
        self.services.get(name).map(Daemon::log).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for (name, service) in self.services.iter().filter(|_| panicking()) {
            eprintln!("--- {}: {name} ---\n{}", self.cgroup, service.log());
        }
        // It takes every process of the machine with it.
        let _ = self.holder.stop_with(9);
        let first = PathBuf::from(format!("/proc/{}/status", self.first));
        let gone =
            || fs::read_to_string(&first).map_or(true, |status| status.contains("State:\tZ"));
        let deadline = Instant::now() + PATIENCE;
        while !gone() && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
        // Killed runtimes leave the empty groups of their containers behind.
        for hierarchy in &self.hierarchies {
            let path = format!("/proc/self/fd/{}/{}", hierarchy.as_raw_fd(), self.cgroup);
            remove_group(Path::new(&path));
        }
    }
}

/// Waits until something is so.
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// What a command printed, or complained about.
pub(crate) fn said(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// The one process that another one waits for.
fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    children.ok()?.trim().parse().ok()
}

/// One hierarchy for all of a group's limits, or one for each kind of them.
fn hierarchies(groups: &Path) -> Vec<File> {
    let kinds = fs::read_dir(groups).into_iter().flatten().flatten();
    let places = kinds.map(|kind| kind.path()).filter(|path| path.is_dir());
    let open = |place: PathBuf| File::open(place).unwrap();
    places.chain([groups.to_owned()]).map(open).collect()
}

fn remove_group(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_group(&entry.path());
        }
    }
    // One that is not there needs no removing.
    let _ = fs::remove_dir(group);
}

//! A real etcd for tests, which can be stopped, frozen, killed and wiped, and ends with the test process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// Prints the server's process number, then waits for its own input to end: the test process is gone then.
const KEEPER: &str = r#"etcd "$@" >/dev/null 2>&1 & echo $!; cat >/dev/null; kill -9 $!; wait $!"#;

pub(super) struct Server {
    dir: TempDir,
    ports: [u16; 2],
    scheme: &'static str,
    extra: Vec<String>,
    keeper: Option<(Child, String)>,
}

impl Server {
    /// Starts a server of its own.
    pub(super) fn start() -> Self {
        Self::start_with("http", &[])
    }

    /// Starts one with more flags, such as those for TLS.
    pub(super) fn start_with(scheme: &'static str, extra: &[&str]) -> Self {
        let mut server = Self::prepare(scheme, extra);
        server.run();
        server
    }

    /// Settles everything but runs nothing.
    pub(super) fn prepare(scheme: &'static str, extra: &[&str]) -> Self {
        let extra = extra.iter().map(|flag| (*flag).to_owned()).collect();
        Self {
            dir: tempfile::tempdir().unwrap(),
            ports: free_ports(),
            scheme,
            extra,
            keeper: None,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.ports[0])
    }

    /// Runs the server on the data it had before, if any.
    pub(super) fn run(&mut self) {
        let peer = format!("http://127.0.0.1:{}", self.ports[1]);
        let url = self.url();
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "sh", "--data-dir"])
            .arg(self.dir.path().join("data"));
        command.args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
            "--listen-peer-urls",
            &peer,
        ]);
        command.args([
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("default={peer}"),
        ]);
        let keeper = command
            .args(&self.extra)
            .stderr(Stdio::null())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut keeper = keeper.expect("sh");
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().unwrap())
            .read_line(&mut pid)
            .unwrap();
        self.keeper = Some((keeper, pid.trim().to_owned()));
        while !self.listens() {
            assert!(
                Path::new(&format!("/proc/{}", pid.trim())).exists(),
                "etcd does not run: is it installed?"
            );
            sleep(Duration::from_millis(20));
        }
    }

    fn listens(&self) -> bool {
        std::net::TcpStream::connect(("127.0.0.1", self.ports[0])).is_ok()
    }

    /// Ends the server at once.
    pub(super) fn kill(&mut self) {
        if let Some((mut keeper, _)) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
        }
    }

    /// Stops the server from doing anything, without closing a connection; or lets it go on.
    pub(super) fn freeze(&self, on: bool) {
        let signal = if on { "-STOP" } else { "-CONT" };
        let pid = &self.keeper.as_ref().unwrap().1;
        assert!(
            Command::new("kill")
                .args([signal, pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Forgets everything it ever stored.
    pub(super) fn wipe(&self) {
        fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }

    /// Does what an operator would; returns what is printed.
    pub(super) fn ctl(&self, words: &[&str]) -> String {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url()])
            .args(words);
        let output = command.output().expect("etcdctl");
        assert!(
            output.status.success(),
            "etcdctl {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Two ports nobody else will take, not even while the server is down for a moment: below those the kernel
/// hands out, counted within a hundred of this process's own.
fn free_ports() -> [u16; 2] {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() % 220) as u16 * 100;
    [(); 2].map(|()| base + COUNT.fetch_add(1, Ordering::Relaxed))
}

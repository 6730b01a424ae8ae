//! What a service manager and probes are told, through a real socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use benches::Side;
use benches::daemon::Daemon;

use super::stage::{Stage, UDP, signal, wait};

const A: Side = Side::A;

/// Where a service manager listens.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// Starts the daemon as a service manager does.
    fn start(stage: &Stage, flags: &[&str], watchdog: Option<Duration>) -> (Self, Daemon) {
        let path = stage.directory(A).join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let patience = Duration::from_secs(15);
        socket.set_read_timeout(Some(patience)).unwrap();
        let mut command = stage.command(A);
        command.args(flags).env("NOTIFY_SOCKET", &path);
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        let log = stage.directory(A).join("log");
        let daemon = Daemon::start(&mut command, &log).unwrap();
        let heard = Vec::new();
        (Self { socket, heard }, daemon)
    }

    /// Listens until something is said.
    fn hear(&mut self, wanted: &str) {
        while !self.heard.iter().any(|line| line.contains(wanted)) {
            let mut buffer = [0; 1024];
            let received = self.socket.recv(&mut buffer);
            let length = received.unwrap_or_else(|_| panic!("no {wanted}: {:?}", self.heard));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(text.trim().to_owned());
        }
    }

    /// Forgets what was said so far, also what has not been read yet.
    fn forget(&mut self) {
        self.socket.set_nonblocking(true).unwrap();
        while self.socket.recv(&mut [0; 1024]).is_ok() {}
        self.socket.set_nonblocking(false).unwrap();
        self.heard.clear();
    }
}

#[test]
fn the_service_manager_hears_how_the_daemon_fares() {
    let mut stage = Stage::without_config();
    let flags = ["--iface=eth0"];
    let (mut manager, mut daemon) = Manager::start(&stage, &flags, None);
    manager.hear("STATUS=Couldn't fetch network config");
    assert!(!manager.heard.contains(&"READY=1".to_owned()));
    stage.etcd.put(super::stage::CONFIG, UDP).unwrap();
    manager.hear("READY=1");
    let subnet = stage.subnet(A).unwrap();
    manager.hear(&format!(
        "STATUS={}-24 held, udp, 0 peer subnets, in touch with the store",
        subnet.base
    ));
    stage.start(Side::B, &flags);
    manager.hear("1 peer subnets");
    stage.etcd.kill();
    manager.hear("the store does not answer");
    stage.etcd.run().unwrap();
    manager.forget();
    manager.hear("in touch with the store");
    assert!(daemon.stop().unwrap().success());
    manager.hear("STOPPING=1");
    let watchdog = |line: &String| line.contains("WATCHDOG");
    assert!(!manager.heard.iter().any(watchdog), "nobody asked for it");
}

/// The thread numbers of the workers.
fn workers(daemon: &Daemon) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let is_worker = |task: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| name.starts_with("worker"))
    };
    let number = |task: std::fs::DirEntry| task.file_name().to_string_lossy().parse().ok();
    tasks
        .flatten()
        .filter(is_worker)
        .filter_map(number)
        .collect()
}

#[test]
fn the_watchdog_is_fed_only_while_every_worker_answers() {
    let stage = Stage::new(UDP);
    let patience = Duration::from_millis(600);
    let flags = ["--iface=eth0", "--io=epoll", "--workers=2"];
    let (mut manager, daemon) = Manager::start(&stage, &flags, Some(patience));
    manager.hear("READY=1");
    for _ in 0..3 {
        manager.forget();
        manager.hear("WATCHDOG=1");
    }
    // A thread that is traced and stopped is as stuck as one can be.
    let stuck = Stuck::hold(workers(&daemon)[1]);
    let quiet = || {
        manager.forget();
        std::thread::sleep(patience);
        manager.socket.set_nonblocking(true).unwrap();
        let silent = manager.socket.recv(&mut [0; 1024]).is_err();
        manager.socket.set_nonblocking(false).unwrap();
        silent
    };
    let mut quiet = quiet;
    let fell_silent = (0..10).any(|_| quiet());
    assert!(fell_silent, "signs of life of a daemon with a stuck worker");
    drop(stuck);
    manager.hear("WATCHDOG=1");
}

/// A thread that does nothing until this is dropped.
struct Stuck(std::process::Child);

impl Stuck {
    fn hold(thread: u32) -> Self {
        // The tracer lets its thread go on only when it is asked about it, and it is stopped itself.
        let tracer = std::process::Command::new("strace")
            .args(["-qq", "-o", "/dev/null", "-p", &thread.to_string()])
            .spawn()
            .expect("strace is installed");
        let traced = || {
            let status = std::fs::read_to_string(format!("/proc/{thread}/status"));
            status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
        };
        wait("the tracer", traced);
        signal(tracer.id(), "STOP");
        Self(tracer)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        signal(self.0.id(), "CONT");
        signal(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

/// The first line of an answer.
pub(super) fn probe(stage: &Stage, path: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect("127.0.0.1:8471")?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    };
    stage.lab.node(A).enter(ask).unwrap_or_default()
}

#[test]
fn probes_tell_a_daemon_that_waits_from_one_that_carries_packets() {
    let mut stage = Stage::without_config();
    stage.start(A, &["--iface=eth0", "--healthz-port=8471"]);
    wait("an answer", || probe(&stage, "/healthz").contains("200"));
    assert!(probe(&stage, "/readyz").contains("503"));
    stage.etcd.put(super::stage::CONFIG, UDP).unwrap();
    wait("ready", || probe(&stage, "/readyz").contains("200"));
    let taken = r#"{"PublicIP":"192.168.77.99","PublicIPv6":null}"#;
    let subnet = stage.subnet(A).unwrap();
    let key = format!("/coreos.com/network/subnets/{}-24", subnet.base);
    stage.etcd.put(&key, taken).unwrap();
    wait("not ready", || probe(&stage, "/readyz").contains("503"));
    assert!(probe(&stage, "/healthz").contains("200"));
}

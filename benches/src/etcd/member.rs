//! One server process, its address and its data.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::gateway::Gateway;
use crate::namespace::Namespace;
use crate::sys;

/// Becomes etcd, after leaving a shell behind that kills it when this process is gone: then the input ends
/// without a line. A store that nobody could drop, as that of a static, takes its directory along, too.
const GUARDED: &str = r#"exec 3<&0 </dev/null
(read line <&3 || { kill -9 $$; rm -rf "$0"; }) &
exec etcd "$@" 3<&-"#;
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// Where a member is reached.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) namespace: Option<Namespace>,
    pub(super) address: IpAddr,
    /// For clients and for the other members.
    pub(super) ports: [u16; 2],
}

impl Seat {
    /// How the others know it.
    pub(super) fn peer(&self, number: usize) -> String {
        format!("member{number}={}", self.peer_url())
    }

    fn peer_url(&self) -> String {
        format!("http://{}:{}", self.address, self.ports[1])
    }
}

/// One member of a store.
#[derive(Debug)]
pub struct Member {
    seat: Seat,
    tls: bool,
    scratch: PathBuf,
    data: PathBuf,
    log: PathBuf,
    flags: Vec<String>,
    child: Option<Child>,
}

impl Member {
    pub(super) fn new(
        number: usize,
        seat: Seat,
        tls: bool,
        scratch: &Path,
        mut flags: Vec<String>,
    ) -> Self {
        flags.push(format!("--name=member{number}"));
        Self {
            seat,
            tls,
            scratch: scratch.to_owned(),
            data: scratch.join(format!("member{number}")),
            log: scratch.join(format!("member{number}.log")),
            flags,
            child: None,
        }
    }

    /// The URL at which it serves clients.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.seat.address, self.seat.ports[0])
    }

    /// Where it listens for clients.
    pub fn address(&self) -> (IpAddr, u16) {
        (self.seat.address, self.seat.ports[0])
    }

    /// Its JSON gateway; only without TLS.
    pub fn gateway(&self) -> io::Result<Gateway> {
        let namespace = self.seat.namespace.as_ref().map(Namespace::share);
        Ok(Gateway::new(namespace.transpose()?, self.address().into()))
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Runs it on the data it had before, if any, and waits until it listens.
    pub fn run(&mut self) -> io::Result<()> {
        self.begin()?;
        self.await_ready()
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        // Waiting would close the input, and call the guard.
        let guard = child.stdin.take();
        sys::send_signal(child.id(), libc::SIGTERM)?;
        child.wait()?;
        dismiss(guard)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It is gone after this, whatever the answers.
            let guard = child.stdin.take();
            let _ = child.kill();
            let _ = child.wait();
            let _ = dismiss(guard);
        }
    }

    /// Keeps it from doing anything, without closing a connection.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal(libc::SIGCONT)
    }

    /// Removes the data of a member that does not run.
    pub fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.data)
    }

    /// A command that will run where the member does.
    pub(super) fn place(&self, program: &str) -> Command {
        let Some(namespace) = &self.seat.namespace else {
            return Command::new(program);
        };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.path()));
        command.arg(program);
        command
    }

    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let (url, peer) = (self.url(), self.seat.peer_url());
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = self.place("sh");
        command.args(["-c", GUARDED]).arg(&self.scratch);
        command.args(["--listen-client-urls", &url]);
        command.args(["--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peer]);
        command.args(["--initial-advertise-peer-urls", &peer]);
        command.arg("--data-dir").arg(&self.data).args(&self.flags);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        self.child = Some(command.stderr(log).spawn()?);
        Ok(())
    }

    /// Waits until it listens for clients, which it does when the members agree on a leader.
    pub(super) fn await_ready(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.listens() {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?;
            if ended.flatten().is_some() || Instant::now() > deadline {
                let said = self.log();
                return Err(io::Error::other(format!("etcd does not serve:\n{said}")));
            }
            sleep(POLL);
        }
        Ok(())
    }

    fn listens(&self) -> bool {
        let connect = || TcpStream::connect(self.address());
        match &self.seat.namespace {
            Some(namespace) => namespace.enter(connect).is_ok(),
            None => connect().is_ok(),
        }
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        let child = self.child.as_ref();
        let child = child.ok_or_else(|| io::Error::other("this member does not run"))?;
        sys::send_signal(child.id(), signal)
    }
}

/// Sends the guard home: there is nobody left to kill.
fn dismiss(guard: Option<ChildStdin>) -> io::Result<()> {
    guard.map_or(Ok(()), |mut guard| guard.write_all(b"\n"))
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

//! Somebody who looks at both nodes once a second, in every way there is: a monitoring system that reads the metrics, a
//! browser with the status page open, and `flannelctl top`. What that costs is what a path with it is slower by.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::lab::{Lab, Side};
use crate::namespace::Namespace;

/// Where the daemons answer over HTTP.
pub(super) const PORT: u16 = 9472;
const EVERY: Duration = Duration::from_secs(1);
/// What a browser with the page open asks for, and a monitoring system.
const PAGES: [&str; 5] = [
    "/metrics",
    "/status.json",
    "/peers.json",
    "/drops.json",
    "/stats.json",
];
/// What `flannelctl top` asks.
const QUESTIONS: [&str; 4] = ["status", "peers", "stats", "drops"];

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Watch {
    _ends: Vec<Sender<()>>,
}

impl Watch {
    /// Begins to look; that nothing is answered is noticed at once.
    pub(super) fn begin(lab: &Lab) -> io::Result<Self> {
        let ends = Side::BOTH.map(|side| {
            let node = lab.node(side).share()?;
            let socket = lab.scratch().join(format!("subnet-{side:?}.env.sock"));
            look(&node, &socket)?;
            Ok(watch(node, socket))
        });
        let ends: io::Result<Vec<_>> = ends.into_iter().collect();
        Ok(Self { _ends: ends? })
    }
}

fn watch(node: Namespace, socket: PathBuf) -> Sender<()> {
    let (end, ended) = channel();
    thread::spawn(move || {
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(EVERY) {
            // A daemon that is being restarted is looked at again a second later.
            let _ = look(&node, &socket);
        }
    });
    end
}

fn look(node: &Namespace, socket: &Path) -> io::Result<()> {
    node.enter(|| PAGES.iter().try_for_each(|page| get(page)))?;
    QUESTIONS.iter().try_for_each(|word| ask(socket, word))
}

fn get(page: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: node\r\n\r\n")?;
    answered(stream, page, "HTTP/1.1 200")
}

fn ask(socket: &Path, word: &str) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    writeln!(stream, "flannel 1 {word}")?;
    answered(stream, word, "flannel 1 ok")
}

fn answered(mut stream: impl Read, what: &str, well: &str) -> io::Result<()> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let first = answer.lines().next().unwrap_or_default();
    let failed = || io::Error::other(format!("{what} is answered by {first:?}"));
    first.starts_with(well).then_some(()).ok_or_else(failed)
}

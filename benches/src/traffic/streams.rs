//! TCP streams that must survive: each byte that arrives is compared with the one that was sent.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Ends, tcp, would_block};
use crate::namespace::Namespace;

/// Bytes written at once; a prime, so that pieces of packets never begin alike.
const CHUNK: usize = 16_381;
/// What a stream carries repeats after this many bytes.
const PERIOD: usize = 65_521;

/// Streams under way; they end when [stopped](Streams::stop).
#[derive(Debug)]
pub struct Streams {
    ending: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    senders: Vec<JoinHandle<io::Result<u64>>>,
    receivers: Vec<JoinHandle<io::Result<u64>>>,
    near: Namespace,
    retransmitted: u64,
}

/// What became of the streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes that arrived, all of them right.
    pub bytes: u64,
    /// Streams that were reset or cut, or brought a wrong byte.
    pub broken: usize,
    /// Segments sent more than once.
    pub retransmitted: u64,
}

impl Streams {
    /// Begins to send over so many streams, on each a piece after each pause.
    pub fn start(ends: &Ends<'_>, count: usize, pause: Duration) -> io::Result<Self> {
        let (ending, arrived) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let near = ends.near.0.share()?;
        let retransmitted = retransmitted(&near)?;
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (source, sink) = tcp::connect(ends)?;
            let (over, so_far) = (Arc::clone(&ending), Arc::clone(&arrived));
            senders.push(thread::spawn(move || send(source, pause, &over)));
            receivers.push(thread::spawn(move || receive(sink, &so_far)));
        }
        Ok(Self {
            ending,
            arrived,
            senders,
            receivers,
            near,
            retransmitted,
        })
    }

    /// Bytes that have arrived so far.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Segments sent more than once so far.
    pub fn retransmitted(&self) -> io::Result<u64> {
        retransmitted(&self.near).map(|now| now - self.retransmitted)
    }

    /// Sends no more, waits until all has arrived, and says what became of it.
    pub fn stop(self) -> io::Result<Outcome> {
        self.ending.store(true, Ordering::Relaxed);
        let retransmitted = self.retransmitted()?;
        let mut outcome = Outcome {
            retransmitted,
            ..Outcome::default()
        };
        for (sender, receiver) in self.senders.into_iter().zip(self.receivers) {
            match (joined(sender), joined(receiver)) {
                (Ok(sent), Ok(arrived)) if sent == arrived => outcome.bytes += arrived,
                _ => outcome.broken += 1,
            }
        }
        Ok(outcome)
    }
}

fn joined(thread: JoinHandle<io::Result<u64>>) -> io::Result<u64> {
    let result = thread.join();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The bytes of a stream from a place on.
fn pattern() -> Vec<u8> {
    let bytes = (0..PERIOD + CHUNK).map(|at| (at % PERIOD).wrapping_mul(0x9e37) as u8);
    bytes.collect()
}

fn send(mut stream: TcpStream, pause: Duration, over: &AtomicBool) -> io::Result<u64> {
    let (pattern, mut sent) = (pattern(), 0);
    while !over.load(Ordering::Relaxed) {
        let at = sent % PERIOD;
        match stream.write(&pattern[at..at + CHUNK]) {
            Ok(length) => sent += length,
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error),
        }
        thread::sleep(pause);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(sent as u64)
}

fn receive(mut stream: TcpStream, so_far: &AtomicU64) -> io::Result<u64> {
    let (pattern, mut buffer, mut arrived) = (pattern(), vec![0; CHUNK], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(arrived as u64),
            Ok(length) => {
                let at = arrived % PERIOD;
                if buffer[..length] != pattern[at..at + length] {
                    return Err(io::Error::other("a byte is not the one that was sent"));
                }
                arrived += length;
                so_far.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Segments a namespace has sent more than once.
fn retransmitted(namespace: &Namespace) -> io::Result<u64> {
    let table = namespace.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next(), lines.next());
    let pairs = names.into_iter().flat_map(str::split_whitespace);
    let mut pairs = pairs.zip(values.into_iter().flat_map(str::split_whitespace));
    let found = pairs.find(|(name, _)| *name == "RetransSegs");
    found
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| io::Error::other("the kernel counts no retransmissions"))
}

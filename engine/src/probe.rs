//! Choosing how packets are moved: what was asked for, or what measures faster on this kernel.
//!
//! The measurement drains bursts of datagrams from a socket pair, once in each way the engine could
//! read the TUN: that is the one thing in which the ways differ, it needs no privilege and no
//! device, and it takes a few milliseconds. A ring has to win clearly: it needs locked memory, and
//! sandboxes block it for good reasons.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use ringbuf::{Arena, BufRing, Frame, FrameLayout, Pool};

use crate::capabilities::{IoKind, OpenTun};
use crate::config::{EngineConfig, IoChoice};
use crate::error::StartError;
use crate::sys::uring::{Arrival, LentReads, ReadTarget, Ring};

/// Datagrams in a burst, and bytes in each: a busy TUN with MTU-size packets.
const BURST: usize = 32;
const DATAGRAM: usize = 1400;
/// Bursts drained in each way; the median counts.
const ROUNDS: usize = 31;
/// The only file of the rings that are measured.
const SINK: u32 = 0;
/// A ring is taken when it needs at most this share of the time, in percent.
const CLEARLY: u32 = 95;

/// What is fastest here, found out once: a start that waits for nothing else takes most of its time for this.
static FASTEST: LazyLock<(IoKind, String)> = LazyLock::new(fastest);

/// Begins to find out what an engine will want to know of the kernel, beside whatever else a start has to do.
pub fn look_ahead(choice: IoChoice) {
    if choice == IoChoice::Auto {
        // Without a thread it is found out when it is wanted.
        let _ = thread::Builder::new().spawn(|| drop(FASTEST.clone()));
    }
}

/// The way to move packets, and why.
pub(crate) fn choose_io(
    config: &EngineConfig,
    tun: &OpenTun,
) -> Result<(IoKind, String), StartError> {
    let asked = |kind| Ok((kind, "asked for".to_owned()));
    match config.io {
        IoChoice::SingleQueue => asked(IoKind::SingleQueue),
        IoChoice::Epoll => asked(IoKind::Poll),
        IoChoice::UringMultishot => possible(IoKind::UringMultishot).and_then(asked),
        IoChoice::UringOneshot => possible(IoKind::UringOneshot).and_then(asked),
        IoChoice::Uring => possible(IoKind::UringMultishot)
            .or_else(|_| possible(IoKind::UringOneshot))
            .and_then(asked),
        IoChoice::Auto if !tun.vnet_header => Ok((
            IoKind::SingleQueue,
            "this kernel's TUN has no virtio header".to_owned(),
        )),
        IoChoice::Auto => Ok(FASTEST.clone()),
    }
}

fn possible(kind: IoKind) -> Result<IoKind, StartError> {
    match works(kind) {
        Ok(()) => Ok(kind),
        Err(cause) => Err(StartError::Io {
            choice: kind.to_string(),
            cause,
        }),
    }
}

/// Whether this kernel moves packets in this way, or why it does not.
pub(crate) fn works(kind: IoKind) -> io::Result<()> {
    drain_time(kind).map(drop)
}

fn fastest() -> (IoKind, String) {
    let Ok(plain) = drain_time(IoKind::Poll) else {
        return (IoKind::Poll, "nothing could be measured".to_owned());
    };
    let mut best = (IoKind::Poll, plain);
    let mut reason = format!("{} ns a packet by read", per_packet(plain));
    for kind in [IoKind::UringOneshot, IoKind::UringMultishot] {
        // Writing to a string cannot fail.
        let _ = match drain_time(kind) {
            Ok(time) => {
                if time * 100 <= plain * CLEARLY && time < best.1 {
                    best = (kind, time);
                }
                write!(reason, ", {} by {kind}", per_packet(time))
            }
            Err(error) => write!(reason, ", no {kind}: {error}"),
        };
    }
    (best.0, reason)
}

fn per_packet(time: Duration) -> u128 {
    time.as_nanos() / BURST as u128
}

/// How long it takes to drain one burst in this way.
fn drain_time(kind: IoKind) -> io::Result<Duration> {
    let (source, sink) = UnixDatagram::pair()?;
    sink.set_nonblocking(true)?;
    source.set_nonblocking(true)?;
    let layout = FrameLayout {
        count: BURST as u32,
        headroom: 64,
        capacity: 2048,
    };
    let mut arena = Arena::new(layout)?;
    let region = arena.region_of(0..BURST as u32);
    let pool = arena.frames();
    match kind {
        IoKind::Poll | IoKind::SingleQueue => rounds(&source, ByRead { sink, pool }),
        IoKind::UringOneshot => rounds(&source, ByBatch::new(&sink, pool, region)?),
        IoKind::UringMultishot => rounds(&source, ByMultishot::new(&sink, pool)?),
    }
}

/// A way of taking `count` datagrams that are there.
trait Drain {
    fn drain(&mut self, count: usize) -> io::Result<()>;
}

fn rounds(source: &UnixDatagram, mut way: impl Drain) -> io::Result<Duration> {
    let mut times = [Duration::ZERO; ROUNDS];
    for time in &mut times {
        let mut sent = 0;
        while sent < BURST && source.send(&[0; DATAGRAM]).is_ok() {
            sent += 1;
        }
        let begin = Instant::now();
        way.drain(sent)?;
        *time = begin.elapsed() * BURST as u32 / sent.max(1) as u32;
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

struct ByRead<'a> {
    sink: UnixDatagram,
    pool: Pool<'a>,
}

impl Drain for ByRead<'_> {
    fn drain(&mut self, count: usize) -> io::Result<()> {
        let Some(mut frame) = self.pool.take() else {
            return Ok(());
        };
        for _ in 0..count {
            self.sink.recv(frame.whole_mut())?;
        }
        self.pool.put(frame);
        Ok(())
    }
}

struct ByBatch<'a> {
    ring: Ring,
    frames: Vec<Frame<'a>>,
    registered: bool,
}

impl<'a> ByBatch<'a> {
    fn new(
        sink: &UnixDatagram,
        mut pool: Pool<'a>,
        region: (*const u8, usize),
    ) -> io::Result<Self> {
        let ring = Ring::new(&[sink.as_raw_fd()])?;
        let registered = ring.register_frames(region).is_ok();
        ring.begin()?;
        let frames = std::iter::from_fn(|| pool.take()).collect();
        Ok(Self {
            ring,
            frames,
            registered,
        })
    }
}

impl Drain for ByBatch<'_> {
    fn drain(&mut self, count: usize) -> io::Result<()> {
        let frames = &mut self.frames[..count];
        let mut outcome = Ok(());
        let target = ReadTarget {
            file: SINK,
            start: 0,
            registered: self.registered,
        };
        self.ring
            .read_batch(target, frames, &mut Vec::new(), &mut |_, result| {
                if result < 0 {
                    outcome = Err(io::Error::from_raw_os_error(-result));
                }
            });
        outcome
    }
}

struct ByMultishot<'a> {
    reads: LentReads<'a>,
}

impl<'a> ByMultishot<'a> {
    fn new(sink: &UnixDatagram, mut pool: Pool<'a>) -> io::Result<Self> {
        let ring = Ring::new(&[sink.as_raw_fd()])?;
        if !ring.knows_multishot_reads() {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let mut reads = LentReads::new(ring, BufRing::new(BURST as u16, 0)?, SINK)?;
        reads.ring.begin()?;
        reads.lend(std::iter::from_fn(|| pool.take()));
        Ok(Self { reads })
    }
}

impl Drain for ByMultishot<'_> {
    fn drain(&mut self, count: usize) -> io::Result<()> {
        let mut got = 0;
        while got < count {
            self.reads.arm()?;
            self.reads.ring.submit(1)?;
            while let Some(completion) = self.reads.ring.next() {
                match self.reads.take(completion) {
                    Arrival::Packet(frame) => {
                        got += 1;
                        self.reads.lend(std::iter::once(frame));
                    }
                    Arrival::Nothing => {}
                    Arrival::Failed(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

//! TCP streams: large writes, large reads, counted at the receiver after a warm-up.

use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::Ends;

/// The same in every lab, whatever the machine's default: a paced default would hide the paths.
const CONGESTION_CONTROL: &[u8] = b"cubic";
const CHUNK: usize = 128 << 10;
const WARM_UP: Duration = Duration::from_millis(300);
/// How long the first byte is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const STUCK_AFTER: Duration = Duration::from_millis(500);

/// What the streams of one run moved, after the warm-up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Bytes that arrived.
    pub bytes: u64,
    /// How long they were counted.
    pub seconds: f64,
}

impl Outcome {
    /// Gigabits per second.
    pub fn gbps(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.seconds / 1e9
    }
}

/// Sends over `streams` connections for `duration`; calls `edge` when counting starts and ends.
pub fn run(
    ends: &Ends<'_>,
    streams: usize,
    duration: Duration,
    mut edge: impl FnMut(),
) -> io::Result<Outcome> {
    let connections: Vec<_> = (0..streams)
        .map(|_| connect(ends))
        .collect::<io::Result<_>>()?;
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let (near, far): (Vec<_>, Vec<_>) = connections.into_iter().unzip();
    let begun = Instant::now();
    thread::scope(|scope| {
        for stream in near {
            scope.spawn(|| {
                keep(ends, streams, false);
                send(stream, &stop);
            });
        }
        for stream in far {
            scope.spawn(|| {
                keep(ends, streams, true);
                receive(stream, &received);
            });
        }
        let outcome = count(duration, &mut edge, || {
            let received = received.load(Ordering::Relaxed);
            Ok((received, begun.elapsed().as_secs_f64()))
        });
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Counts for `duration` after the warm-up; `so_far` says how much has been received, and when that was.
pub(crate) fn count(
    duration: Duration,
    mut edge: impl FnMut(),
    so_far: impl Fn() -> io::Result<(u64, f64)>,
) -> io::Result<Outcome> {
    thread::sleep(WARM_UP);
    edge();
    let (before, begun) = so_far()?;
    loop {
        thread::sleep(duration);
        let (after, ended) = so_far()?;
        let outcome = Outcome {
            bytes: after - before,
            seconds: ended - begun,
        };
        // A short time on a busy machine may pass without a byte; then it takes longer, and counts as such.
        if outcome.bytes > 0 || outcome.seconds > PATIENCE.as_secs_f64() {
            edge();
            return Ok(outcome);
        }
    }
}

/// The two ends of a lone stream are both busy, and so find processors of their own. Of many the
/// scheduler puts a sender and its receiver together, and what one wrote the other has in its cache.
fn keep(ends: &Ends<'_>, streams: usize, far: bool) {
    match streams {
        1 => ends.keep_if_pinned(far),
        _ => ends.keep_apart(far),
    }
}

/// Opens one connection: the sender's and the receiver's stream.
pub(crate) fn connect(ends: &Ends<'_>) -> io::Result<(TcpStream, TcpStream)> {
    let address = SocketAddr::new(ends.far.1, 0);
    let listener: TcpListener = ends.far.0.enter(|| {
        let socket = stream_socket(address)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(1)?;
        Ok(socket.into())
    })?;
    let listening = listener.local_addr()?;
    let near = ends.near.0.enter(|| connect_to(listening))?;
    let (far, _) = listener.accept()?;
    prepare(&far)?;
    Ok((near, far))
}

/// Opens the sender's end of a stream, or the receiver's.
pub(crate) fn connect_to(there: SocketAddr) -> io::Result<TcpStream> {
    let socket = stream_socket(there)?;
    socket.connect_timeout(&SockAddr::from(there), Duration::from_secs(5))?;
    let stream = socket.into();
    prepare(&stream)?;
    Ok(stream)
}

/// Lets nobody wait for ever at a stream on which nothing moves any more.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(STUCK_AFTER))?;
    stream.set_read_timeout(Some(STUCK_AFTER))
}

/// Congestion control is chosen before connecting: pacing, once begun, would stay.
fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    match socket.set_tcp_congestion(CONGESTION_CONTROL) {
        // Where it is not there, or not for everybody, the default is at least the same for all paths.
        Err(error) if !matches!(error.kind(), NotFound | PermissionDenied) => Err(error),
        _ => Ok(socket),
    }
}

/// Sends until told to stop.
pub(crate) fn send(mut stream: TcpStream, stop: &AtomicBool) {
    let chunk = vec![0x5a; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&chunk) {
            Ok(_) => {}
            Err(error) if super::would_block(&error) => {}
            Err(_) => break,
        }
    }
}

/// Reads until the sender closes, or until nothing has come for long after it should have.
pub(crate) fn receive(mut stream: TcpStream, received: &AtomicU64) {
    let mut chunk = vec![0; CHUNK];
    let mut silences = 0;
    while silences < 20 {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => {
                received.fetch_add(length as u64, Ordering::Relaxed);
                silences = 0;
            }
            Err(error) if super::would_block(&error) => silences += 1,
            Err(_) => break,
        }
    }
}

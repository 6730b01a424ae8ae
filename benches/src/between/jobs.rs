//! The far half of each kind of traffic, for as long as the client wants it.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::protocol::{Ended, Job, Mark};
use crate::cpu;
use crate::traffic::{self, latency, rate, tcp, window};

/// How long a client may take to open its streams or flows.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);
/// How often somebody who waits looks whether there is still something to wait for.
const LOOK_UP: Duration = Duration::from_millis(2);

/// What job and server share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    received: AtomicU64,
}

/// A job under way.
#[derive(Debug)]
pub(super) struct Working {
    ports: Vec<u16>,
    shared: Arc<Shared>,
    begun: Instant,
    thread: Option<JoinHandle<io::Result<Ended>>>,
}

impl Working {
    /// Opens the ports at `address` and begins.
    pub(super) fn begin(address: IpAddr, job: Job) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let for_job = Arc::clone(&shared);
        let (ports, thread) = match job {
            Job::TakeStreams { .. } | Job::SendStreams { .. } => {
                let listener = TcpListener::bind((address, 0))?;
                listener.set_nonblocking(true)?;
                let ports = vec![listener.local_addr()?.port()];
                let work = move || streams(&listener, job, &for_job);
                (ports, thread::spawn(work))
            }
            _ => {
                let open = |_| traffic::open_here(address);
                let sockets: Vec<_> = (0..job.flows()).map(open).collect::<io::Result<_>>()?;
                let ports = sockets.iter().map(|socket| Ok(socket.local_addr()?.port()));
                let ports = ports.collect::<io::Result<_>>()?;
                (ports, thread::spawn(move || flows(&sockets, job, &for_job)))
            }
        };
        Ok(Self {
            ports,
            shared,
            begun: Instant::now(),
            thread: Some(thread),
        })
    }

    /// Where it waits for the client.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.ports.clone()
    }

    /// How far it is.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            received: self.shared.received.load(Ordering::Relaxed),
            seconds: self.begun.elapsed().as_secs_f64(),
            busy: cpu::machine_busy(),
        }
    }

    /// Stops it and says what came of it.
    pub(super) fn end(mut self) -> io::Result<Ended> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        joined.map_or_else(
            || Ok(Ended::default()),
            |joined| joined.unwrap_or_else(|_| Err(io::Error::other("the far end broke down"))),
        )
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // A client that went away leaves nothing running for long.
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn streams(listener: &TcpListener, job: Job, shared: &Shared) -> io::Result<Ended> {
    let mut open = Vec::new();
    let patience = Instant::now() + ARRIVAL_MAX;
    while open.len() < job.flows() {
        match listener.accept() {
            Ok((stream, _)) => open.push(stream),
            Err(error) if traffic::would_block(&error) => wait(patience, shared)?,
            Err(error) => return Err(error),
        }
    }
    thread::scope(|scope| {
        for stream in open {
            scope.spawn(move || {
                if tcp::prepare(&stream).is_ok() {
                    match job {
                        Job::SendStreams { .. } => tcp::send(stream, &shared.stop),
                        _ => tcp::receive(stream, &shared.received),
                    }
                }
            });
        }
    });
    Ok(Ended::default())
}

fn flows(sockets: &[UdpSocket], job: Job, shared: &Shared) -> io::Result<Ended> {
    let patience = Instant::now() + ARRIVAL_MAX;
    for socket in sockets {
        meet(socket, patience, shared)?;
    }
    let (stop, begun) = (&shared.stop, Instant::now());
    let mut ended = Ended::default();
    match job {
        Job::Count { payload, .. } => {
            let (received, last) = rate::count(sockets, payload, stop)?;
            ended.received = received;
            ended.seconds = last.map_or(0.0, |last| (last - begun).as_secs_f64());
        }
        Job::Acknowledge { payload, .. } => {
            ended.received = window::receive(sockets, payload, stop)?;
        }
        Job::Offer {
            payload,
            per_second,
            time,
            ..
        } => {
            ended.sent = rate::send(sockets, payload, per_second.unwrap_or(f64::INFINITY), time)?;
            ended.seconds = begun.elapsed().as_secs_f64();
        }
        Job::Window { payload, time, .. } => {
            ended.lost = window::send(sockets, payload, begun + time)?;
            ended.seconds = begun.elapsed().as_secs_f64();
        }
        Job::Echo { .. } | Job::TakeStreams { .. } | Job::SendStreams { .. } => {
            sockets
                .iter()
                .for_each(|socket| latency::answer(socket, stop));
        }
    }
    Ok(ended)
}

/// Waits for the client's first datagram, answers it, and from then on talks to nobody else.
fn meet(socket: &UdpSocket, patience: Instant, shared: &Shared) -> io::Result<()> {
    socket.set_read_timeout(Some(LOOK_UP))?;
    let mut greeting = [0; 8];
    loop {
        match socket.recv_from(&mut greeting) {
            Ok((_, client)) => {
                socket.connect(client)?;
                socket.send(&greeting)?;
                return Ok(());
            }
            Err(error) if traffic::would_block(&error) => wait(patience, shared)?,
            Err(error) => return Err(error),
        }
    }
}

fn wait(patience: Instant, shared: &Shared) -> io::Result<()> {
    if shared.stop.load(Ordering::Relaxed) || Instant::now() > patience {
        let why =
            "the client's traffic does not arrive at this address: is there a firewall between?";
        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
    }
    thread::sleep(LOOK_UP);
    Ok(())
}

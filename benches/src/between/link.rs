//! The machine that measures: plays the near half of all traffic, and asks the far one for the other.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{Conversation, Ended, Job, Mark, Reply, Request};
use crate::cpu;
use crate::lab::Side;
use crate::measure::Subject;
use crate::traffic::{self, FLOWS, latency, rate, tcp, window};

const PATIENCE: Duration = Duration::from_secs(5);
/// How often a flow tries to get through to the far end.
const GREETINGS: u32 = 50;

/// The network between this machine and one address of another.
#[derive(Clone, Debug)]
pub struct Link {
    control: Arc<Mutex<Conversation>>,
    far: IpAddr,
    about: String,
}

impl Link {
    /// Asks the server at `host`, and sends traffic to the address it was found at.
    pub fn to(host: &str, port: u16) -> io::Result<Self> {
        let explain = |error: io::Error| {
            io::Error::other(format!(
                "cannot reach {host}, port {port}: {error}; is `flannelctl bench serve --listen {host}` running there?"
            ))
        };
        let stream = connect(host, port).map_err(explain)?;
        let far = stream.peer_addr()?.ip();
        let control = Arc::new(Mutex::new(Conversation::over(stream)?));
        let about = String::new();
        let mut link = Self {
            control,
            far,
            about,
        };
        if let Reply::Hello { version, kernel } = link.ask(&Request::Hello)? {
            link.about = format!("{far}: flannelctl {version}, Linux {kernel}");
        }
        Ok(link)
    }

    /// The same two machines over another address of the far one.
    pub fn through(&self, address: IpAddr) -> Self {
        Self {
            far: address,
            ..self.clone()
        }
    }

    /// The far machine's address.
    pub fn address(&self) -> IpAddr {
        self.far
    }

    /// What the far machine says of itself.
    pub fn about(&self) -> &str {
        &self.about
    }

    fn ask(&self, request: &Request) -> io::Result<Reply> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control.say(request)?;
        match control.hear()? {
            Some(Reply::Refused(why)) => Err(io::Error::other(format!("the other machine: {why}"))),
            Some(reply) => Ok(reply),
            None => Err(io::Error::other(
                "the other machine has closed the connection",
            )),
        }
    }

    fn begin(&self, job: Job) -> io::Result<Vec<SocketAddr>> {
        let begin = Request::Begin { at: self.far, job };
        match self.ask(&begin)? {
            Reply::Begun { ports } => Ok(ports
                .into_iter()
                .map(|port| SocketAddr::new(self.far, port))
                .collect()),
            other => Err(surprising(&other)),
        }
    }

    fn mark(&self) -> io::Result<Mark> {
        match self.ask(&Request::Mark)? {
            Reply::Mark(mark) => Ok(mark),
            other => Err(surprising(&other)),
        }
    }

    fn end(&self) -> io::Result<Ended> {
        match self.ask(&Request::End)? {
            Reply::Ended(ended) => Ok(ended),
            other => Err(surprising(&other)),
        }
    }

    /// Begins a job of datagrams and opens the near end of its flows.
    fn flows(&self, job: Job) -> io::Result<Vec<UdpSocket>> {
        let there = self.begin(job)?;
        let sockets: io::Result<Vec<_>> = there.into_iter().map(greet).collect();
        if sockets.is_err() {
            // The far end waits for flows that will not come; what stopped them is what counts.
            let _ = self.end();
        }
        sockets
    }

    /// Counts what the far end sends in a job, which ends by itself.
    fn take_in<T: Send>(
        &self,
        job: Job,
        count: impl FnOnce(&[UdpSocket], &AtomicBool) -> io::Result<T> + Send,
    ) -> io::Result<(T, Ended)> {
        let sockets = self.flows(job)?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let counting = scope.spawn(|| count(&sockets, &stop));
            let ended = self.end();
            stop.store(true, Ordering::Relaxed);
            let counted = counting
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((counted?, ended?))
        })
    }
}

impl Subject for Link {
    fn tcp(
        &self,
        from: Side,
        streams: usize,
        duration: Duration,
        edge: &mut dyn FnMut(),
    ) -> io::Result<tcp::Outcome> {
        let job = match from {
            Side::A => Job::TakeStreams { streams },
            Side::B => Job::SendStreams { streams },
        };
        let there = self.begin(job)?;
        let connect = |_| tcp::connect_to(there[0]);
        let open: Vec<_> = (0..streams).map(connect).collect::<io::Result<_>>()?;
        let (stop, received, begun) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
        let so_far = || match from {
            Side::A => self.mark().map(|mark| (mark.received, mark.seconds)),
            Side::B => Ok((
                received.load(Ordering::Relaxed),
                begun.elapsed().as_secs_f64(),
            )),
        };
        let outcome = thread::scope(|scope| {
            for stream in open {
                scope.spawn(|| match from {
                    Side::A => tcp::send(stream, &stop),
                    Side::B => tcp::receive(stream, &received),
                });
            }
            let outcome = tcp::count(duration, edge, so_far);
            stop.store(true, Ordering::Relaxed);
            // Streams of the far end close when it is told to stop.
            let ended = if from == Side::B {
                self.end().map(drop)
            } else {
                Ok(())
            };
            ended.and(outcome)
        });
        if from == Side::A {
            self.end()?;
        }
        outcome
    }

    fn iperf3(&self, _: Side, _: usize, _: Duration) -> io::Result<f64> {
        Err(io::Error::other(
            "iperf3 is not started on the other machine: run it by hand there, `iperf3 --server`",
        ))
    }

    fn window(&self, from: Side, packet: usize, duration: Duration) -> io::Result<window::Outcome> {
        let (flows, payload, time) = (FLOWS, traffic::payload_of(packet, self.far), duration);
        if from == Side::B {
            let job = Job::Window {
                flows,
                payload,
                time,
            };
            let count =
                |sockets: &[UdpSocket], stop: &AtomicBool| window::receive(sockets, payload, stop);
            let (received, ended) = self.take_in(job, count)?;
            return Ok(window::Outcome {
                received,
                lost: ended.lost,
                seconds: ended.seconds,
            });
        }
        let sockets = self.flows(Job::Acknowledge { flows, payload })?;
        let begun = Instant::now();
        let lost = window::send(&sockets, payload, begun + duration);
        let seconds = begun.elapsed().as_secs_f64();
        Ok(window::Outcome {
            received: self.end()?.received,
            lost: lost?,
            seconds,
        })
    }

    fn rate(
        &self,
        from: Side,
        packet: usize,
        per_second: f64,
        duration: Duration,
    ) -> io::Result<rate::Outcome> {
        let (flows, payload, time) = (FLOWS, traffic::payload_of(packet, self.far), duration);
        if from == Side::B {
            let job = Job::Offer {
                flows,
                payload,
                per_second: per_second.is_finite().then_some(per_second),
                time,
            };
            let begun = Instant::now();
            let count =
                |sockets: &[UdpSocket], stop: &AtomicBool| rate::count(sockets, payload, stop);
            let ((received, last), ended) = self.take_in(job, count)?;
            let until_last = last.map_or(0.0, |last| (last - begun).as_secs_f64());
            return Ok(rate::Outcome {
                sent: ended.sent,
                received,
                seconds: until_last.max(ended.seconds),
            });
        }
        let sockets = self.flows(Job::Count { flows, payload })?;
        let begun = Instant::now();
        let sent = rate::send(&sockets, payload, per_second, duration);
        let seconds = begun.elapsed().as_secs_f64();
        let ended = self.end()?;
        Ok(rate::Outcome {
            sent: sent?,
            received: ended.received,
            seconds: seconds.max(ended.seconds),
        })
    }

    fn round_trips(
        &self,
        from: Side,
        duration: Duration,
        think: Duration,
    ) -> io::Result<latency::Outcome> {
        if from == Side::B {
            return Err(io::Error::other(
                "a round trip is the same from either machine",
            ));
        }
        let sockets = self.flows(Job::Echo { flows: 1 })?;
        let outcome = latency::ask(&sockets[0], duration, think);
        self.end()?;
        outcome
    }

    fn processor_seconds(&self) -> [f64; 2] {
        let far = self.mark().map_or(f64::NAN, |mark| mark.busy);
        [cpu::machine_busy() + far, f64::NAN]
    }

    fn peak_memory_kib(&self) -> Option<u64> {
        None
    }

    fn time_to_first_ping(&self) -> io::Result<Duration> {
        Err(io::Error::other("nothing is started between two machines"))
    }

    fn logs(&self) -> String {
        String::new()
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut refused = io::Error::other("it has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Opens the near end of a flow: the first datagram that comes back shows that there is a way.
fn greet(there: SocketAddr) -> io::Result<UdpSocket> {
    let socket = traffic::open_here(if there.is_ipv4() {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0_u16; 8])
    })?;
    socket.connect(there)?;
    socket.set_read_timeout(Some(PATIENCE / GREETINGS))?;
    let mut greeting = [0; 8];
    for _ in 0..GREETINGS {
        // What cannot be sent yet is sent again.
        let _ = socket.send(&greeting);
        if socket.recv(&mut greeting).is_ok() {
            return Ok(socket);
        }
    }
    let why = format!("no datagram comes back from {there}: is there a firewall between?");
    Err(io::Error::new(io::ErrorKind::TimedOut, why))
}

fn surprising(reply: &Reply) -> io::Error {
    io::Error::other(format!(
        "the other machine answers {reply:?}: are both of one version?"
    ))
}

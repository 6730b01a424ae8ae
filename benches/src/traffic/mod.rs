//! Senders and receivers, fast enough not to be what is measured.
//!
//! Every kind of traffic opens its sockets in the two containers and runs in threads of this
//! process: a socket belongs to its namespace wherever it is used.

pub mod iperf3;
pub mod latency;
pub mod probe;
pub mod rate;
pub mod streams;
pub mod tcp;
pub mod window;

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;

use crate::namespace::{Namespace, on_own_thread};
use crate::{Path, Side, sys};

/// An IPv4 and a UDP header: what an inner packet has besides its payload.
pub const HEADERS: usize = 28;
/// By how much an IPv6 header is longer.
const IPV6_MORE: usize = 20;
/// Flows of a stream of packets.
pub(crate) const FLOWS: usize = 4;
/// Datagrams per system call, in both directions.
const BATCH: usize = 64;
/// Large enough that a descheduled receiver loses nothing in a few milliseconds.
const SOCKET_BUFFER: i32 = 8 << 20;

/// The two containers, seen from the one that sends.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// The sender's namespace and address.
    pub near: (&'a Namespace, IpAddr),
    /// The receiver's namespace and address.
    pub far: (&'a Namespace, IpAddr),
    /// The side that sends.
    from: Side,
    /// Whether everything at an end keeps to the processors of its side.
    pinned: bool,
}

impl<'a> Ends<'a> {
    /// The ends of `path` with `from` as the sender.
    pub fn of(path: &'a Path, from: Side) -> Self {
        Self {
            near: path.container(from),
            far: path.container(from.other()),
            from,
            pinned: path.lab().profile().pins(),
        }
    }

    /// Two containers on no path.
    pub fn between(near: (&'a Namespace, IpAddr), far: (&'a Namespace, IpAddr)) -> Self {
        Self {
            near,
            far,
            from: Side::A,
            pinned: false,
        }
    }

    /// Keeps the calling thread, which works at the near or the far end, to the processors of that end.
    ///
    /// Two nodes never share a processor. Left to the scheduler, sender and receiver meet on one as soon
    /// as nothing but the kernel stands between them: wake-ups and cache misses are saved then that a
    /// network would cost.
    fn keep_apart(&self, far: bool) {
        let side = if far { self.from.other() } else { self.from };
        sys::keep_to(side.processors());
    }

    /// The same where the lab wants it of all traffic.
    fn keep_if_pinned(&self, far: bool) {
        if self.pinned {
            self.keep_apart(far);
        }
    }

    /// Does what the near end does, on its processors where the lab wants it.
    fn at_near<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_own_thread(|| {
            self.keep_if_pinned(false);
            work()
        })
    }

    /// Both ends of [`FLOWS`] flows, each pair of sockets connected to each other.
    fn flows(&self) -> io::Result<(Vec<UdpSocket>, Vec<UdpSocket>)> {
        let flow = |_| Flow::between(self).map(|flow| (flow.near, flow.far));
        (0..FLOWS).map(flow).collect()
    }
}

/// One UDP flow: the sender's and the receiver's socket.
struct Flow {
    near: UdpSocket,
    far: UdpSocket,
}

impl Flow {
    fn between(ends: &Ends<'_>) -> io::Result<Self> {
        let [near, far] = [ends.near, ends.far].map(|end| open(end.0, end.1));
        let (near, far) = (near?, far?);
        near.connect(far.local_addr()?)?;
        far.connect(near.local_addr()?)?;
        Ok(Self { near, far })
    }
}

fn open(container: &Namespace, address: IpAddr) -> io::Result<UdpSocket> {
    let socket = container.enter(|| UdpSocket::bind((address, 0)))?;
    sys::force_buffers(socket.as_fd(), SOCKET_BUFFER)?;
    Ok(socket)
}

/// Opens a socket where the calling thread is, with buffers as large as it may have.
pub(crate) fn open_here(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    if sys::force_buffers(socket.as_fd(), SOCKET_BUFFER).is_err() {
        // Without privileges the system's limit is as far as it goes.
        let plain = socket2::SockRef::from(&socket);
        plain.set_recv_buffer_size(SOCKET_BUFFER as usize)?;
        plain.set_send_buffer_size(SOCKET_BUFFER as usize)?;
    }
    Ok(socket)
}

/// What an inner packet of `packet` bytes to an address has besides its headers; room for a number at least.
pub(crate) fn payload_of(packet: usize, to: IpAddr) -> usize {
    let headers = HEADERS + if to.is_ipv6() { IPV6_MORE } else { 0 };
    packet.saturating_sub(headers).max(8)
}

/// Whether a system call only said that there is nothing now.
pub(crate) fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Takes everything that waits at a socket; calls `each` per datagram and says how many there were.
fn drain(
    socket: &UdpSocket,
    batch: &mut sys::MessageBatch,
    mut each: impl FnMut(&[u8]),
) -> io::Result<u64> {
    let mut total = 0;
    loop {
        match batch.receive(socket.as_fd()) {
            Ok(count) => {
                (0..count).for_each(|index| each(batch.received(index)));
                total += count as u64;
                if count < batch.capacity() {
                    return Ok(total);
                }
            }
            Err(error) if would_block(&error) => return Ok(total),
            // The far side may have answered "port unreachable" when an earlier run ended.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
}

/// The number a generator put at the front of a datagram.
fn sequence(datagram: &[u8]) -> u64 {
    datagram
        .first_chunk()
        .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

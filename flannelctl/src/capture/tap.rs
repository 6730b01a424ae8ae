//! Packets as they pass one interface, by a socket the kernel gives copies to. The daemon has no part in it.

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io::{self, Read};
use std::time::Duration;

/// Every protocol, in network order, as packet sockets want it.
const ALL: u16 = 3;
/// Copies that wait to be read; the kernel drops those that do not fit.
const BUFFER: usize = 8 << 20;
/// How long to wait for a packet before looking for other things to do.
const WAIT: Duration = Duration::from_millis(50);

/// Words of classic BPF.
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where the filter finds the number of the interface.
const INTERFACE: u32 = 0xffff_f000 + 8;

/// Copies of one interface's packets.
#[derive(Debug)]
pub(super) struct Tap(Socket);

impl Tap {
    /// Begins to copy what passes the interface of a number.
    pub(super) fn open(interface: u32) -> io::Result<Self> {
        let all = Protocol::from(i32::from(ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all))?;
        // Until the filter is there, packets of every interface come in: let in none, empty it, and begin.
        socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
        socket.set_nonblocking(true)?;
        let mut bin = [0; 1];
        while (&socket).read(&mut bin).is_ok() {}
        socket.set_nonblocking(false)?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_read_timeout(Some(WAIT))?;
        socket.attach_filter(&[
            SockFilter::new(LOAD_WORD, 0, 0, INTERFACE),
            SockFilter::new(JUMP_EQUAL, 0, 1, interface),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
            SockFilter::new(RETURN, 0, 0, 0),
        ])?;
        Ok(Self(socket))
    }

    /// The next packet, if one comes soon.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.0).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if nothing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Nothing came, or the interface went away and may come back.
fn nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NetworkDown, TimedOut, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | TimedOut | Interrupted | NetworkDown
    )
}

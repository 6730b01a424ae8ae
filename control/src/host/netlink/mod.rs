//! The kernel's routing socket: the only place that knows netlink messages.
//!
//! One request at a time, each answered before the next; what comes in thousands goes in batches.

mod batch;
mod change;
mod entry;
#[cfg(fuzzing)]
pub(crate) mod hostile;
mod query;

pub use entry::{Change, Entry};
pub use query::{Address, FoundRoute, Interface, RouteFound, VxlanDevice};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::IpAddr;

/// Room for an answer. The kernel sends half of that at most, unless a single interface takes more.
const DATAGRAM_MAX: usize = 64 << 10;
/// Asks for the length of what was received rather than of what had room.
const MSG_TRUNC: i32 = 0x20;

/// A connection to the kernel's tables of links, addresses and routes.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Connects, in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Asks for a whole table.
    fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, NLM_F_DUMP)
    }

    /// Asks one question or makes one change; returns what the kernel says before its acknowledgement.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, NLM_F_ACK | flags)
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let message = numbered(message, NLM_F_REQUEST | flags, self.sequence);
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.answers()
    }

    fn answers(&self) -> io::Result<Vec<RouteNetlinkMessage>> {
        let (mut answers, mut bytes) = (Vec::new(), Vec::with_capacity(DATAGRAM_MAX));
        loop {
            self.receive(&mut bytes)?;
            if self.read(&bytes, &mut answers)? {
                return Ok(answers);
            }
        }
    }

    /// Reads one datagram. The kernel puts the more into one, the more room it is given.
    fn receive(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        let length = self.socket.recv(bytes, MSG_TRUNC)?;
        if length > bytes.len() {
            let why = format!("the kernel's answer has {length} bytes, more than expected");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(())
    }

    /// Reads one datagram; `true` once the answer is complete.
    fn read(&self, bytes: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(io::Error::other)?;
            rest = rest
                .get(aligned(message.header.length)..)
                .unwrap_or_default();
            // What is left of an answer given up on before.
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    return error.code.map_or(Ok(true), |_| Err(error.to_io()));
                }
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                _ => {}
            }
        }
        Ok(false)
    }
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Netlink")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// A message ready to be sent.
fn numbered(
    message: RouteNetlinkMessage,
    flags: u16,
    sequence: u32,
) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    message
}

/// Messages in a datagram start at multiples of four.
fn aligned(length: u32) -> usize {
    (length as usize).max(4).next_multiple_of(4)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

//! Many changes in few system calls: ten thousand routes must not take ten thousand round trips.

use super::{Netlink, aligned, numbered};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use std::io;

/// A change and the flags it is asked for with.
pub(super) type Request = (RouteNetlinkMessage, u16);

/// Messages in one datagram. The kernel answers each that fails, and all the answers must fit into the socket's
/// receive buffer at once.
const CHUNK: usize = 128;

impl Netlink {
    /// Makes all changes in order; one that fails keeps no other from being made.
    pub(super) fn request_all(
        &mut self,
        requests: Vec<Request>,
    ) -> io::Result<Vec<io::Result<()>>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut rest = requests.into_iter().peekable();
        while rest.peek().is_some() {
            outcomes.extend(self.request_some(rest.by_ref().take(CHUNK).collect())?);
        }
        Ok(outcomes)
    }

    /// One datagram. Only failures are answered, and the last message, which tells that all are done.
    fn request_some(&mut self, requests: Vec<Request>) -> io::Result<Vec<io::Result<()>>> {
        let (first, count) = (self.sequence + 1, requests.len());
        let mut bytes = Vec::new();
        for (number, (message, flags)) in requests.into_iter().enumerate() {
            let last = if number + 1 == count { NLM_F_ACK } else { 0 };
            self.sequence += 1;
            append(
                &mut bytes,
                numbered(message, NLM_F_REQUEST | flags | last, self.sequence),
            );
        }
        self.socket.send(&bytes, 0)?;
        let mut outcomes: Vec<io::Result<()>> = (0..count).map(|_| Ok(())).collect();
        while !self.read_outcomes(first, &mut outcomes)? {}
        Ok(outcomes)
    }

    /// Reads one datagram of answers; `true` once the last message has been answered.
    fn read_outcomes(&self, first: u32, outcomes: &mut [io::Result<()>]) -> io::Result<bool> {
        let (bytes, _) = self.socket.recv_from_full()?;
        let mut rest = &bytes[..];
        let mut complete = false;
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(io::Error::other)?;
            rest = rest
                .get(aligned(message.header.length)..)
                .unwrap_or_default();
            let number = message.header.sequence_number.wrapping_sub(first) as usize;
            complete |= number + 1 == outcomes.len();
            if let (Some(outcome), NetlinkPayload::Error(error)) =
                (outcomes.get_mut(number), message.payload)
            {
                *outcome = error.code.map_or(Ok(()), |_| Err(error.to_io()));
            }
        }
        Ok(complete)
    }
}

fn append(bytes: &mut Vec<u8>, message: NetlinkMessage<RouteNetlinkMessage>) {
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

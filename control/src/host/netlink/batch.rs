//! Many changes and questions in few system calls: ten thousand routes must not take ten thousand round trips.

use super::{DATAGRAM_MAX, Netlink, aligned, numbered};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use std::io;

/// A message and its flags.
pub(super) type Request = (RouteNetlinkMessage, u16);

/// Messages in one datagram. All answers must fit into the socket's receive buffer at once.
const CHUNK: usize = 100;

/// What came of one message: what the kernel said to it, if anything, or why it failed.
pub(super) type Outcome = io::Result<Option<RouteNetlinkMessage>>;

impl Netlink {
    /// Sends all messages in order; one that fails keeps no other from being heeded.
    pub(super) fn request_all(&mut self, requests: Vec<Request>) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(requests.len());
        let mut rest = requests.into_iter().peekable();
        while rest.peek().is_some() {
            outcomes.extend(self.request_some(rest.by_ref().take(CHUNK).collect())?);
        }
        Ok(outcomes)
    }

    /// One datagram. Only questions and failures are answered, and the last message, which tells that all are done.
    fn request_some(&mut self, requests: Vec<Request>) -> io::Result<Vec<Outcome>> {
        let (first, count) = (self.sequence + 1, requests.len());
        let mut bytes = Vec::with_capacity(DATAGRAM_MAX);
        for (number, (message, flags)) in requests.into_iter().enumerate() {
            let last = if number + 1 == count { NLM_F_ACK } else { 0 };
            self.sequence += 1;
            let message = numbered(message, NLM_F_REQUEST | flags | last, self.sequence);
            append(&mut bytes, message);
        }
        self.socket.send(&bytes, 0)?;
        let mut outcomes: Vec<Outcome> = (0..count).map(|_| Ok(None)).collect();
        let mut complete = false;
        while !complete {
            self.receive(&mut bytes)?;
            complete = read_outcomes(&bytes, first, &mut outcomes)?;
        }
        Ok(outcomes)
    }
}

/// Reads one datagram of answers; `true` once the last message has been acknowledged.
pub(super) fn read_outcomes(
    bytes: &[u8],
    first: u32,
    outcomes: &mut [Outcome],
) -> io::Result<bool> {
    let (mut rest, mut complete) = (bytes, false);
    while !rest.is_empty() {
        let message =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
        rest = rest
            .get(aligned(message.header.length)..)
            .unwrap_or_default();
        let number = message.header.sequence_number.wrapping_sub(first) as usize;
        let last = number + 1 == outcomes.len();
        let Some(outcome) = outcomes.get_mut(number) else {
            continue;
        };
        match message.payload {
            NetlinkPayload::Error(error) => {
                complete |= last;
                if let Some(code) = error.code {
                    // Whatever it is: not every number has an opposite.
                    *outcome = Err(io::Error::from_raw_os_error(code.get().wrapping_neg()));
                }
            }
            NetlinkPayload::InnerMessage(answer) => *outcome = Ok(Some(answer)),
            _ => {}
        }
    }
    Ok(complete)
}

fn append(bytes: &mut Vec<u8>, message: NetlinkMessage<RouteNetlinkMessage>) {
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}

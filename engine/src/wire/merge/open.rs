//! The super-packets in the making, and which of them the next packet joins.
//!
//! A sender that transmits one TCP stream from two processors interleaves two stretches of it on
//! the wire. Such a flow has two strands open; each is a super-packet of its own, and the one that
//! lies earlier in the stream is always written first. So a packet is overtaken only by one that
//! the receiver has to read before it, and never by a younger timestamp, which would make the
//! receiver take what it overtook for old.

use super::candidate::{Candidate, FlowKey};
use super::flow::{Arrival, Flow, PACKETS_MAX, Side, is_before};
use super::{FLOWS_MAX, Merger};
use crate::wire::l4::{Transport, tcp};
use crate::wire::{Slot, be32};

/// How TCP options begin that are a timestamp and nothing else.
const TIMESTAMP: [u8; 4] = [1, 1, 8, 10];

impl Merger {
    /// Adds a packet to its flow, or beside it, or closes that and opens it anew.
    pub(super) fn join<S: Slot>(
        &mut self,
        frames: &mut [S],
        arrival: &Arrival,
        candidate: &Candidate,
    ) {
        let found = self.find(arrival);
        match found.and_then(|found| self.continued(frames, found, arrival, candidate)) {
            Some(place) => self.append(frames, place, arrival, candidate),
            None => self.open(frames, found, arrival, candidate),
        }
    }

    /// Opens a strand, of the flow that has one at `found` or of a new one.
    #[inline(never)]
    fn open<S: Slot>(
        &mut self,
        frames: &mut [S],
        found: Option<usize>,
        arrival: &Arrival,
        candidate: &Candidate,
    ) {
        let beside = found.and_then(|found| self.place_beside(frames, found, arrival, candidate));
        let place = match (beside, found) {
            (Some(place), _) => place,
            (None, Some(found)) => {
                self.finish_strands(frames, found);
                found
            }
            (None, None) => self.free_place(frames),
        };
        let mut flow = Flow::new(*arrival, *candidate, self.count_max(arrival));
        if let (Some(_), Some(found)) = (beside, found) {
            flow.beside = Some(found);
            self.link(found, place);
        }
        self.digests[place] = arrival.digest;
        self.flows[place] = Some(flow);
        if flow.complete {
            self.finish(frames, place);
        }
    }

    fn count_max(&self, arrival: &Arrival) -> usize {
        match arrival.l4.transport {
            Transport::Tcp => PACKETS_MAX,
            Transport::Udp => PACKETS_MAX.min(usize::from(self.config.max_udp_segments)),
        }
    }

    /// A strand of the flow an arrival belongs to.
    fn find(&self, arrival: &Arrival) -> Option<usize> {
        let is_it = |place: usize| {
            self.flows[place]
                .as_ref()
                .is_some_and(|flow| flow.first.key == arrival.key)
        };
        (0..FLOWS_MAX).find(|place| self.digests[*place] == arrival.digest && is_it(*place))
    }

    /// A place for one more flow; when all are taken, all are written.
    fn free_place<S: Slot>(&mut self, frames: &mut [S]) -> usize {
        self.vacant().unwrap_or_else(|| {
            self.flush(frames);
            0
        })
    }

    fn vacant(&self) -> Option<usize> {
        self.digests.iter().position(|digest| *digest == 0)
    }

    /// The strand a packet continues, of the flow that has one at `found`.
    fn continued<S: Slot>(
        &self,
        frames: &[S],
        found: usize,
        arrival: &Arrival,
        candidate: &Candidate,
    ) -> Option<usize> {
        let flow = self.flows[found].as_ref()?;
        if self.continues(frames, flow, arrival, candidate) {
            return Some(found);
        }
        let beside = flow.beside?;
        let flow = self.flows[beside].as_ref()?;
        self.continues(frames, flow, arrival, candidate)
            .then_some(beside)
    }

    /// Part of what every packet costs.
    #[inline(always)]
    fn continues<S: Slot>(
        &self,
        frames: &[S],
        flow: &Flow,
        arrival: &Arrival,
        candidate: &Candidate,
    ) -> bool {
        let constant_ids = self.config.constant_ids && arrival.l4.transport == Transport::Udp;
        flow.continues_with(candidate, constant_ids)
            && self.leaves_room(flow, candidate)
            && options(frames, &flow.first) == options(frames, arrival)
    }

    /// Whether a strand does not reach into the other of its flow with one more packet.
    fn leaves_room(&self, flow: &Flow, next: &Candidate) -> bool {
        let beside = flow.beside.and_then(|place| self.flows[place].as_ref());
        beside.is_none_or(|beside| !beside.would_overlap(flow, next))
    }

    /// Where a packet can open the second strand of the flow at `found`, if it may.
    fn place_beside<S: Slot>(
        &self,
        frames: &[S],
        found: usize,
        arrival: &Arrival,
        candidate: &Candidate,
    ) -> Option<usize> {
        let flow = self.flows[found].as_ref()?;
        let (open, new) = (options(frames, &flow.first), options(frames, arrival));
        let in_order = match flow.side_of(candidate)? {
            Side::Earlier => stamped_in_order(new, open),
            Side::Later => stamped_in_order(open, new),
        };
        let may = in_order && flow.beside.is_none();
        may.then(|| self.vacant()).flatten()
    }

    fn link(&mut self, found: usize, place: usize) {
        if let Some(flow) = &mut self.flows[found] {
            flow.beside = Some(place);
        }
    }

    fn append<S: Slot>(
        &mut self,
        frames: &mut [S],
        place: usize,
        arrival: &Arrival,
        candidate: &Candidate,
    ) {
        let Some(flow) = &mut self.flows[place] else {
            return;
        };
        self.tails[place * PACKETS_MAX + flow.count - 1] =
            arrival.piece.skip(arrival.l4.payload as u32);
        flow.append(candidate);
        if flow.complete {
            self.finish(frames, place);
        }
    }

    /// Writes a flow because a packet of it comes that cannot join and must not overtake it.
    pub(super) fn finish_flow<S: Slot>(&mut self, frames: &mut [S], arrival: &Arrival) {
        if let Some(place) = self.find(arrival) {
            self.finish_strands(frames, place);
        }
    }

    fn finish_strands<S: Slot>(&mut self, frames: &mut [S], place: usize) {
        let beside = self.flows[place].as_ref().and_then(|flow| flow.beside);
        self.finish(frames, place);
        if let Some(beside) = beside {
            self.finish(frames, beside);
        }
    }

    /// The same for a fragment, which may belong to any flow between its hosts.
    pub(super) fn finish_between_hosts<S: Slot>(&mut self, frames: &mut [S], fragment: &FlowKey) {
        for place in 0..FLOWS_MAX {
            let open = self.flows[place].as_ref();
            if open.is_some_and(|flow| flow.first.key.is_between_same_hosts(fragment)) {
                self.finish(frames, place);
            }
        }
    }

    /// Writes the strand at `place`, if there is one, after the one that lies before it.
    pub(super) fn finish<S: Slot>(&mut self, frames: &mut [S], place: usize) {
        let Some(flow) = self.flows[place].take() else {
            return;
        };
        self.digests[place] = 0;
        if let Some(beside) = flow.beside {
            self.let_go_first(frames, beside, &flow);
        }
        if flow.count == 1 {
            return self.write_single(frames, &flow.first);
        }
        let piece = flow.first.piece;
        let header = flow.seal(piece.of_mut(frames[usize::from(piece.slot)].whole_mut()));
        let tails = place * PACKETS_MAX;
        self.writes.push(header, flow.count, piece);
        self.writes
            .extend(&self.tails[tails..tails + flow.count - 1]);
    }

    /// Of two strands the earlier one goes first; a later one stands alone from now on.
    fn let_go_first<S: Slot>(&mut self, frames: &mut [S], beside: usize, flow: &Flow) {
        let Some(twin) = &mut self.flows[beside] else {
            return;
        };
        twin.beside = None;
        if twin.starts_before(flow) {
            self.finish(frames, beside);
        }
    }
}

/// The TCP options of a packet, none for UDP.
fn options<'a, S: Slot>(frames: &'a [S], arrival: &Arrival) -> &'a [u8] {
    let from = match arrival.l4.transport {
        Transport::Tcp => arrival.l4.start + tcp::HEADER_LEN,
        Transport::Udp => arrival.l4.payload,
    };
    &arrival
        .piece
        .of(frames[usize::from(arrival.piece.slot)].whole())[from..arrival.l4.payload]
}

/// Whether a receiver takes the options of `later` for no older than those of `earlier`.
fn stamped_in_order(earlier: &[u8], later: &[u8]) -> bool {
    let stamp = |options: &[u8]| {
        let only_that = options.len() == TIMESTAMP.len() + 8 && options.starts_with(&TIMESTAMP);
        only_that.then(|| be32(options, TIMESTAMP.len()))
    };
    match stamp(earlier).zip(stamp(later)) {
        Some((earlier, later)) => !is_before(later, earlier),
        None => earlier == later,
    }
}

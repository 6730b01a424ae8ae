//! Builds super-packets for the TUN out of consecutive inner packets of one flow.
//!
//! A write to the TUN costs the same for 64 bytes and for 64 KB, so this is where the speed of the inbound side
//! is made. Up to sixteen flows are open at a time; a flow is written when a packet closes it (shorter, PSH,
//! full), when a packet of the same flow cannot join (it goes after what was before it), when a seventeenth flow
//! shows up, and at the latest when the batch ends: merging never waits for anything.
//!
//! What goes in is what comes out: the kernel cuts a super-packet into exactly the packets it was made of, byte
//! for byte. Payload is never touched; the first packet's headers are rewritten where they lie and the payloads
//! of the others follow by reference.
//!
//! A packet joins others only after its checksum was verified, because behind a super-packet nobody looks at it
//! again. Packets that stay alone leave untouched and the kernel verifies them as always. The exception are
//! unfinished checksums: a kernel peer behind a veth leaves inner checksums to hardware that does not exist, the
//! field holds the pseudo-header sum, and the kernel (or we, without a virtio header) can finish it.

mod candidate;
mod flow;

use super::checksum::Sum;
use super::ip::{Fragment, IpInfo};
use super::l4::{L4, Transport, flag, tcp};
use super::split::{Splitter, finish_checksum};
use super::virtio::VirtioNetHdr;
use super::{Piece, Slot};
use candidate::{Candidate, FlowKey};
use flow::{Arrival, Flow, PACKETS_MAX, gso_type, unfinished_header};
use std::ops::Range;

/// Flows open at a time.
const FLOWS_MAX: usize = 16;
/// Writes of a batch; room for more is made once and kept.
const WRITES_EXPECTED: usize = 1024;

/// What may be merged.
#[derive(Clone, Copy, Debug)]
pub struct MergeConfig {
    /// The TUN takes a virtio header; without one nothing can be merged.
    pub vnet_header: bool,
    /// Merge TCP.
    pub tcp: bool,
    /// Merge UDP.
    pub udp: bool,
    /// Datagrams per write the kernel accepts; 128 at most.
    pub max_udp_segments: u16,
    /// MTU of the tunnel: longer packets with an unfinished checksum were never segmented.
    pub mtu: usize,
    /// Also merge unfragmentable IPv4 packets that all carry the same identification. Cut apart again they are
    /// numbered n, n + 1, ...: nobody may care (RFC 6864), but it is the one field that would not come back.
    pub constant_ids: bool,
}

/// One write to the TUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunWrite {
    /// The virtio header in front of it, where the TUN takes one.
    pub header: VirtioNetHdr,
    /// Inner packets it stands for.
    pub packets: u16,
    /// Length without the virtio header.
    pub bytes: u32,
    /// Its bytes: these of [`Merger::pieces`], in order, none empty.
    pub pieces: Range<u32>,
}

/// Why a packet cannot be written at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropWhy {
    /// Unsegmented UDP: where its datagrams end is lost.
    UnsegmentedUdp,
    /// Unsegmented TCP whose headers alone fill the MTU.
    HeadersExceedMtu,
}

/// Collects the packets of a batch, answers with the writes they make.
#[derive(Debug)]
pub struct Merger {
    config: MergeConfig,
    /// What to look for before looking at a flow; zero marks a free place.
    digests: [u32; FLOWS_MAX],
    flows: [Option<Flow>; FLOWS_MAX],
    /// Payloads after the first packet, [`PACKETS_MAX`] places per flow.
    tails: Vec<Piece>,
    writes: Vec<TunWrite>,
    pieces: Vec<Piece>,
    headers: Vec<u8>,
}

impl Merger {
    /// An empty merger; what it needs is allocated here.
    pub fn new(config: MergeConfig) -> Self {
        Self {
            config,
            digests: [0; FLOWS_MAX],
            flows: [None; FLOWS_MAX],
            tails: vec![Piece::default(); FLOWS_MAX * PACKETS_MAX],
            writes: Vec::with_capacity(WRITES_EXPECTED),
            pieces: Vec::with_capacity(2 * WRITES_EXPECTED),
            headers: Vec::with_capacity(64 * 1024),
        }
    }

    /// Takes the next packet of the batch. `packet` lies in `frames`, `info` is what [`IpInfo::parse`] said about
    /// its bytes, `peer` tells which node sent it. Frames stay as they are until [`Self::clear`].
    pub fn push<S: Slot>(
        &mut self,
        frames: &mut [S],
        packet: Piece,
        info: &IpInfo,
        peer: u32,
    ) -> Result<(), DropWhy> {
        let packet = Piece {
            len: info.total_len as u32,
            ..packet
        };
        let bytes = packet.of(frames[usize::from(packet.slot)].whole());
        let Some(l4) = L4::parse(bytes, info) else {
            if info.fragment != Fragment::None {
                let key = FlowKey::of_fragment(bytes, info, peer);
                self.finish_flows(frames, |flow| flow.first.key.is_between_same_hosts(&key));
            }
            self.write(VirtioNetHdr::default(), 1, packet);
            return Ok(());
        };
        let pseudo = l4.pseudo_header(bytes);
        let unfinished = l4.checksum_field(bytes) == pseudo.fold();
        let arrival = Arrival {
            key: FlowKey::of_flow(bytes, info, peer),
            piece: packet,
            l4,
            unfinished,
        };
        if unfinished && info.total_len > self.config.mtu {
            self.finish_flows(frames, |flow| flow.first.key == arrival.key);
            return self.write_unsegmented(frames, &arrival);
        }
        let verified = || unfinished || pseudo.plus(Sum::of(&bytes[l4.start..])).verifies();
        match Candidate::of(bytes, info, &l4).filter(|_| self.merges(l4.transport) && verified()) {
            Some(candidate) => self.join(frames, &arrival, &candidate),
            None => {
                self.finish_flows(frames, |flow| flow.first.key == arrival.key);
                self.write_single(frames, &arrival);
            }
        }
        Ok(())
    }

    /// Ends the batch: every open flow becomes a write.
    pub fn flush<S: Slot>(&mut self, frames: &mut [S]) {
        for place in 0..FLOWS_MAX {
            self.finish(frames, place);
        }
    }

    /// The writes made so far, in order.
    pub fn writes(&self) -> &[TunWrite] {
        &self.writes
    }

    /// The bytes the writes consist of.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Where pieces lie that have no frame ([`Piece::HEADERS`]).
    pub fn headers(&self) -> &[u8] {
        &self.headers
    }

    /// Forgets the batch, after its writes were made.
    pub fn clear(&mut self) {
        debug_assert_eq!(self.digests, [0; FLOWS_MAX], "a batch ends with flush");
        self.writes.clear();
        self.pieces.clear();
        self.headers.clear();
    }

    fn merges(&self, transport: Transport) -> bool {
        let wanted = match transport {
            Transport::Tcp => self.config.tcp,
            Transport::Udp => self.config.udp,
        };
        wanted && self.config.vnet_header
    }
}

/// Open flows.
impl Merger {
    /// Adds a packet to its flow, or closes that and opens it anew.
    fn join<S: Slot>(&mut self, frames: &mut [S], arrival: &Arrival, candidate: &Candidate) {
        let digest = arrival.key.digest();
        let place = match self.find(digest, &arrival.key) {
            Some(place) if self.continues(frames, place, arrival, candidate) => {
                return self.append(frames, place, arrival, candidate);
            }
            Some(place) => {
                self.finish(frames, place);
                place
            }
            None => self.free_place(frames),
        };
        let count_max = match arrival.l4.transport {
            Transport::Tcp => PACKETS_MAX,
            Transport::Udp => PACKETS_MAX.min(usize::from(self.config.max_udp_segments)),
        };
        let flow = Flow::new(*arrival, *candidate, count_max);
        self.digests[place] = digest;
        self.flows[place] = Some(flow);
        if flow.complete {
            self.finish(frames, place);
        }
    }

    fn find(&self, digest: u32, key: &FlowKey) -> Option<usize> {
        let is_it = |place: usize| {
            self.flows[place]
                .as_ref()
                .is_some_and(|flow| flow.first.key == *key)
        };
        (0..FLOWS_MAX).find(|place| self.digests[*place] == digest && is_it(*place))
    }

    /// A place for one more flow; when all are taken, all are written.
    fn free_place<S: Slot>(&mut self, frames: &mut [S]) -> usize {
        if let Some(place) = self.digests.iter().position(|digest| *digest == 0) {
            return place;
        }
        self.flush(frames);
        0
    }

    fn continues<S: Slot>(
        &self,
        frames: &[S],
        place: usize,
        arrival: &Arrival,
        candidate: &Candidate,
    ) -> bool {
        let Some(flow) = &self.flows[place] else {
            return false;
        };
        flow.continues_with(candidate, self.config.constant_ids)
            && options(frames, &flow.first) == options(frames, arrival)
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

    /// Writes the flows `which` chooses: what comes now must not overtake them.
    fn finish_flows<S: Slot>(&mut self, frames: &mut [S], which: impl Fn(&Flow) -> bool) {
        for place in 0..FLOWS_MAX {
            if self.flows[place].as_ref().is_some_and(&which) {
                self.finish(frames, place);
            }
        }
    }

    /// Writes the flow at `place`, if there is one.
    fn finish<S: Slot>(&mut self, frames: &mut [S], place: usize) {
        let Some(flow) = self.flows[place].take() else {
            return;
        };
        self.digests[place] = 0;
        if flow.count == 1 {
            return self.write_single(frames, &flow.first);
        }
        let piece = flow.first.piece;
        let header = flow.seal(piece.of_mut(frames[usize::from(piece.slot)].whole_mut()));
        let tail = place * PACKETS_MAX;
        self.write(header, flow.count, piece);
        self.extend_last(tail..tail + flow.count - 1, flow.len);
    }
}

fn options<'a, S: Slot>(frames: &'a [S], arrival: &Arrival) -> &'a [u8] {
    let from = match arrival.l4.transport {
        Transport::Tcp => arrival.l4.start + tcp::HEADER_LEN,
        Transport::Udp => arrival.l4.payload,
    };
    &arrival
        .piece
        .of(frames[usize::from(arrival.piece.slot)].whole())[from..arrival.l4.payload]
}

/// Writes.
impl Merger {
    /// Adds a write of one piece.
    fn write(&mut self, header: VirtioNetHdr, packets: usize, piece: Piece) {
        let at = self.pieces.len() as u32;
        self.pieces.push(piece);
        self.writes.push(TunWrite {
            header,
            packets: packets as u16,
            bytes: piece.len,
            pieces: at..at + 1,
        });
    }

    /// Appends tails to the last write, which then has `len` bytes.
    fn extend_last(&mut self, tails: Range<usize>, len: usize) {
        self.pieces.extend_from_slice(&self.tails[tails]);
        if let Some(write) = self.writes.last_mut() {
            write.bytes = len as u32;
            write.pieces.end = self.pieces.len() as u32;
        }
    }

    /// A packet that stayed alone goes as it came, at most with its checksum left to be finished by the kernel.
    fn write_single<S: Slot>(&mut self, frames: &mut [S], arrival: &Arrival) {
        let mut header = VirtioNetHdr::default();
        if arrival.unfinished {
            header = unfinished_header(&arrival.l4);
            if !self.config.vnet_header {
                let packet = arrival
                    .piece
                    .of_mut(frames[usize::from(arrival.piece.slot)].whole_mut());
                // The field lies inside the packet, L4 has seen to that; so this cannot be refused.
                let _ = finish_checksum(packet, &header);
            }
        }
        self.write(header, 1, arrival.piece);
    }

    /// A super-packet of a kernel peer whose device promised to segment it and did not.
    fn write_unsegmented<S: Slot>(
        &mut self,
        frames: &[S],
        arrival: &Arrival,
    ) -> Result<(), DropWhy> {
        let Arrival { piece, l4, .. } = arrival;
        if l4.transport == Transport::Udp {
            return Err(DropWhy::UnsegmentedUdp);
        }
        let gso_size = self.config.mtu.saturating_sub(l4.payload);
        if gso_size == 0 {
            return Err(DropWhy::HeadersExceedMtu);
        }
        let packet = piece.of(frames[usize::from(piece.slot)].whole());
        let ecn = if packet[l4.start + tcp::FLAGS] & flag::CWR != 0 {
            VirtioNetHdr::ECN
        } else {
            0
        };
        let header = VirtioNetHdr {
            gso_type: gso_type(l4) | ecn,
            gso_size: gso_size as u16,
            hdr_len: l4.payload as u16,
            ..unfinished_header(l4)
        };
        if self.merges(Transport::Tcp) {
            self.write(header, l4.payload_len().div_ceil(gso_size), *piece);
        } else if let Ok(splitter) = Splitter::new(packet, &header) {
            self.write_segments(packet, *piece, &splitter);
        }
        Ok(())
    }

    /// The same without help: headers into the slab, payload by reference.
    fn write_segments(&mut self, packet: &[u8], piece: Piece, splitter: &Splitter) {
        let header_len = splitter.header_len();
        for i in 0..splitter.segments() {
            let at = self.headers.len();
            self.headers.resize(at + header_len, 0);
            let payload = splitter.write_header(packet, i, &mut self.headers[at..]);
            self.write(
                VirtioNetHdr::default(),
                1,
                Piece {
                    slot: Piece::HEADERS,
                    start: at as u32,
                    len: header_len as u32,
                },
            );
            self.pieces.push(Piece {
                slot: piece.slot,
                start: piece.start + payload.start as u32,
                len: payload.len() as u32,
            });
            if let Some(write) = self.writes.last_mut() {
                write.pieces.end += 1;
                write.bytes += payload.len() as u32;
            }
        }
    }
}

//! Builds super-packets for the TUN out of consecutive inner packets of one flow.
//!
//! A write to the TUN costs the same for 64 bytes and for 64 KB, so this is where the speed of the
//! inbound side is made. Up to sixteen super-packets are open at a time; one is written when a
//! packet closes it (shorter, PSH, full), when a packet of the same flow cannot join (it goes after
//! what was before it), when there is no place for another flow, and at the latest when the batch
//! ends: merging never waits for anything. A TCP flow may have two open, because a sender that
//! transmits from two processors interleaves two stretches of its stream ([`open`]).
//!
//! What goes in is what comes out: the kernel cuts a super-packet into exactly the packets it was
//! made of, byte for byte. Payload is never touched; the first packet's headers are rewritten where
//! they lie and the payloads of the others follow by reference.
//!
//! A packet joins others only after its checksum was verified, because behind a super-packet nobody
//! looks at it again. Packets that stay alone leave untouched and the kernel verifies them as
//! always. The exception are unfinished checksums: a kernel peer behind a veth leaves inner
//! checksums to hardware that does not exist, the field holds the pseudo-header sum, and the kernel
//! (or we, without a virtio header) can finish it.

mod candidate;
mod flow;
mod open;
mod writes;

pub use writes::TunWrite;

use super::checksum::Sum;
use super::ip::{Fragment, IpInfo};
use super::l4::{L4, Transport, flag, tcp};
use super::split::{Splitter, finish_checksum};
use super::unmerge::HEADER_MAX;
use super::virtio::VirtioNetHdr;
use super::{Piece, Slot};
use candidate::{Candidate, FlowKey};
use flow::{Arrival, Flow, PACKETS_MAX, gso_type, unfinished_header};
use writes::Writes;

/// Flows open at a time.
const FLOWS_MAX: usize = 16;

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
    /// Also merge unfragmentable IPv4 datagrams that all carry the same identification, as UDP
    /// sockets without a fixed peer send them. Cut apart again they are numbered n, n + 1, ...:
    /// nobody may care (RFC 6864) and the kernel's GRO does the same, but it is the one field that
    /// does not come back. TCP with constant identifications is never merged: the kernel keeps
    /// those, and a TUN has no way to say so.
    pub constant_ids: bool,
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
    writes: Writes,
    unsegmented: usize,
}

impl Merger {
    /// An empty merger; what it needs is allocated here.
    pub fn new(config: MergeConfig) -> Self {
        Self {
            config,
            digests: [0; FLOWS_MAX],
            flows: [None; FLOWS_MAX],
            tails: vec![Piece::default(); FLOWS_MAX * PACKETS_MAX],
            writes: Writes::new(),
            unsegmented: 0,
        }
    }

    /// Takes the next packet of the batch. `packet` lies in `frames`, `info` is what
    /// [`IpInfo::parse`] said about its bytes, `peer` tells which node sent it. Frames stay as they
    /// are until [`Self::clear`].
    pub fn push<S: Slot>(
        &mut self,
        frames: &mut [S],
        packet: Piece,
        info: &IpInfo,
        peer: u32,
    ) -> Result<(), DropWhy> {
        let piece = Piece {
            len: info.total_len as u32,
            ..packet
        };
        let bytes = piece.of(frames[usize::from(piece.slot)].whole());
        let Some(l4) = L4::parse(bytes, info) else {
            let fragment_of = FlowKey::of_fragment(bytes, info, peer);
            if info.fragment != Fragment::None {
                self.finish_between_hosts(frames, &fragment_of);
            }
            self.writes.push(VirtioNetHdr::default(), 1, piece);
            return Ok(());
        };
        let pseudo = l4.pseudo_header(bytes);
        let unfinished = l4.checksum_field(bytes) == pseudo.fold();
        let key = FlowKey::of_flow(bytes, info, peer);
        let arrival = Arrival {
            key,
            digest: key.digest(),
            piece,
            l4,
            unfinished,
        };
        let verified = || unfinished || pseudo.plus(Sum::of(&bytes[l4.start..])).verifies();
        let mergeable = || Candidate::of(bytes, info, &l4).filter(|_| verified());
        if unfinished && info.total_len > self.config.mtu {
            self.finish_flow(frames, &arrival);
            return self.write_unsegmented(frames, &arrival);
        }
        match self.merges(l4.transport).then(mergeable).flatten() {
            Some(candidate) => self.join(frames, &arrival, &candidate),
            None => {
                self.finish_flow(frames, &arrival);
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
        &self.writes.list
    }

    /// The bytes the writes consist of.
    pub fn pieces(&self) -> &[Piece] {
        &self.writes.pieces
    }

    /// Where pieces lie that have no frame ([`Piece::HEADERS`]).
    pub fn headers(&self) -> &[u8] {
        &self.writes.headers
    }

    /// How many packets came in as part of another, in frames that nobody had segmented.
    pub fn unsegmented(&self) -> usize {
        self.unsegmented
    }

    /// Forgets the batch, after its writes were made.
    pub fn clear(&mut self) {
        debug_assert_eq!(self.digests, [0; FLOWS_MAX], "a batch ends with flush");
        self.writes.clear();
        self.unsegmented = 0;
    }

    /// Joins no packets of this kind any more; tells whether it did so far.
    pub fn give_up(&mut self, transport: Transport) -> bool {
        let wanted = match transport {
            Transport::Tcp => &mut self.config.tcp,
            Transport::Udp => &mut self.config.udp,
        };
        std::mem::take(wanted)
    }

    fn merges(&self, transport: Transport) -> bool {
        let wanted = match transport {
            Transport::Tcp => self.config.tcp,
            Transport::Udp => self.config.udp,
        };
        wanted && self.config.vnet_header
    }
}

/// What is written.
impl Merger {
    /// A packet that stayed alone goes as it came, at most with its checksum left to be finished by
    /// the kernel.
    fn write_single<S: Slot>(&mut self, frames: &mut [S], arrival: &Arrival) {
        let Arrival {
            piece,
            l4,
            unfinished,
            ..
        } = arrival;
        let mut header = VirtioNetHdr::default();
        if *unfinished && self.config.vnet_header {
            header = unfinished_header(l4);
        } else if *unfinished {
            let packet = piece.of_mut(frames[usize::from(piece.slot)].whole_mut());
            // Refused only if the field lies outside the packet, and L4 has seen that it does not.
            let _ = finish_checksum(packet, &unfinished_header(l4));
        }
        self.writes.push(header, 1, *piece);
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
        let header = unsegmented_header(packet, l4, gso_size as u16);
        let segments = l4.payload_len().div_ceil(gso_size);
        // A write must come apart again should the kernel refuse it.
        if self.merges(Transport::Tcp) && l4.payload <= HEADER_MAX {
            self.writes.push(header, segments, *piece);
        } else {
            let splitter = Splitter::new(packet, &header).map_err(|_| DropWhy::HeadersExceedMtu)?;
            self.writes.push_segments(packet, *piece, &splitter);
        }
        self.unsegmented += segments - 1;
        Ok(())
    }
}

fn unsegmented_header(packet: &[u8], l4: &L4, gso_size: u16) -> VirtioNetHdr {
    let reduced = packet[l4.start + tcp::FLAGS] & flag::CWR != 0;
    let ecn = if reduced { VirtioNetHdr::ECN } else { 0 };
    VirtioNetHdr {
        gso_type: gso_type(l4) | ecn,
        gso_size,
        hdr_len: l4.payload as u16,
        ..unfinished_header(l4)
    }
}

#[cfg(test)]
mod tests;

//! A super-packet in the making: its first packet, and what the next one has to look like.

use super::candidate::{Candidate, FlowKey};
use crate::wire::checksum::{Sum, replace_word};
use crate::wire::l4::{L4, Transport, flag, tcp, udp};
use crate::wire::virtio::VirtioNetHdr;
use crate::wire::{Family, Piece, put16};

/// Packets per super-packet.
pub(super) const PACKETS_MAX: usize = 128;
/// Bytes per super-packet, headers included: what an IPv4 header can say.
const LEN_MAX: usize = 65_535;

/// A TCP or UDP packet on its way in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) key: FlowKey,
    /// That of the key.
    pub(super) digest: u32,
    pub(super) piece: Piece,
    pub(super) l4: L4,
    /// Its checksum field holds no more than the pseudo-header sum.
    pub(super) unfinished: bool,
}

/// What is known about an open flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) first: Arrival,
    /// The first packet as the others are compared to it.
    like: Candidate,
    pub(super) count: usize,
    count_max: usize,
    /// Length of the whole super-packet so far.
    pub(super) len: usize,
    /// By how much the IPv4 identification grows from packet to packet.
    id_step: u16,
    seq_next: u32,
    push: bool,
    /// Nothing can follow the last packet taken.
    pub(super) complete: bool,
    /// Where the other strand of the same flow is.
    pub(super) beside: Option<usize>,
}

/// On which side of an open strand another stretch of the stream lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Earlier,
    Later,
}

/// Whether one sequence number or timestamp comes before another; both wrap around.
pub(super) fn is_before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

impl Flow {
    /// A flow of one packet.
    pub(super) fn new(first: Arrival, like: Candidate, count_max: usize) -> Self {
        Self {
            first,
            like,
            count: 1,
            count_max,
            len: first.piece.len as usize,
            id_step: u16::from(first.l4.family == Family::V4),
            seq_next: like.seq_after,
            push: like.push,
            complete: like.push || count_max <= 1,
            beside: None,
        }
    }

    /// Whether the headers of a packet continue this flow. TCP options are not looked at.
    pub(super) fn continues_with(&self, next: &Candidate, constant_ids: bool) -> bool {
        next.shape == self.like.shape
            && next.seq == self.seq_next
            && next.payload_len <= self.like.payload_len
            && self.len + usize::from(next.payload_len) <= LEN_MAX
            && self.id_fits(next, constant_ids)
    }

    fn id_fits(&self, next: &Candidate, constant_ids: bool) -> bool {
        let repeated = constant_ids && next.dont_fragment && next.id == self.like.id;
        next.id
            == self
                .like
                .id
                .wrapping_add(self.id_step.wrapping_mul(self.count as u16))
            || self.count == 1 && repeated
    }

    /// Where a packet lies that has all in common with this flow but its place in the stream. `None`
    /// if it follows at once, as all UDP does, or overlaps.
    pub(super) fn side_of(&self, other: &Candidate) -> Option<Side> {
        if other.shape != self.like.shape || other.seq == self.seq_next {
            return None;
        }
        if !is_before(other.seq, self.seq_next) {
            return Some(Side::Later);
        }
        (!is_before(self.like.seq, other.seq_after)).then_some(Side::Earlier)
    }

    /// Whether this strand begins earlier in the stream than another.
    pub(super) fn starts_before(&self, other: &Self) -> bool {
        is_before(self.like.seq, other.like.seq)
    }

    /// Whether `other` would reach into this strand with one more packet.
    pub(super) fn would_overlap(&self, other: &Self, next: &Candidate) -> bool {
        other.starts_before(self) && is_before(self.like.seq, next.seq_after)
    }

    /// Takes over a packet that continues the flow.
    pub(super) fn append(&mut self, next: &Candidate) {
        if self.count == 1 && next.id == self.like.id {
            self.id_step = 0;
        }
        self.count += 1;
        self.len += usize::from(next.payload_len);
        self.seq_next = next.seq_after;
        self.push |= next.push;
        self.complete =
            next.push || next.payload_len < self.like.payload_len || self.count == self.count_max;
    }

    /// Makes the first packet's headers those of the super-packet; answers with its virtio header.
    pub(super) fn seal(&self, packet: &mut [u8]) -> VirtioNetHdr {
        let l4 = L4 {
            end: self.len,
            ..self.first.l4
        };
        match l4.family {
            Family::V4 => replace_word(packet, 10, 2, self.len as u16),
            Family::V6 => put16(packet, 4, (self.len - l4.start) as u16),
        }
        match l4.transport {
            Transport::Tcp if self.push => packet[l4.start + tcp::FLAGS] |= flag::PSH,
            Transport::Tcp => {}
            Transport::Udp => put16(packet, l4.start + udp::LEN, (self.len - l4.start) as u16),
        }
        let sum: Sum = l4.pseudo_header(packet);
        put16(packet, l4.checksum_at(), sum.fold());
        VirtioNetHdr {
            gso_type: gso_type(&l4),
            gso_size: self.like.payload_len,
            hdr_len: l4.payload as u16,
            ..unfinished_header(&l4)
        }
    }
}

/// How the kernel is told to segment.
pub(super) fn gso_type(l4: &L4) -> u8 {
    match (l4.transport, l4.family) {
        (Transport::Tcp, Family::V4) => VirtioNetHdr::GSO_TCPV4,
        (Transport::Tcp, Family::V6) => VirtioNetHdr::GSO_TCPV6,
        (Transport::Udp, _) => VirtioNetHdr::GSO_UDP_L4,
    }
}

/// The virtio header of a packet whose checksum the kernel has to finish.
pub(super) fn unfinished_header(l4: &L4) -> VirtioNetHdr {
    VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        csum_start: l4.start as u16,
        csum_offset: l4.transport.checksum_offset() as u16,
        ..Default::default()
    }
}

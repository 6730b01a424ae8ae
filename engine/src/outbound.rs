//! TUN -> underlay. In packet order:
//!
//! 1. read a batch of packets and super-packets;
//! 2. for each: check it, find its next hop, lower the hop limit (UDP form), see that it fits;
//! 3. wrap it: in its headroom, or, a super-packet, segment by segment with headers in the slab;
//! 4. send the plan, give the frames back;
//! 5. write the ICMP answers to packets that were not carried.
//!
//! Payload is never copied: a datagram in the plan is a header piece and a payload piece.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ringbuf::Frame;

use crate::answers::Answers;
use crate::io::underlay::{Batch, Underlay};
use crate::io::{PacketIo, TunBatch};
use crate::plan::{RunKey, SendPlan};
use crate::stats::{Counter, DropReason, WorkerStats};
use crate::table::{Hop, PeerForm, SubnetTable};
use crate::wire::icmp::Answer;
use crate::wire::ip::{self, IpInfo};
use crate::wire::split::{self, Splitter};
use crate::wire::virtio::VirtioNetHdr;
use crate::wire::{Family, Mac, Piece, ecn, vxlan};

/// What becomes of one packet.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// It is in the plan.
    Forward,
    /// It is not carried, and its sender is told.
    Bounce(Answer, DropReason),
    /// It is not carried.
    Drop(DropReason),
}

/// Own addresses of the VXLAN form, as the encapsulation needs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VxlanIdentity {
    pub(crate) vni: u32,
    pub(crate) mac: Mac,
}

/// The outward half of a worker.
#[derive(Debug)]
pub(crate) struct Outbound<'a> {
    batch: TunBatch<'a>,
    plan: SendPlan,
    answers: Answers,
    vxlan: VxlanIdentity,
    mtu: usize,
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pass {
    /// Packets, super-packets counted once.
    pub(crate) packets: usize,
    /// Nothing more to read now.
    pub(crate) dry: bool,
}

impl<'a> Outbound<'a> {
    pub(crate) fn new(answers: Answers, vxlan: VxlanIdentity, mtu: u16) -> Self {
        let (batch, plan) = (TunBatch::new(), SendPlan::new());
        Self {
            batch,
            plan,
            answers,
            vxlan,
            mtu: mtu.into(),
        }
    }

    /// One batch from the TUN to the underlay.
    pub(crate) fn pass<I: PacketIo<'a>>(
        &mut self,
        io: &mut I,
        table: &SubnetTable,
        stats: &WorkerStats,
        now: Duration,
    ) -> io::Result<Pass> {
        let dry = io.read_tun(&mut self.batch)?;
        let packets = self.batch.frames.len();
        if packets == 0 {
            return Ok(Pass { packets, dry });
        }
        stats.add(Counter::TunReads, packets as u64);
        self.answers.start(now);
        for slot in 0..packets {
            self.packet(slot, io.underlay(), table, stats);
        }
        self.send(io.underlay(), table, stats);
        io.release(&mut self.batch);
        self.answers.write(io, stats);
        Ok(Pass { packets, dry })
    }

    fn packet(
        &mut self,
        slot: usize,
        underlay: &mut Underlay,
        table: &SubnetTable,
        stats: &WorkerStats,
    ) {
        let header = self.batch.headers[slot];
        let count = split::packets_in(self.batch.frames[slot].bytes(), &header) as u64;
        stats.add(Counter::FromTun, count);
        match self.decide(slot, &header, underlay, table, stats) {
            Verdict::Forward => {}
            Verdict::Drop(reason) => stats.drop(reason, count),
            Verdict::Bounce(answer, reason) => {
                stats.drop(reason, count);
                self.answers
                    .add(self.batch.frames[slot].bytes(), answer, stats);
            }
        }
    }

    fn decide(
        &mut self,
        slot: usize,
        header: &VirtioNetHdr,
        underlay: &mut Underlay,
        table: &SubnetTable,
        stats: &WorkerStats,
    ) -> Verdict {
        let frame = &mut self.batch.frames[slot];
        let Ok(info) = IpInfo::parse(frame.bytes()) else {
            return Verdict::Drop(DropReason::OutMalformed);
        };
        frame.truncate(info.total_len);
        let Some(index) = next_hop(frame.bytes(), info.family, table) else {
            return no_route(frame.bytes(), info.family);
        };
        let hop = table.hop(index);
        if matches!(hop.peer.form, PeerForm::Udp) {
            if info.ttl <= 1 {
                return Verdict::Bounce(Answer::TimeExceeded, DropReason::OutTtl);
            }
            ip::lower_ttl(frame.bytes_mut(), &info);
        }
        let flow = ip::flow_hash(frame.bytes(), &info);
        let Some(socket) = underlay.socket_for(&hop.peer.form, hop.peer.address, flow) else {
            return Verdict::Drop(DropReason::OutNoSocket);
        };
        let key = RunKey {
            hop: index,
            socket,
            tos: ecn::outer_for(info.ecn),
        };
        if header.gso() != VirtioNetHdr::GSO_NONE {
            self.wrap_segments(slot, header, &info, key, underlay, table, stats)
        } else {
            self.wrap_single(slot, header, &info, key, hop, underlay)
        }
    }

    /// A packet that leaves as one datagram.
    fn wrap_single(
        &mut self,
        slot: usize,
        header: &VirtioNetHdr,
        info: &IpInfo,
        key: RunKey,
        hop: &Hop,
        underlay: &Underlay,
    ) -> Verdict {
        let frame = &mut self.batch.frames[slot];
        if header.needs_csum() && split::finish_checksum(frame.bytes_mut(), header).is_err() {
            return Verdict::Drop(DropReason::OutOffload);
        }
        let mtu = self.mtu_to(hop);
        let frame = &mut self.batch.frames[slot];
        let fits = info.total_len <= mtu;
        if !fits && must_not_fragment(info) {
            return Verdict::Bounce(Answer::TooBig { mtu: mtu as u32 }, DropReason::OutTooBig);
        }
        push_encapsulation(frame, hop, self.vxlan, info.family);
        let (start, len) = (frame.start() as u32, frame.len() as u32);
        let head = Piece {
            slot: slot as u16,
            start,
            len,
        };
        // What the kernel will fragment cannot be part of a segmented send.
        let limit = if fits {
            underlay.socket(key.socket.into()).segments_max
        } else {
            1
        };
        self.plan.push(key, head, Piece::default(), limit);
        Verdict::Forward
    }

    /// A super-packet: one datagram a segment, payload by reference.
    #[allow(
        clippy::too_many_arguments,
        reason = "the plan may have to be sent in the middle"
    )]
    fn wrap_segments(
        &mut self,
        slot: usize,
        header: &VirtioNetHdr,
        info: &IpInfo,
        key: RunKey,
        underlay: &mut Underlay,
        table: &SubnetTable,
        stats: &WorkerStats,
    ) -> Verdict {
        let hop = table.hop(key.hop);
        let Ok(splitter) = Splitter::new(self.batch.frames[slot].bytes(), header) else {
            return Verdict::Drop(DropReason::OutOffload);
        };
        let mtu = self.mtu_to(hop);
        if splitter.segment_len_max() > mtu && must_not_fragment(info) {
            return Verdict::Bounce(Answer::TooBig { mtu: mtu as u32 }, DropReason::OutTooBig);
        }
        let outer = encapsulation_len(hop);
        let need = outer + splitter.header_len();
        for index in 0..splitter.segments() {
            if !self.plan.has_room(need) {
                self.send(underlay, table, stats);
            }
            let frame = &self.batch.frames[slot];
            let (head, bytes) = self.plan.header(need);
            write_encapsulation(bytes, hop, self.vxlan, info.family);
            let payload = splitter.write_header(frame.bytes(), index, &mut bytes[outer..]);
            let start = (frame.start() + payload.start) as u32;
            let tail = Piece {
                slot: slot as u16,
                start,
                len: payload.len() as u32,
            };
            let fits = splitter.segment_len_max() <= mtu;
            let limit = if fits {
                underlay.socket(key.socket.into()).segments_max
            } else {
                1
            };
            self.plan.push(key, head, tail, limit);
        }
        Verdict::Forward
    }

    fn mtu_to(&self, hop: &Hop) -> usize {
        hop.peer
            .mtu
            .map_or(self.mtu, |mtu| self.mtu.min(mtu.into()))
    }

    fn send(&mut self, underlay: &mut Underlay, table: &SubnetTable, stats: &WorkerStats) {
        let batch = Batch {
            plan: &self.plan,
            frames: &self.batch.frames,
            table,
            stats,
        };
        underlay.send(&batch);
        stats.add(Counter::CopiedBytes, self.plan.headers_used() as u64);
        self.plan.clear();
    }
}

fn next_hop(packet: &[u8], family: Family, table: &SubnetTable) -> Option<u32> {
    match family {
        Family::V4 => table.lookup_v4(ip::destination_v4(packet)),
        Family::V6 => table.lookup_v6(ip::destination_v6(packet)),
    }
}

/// Nobody is told about multicast and the like: the kernel sends them unasked on any device.
fn no_route(packet: &[u8], family: Family) -> Verdict {
    if is_global(ip::destination(packet, family)) {
        Verdict::Bounce(Answer::NetUnreachable, DropReason::OutNoRoute)
    } else {
        Verdict::Drop(DropReason::OutNotUnicast)
    }
}

fn is_global(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(v4) => {
            !(v4.is_multicast() || v4.is_broadcast() || v4.is_link_local() || v4.is_unspecified())
        }
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unicast_link_local() || v6.is_unspecified()),
    }
}

fn must_not_fragment(info: &IpInfo) -> bool {
    info.family == Family::V6 || info.dont_fragment
}

fn encapsulation_len(hop: &Hop) -> usize {
    match hop.peer.form {
        PeerForm::Udp => 0,
        PeerForm::Vxlan { .. } => vxlan::OVERHEAD,
    }
}

fn push_encapsulation(frame: &mut Frame<'_>, hop: &Hop, own: VxlanIdentity, family: Family) {
    let outer = encapsulation_len(hop);
    if outer > 0 {
        write_encapsulation(frame.push_front(outer), hop, own, family);
    }
}

fn write_encapsulation(out: &mut [u8], hop: &Hop, own: VxlanIdentity, family: Family) {
    if let PeerForm::Vxlan { mac } = hop.peer.form
        && let Some(out) = out.first_chunk_mut::<{ vxlan::OVERHEAD }>()
    {
        vxlan::write_header(out, own.vni, mac, own.mac, family);
    }
}

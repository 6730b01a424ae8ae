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

use crate::answers::Answers;
use crate::io::underlay::{Batch, Underlay};
use crate::io::{PacketIo, TunBatch};
use crate::paths::{Path, Paths};
use crate::plan::{RunKey, SendPlan};
use crate::stats::{Counter, DropReason, Measure, WorkerStats};
use crate::table::{Hop, PeerForm, SubnetTable};
use crate::wire::icmp::Answer;
use crate::wire::ip::{self, IpInfo};
use crate::wire::split::{self, Splitter};
use crate::wire::virtio::VirtioNetHdr;
use crate::wire::{Family, Mac, Piece, ecn, vxlan};

/// Why a packet is not carried, and what its sender is told.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    reason: DropReason,
    answer: Option<Answer>,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self {
            reason,
            answer: None,
        }
    }
}

impl Refusal {
    fn told(answer: Answer, reason: DropReason) -> Self {
        Self {
            reason,
            answer: Some(answer),
        }
    }
}

/// A packet that may go, and all that wrapping it needs to know.
#[derive(Clone, Copy, Debug)]
struct Admitted<'t> {
    slot: u16,
    header: VirtioNetHdr,
    info: IpInfo,
    hop: &'t Hop,
    key: RunKey,
    path: Path,
    /// Datagrams a message may carry there.
    segments_max: u16,
}

/// What a batch is carried by.
struct Carrier<'s> {
    underlay: &'s mut Underlay,
    table: &'s SubnetTable,
    stats: &'s WorkerStats,
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
    paths: Paths,
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
            paths: Paths::new(mtu),
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
        stats.measure(Measure::OutBatch, packets as u64);
        self.answers.start(now);
        self.paths.start(table, stats.worker, now);
        let mut carrier = Carrier {
            underlay: io.underlay(),
            table,
            stats,
        };
        for slot in 0..packets {
            self.packet(slot, &mut carrier);
        }
        self.send(&mut carrier);
        io.release(&mut self.batch);
        self.answers.write(io, stats);
        Ok(Pass { packets, dry })
    }

    fn packet(&mut self, slot: usize, carrier: &mut Carrier<'_>) {
        let header = self.batch.headers[slot];
        let count = split::packets_in(self.batch.frames[slot].bytes(), &header) as u64;
        carrier.stats.add(Counter::FromTun, count);
        let refusal = match self.admit(slot, carrier) {
            Ok(packet) if header.gso() == VirtioNetHdr::GSO_NONE => {
                self.wrap_single(&packet, carrier.stats)
            }
            Ok(packet) => self.wrap_segments(&packet, carrier),
            Err(refusal) => Some(refusal),
        };
        if let Some(Refusal { reason, answer }) = refusal {
            let packet = self.batch.frames[slot].bytes();
            carrier.stats.show(reason, packet, None);
            carrier.stats.drop(reason, count);
            if let Some(answer) = answer {
                self.answers
                    .add(self.batch.frames[slot].bytes(), answer, carrier.stats);
            }
        }
    }

    /// Step 2, up to the size, which depends on how the packet is wrapped.
    fn admit<'t>(&mut self, slot: usize, carrier: &Carrier<'t>) -> Result<Admitted<'t>, Refusal> {
        let frame = &mut self.batch.frames[slot];
        let Ok(info) = IpInfo::parse(frame.bytes()) else {
            return Err(DropReason::OutMalformed.into());
        };
        frame.truncate(info.total_len);
        let Some(index) = next_hop(frame.bytes(), info.family, carrier.table) else {
            return Err(no_route(frame.bytes(), info.family));
        };
        let hop = carrier.table.hop(index);
        if matches!(hop.peer.form, PeerForm::Udp) {
            if info.ttl <= 1 {
                return Err(Refusal::told(Answer::TimeExceeded, DropReason::OutTtl));
            }
            ip::lower_ttl(frame.bytes_mut(), &info);
        }
        let flow = ip::flow_hash(frame.bytes(), &info);
        let Some(socket) = carrier
            .underlay
            .socket_for(&hop.peer.form, hop.peer.address, flow)
        else {
            return Err(DropReason::OutNoSocket.into());
        };
        Ok(Admitted {
            slot: slot as u16,
            header: self.batch.headers[slot],
            info,
            hop,
            key: RunKey {
                hop: index,
                socket,
                tos: ecn::outer_for(info.ecn),
            },
            path: self
                .paths
                .to(index, info.total_len, carrier.table, carrier.underlay),
            segments_max: carrier.underlay.socket(socket.into()).segments_max,
        })
    }

    /// Step 3 for a packet that leaves as one datagram; its headroom takes the outer headers.
    fn wrap_single(&mut self, packet: &Admitted<'_>, stats: &WorkerStats) -> Option<Refusal> {
        let Admitted {
            slot,
            header,
            info,
            hop,
            key,
            ..
        } = *packet;
        let passage = match packet.passage(info.total_len) {
            Ok(passage) => passage,
            Err(refusal) => return Some(refusal),
        };
        let frame = &mut self.batch.frames[usize::from(slot)];
        if let Some(answer) = passage.tell {
            self.answers.add(frame.bytes(), answer, stats);
        }
        if header.needs_csum() && split::finish_checksum(frame.bytes_mut(), &header).is_err() {
            return Some(DropReason::OutOffload.into());
        }
        let outer = hop.overhead();
        if outer > 0 {
            write_encapsulation(frame.push_front(outer), hop, self.vxlan, info.family);
        }
        let head = Piece {
            slot,
            start: frame.start() as u32,
            len: frame.len() as u32,
        };
        self.plan
            .push(key, head, Piece::default(), passage.datagrams);
        None
    }

    /// Step 3 for a super-packet: headers in the slab, payload by reference.
    fn wrap_segments(
        &mut self,
        packet: &Admitted<'_>,
        carrier: &mut Carrier<'_>,
    ) -> Option<Refusal> {
        let Admitted {
            slot,
            header,
            info,
            hop,
            key,
            ..
        } = *packet;
        let index = usize::from(slot);
        let Ok(splitter) = Splitter::new(self.batch.frames[index].bytes(), &header) else {
            return Some(DropReason::OutOffload.into());
        };
        let passage = match packet.passage(splitter.segment_len_max()) {
            Ok(passage) => passage,
            Err(refusal) => return Some(refusal),
        };
        if let Some(answer) = passage.tell {
            let bytes = self.batch.frames[index].bytes();
            self.answers.add(bytes, answer, carrier.stats);
        }
        let outer = hop.overhead();
        let need = outer + splitter.header_len();
        for segment in 0..splitter.segments() {
            if !self.plan.has_room(need) {
                self.send(carrier);
            }
            let frame = &self.batch.frames[index];
            let (head, bytes) = self.plan.header(need);
            write_encapsulation(bytes, hop, self.vxlan, info.family);
            let payload = splitter.write_header(frame.bytes(), segment, &mut bytes[outer..]);
            let start = (frame.start() + payload.start) as u32;
            let tail = Piece {
                slot,
                start,
                len: payload.len() as u32,
            };
            self.plan.push(key, head, tail, passage.datagrams);
        }
        None
    }

    fn send(&mut self, carrier: &mut Carrier<'_>) {
        let Carrier { table, stats, .. } = *carrier;
        let batch = Batch {
            plan: &self.plan,
            frames: &self.batch.frames,
            table,
            stats,
        };
        if carrier.underlay.send(&batch) {
            self.paths.doubt();
        }
        stats.add(Counter::CopiedBytes, self.plan.headers_used() as u64);
        self.plan.clear();
    }
}

/// How a packet may go.
#[derive(Clone, Copy, Debug)]
struct Passage {
    /// So many datagrams of its length in one message.
    datagrams: u16,
    /// What its sender should know.
    tell: Option<Answer>,
}

impl Admitted<'_> {
    /// How inner packets of this length may go. What does not get there in one piece goes alone,
    /// for the kernel to fragment, and who would rather send less is told how much is whole; what
    /// is longer than the tunnel carries goes only if its sender allows fragments.
    fn passage(&self, inner_len: usize) -> Result<Passage, Refusal> {
        let Path { limit, whole, .. } = self.path;
        if inner_len <= whole.into() {
            return Ok(Passage {
                datagrams: self.segments_max,
                tell: None,
            });
        }
        let unfragmented = self.info.family == Family::V6 || self.info.dont_fragment;
        let tell = unfragmented.then_some(Answer::TooBig { mtu: whole.into() });
        match tell {
            Some(answer) if inner_len > limit.into() => {
                Err(Refusal::told(answer, DropReason::OutTooBig))
            }
            tell => Ok(Passage { datagrams: 1, tell }),
        }
    }
}

fn next_hop(packet: &[u8], family: Family, table: &SubnetTable) -> Option<u32> {
    match family {
        Family::V4 => table.lookup_v4(ip::destination_v4(packet)),
        Family::V6 => table.lookup_v6(ip::destination_v6(packet)),
    }
}

/// Nobody is told about multicast and the like: the kernel sends them unasked on any device.
fn no_route(packet: &[u8], family: Family) -> Refusal {
    if is_global(ip::destination(packet, family)) {
        Refusal::told(Answer::NetUnreachable, DropReason::OutNoRoute)
    } else {
        DropReason::OutNotUnicast.into()
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

fn write_encapsulation(out: &mut [u8], hop: &Hop, own: VxlanIdentity, family: Family) {
    if let PeerForm::Vxlan { mac } = hop.peer.form
        && let Some(out) = out.first_chunk_mut::<{ vxlan::OVERHEAD }>()
    {
        vxlan::write_header(out, own.vni, mac, own.mac, family);
    }
}

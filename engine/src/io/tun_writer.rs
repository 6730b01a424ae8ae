//! Gathering the pieces of TUN writes, and writing them one by one.

use std::io;

use crate::stats::{Counter, DropReason, WorkerStats};
use crate::sys::gather::GatherArrays;
use crate::sys::tun::TunQueue;
use crate::wire::l4::Transport;
use crate::wire::merge::TunWrite;
use crate::wire::unmerge::{self, HEADER_MAX, Part};
use crate::wire::virtio::VirtioNetHdr;
use crate::wire::{Piece, Slot};

/// Parts of one write at most: a virtio header, a first packet and the payloads of 127 others.
pub(crate) const PARTS_MAX: usize = 129;

/// Packets ready to be written, by reference.
#[derive(Debug)]
pub(crate) struct Outgoing<'p, S> {
    pub(crate) writes: &'p [TunWrite],
    pub(crate) pieces: &'p [Piece],
    pub(crate) headers: &'p [u8],
    pub(crate) frames: &'p [S],
}

impl<'p, S: Slot> Outgoing<'p, S> {
    /// The bytes a piece stands for.
    pub(crate) fn bytes(&self, piece: &Piece) -> &'p [u8] {
        let range = piece.start as usize..(piece.start + piece.len) as usize;
        match piece.slot {
            Piece::HEADERS => &self.headers[range],
            slot => &self.frames[slot as usize].whole()[range],
        }
    }

    pub(crate) fn pieces_of(&self, write: &TunWrite) -> &'p [Piece] {
        &self.pieces[write.pieces.start as usize..write.pieces.end as usize]
    }

    /// The first piece of a write: its headers, and the payload of its first packet.
    fn first_of(&self, write: &TunWrite) -> &'p [u8] {
        self.pieces_of(write)
            .first()
            .map_or(&[], |piece| self.bytes(piece))
    }

    /// The payloads of the packets a super-packet stands for: one piece each where we merged it,
    /// parts of one piece where it came in unsegmented.
    fn payloads_of(&self, write: &TunWrite) -> impl Iterator<Item = &'p [u8]> {
        let first = self.first_of(write);
        let header_len = usize::from(write.header.hdr_len).min(first.len());
        let rest = self
            .pieces_of(write)
            .iter()
            .skip(1)
            .map(|piece| self.bytes(piece));
        let segment = usize::from(write.header.gso_size).max(1);
        std::iter::once(&first[header_len..])
            .chain(rest)
            .flat_map(move |payload| payload.chunks(segment))
    }
}

/// So many super-packets of one kind refused in a row, and none is worth another try.
const REFUSALS_MAX: u32 = 16;

/// How super-packets fared of late, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refusals {
    tcp: u32,
    udp: u32,
}

impl Refusals {
    /// The kinds that the kernel will not take.
    pub(crate) fn hopeless(self) -> impl Iterator<Item = Transport> {
        let counted = [(Transport::Tcp, self.tcp), (Transport::Udp, self.udp)];
        let hopeless = counted
            .into_iter()
            .filter(|(_, count)| *count >= REFUSALS_MAX);
        hopeless.map(|(transport, _)| transport)
    }

    /// Notes what became of a write.
    pub(crate) fn note(&mut self, write: &TunWrite, refused: bool) {
        let count = match write.header.gso() {
            VirtioNetHdr::GSO_NONE => return,
            VirtioNetHdr::GSO_UDP_L4 => &mut self.udp,
            _ => &mut self.tcp,
        };
        *count = if refused { *count + 1 } else { 0 };
    }
}

/// Writes packets with one `writev` each.
#[derive(Debug)]
pub(crate) struct TunWriter {
    /// Whether each packet is preceded by a virtio header.
    pub(crate) vnet: bool,
    pub(crate) refusals: Refusals,
    gather: GatherArrays,
}

impl TunWriter {
    pub(crate) fn new(vnet: bool) -> Self {
        Self {
            vnet,
            refusals: Refusals::default(),
            gather: GatherArrays::with_room(1, PARTS_MAX),
        }
    }

    /// Writes everything, in order.
    pub(crate) fn write_all<S: Slot>(
        &mut self,
        tun: &TunQueue,
        outgoing: &Outgoing<'_, S>,
        stats: &WorkerStats,
    ) {
        let mut done = Written::default();
        for write in outgoing.writes {
            match self.write(tun, outgoing, write) {
                Ok(()) => {
                    self.refusals.note(write, false);
                    done.count(write);
                }
                Err(error) => self.refused(tun, outgoing, write, &error, stats),
            }
        }
        done.record(stats);
    }

    fn write<S: Slot>(
        &mut self,
        tun: &TunQueue,
        outgoing: &Outgoing<'_, S>,
        write: &TunWrite,
    ) -> io::Result<()> {
        let header = write.header.to_bytes();
        let mut parts = self.gather.start();
        parts.packet();
        if self.vnet {
            parts.part(&header);
        }
        for piece in outgoing.pieces_of(write) {
            parts.part(outgoing.bytes(piece));
        }
        tun.write(&parts).map(drop)
    }

    /// What was refused is tried once more, a super-packet packet by packet; while the device is
    /// down there is no sense in that.
    pub(crate) fn refused<S: Slot>(
        &mut self,
        tun: &TunQueue,
        outgoing: &Outgoing<'_, S>,
        write: &TunWrite,
        error: &io::Error,
        stats: &WorkerStats,
    ) {
        if error.raw_os_error() == Some(libc::EIO) {
            return stats.drop(DropReason::InTunRefused, write.packets.into());
        }
        if write.packets < 2 {
            let mut done = Written::default();
            match self.write(tun, outgoing, write) {
                Ok(()) => done.count(write),
                Err(_) => stats.drop(DropReason::InTunRefused, 1),
            }
            return done.record(stats);
        }
        self.refusals
            .note(write, error.raw_os_error() == Some(libc::EINVAL));
        stats.add(Counter::OffloadRetries, 1);
        let payloads = outgoing.payloads_of(write);
        let mut part = Part {
            index: 0,
            offset: 0,
            len: 0,
            last: false,
        };
        for payload in payloads {
            part.len = payload.len();
            part.last = part.index + 1 == usize::from(write.packets);
            match self.write_part(tun, outgoing, write, part, payload) {
                Ok(bytes) => Written {
                    writes: 1,
                    packets: 1,
                    bytes: bytes as u64,
                }
                .record(stats),
                Err(_) => stats.drop(DropReason::InTunRefused, 1),
            }
            part.offset += part.len;
            part.index += 1;
        }
    }

    fn write_part<S: Slot>(
        &mut self,
        tun: &TunQueue,
        outgoing: &Outgoing<'_, S>,
        write: &TunWrite,
        part: Part,
        payload: &[u8],
    ) -> io::Result<usize> {
        let merged = outgoing.first_of(write);
        let mut header = [0; HEADER_MAX];
        let (vnet, header_len) = unmerge::write_header(&write.header, merged, part, &mut header);
        let vnet = vnet.to_bytes();
        let mut parts = self.gather.start();
        parts.packet();
        parts.part(&vnet);
        parts.part(&header[..header_len]);
        parts.part(payload);
        tun.write(&parts)
    }
}

/// What got through, added to the counters once per batch.
#[derive(Debug, Default)]
pub(crate) struct Written {
    writes: u64,
    packets: u64,
    bytes: u64,
}

impl Written {
    pub(crate) fn count(&mut self, write: &TunWrite) {
        self.writes += 1;
        self.packets += u64::from(write.packets);
        self.bytes += u64::from(write.bytes);
    }

    pub(crate) fn record(&self, stats: &WorkerStats) {
        stats.add(Counter::TunWrites, self.writes);
        stats.add(Counter::ToTun, self.packets);
        stats.add(Counter::ToTunBytes, self.bytes);
    }
}

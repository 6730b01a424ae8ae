//! Takes a TUN super-packet apart: one fresh header per segment, payload by reference.
//!
//! Nothing of the virtio header is believed but the type and the segment size: `hdr_len` is a hint
//! that is often wrong, and the checksum offsets are looked up again in the packet itself. What the
//! segments have in common is summed once, so that a segment costs a header copy, its few own
//! fields and one pass over its payload.

use super::checksum::{Sum, nonzero};
use super::ip::IpInfo;
use super::l4::{L4, Transport, flag, tcp, udp};
use super::virtio::VirtioNetHdr;
use super::{Family, be16, be32, put16, put32};
use std::ops::Range;

/// Why a packet and its virtio header do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadOffload {
    /// Not an IP packet.
    Packet,
    /// A type we never asked for, or one that does not match family and protocol.
    Type,
    /// A segment size of zero.
    SegmentSize,
    /// The checksum would lie outside the packet.
    Checksum,
}

/// A super-packet, understood; hands out its segments one by one.
#[derive(Clone, Debug)]
pub struct Splitter {
    l4: L4,
    segment_size: usize,
    segments: usize,
    id: u16,
    seq: u32,
    flags: u8,
    /// IPv4 header without the fields that differ between segments.
    ip_sum: Sum,
    /// Pseudo header and transport header without the fields that differ between segments.
    l4_sum: Sum,
}

impl Splitter {
    /// Looks at a super-packet once; `packet` is what follows the virtio header.
    pub fn new(packet: &[u8], hdr: &VirtioNetHdr) -> Result<Self, BadOffload> {
        let info = IpInfo::parse(packet).map_err(|_| BadOffload::Packet)?;
        let l4 = L4::parse(packet, &info).ok_or(BadOffload::Type)?;
        if !type_matches(hdr.gso(), &l4) {
            return Err(BadOffload::Type);
        }
        if hdr.gso_size == 0 {
            return Err(BadOffload::SegmentSize);
        }
        let segment_size = usize::from(hdr.gso_size);
        let segments = l4.payload_len().div_ceil(segment_size).max(1);
        let is_tcp = l4.transport == Transport::Tcp;
        Ok(Self {
            segment_size,
            segments,
            id: if l4.family == Family::V4 {
                be16(packet, 4)
            } else {
                0
            },
            seq: if is_tcp {
                be32(packet, l4.start + tcp::SEQ)
            } else {
                0
            },
            flags: if is_tcp {
                packet[l4.start + tcp::FLAGS]
            } else {
                0
            },
            ip_sum: common_ip_sum(packet, &l4),
            l4_sum: common_l4_sum(packet, &l4),
            l4,
        })
    }

    /// How many packets this one stands for.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Length of the headers of every segment, IP and transport.
    pub fn header_len(&self) -> usize {
        self.l4.payload
    }

    /// Length of the longest segment, headers included.
    pub fn segment_len_max(&self) -> usize {
        self.l4.payload + self.segment_size.min(self.l4.payload_len())
    }

    /// Writes the headers of segment `i`, complete with checksums, to the first
    /// [`Self::header_len`] bytes of `out`; answers which bytes of `packet` are its payload. `i` is
    /// below [`Self::segments`] and `packet` the one given to [`Self::new`].
    pub fn write_header(&self, packet: &[u8], i: usize, out: &mut [u8]) -> Range<usize> {
        let start = self.l4.payload + i * self.segment_size;
        let payload = start..(start + self.segment_size).min(self.l4.end);
        let header = &mut out[..self.l4.payload];
        header.copy_from_slice(&packet[..self.l4.payload]);
        let len = header.len() + payload.len();
        self.write_ip(header, i, len);
        let sum = self
            .l4_sum
            .plus(Sum::of(&packet[payload.clone()]))
            .word((len - self.l4.start) as u16);
        match self.l4.transport {
            Transport::Tcp => self.write_tcp(&mut header[self.l4.start..], i, sum),
            Transport::Udp => write_udp(&mut header[self.l4.start..], len - self.l4.start, sum),
        }
        payload
    }

    fn write_ip(&self, header: &mut [u8], i: usize, len: usize) {
        match self.l4.family {
            Family::V4 => {
                let (len, id) = (len as u16, self.id.wrapping_add(i as u16));
                put16(header, 2, len);
                put16(header, 4, id);
                put16(header, 10, self.ip_sum.word(len).word(id).checksum());
            }
            Family::V6 => put16(header, 4, (len - 40) as u16),
        }
    }

    fn write_tcp(&self, header: &mut [u8], i: usize, sum: Sum) {
        let seq = self.seq.wrapping_add((i * self.segment_size) as u32);
        let flags = self.flags_of(i);
        put32(header, tcp::SEQ, seq);
        header[tcp::FLAGS] = flags;
        put16(
            header,
            tcp::CHECKSUM,
            sum.double_word(seq).word(u16::from(flags)).checksum(),
        );
    }

    /// The end of the data is told by the last segment only, a reduced window by the first only.
    fn flags_of(&self, i: usize) -> u8 {
        let mut flags = self.flags;
        if i + 1 < self.segments {
            flags &= !(flag::FIN | flag::PSH);
        }
        if i > 0 {
            flags &= !flag::CWR;
        }
        flags
    }
}

fn type_matches(gso: u8, l4: &L4) -> bool {
    match gso {
        VirtioNetHdr::GSO_TCPV4 => l4.transport == Transport::Tcp && l4.family == Family::V4,
        VirtioNetHdr::GSO_TCPV6 => l4.transport == Transport::Tcp && l4.family == Family::V6,
        VirtioNetHdr::GSO_UDP_L4 => l4.transport == Transport::Udp,
        _ => false,
    }
}

fn common_ip_sum(packet: &[u8], l4: &L4) -> Sum {
    if l4.family == Family::V6 {
        return Sum::default();
    }
    Sum::of(&packet[..2])
        .plus(Sum::of(&packet[6..10]))
        .plus(Sum::of(&packet[12..l4.start]))
}

fn common_l4_sum(packet: &[u8], l4: &L4) -> Sum {
    let pseudo = Sum::pseudo_header(packet, l4.family, l4.transport.protocol(), 0);
    let header = &packet[l4.start..l4.payload];
    let ports = pseudo.plus(Sum::of(&header[..4]));
    match l4.transport {
        Transport::Udp => ports,
        Transport::Tcp => ports
            .plus(Sum::of(&header[tcp::ACK..tcp::DATA_OFFSET]))
            .word(u16::from(header[tcp::DATA_OFFSET]) << 8)
            .plus(Sum::of(&header[tcp::FLAGS + 1..tcp::CHECKSUM]))
            .plus(Sum::of(&header[tcp::URGENT..])),
    }
}

fn write_udp(header: &mut [u8], len: usize, sum: Sum) {
    put16(header, udp::LEN, len as u16);
    put16(
        header,
        udp::CHECKSUM,
        nonzero(sum.word(len as u16).checksum()),
    );
}

/// How many packets a TUN read stands for: the segments of a super-packet, else one.
pub fn packets_in(packet: &[u8], hdr: &VirtioNetHdr) -> usize {
    if hdr.gso_type == VirtioNetHdr::GSO_NONE {
        return 1;
    }
    Splitter::new(packet, hdr).map_or(1, |splitter| splitter.segments())
}

/// Finishes the one checksum of an ordinary packet the kernel left to us; nothing to do without the
/// flag. Any protocol: the field holds the sum of what lies in front of `csum_start`, the rest is
/// added here.
pub fn finish_checksum(packet: &mut [u8], hdr: &VirtioNetHdr) -> Result<(), BadOffload> {
    if !hdr.needs_csum() {
        return Ok(());
    }
    let start = usize::from(hdr.csum_start);
    let field = start + usize::from(hdr.csum_offset);
    if field + 2 > packet.len() {
        return Err(BadOffload::Checksum);
    }
    // As the kernel does it for every protocol: zero is never sent, for UDP would take it as
    // "none".
    let checksum = nonzero(Sum::of(&packet[start..]).checksum());
    put16(packet, field, checksum);
    Ok(())
}

#[cfg(test)]
mod tests;

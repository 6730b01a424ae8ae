//! Takes a super-packet for the TUN apart again, when the kernel will not have it.
//!
//! The pieces of a merged write are still the packets it was made of: the first with its headers,
//! which describe the whole, the others payload alone. (Of a frame that a peer left unsegmented,
//! the one piece has to be cut every segment size first.) Each packet gets a copy of the headers,
//! cut down to itself, with its checksum left for the kernel to finish.

use super::checksum::{Sum, replace_word};
use super::ip::V6_HEADER_LEN;
use super::l4::{Transport, flag, tcp, udp};
use super::virtio::VirtioNetHdr;
use super::{Family, be16, be32, put16, put32};

/// The longest header of a packet that can be taken apart: IPv4 and TCP with all options of both,
/// or IPv6 with as many bytes of extensions as that leaves room for.
pub const HEADER_MAX: usize = 120;

/// One packet of a merged write.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Which packet of the write, counted from zero.
    pub index: usize,
    /// Payload bytes in front of it.
    pub offset: usize,
    /// Its own payload bytes.
    pub len: usize,
    /// Whether it is the last.
    pub last: bool,
}

/// Writes the headers of one packet of a merged write, whose headers are at the front of `merged`;
/// answers with the virtio header to go with them and their length.
pub fn write_header(
    header: &VirtioNetHdr,
    merged: &[u8],
    part: Part,
    out: &mut [u8; HEADER_MAX],
) -> (VirtioNetHdr, usize) {
    let len = usize::from(header.hdr_len)
        .min(HEADER_MAX)
        .min(merged.len());
    let start = usize::from(header.csum_start).min(len);
    let out = &mut out[..len];
    out.copy_from_slice(&merged[..len]);
    let transport = if header.gso() == VirtioNetHdr::GSO_UDP_L4 {
        Transport::Udp
    } else {
        Transport::Tcp
    };
    let family = write_lengths(out, len + part.len, part.index);
    match transport {
        Transport::Tcp => write_tcp(&mut out[start..], part),
        Transport::Udp => put16(out, start + udp::LEN, (udp::HEADER_LEN + part.len) as u16),
    }
    let sum = Sum::pseudo_header(out, family, transport.protocol(), len - start + part.len);
    put16(out, start + transport.checksum_offset(), sum.fold());
    let single = VirtioNetHdr {
        gso_type: VirtioNetHdr::GSO_NONE,
        gso_size: 0,
        ..*header
    };
    (single, len)
}

fn write_lengths(out: &mut [u8], total: usize, index: usize) -> Family {
    if out[0] >> 4 == 6 {
        // Extension headers are part of the payload.
        put16(out, 4, (total - V6_HEADER_LEN) as u16);
        return Family::V6;
    }
    replace_word(out, 10, 2, total as u16);
    let id = be16(out, 4).wrapping_add(index as u16);
    replace_word(out, 10, 4, id);
    Family::V4
}

fn write_tcp(out: &mut [u8], part: Part) {
    let seq = be32(out, tcp::SEQ).wrapping_add(part.offset as u32);
    put32(out, tcp::SEQ, seq);
    if !part.last {
        out[tcp::FLAGS] &= !(flag::PSH | flag::FIN);
    }
    if part.index > 0 {
        out[tcp::FLAGS] &= !flag::CWR;
    }
}

const _: () = assert!(
    HEADER_MAX >= 60 + 60,
    "the longest IPv4 header and the longest TCP header fit"
);

//! Packets as the engine meets them.

use engine::wire::checksum::Sum;
use engine::wire::virtio::VirtioNetHdr;

pub(crate) const MTU: usize = 1472;
const TCP: u8 = 6;
const UDP: u8 = 17;
const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4];
const TCP_HEADERS: usize = 20 + 20 + TIMESTAMPS.len();

/// A TCP packet of a bulk stream, the `number`th of equal size, with finished checksums.
pub(crate) fn tcp(number: usize, length: usize) -> Vec<u8> {
    let sequence = (number * (length - TCP_HEADERS)) as u32;
    let mut packet = ip(number, length, TCP);
    packet.extend([0x10, 0x00, 0x20, 0x00]);
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 9, 0x80, 0x10, 0x12, 0x34, 0, 0, 0, 0]);
    packet.extend(TIMESTAMPS);
    packet.resize(length, 0x5a);
    finished(packet, 16)
}

/// A datagram of a flow of equal sizes, with finished checksums.
pub(crate) fn udp(number: usize, length: usize) -> Vec<u8> {
    let mut packet = ip(number, length, UDP);
    packet.extend([0x10, 0x00, 0x20, 0x00]);
    packet.extend(((length - 20) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.resize(length, 0x5a);
    finished(packet, 6)
}

/// What the TUN hands over for a bulk stream: one packet of 64 KiB and how to cut it.
pub(crate) fn tcp_super_packet() -> (Vec<u8>, VirtioNetHdr) {
    let header = VirtioNetHdr {
        flags: VirtioNetHdr::NEEDS_CSUM,
        gso_type: VirtioNetHdr::GSO_TCPV4,
        hdr_len: TCP_HEADERS as u16,
        gso_size: (MTU - TCP_HEADERS) as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    (tcp(0, 65_535), header)
}

/// The IPv4 header from 10.5.1.2 to 10.5.2.2.
fn ip(number: usize, length: usize, protocol: u8) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend((length as u16).to_be_bytes());
    header.extend((number as u16).to_be_bytes());
    header.extend([0x40, 0, 64, protocol, 0, 0, 10, 5, 1, 2, 10, 5, 2, 2]);
    let sum = Sum::of(&header).checksum();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

/// Fills in the transport checksum, `place` bytes into the transport header.
fn finished(mut packet: Vec<u8>, place: usize) -> Vec<u8> {
    let pseudo = Sum::of(&packet[12..20])
        .word(packet[9].into())
        .word((packet.len() - 20) as u16);
    let sum = pseudo.plus(Sum::of(&packet[20..])).checksum();
    packet[20 + place..22 + place].copy_from_slice(&sum.to_be_bytes());
    packet
}

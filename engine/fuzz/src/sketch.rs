//! Packets as the fuzzer describes them.

use crate::input::Input;
use crate::packet::{Check, Sketch};
use crate::reference;

/// A TCP or UDP packet with `len` bytes of payload and headers of the fuzzer's choice.
pub(crate) fn sketch(input: &mut Input<'_>, len: usize) -> Sketch {
    let kind = input.byte();
    let mut sketch = Sketch::new(kind & 1 != 0, kind & 2 != 0, len);
    sketch.df = kind & 4 == 0;
    if kind & 8 != 0 {
        let options = usize::from(input.byte() % 11) * 4;
        sketch.options = padded(input.bytes(options), 4);
    }
    if kind & 16 != 0 {
        let options = usize::from(input.byte() % 6) * 8;
        sketch.ip_options = padded(input.bytes(options), 8);
    }
    if kind & 32 != 0 {
        sketch.seq = input.double_word();
        sketch.id = input.word();
    }
    if kind & 64 != 0 {
        change(input, &mut sketch);
    }
    if kind & 128 != 0 {
        change(input, &mut sketch);
        change(input, &mut sketch);
    }
    sketch
}

/// Options of TCP come in multiples of four bytes, those of IP here in multiples of eight.
fn padded(bytes: &[u8], unit: usize) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(unit), 0);
    padded
}

/// Changes one field.
pub(crate) fn change(input: &mut Input<'_>, packet: &mut Sketch) {
    match input.byte() % 18 {
        0 => packet.seq = packet.seq.wrapping_add(u32::from(input.byte())),
        1 => packet.flags = input.byte(),
        2 => packet.flags ^= 0x08,
        3 => packet.ttl = input.byte(),
        4 => packet.tos = input.byte(),
        5 => packet.df ^= true,
        6 => packet.id = packet.id.wrapping_add(u16::from(input.byte())),
        7 => packet.ack ^= u32::from(input.word()),
        8 => packet.window = input.word(),
        9 => packet.urgent = input.word(),
        10 => packet.reserved = input.byte() & 15,
        11 => packet.options = padded(input.bytes(8), 4),
        12 => packet.flow_label = input.double_word() & 0xf_ffff,
        13 => packet.hosts = (input.byte(), packet.hosts.1),
        14 => packet.ports.0 = input.word(),
        15 => packet.payload.push(input.byte()),
        16 => aim_checksum(input, packet),
        _ => {
            packet.check = input.pick(&[
                Check::Wrong,
                Check::Zero,
                Check::Unfinished,
                Check::Finished,
            ])
        }
    }
}

/// Chooses the first payload word so that the checksum comes out as wanted: zero and its other
/// representation are where mistakes hide.
fn aim_checksum(input: &mut Input<'_>, packet: &mut Sketch) {
    let wanted = input.pick(&[0, 0xffff, 1]);
    if packet.payload.len() < 2 {
        return;
    }
    packet.payload[..2].fill(0);
    let without = reference::Located::of(&packet.build()).map(|at| at.checksum(&packet.build()));
    let word = reference::difference(without.unwrap_or(0), wanted);
    packet.payload[..2].copy_from_slice(&word.to_be_bytes());
}

/// Overwrites up to a handful of bytes, mostly of the headers; perhaps makes the checksums right.
pub(crate) fn damage(input: &mut Input<'_>, packet: &mut [u8]) {
    for _ in 0..input.byte() % 6 {
        let at = usize::from(input.byte());
        if let Some(byte) = packet.get_mut(at) {
            *byte = input.byte();
        }
    }
    if input.one_in(2) {
        reference::repair(packet);
    }
}

//! Super-packets from the TUN: cut apart they are what the kernel would have sent.

use crate::input::Input;
use crate::reference::{self, Located};
use crate::sketch::{damage, sketch};
use engine::wire::split::{Splitter, finish_checksum, packets_in};
use engine::wire::virtio::VirtioNetHdr;

/// Reads a virtio header and a packet, and has it split and its checksum finished.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (header, packet) = if input.one_in(4) {
        raw(&mut input)
    } else {
        sketched(&mut input)
    };
    check_segments(&packet, &header);
    check_finish(packet, &header);
}

fn raw(input: &mut Input<'_>) -> (VirtioNetHdr, Vec<u8>) {
    let mut header = [0; VirtioNetHdr::LEN];
    header.fill_with(|| input.byte());
    (VirtioNetHdr::from_bytes(&header), input.rest().to_vec())
}

fn sketched(input: &mut Input<'_>) -> (VirtioNetHdr, Vec<u8>) {
    let size = input.word() & input.pick(&[0x007f, 0x000f, 0x07ff, 0xffff]);
    // Many segments and long ones are slow to check, and show little that few and short ones do not.
    let count = usize::from(input.byte() % input.pick(&[4, 4, 12, 130]));
    let longest = 300 << input.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8]);
    let longest = longest.min(65_535 - 200);
    let last = usize::from(input.word() % size.max(1));
    let len = (usize::from(size) * count + last).min(longest);
    let sketch = sketch(input, len);
    let mut header = VirtioNetHdr::from_bytes(&sketch.virtio(size.max(1), input.word()));
    let mut packet = sketch.build();
    if input.one_in(2) {
        damage(input, &mut packet);
        header.gso_size = size;
        header.gso_type = input.pick(&[0, 1, 4, 5, 0x81, 0x84, 3]);
        header.csum_start ^= u16::from(input.byte());
        header.csum_offset ^= input.word() & input.pick(&[0, 0xff, 0xffff]);
    }
    (header, packet)
}

fn check_segments(packet: &[u8], header: &VirtioNetHdr) {
    let Ok(splitter) = Splitter::new(packet, header) else {
        return;
    };
    let located = Located::of(packet).expect("what is split is a whole TCP or UDP packet");
    let expected = located.segments(packet, usize::from(header.gso_size));
    assert_eq!(splitter.segments(), expected.len());
    assert_eq!(splitter.header_len(), located.payload);
    if header.gso_type != 0 {
        assert_eq!(packets_in(packet, header), expected.len());
    }
    let mut next = located.payload;
    for (i, expected) in expected.iter().enumerate() {
        let mut out = vec![0xee; splitter.header_len() + 3];
        let payload = splitter.write_header(packet, i, &mut out);
        assert_eq!(
            payload.start, next,
            "payload is covered without gap or overlap"
        );
        next = payload.end;
        assert_eq!(
            out.split_off(splitter.header_len()),
            [0xee; 3],
            "written past the headers"
        );
        assert_eq!(&[&out, &packet[payload]].concat(), expected, "segment {i}");
        assert!(expected.len() <= splitter.segment_len_max());
        let located = Located::of(expected).expect("a segment is a packet");
        assert!(located.is_right(expected) && located.ip.is_right(expected));
    }
    assert_eq!(next, located.ip.total_len, "payload is covered to its end");
}

fn check_finish(packet: Vec<u8>, header: &VirtioNetHdr) {
    let mut finished = packet.clone();
    let result = finish_checksum(&mut finished, header);
    let start = usize::from(header.csum_start);
    let field = start + usize::from(header.csum_offset);
    let wanted = header.flags & 1 != 0;
    assert_eq!(result.is_err(), wanted && field + 2 > packet.len());
    let mut expected = packet;
    if wanted && result.is_ok() {
        let checksum = !reference::sum(&expected[start..]);
        reference::put(
            &mut expected,
            field,
            if checksum == 0 { 0xffff } else { checksum },
        );
    }
    assert_eq!(finished, expected);
}

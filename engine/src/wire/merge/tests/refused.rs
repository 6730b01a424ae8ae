//! Super-packets the kernel will not have: taken apart by us they are the packets they came from.

use super::*;
use crate::wire::unmerge::{HEADER_MAX, Part, write_header};

/// The packets of a write, each finished as the kernel would finish it.
fn unmerged(header: &VirtioNetHdr, packets: usize, bytes: &[u8]) -> Vec<Vec<u8>> {
    let payload = &bytes[usize::from(header.hdr_len)..];
    let chunks = payload.chunks(usize::from(header.gso_size)).enumerate();
    let single = |(index, chunk): (usize, &[u8])| {
        let offset = index * usize::from(header.gso_size);
        let part = Part {
            index,
            offset,
            len: chunk.len(),
            last: index + 1 == packets,
        };
        let mut out = [0; HEADER_MAX];
        let (header, len) = write_header(header, bytes, part, &mut out);
        cut(&header, [&out[..len], chunk].concat()).remove(0)
    };
    chunks.map(single).collect()
}

/// Of the two right checksums that stand for zero TCP segments carry one, a finished packet the
/// other; no difference to anybody.
fn with_one_zero(mut packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for packet in &mut packets {
        let (l4, protocol) = transport(packet);
        if protocol == 6 && packet[l4 + 16..l4 + 18] == [0xff; 2] {
            packet[l4 + 16..l4 + 18].fill(0);
        }
    }
    packets
}

fn comes_apart(header: &VirtioNetHdr, packets: usize, bytes: Vec<u8>) {
    let ours = with_one_zero(unmerged(header, packets, &bytes));
    assert_same(&ours, &with_one_zero(cut(header, bytes)));
}

proptest! {
    #[test]
    fn a_refused_write_comes_apart_as_the_kernel_would_cut_it(seed: u64) {
        let train = random_train(&mut Random(seed), 60, 3, 1400);
        for (header, packets, bytes) in merged(ALL, &train) {
            if packets > 1 {
                comes_apart(&header, packets, bytes);
            }
        }
    }
}

#[test]
fn a_refused_unsegmented_frame_comes_apart_as_the_kernel_would_cut_it() {
    for v6 in [false, true] {
        let ip_options = if v6 { Vec::new() } else { vec![1; 40] };
        let options = vec![1; 40];
        let frame = Sketch {
            flags: 0xd9,
            ip_options,
            options,
            ..Sketch::new(v6, true, 20_000)
        };
        for (header, packets, bytes) in merged(ALL, &[frame.with(Check::Unfinished)]) {
            comes_apart(&header, packets, bytes);
        }
    }
}

#[test]
fn extension_headers_stay_with_every_packet_of_a_refused_frame() {
    // The payload length left them out, so that receivers saw packets cut short.
    for extensions in [8, 24] {
        let frame = Sketch {
            ip_options: vec![0; extensions],
            ..Sketch::new(true, true, 20_000)
        };
        for (header, packets, bytes) in merged(ALL, &[frame.with(Check::Unfinished)]) {
            assert!(packets > 1);
            comes_apart(&header, packets, bytes);
        }
    }
}

#[test]
fn a_frame_whose_headers_are_too_long_to_come_apart_again_is_cut_at_once() {
    // Taking it apart after a refusal indexed past the room for its headers.
    let frame = Sketch {
        ip_options: vec![0; 64],
        options: vec![1; 40],
        ..Sketch::new(true, true, 20_000)
    };
    let train = [frame.with(Check::Unfinished)];
    assert!(frame.header_len() > HEADER_MAX);
    assert!(counts(ALL, &train).iter().all(|packets| *packets == 1));
}

/// Equality that names the first difference instead of printing everything.
fn assert_same(out: &[Vec<u8>], sent: &[Vec<u8>]) {
    assert_eq!(out.len(), sent.len());
    for (number, (out, sent)) in out.iter().zip(sent).enumerate() {
        let difference = out.iter().zip(sent).position(|(out, sent)| out != sent);
        let header = |packet: &[u8]| packet[..packet.len().min(80)].to_vec();
        assert!(
            out == sent,
            "packet {number}, byte {difference:?}: {:02x?} for {:02x?}",
            header(out),
            header(sent)
        );
    }
}

//! What merging may do to the order of a flow: of two packets of a TCP stream the one that lies
//! earlier in the stream may go first, and nothing else.
#![allow(
    dead_code,
    reason = "included by several tests, each of which needs a part of it"
)]

use super::packet::transport;

/// Panics unless each packet of `out` is one of `sent`, all are there, and the order is allowed.
/// `same` compares the numbered packet of `sent` to one that came out; `tcp_header` finds the
/// header with its options, if it is TCP.
pub(crate) fn assert_order(
    out: &[Vec<u8>],
    sent: &[Vec<u8>],
    same: impl Fn(usize, &[u8]) -> bool,
    tcp_header: impl Fn(&[u8]) -> Option<&[u8]>,
) {
    assert_eq!(out.len(), sent.len(), "packets that came out");
    let order = positions(out, sent, same);
    let behind = lowest_behind(&order);
    for (came, &number) in order.iter().enumerate() {
        if behind[came] > number {
            continue; // The rule: so few packets overtake that their number squared does not matter.
        }
        for &overtaken in order[came + 1..].iter().filter(|later| **later < number) {
            let headers = tcp_header(&sent[number]).zip(tcp_header(&sent[overtaken]));
            assert!(
                headers.is_some_and(|(first, second)| may_go_before(first, second)),
                "packet {number} overtook packet {overtaken}: {:02x?}, {:02x?}",
                brief(&sent[number]),
                brief(&sent[overtaken])
            );
        }
    }
}

/// The lowest number behind each place.
fn lowest_behind(order: &[usize]) -> Vec<usize> {
    let mut behind = vec![usize::MAX; order.len()];
    for place in (1..order.len()).rev() {
        behind[place - 1] = behind[place].min(order[place]);
    }
    behind
}

/// Which packet of `sent` each of `out` is.
fn positions(out: &[Vec<u8>], sent: &[Vec<u8>], same: impl Fn(usize, &[u8]) -> bool) -> Vec<usize> {
    let mut open: Vec<usize> = (0..sent.len()).collect();
    let find = |(came, packet): (usize, &Vec<u8>)| {
        let Some(at) = open.iter().position(|number| same(*number, packet)) else {
            let sent = open.first().map_or(&[][..], |number| brief(&sent[*number]));
            panic!(
                "packet {came} was not sent: {:02x?}, but {sent:02x?}",
                brief(packet)
            );
        };
        open.remove(at)
    };
    out.iter().enumerate().map(find).collect()
}

fn brief(packet: &[u8]) -> &[u8] {
    &packet[..packet.len().min(90)]
}

/// Whether all that differs is that the one is earlier in the stream and its timestamp not later.
fn may_go_before(first: &[u8], second: &[u8]) -> bool {
    let word = |header: &[u8], at| {
        u32::from_be_bytes(*header[at..].first_chunk().expect("a whole header"))
    };
    let is_after = |at| (word(first, at).wrapping_sub(word(second, at)) as i32) > 0;
    let push = !8;
    let same = first[8..13] == second[8..13]
        && first[13] & push == second[13] & push
        && first[14..16] == second[14..16]
        && first.len() == second.len();
    let stamped = |header: &[u8]| header.len() == 32 && header[20..24] == [1, 1, 8, 10];
    let in_time = if stamped(first) && stamped(second) {
        !is_after(24)
    } else {
        first[20..] == second[20..]
    };
    same && in_time && word(first, 4) != word(second, 4) && !is_after(4)
}

/// The TCP header of an intact packet.
pub(crate) fn tcp_header(packet: &[u8]) -> Option<&[u8]> {
    let (at, protocol) = transport(packet);
    let header = packet.get(at..at + usize::from(*packet.get(at + 12)? >> 4) * 4)?;
    (protocol == 6).then_some(header)
}

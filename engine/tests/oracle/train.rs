//! Trains of packets as a receiver meets them: a few flows, mostly in step, with every kind of
//! irregularity.
#![allow(
    dead_code,
    reason = "included by several tests, each of which needs a part of it"
)]

use super::packet::{Check, Random, Sketch, flag};
use std::mem;

/// One sender and what it will send next.
#[derive(Clone, Debug)]
struct Sender {
    next: Sketch,
    /// Where else in its stream it is, if it sends from two processors: sequence number and
    /// identification.
    elsewhere: Option<(u32, u16)>,
    size: usize,
    id_step: u16,
}

impl Sender {
    fn random(random: &mut Random, number: usize, size_max: usize) -> Self {
        let mut next = Sketch::new(random.one_in(2), random.one_in(2), 0);
        next.ports = (1000 + number as u16, 2000);
        next.seq = random.next() as u32;
        next.id = random.next() as u16;
        next.df = !random.one_in(4);
        if random.one_in(2) {
            next.options = [&[1, 1, 8, 10][..], &random.bytes(8)].concat();
        }
        let size_max = random.pick(&[4, 100, 1400]).min(size_max);
        let ahead = random.pick(&[100, 3_000, 400_000]);
        let elsewhere = next.tcp && random.one_in(3);
        Self {
            elsewhere: elsewhere.then(|| (next.seq.wrapping_add(ahead), random.next() as u16)),
            next,
            size: 1 + random.below(size_max),
            id_step: u16::from(!random.one_in(6)),
        }
    }

    /// The next packet in step, then moves on.
    fn send(&mut self, random: &mut Random) -> Sketch {
        if let Some((seq, id)) = self.elsewhere.as_mut().filter(|_| random.one_in(3)) {
            mem::swap(seq, &mut self.next.seq);
            mem::swap(id, &mut self.next.id);
        }
        let len = if random.one_in(12) {
            random.below(self.size + 1)
        } else {
            self.size
        };
        let mut packet = Sketch {
            payload: random.bytes(len),
            ..self.next.clone()
        };
        if random.one_in(10) {
            disturb(random, &mut packet);
        }
        if random.one_in(20) {
            disturb(random, &mut self.next);
            self.next.check = Check::Right;
        }
        self.next.seq = self.next.seq.wrapping_add(packet.payload.len() as u32);
        self.next.id = self.next.id.wrapping_add(self.id_step);
        packet
    }
}

/// Changes one thing the merger has to notice.
fn disturb(random: &mut Random, packet: &mut Sketch) {
    match random.below(18) {
        0 => packet.seq = packet.seq.wrapping_add(1 + random.below(3) as u32),
        1 => packet.flags ^= 1 << random.below(8),
        2 => packet.flags |= flag::PSH,
        3 => packet.ttl = 2 + random.below(200) as u8,
        4 => packet.tos ^= 1 << random.below(8),
        5 => packet.df ^= true,
        6 => packet.id = packet.id.wrapping_add(random.below(3) as u16),
        7 => packet.ack = packet.ack.wrapping_add(100),
        8 => packet.window ^= 1 << random.below(16),
        9 => packet.urgent ^= 1 << random.below(16),
        10 => packet.reserved ^= 1 << random.below(4),
        11 => packet.options = random.bytes(12),
        12 => packet.flow_label ^= 1 << random.below(20),
        13 => {
            packet.check = if packet.tcp {
                Check::Wrong
            } else {
                Check::Zero
            }
        }
        14 => packet.check = Check::Wrong,
        15 => packet.payload.push(9),
        16 => {
            if let Some(stamp) = packet.options.get_mut(7) {
                *stamp = stamp.wrapping_add(random.pick(&[1, 255]));
            }
        }
        _ => packet.ip_options = vec![1; 8],
    }
}

/// Packets of up to `senders_max` flows, interleaved.
pub(crate) fn random_train(
    random: &mut Random,
    packets: usize,
    senders_max: usize,
    size_max: usize,
) -> Vec<Sketch> {
    let count = 1 + random.below(senders_max);
    let mut senders: Vec<_> = (0..count)
        .map(|number| Sender::random(random, number, size_max))
        .collect();
    let mut turn = 0;
    let mut train = Vec::with_capacity(packets);
    for _ in 0..packets {
        if random.one_in(4) {
            turn = random.below(count);
        }
        train.push(senders[turn].send(random));
    }
    train
}

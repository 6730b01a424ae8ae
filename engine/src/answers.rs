//! ICMP answers to packets that were not carried: built into a slab, limited, written to the TUN.

use std::net::IpAddr;
use std::time::Duration;

use ringbuf::Frame;

use crate::io::PacketIo;
use crate::io::tun_writer::Outgoing;
use crate::stats::{Counter, WorkerStats};
use crate::wire::icmp::{self, Answer};
use crate::wire::ip::{self, IpInfo};
use crate::wire::merge::TunWrite;
use crate::wire::virtio::VirtioNetHdr;
use crate::wire::{Family, Piece};

/// The longest answer: an ICMPv6 error fills the smallest IPv6 MTU.
const ANSWER_BYTES: usize = 1280;
/// Answers in one batch at most.
const BATCH_ANSWERS: usize = 16;
/// Answers a second to one source, and to all.
const PER_SOURCE: u32 = 10;
const IN_TOTAL: u32 = 1000;
/// Sources that are told apart at a time; those that share a slot share its allowance.
const SOURCES: usize = 256;

/// Builds and limits one worker's answers.
#[derive(Debug)]
pub(crate) struct Answers {
    from: Vec<IpAddr>,
    slab: Box<[u8]>,
    writes: Vec<TunWrite>,
    pieces: Vec<Piece>,
    limit: Limit,
}

impl Answers {
    /// Answers from these addresses of ours; without one of a family that family gets none.
    pub(crate) fn new(from: Vec<IpAddr>) -> Self {
        Self {
            from,
            slab: vec![0; ANSWER_BYTES * BATCH_ANSWERS].into_boxed_slice(),
            writes: Vec::with_capacity(BATCH_ANSWERS),
            pieces: Vec::with_capacity(BATCH_ANSWERS),
            limit: Limit::new(),
        }
    }

    /// Begins a batch at this time.
    pub(crate) fn start(&mut self, now: Duration) {
        self.limit.advance(now.as_secs());
    }

    /// Answers `packet`, if its sender may be told and has not been told too often.
    pub(crate) fn add(&mut self, packet: &[u8], answer: Answer, stats: &WorkerStats) {
        let Ok(info) = IpInfo::parse(packet) else {
            return;
        };
        let Some(from) = self.address(info.family) else {
            return;
        };
        if self.writes.len() == BATCH_ANSWERS || !icmp::may_answer(packet, &info) {
            return;
        }
        if !self.limit.allows(ip::source(packet, info.family)) {
            return;
        }
        let start = self.writes.len() * ANSWER_BYTES;
        let room = &mut self.slab[start..start + ANSWER_BYTES];
        let Some(len) = icmp::build(room, from, packet, &info, answer) else {
            return;
        };
        let (index, bytes) = (self.pieces.len() as u32, len as u32);
        self.pieces.push(Piece {
            slot: Piece::HEADERS,
            start: start as u32,
            len: bytes,
        });
        let header = VirtioNetHdr::default();
        self.writes.push(TunWrite {
            header,
            packets: 1,
            bytes,
            pieces: index..index + 1,
        });
        stats.add(Counter::Created, 1);
    }

    /// Writes the answers of this batch.
    pub(crate) fn write<'a, I: PacketIo<'a>>(&mut self, io: &mut I, stats: &WorkerStats) {
        if self.writes.is_empty() {
            return;
        }
        let (writes, pieces, headers) = (&self.writes, &self.pieces, &self.slab);
        io.write_tun(
            &Outgoing::<Frame<'_>> {
                writes,
                pieces,
                headers,
                frames: &[],
            },
            stats,
        );
        self.writes.clear();
        self.pieces.clear();
    }

    fn address(&self, family: Family) -> Option<IpAddr> {
        self.from
            .iter()
            .copied()
            .find(|address| address.is_ipv6() == (family == Family::V6))
    }
}

/// Allowances that are full again each second.
#[derive(Debug)]
struct Limit {
    second: u64,
    given: u32,
    sources: [u8; SOURCES],
}

impl Limit {
    fn new() -> Self {
        Self {
            second: 0,
            given: 0,
            sources: [0; SOURCES],
        }
    }

    fn advance(&mut self, second: u64) {
        if second != self.second {
            *self = Self {
                second,
                ..Self::new()
            };
        }
    }

    fn allows(&mut self, source: IpAddr) -> bool {
        let given = &mut self.sources[slot_of(source)];
        if u32::from(*given) >= PER_SOURCE || self.given >= IN_TOTAL {
            return false;
        }
        *given += 1;
        self.given += 1;
        true
    }
}

fn slot_of(source: IpAddr) -> usize {
    let number = match source {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            bits as u64 ^ (bits >> 64) as u64
        }
    };
    // The top byte of a product by an odd constant depends on every bit of the number.
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_told_ten_times_a_second_and_another_still_is() {
        let mut limit = Limit::new();
        let (one, other) = (IpAddr::from([10, 5, 1, 2]), IpAddr::from([10, 5, 1, 3]));
        assert_ne!(slot_of(one), slot_of(other));
        assert_eq!((0..100).filter(|_| limit.allows(one)).count(), 10);
        assert!(limit.allows(other));
        limit.advance(1);
        assert!(limit.allows(one));
    }

    #[test]
    fn all_sources_together_are_told_a_thousand_times_a_second() {
        let mut limit = Limit::new();
        let sources = (0..u32::MAX).step_by(65_537).take(10_000);
        let told = sources.filter(|&source| limit.allows(IpAddr::from(source.to_be_bytes())));
        assert_eq!(told.count(), 1000);
    }
}

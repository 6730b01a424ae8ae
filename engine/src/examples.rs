//! For each reason to drop, the beginning of one packet it happened to, so that an operator sees whom to ask.
//!
//! One worker writes, others read meanwhile: a slot has a version that is odd while it is written, and a reader that
//! saw it change reads again. Only every 64th packet of a reason is kept, for a flood of them to cost little.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// As much of a packet as is kept: VXLAN, IPv6 and TCP headers.
const KEPT: usize = 96;
const WORDS: usize = KEPT / 8;
/// One packet in so many is kept.
const EVERY: u64 = 64;
/// A reader gives up after so many looks; the slot is then being written all the time.
const LOOKS: usize = 8;

/// The beginning of a packet that was not carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The outer source it came from; none for packets from this host.
    pub source: Option<IpAddr>,
    /// Its length.
    pub length: usize,
    /// Its first bytes.
    pub bytes: Vec<u8>,
}

/// Room for one example.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    offered: AtomicU64,
    version: AtomicU64,
    length: AtomicU64,
    source: [AtomicU64; 2],
    words: [AtomicU64; WORDS],
}

impl Slot {
    /// Keeps a packet, if it is its turn. Only one thread may call this.
    #[cold]
    pub(crate) fn offer(&self, packet: &[u8], source: Option<IpAddr>) {
        let offered = self.offered.load(Ordering::Relaxed);
        self.offered
            .store(offered.wrapping_add(1), Ordering::Relaxed);
        if offered.is_multiple_of(EVERY) {
            self.keep(packet, source);
        }
    }

    fn keep(&self, packet: &[u8], source: Option<IpAddr>) {
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        // Whoever sees one of the stores below sees the odd version too.
        fence(Ordering::Release);
        self.length.store(packet.len() as u64, Ordering::Relaxed);
        let [high, low] = halves(source);
        self.source[0].store(high, Ordering::Relaxed);
        self.source[1].store(low, Ordering::Relaxed);
        for (word, bytes) in self.words.iter().zip(packet.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
    }

    /// The packet kept last, if there was one.
    pub(crate) fn read(&self) -> Option<Example> {
        (0..LOOKS).find_map(|_| self.look())
    }

    fn look(&self) -> Option<Example> {
        let before = self.version.load(Ordering::Acquire);
        let length = self.length.load(Ordering::Relaxed) as usize;
        let source = self
            .source
            .each_ref()
            .map(|half| half.load(Ordering::Relaxed));
        let words = self.words.iter().map(|word| word.load(Ordering::Relaxed));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        fence(Ordering::Acquire);
        let unchanged = self.version.load(Ordering::Relaxed) == before;
        bytes.truncate(length);
        let whole = unchanged && before != 0 && before.is_multiple_of(2);
        whole.then(|| Example {
            source: address(source),
            length,
            bytes,
        })
    }
}

/// An address as two words; zeros, which nothing comes from, for none.
fn halves(source: Option<IpAddr>) -> [u64; 2] {
    let bits = match source {
        None => 0,
        Some(IpAddr::V4(v4)) => v4.to_ipv6_mapped().to_bits(),
        Some(IpAddr::V6(v6)) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

fn address([high, low]: [u64; 2]) -> Option<IpAddr> {
    let bits = u128::from(high) << 64 | u128::from(low);
    (bits != 0).then(|| Ipv6Addr::from_bits(bits).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn the_first_packet_and_every_64th_is_kept_whole_up_to_its_headers() {
        let slot = Slot::default();
        assert_eq!(slot.read(), None);
        let source: IpAddr = "192.168.77.2".parse().unwrap();
        slot.offer(&[7; 30], Some(source));
        slot.offer(&[8; 30], None);
        let first = Example {
            source: Some(source),
            length: 30,
            bytes: vec![7; 30],
        };
        assert_eq!(slot.read(), Some(first));
        (0..EVERY).for_each(|_| slot.offer(&[9; 1500], None));
        let later = slot.read().unwrap();
        assert_eq!((later.source, later.length), (None, 1500));
        assert_eq!(later.bytes, [9; KEPT]);
    }

    #[test]
    fn nobody_reads_a_mixture_of_two_packets() {
        let slot = Slot::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                (0..200_000u32).for_each(|number| slot.keep(&[number as u8; KEPT], None));
            });
            for _ in 0..20_000 {
                if let Some(example) = slot.read() {
                    let first = example.bytes[0];
                    assert!(example.bytes.iter().all(|byte| *byte == first));
                }
            }
        });
    }
}

//! For each reason to drop, the beginning of one packet it happened to, so that an operator sees whom to ask.
//!
//! One worker writes, others read meanwhile: a slot has a version that is odd while it is written, and a reader that
//! saw it change reads again. Only every 64th packet of a reason is kept, for a flood of them to cost little; as much of
//! it as VXLAN, IPv6 and TCP headers take.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering, fence};

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
    kept: Kept<12>,
}

impl Slot {
    /// Keeps a packet, if it is its turn. Only one thread may call this.
    #[cold]
    pub(crate) fn offer(&self, packet: &[u8], source: Option<IpAddr>) {
        let offered = self.offered.load(Ordering::Relaxed);
        self.offered
            .store(offered.wrapping_add(1), Ordering::Relaxed);
        if offered.is_multiple_of(EVERY) {
            self.kept.keep(packet, source, 0);
        }
    }

    /// The packet kept last, if there was one.
    pub(crate) fn read(&self) -> Option<Example> {
        self.kept.read().map(|(example, _)| example)
    }
}

/// The beginning of one packet, as so many words of eight bytes, with a number that means something to who keeps it.
#[derive(Debug)]
pub(crate) struct Kept<const WORDS: usize> {
    version: AtomicU64,
    mark: AtomicU64,
    length: AtomicU64,
    source: [AtomicU64; 2],
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> Default for Kept<WORDS> {
    fn default() -> Self {
        Self {
            version: AtomicU64::default(),
            mark: AtomicU64::default(),
            length: AtomicU64::default(),
            source: Default::default(),
            words: std::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

impl<const WORDS: usize> Kept<WORDS> {
    /// Takes the place of what was kept. Only one thread may call this.
    pub(crate) fn keep(&self, packet: &[u8], source: Option<IpAddr>, mark: u64) {
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        // Whoever sees one of the stores below sees the odd version too.
        fence(Ordering::Release);
        self.mark.store(mark, Ordering::Relaxed);
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

    /// The packet and the number, if there is one.
    pub(crate) fn read(&self) -> Option<(Example, u64)> {
        (0..LOOKS).find_map(|_| self.look())
    }

    fn look(&self) -> Option<(Example, u64)> {
        let before = self.version.load(Ordering::Acquire);
        let mark = self.mark.load(Ordering::Relaxed);
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
        let example = Example {
            source: address(source),
            length,
            bytes,
        };
        whole.then_some((example, mark))
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
        assert_eq!(later.bytes, [9; 96]);
    }

    #[test]
    fn nobody_reads_a_mixture_of_two_packets() {
        let slot = Slot::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                (0..200_000u32).for_each(|number| slot.kept.keep(&[number as u8; 96], None, 0));
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

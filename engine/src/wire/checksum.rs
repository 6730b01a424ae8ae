//! The internet checksum (RFC 1071), fast enough to look at every payload byte once.
//!
//! Sums are kept in native byte order: the one's complement sum does not care, and swapping once at
//! the end is cheaper than swapping every word. Short inputs (headers) are added eight bytes at a
//! time with the carry put back; long ones as 32-bit words into sixteen 64-bit lanes, a shape the
//! compiler turns into vector code. The same loop is compiled a second time for AVX2, which doubles
//! its speed, and chosen at run time.

use super::{Family, be16};

/// Bytes from which the vector loop beats the carry chain.
const WIDE_FROM: usize = 128;

/// An unfinished one's complement sum. Sums of pieces may be added in any order, as long as every
/// piece but the last has even length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(if bytes.len() < WIDE_FROM {
            sum_narrow(bytes)
        } else {
            sum_wide(bytes)
        })
    }

    /// The addresses, protocol and length every TCP and UDP checksum covers besides the segment
    /// itself.
    pub fn pseudo_header(packet: &[u8], family: Family, protocol: u8, l4_len: usize) -> Self {
        let addresses = match family {
            Family::V4 => sum_narrow(&packet[12..20]),
            Family::V6 => sum_narrow(&packet[8..40]),
        };
        Self(addresses)
            .word(u16::from(protocol))
            .double_word(l4_len as u32)
    }

    /// This sum and another piece's.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// This sum and a 16-bit field.
    pub fn word(self, value: u16) -> Self {
        Self(self.0 + u64::from(value.to_be()))
    }

    /// This sum and a 32-bit field.
    pub fn double_word(self, value: u32) -> Self {
        Self(self.0 + u64::from(value.to_be()))
    }

    /// The sum in 16 bits, not complemented: what a checksum field holds while the rest is left to
    /// be added.
    pub fn fold(self) -> u16 {
        let sum = fold_once(fold_once(self.0));
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        u16::from_be(((sum & 0xffff) + (sum >> 16)) as u16)
    }

    /// The finished checksum.
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether this is the sum of data that contains its own correct checksum.
    pub fn verifies(self) -> bool {
        self.fold() == 0xffff
    }
}

/// RFC 768: a UDP checksum that comes out as zero is sent as its other representation, for zero
/// means "none".
pub fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// The checksum `field` after one 16-bit word it covers changed from `old` to `new` (RFC 1624,
/// equation 3). Leaves a wrong checksum wrong.
pub fn patched(field: u16, old: u16, new: u16) -> u16 {
    let sum = u32::from(!field) + u32::from(!old) + u32::from(new);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// The 16-bit word at `at` is replaced and the checksum at `field_at` follows.
pub(super) fn replace_word(bytes: &mut [u8], field_at: usize, at: usize, new: u16) {
    let field = patched(be16(bytes, field_at), be16(bytes, at), new);
    super::put16(bytes, at, new);
    super::put16(bytes, field_at, field);
}

fn fold_once(sum: u64) -> u64 {
    (sum & 0xffff_ffff) + (sum >> 32)
}

/// Adds eight bytes at a time; the result has at most 33 bits and a few.
#[inline]
fn sum_narrow(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum = 0;
    for word in words {
        sum = add_with_carry(sum, u64::from_ne_bytes(*word));
    }
    fold_once(sum) + sum_rest(rest)
}

#[inline]
fn add_with_carry(sum: u64, word: u64) -> u64 {
    let (sum, carry) = sum.overflowing_add(word);
    sum + u64::from(carry)
}

/// Up to seven bytes, the last one padded with a zero.
#[inline]
fn sum_rest(mut rest: &[u8]) -> u64 {
    let mut sum = 0;
    if let Some((word, tail)) = rest.split_first_chunk::<4>() {
        sum += u64::from(u32::from_ne_bytes(*word));
        rest = tail;
    }
    if let Some((word, tail)) = rest.split_first_chunk::<2>() {
        sum += u64::from(u16::from_ne_bytes(*word));
        rest = tail;
    }
    if let [last] = rest {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    sum
}

/// The loop both wide variants are compiled from. A lane takes 2^32 words before it could overflow.
#[inline(always)]
fn sum_lanes(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let mut lanes = [0u64; 16];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    lanes.iter().sum::<u64>() + sum_narrow(rest)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum_lanes(bytes)
}

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "calling code compiled for a processor feature that was found at run time"
)]
fn sum_wide(bytes: &[u8]) -> u64 {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the only condition of a `target_feature` function is that the processor has the
        // feature; the line above has just asked it.
        return unsafe { sum_avx2(bytes) };
    }
    sum_lanes(bytes)
}

#[cfg(not(target_arch = "x86_64"))]
fn sum_wide(bytes: &[u8]) -> u64 {
    sum_lanes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 word by word, as it is written there.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn every_length_and_alignment_agrees_with_the_rfc(
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
            skip in 0usize..9,
        ) {
            let bytes = &bytes[skip.min(bytes.len())..];
            prop_assert_eq!(Sum::of(bytes).fold(), reference(bytes));
            prop_assert_eq!(Sum(sum_lanes(bytes)).fold(), reference(bytes));
            prop_assert_eq!(Sum(sum_narrow(bytes)).fold(), reference(bytes));
        }

        #[test]
        fn pieces_add_up(
            bytes in prop::collection::vec(any::<u8>(), 2..3000),
            cut in any::<prop::sample::Index>(),
        ) {
            let (a, b) = bytes.split_at(cut.index(bytes.len()) & !1);
            prop_assert_eq!(Sum::of(b).plus(Sum::of(a)).fold(), reference(&bytes));
        }

        #[test]
        fn a_patched_checksum_is_the_recomputed_one(
            mut bytes in prop::collection::vec(any::<u8>(), 20),
            at in 0usize..9,
            new: u16,
        ) {
            bytes[0] |= 0x40; // a header is never all zero
            super::super::put16(&mut bytes, 18, 0);
            let field = Sum::of(&bytes).checksum();
            super::super::put16(&mut bytes, 18, field);
            let new = if at == 0 { new | 0x4000 } else { new };
            replace_word(&mut bytes, 18, 2 * at, new);
            let patched = be16(&bytes, 18);
            super::super::put16(&mut bytes, 18, 0);
            prop_assert_eq!(patched, Sum::of(&bytes).checksum());
        }
    }

    #[test]
    fn fields_count_as_if_they_stood_in_the_packet() {
        assert_eq!(
            Sum::default().word(0x1234).double_word(0xa1b2_c3d4).fold(),
            reference(&[0x12, 0x34, 0xa1, 0xb2, 0xc3, 0xd4])
        );
    }

    #[test]
    fn the_largest_packet_of_ones_does_not_overflow() {
        let bytes = vec![0xff; 70_000];
        assert_eq!(Sum::of(&bytes).fold(), 0xffff);
        assert_eq!(Sum(sum_narrow(&bytes)).fold(), 0xffff);
    }

    #[test]
    fn the_pseudo_header_of_both_families_is_summed_from_the_packet() {
        let packet: Vec<u8> = (0..60).collect();
        let v4: Vec<u8> = packet[12..20]
            .iter()
            .copied()
            .chain([0, 17, 0, 9])
            .collect();
        assert_eq!(
            Sum::pseudo_header(&packet, Family::V4, 17, 9).fold(),
            reference(&v4)
        );
        let v6: Vec<u8> = packet[8..40]
            .iter()
            .copied()
            .chain([0, 1, 0, 2, 0, 0, 0, 6])
            .collect();
        assert_eq!(
            Sum::pseudo_header(&packet, Family::V6, 6, 0x10002).fold(),
            reference(&v6)
        );
    }
}

//! VXLAN with its inner Ethernet header: what a datagram must look like to be ours.
//!
//! As strict as the kernel's endpoint (no unknown flag, no reserved bit), and a little stricter
//! where the kernel would hand a frame to a bridge that is not here: only IP, only to our address,
//! never from a group.

use super::{Family, Mac};

/// Bytes in front of the inner packet: 8 of VXLAN, 14 of Ethernet.
pub const OVERHEAD: usize = 22;

const FLAGS_VNI_VALID: u8 = 0x08;
const ETHERTYPE_V4: u16 = 0x0800;
const ETHERTYPE_V6: u16 = 0x86dd;

/// Why a datagram is not for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VxlanError {
    /// Too short for the headers and one byte of packet.
    TooShort,
    /// The VNI flag is clear, or another flag or reserved bit is set.
    Flags,
    /// Another network.
    Vni,
    /// Not sent to our address, or sent from our own, from a group or from nobody.
    Mac,
    /// Neither IPv4 nor IPv6, or the packet's version says otherwise.
    Ethertype,
}

/// Writes the headers that go in front of an inner packet.
pub fn write_header(out: &mut [u8; OVERHEAD], vni: u32, dst: Mac, src: Mac, family: Family) {
    let ethertype = match family {
        Family::V4 => ETHERTYPE_V4,
        Family::V6 => ETHERTYPE_V6,
    };
    out[..4].copy_from_slice(&[FLAGS_VNI_VALID, 0, 0, 0]);
    out[4..8].copy_from_slice(&(vni << 8).to_be_bytes());
    out[8..14].copy_from_slice(&dst.0);
    out[14..20].copy_from_slice(&src.0);
    out[20..].copy_from_slice(&ethertype.to_be_bytes());
}

/// Checks a received datagram; answers where its inner packet begins and which family it is.
pub fn open(datagram: &[u8], vni: u32, own_mac: Mac) -> Result<(usize, Family), VxlanError> {
    let Some((header, packet)) = datagram.split_first_chunk::<OVERHEAD>() else {
        return Err(VxlanError::TooShort);
    };
    let Some(first) = packet.first() else {
        return Err(VxlanError::TooShort);
    };
    if header[..4] != [FLAGS_VNI_VALID, 0, 0, 0] || header[7] != 0 {
        return Err(VxlanError::Flags);
    }
    if u32::from_be_bytes([0, header[4], header[5], header[6]]) != vni {
        return Err(VxlanError::Vni);
    }
    check_macs(header, own_mac)?;
    match (u16::from_be_bytes([header[20], header[21]]), first >> 4) {
        (ETHERTYPE_V4, 4) => Ok((OVERHEAD, Family::V4)),
        (ETHERTYPE_V6, 6) => Ok((OVERHEAD, Family::V6)),
        _ => Err(VxlanError::Ethertype),
    }
}

/// Who sent a datagram that was [opened](open).
pub fn sender(datagram: &[u8]) -> Mac {
    Mac(std::array::from_fn(|at| datagram[14 + at]))
}

fn check_macs(header: &[u8; OVERHEAD], own: Mac) -> Result<(), VxlanError> {
    let mac = |at: usize| {
        Mac([
            header[at],
            header[at + 1],
            header[at + 2],
            header[at + 3],
            header[at + 4],
            header[at + 5],
        ])
    };
    let (dst, src) = (mac(8), mac(14));
    if dst != own || src == own || src.is_multicast() || src.is_zero() {
        return Err(VxlanError::Mac);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn datagram(family: Family) -> Vec<u8> {
        let mut header = [0; OVERHEAD];
        write_header(&mut header, 1, OWN, PEER, family);
        let mut bytes = header.to_vec();
        bytes.extend([if family == Family::V4 { 0x45 } else { 0x60 }; 40]);
        bytes
    }

    fn opened(change: impl FnOnce(&mut Vec<u8>)) -> Result<(usize, Family), VxlanError> {
        let mut bytes = datagram(Family::V4);
        change(&mut bytes);
        open(&bytes, 1, OWN)
    }

    #[test]
    fn what_was_written_opens() {
        assert_eq!(open(&datagram(Family::V4), 1, OWN), Ok((22, Family::V4)));
        assert_eq!(open(&datagram(Family::V6), 1, OWN), Ok((22, Family::V6)));
        assert_eq!(datagram(Family::V4)[..8], [8, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(sender(&datagram(Family::V4)), PEER);
    }

    #[test]
    fn every_length_without_a_packet_is_too_short() {
        let bytes = datagram(Family::V4);
        for len in 0..=OVERHEAD {
            assert_eq!(
                open(&bytes[..len], 1, OWN),
                Err(VxlanError::TooShort),
                "{len} bytes"
            );
        }
        assert!(open(&bytes[..OVERHEAD + 1], 1, OWN).is_ok());
    }

    #[test]
    fn any_other_flag_or_reserved_bit_is_refused() {
        for bit in 0..32 {
            assert_eq!(
                opened(|b| b[bit / 8] ^= 0x80 >> (bit % 8)),
                Err(VxlanError::Flags),
                "bit {bit}"
            );
        }
        for bit in 0..8 {
            assert_eq!(
                opened(|b| b[7] ^= 1 << bit),
                Err(VxlanError::Flags),
                "last byte, bit {bit}"
            );
        }
    }

    #[test]
    fn another_network_is_refused() {
        for bit in 0..24 {
            assert_eq!(
                opened(|b| b[4 + bit / 8] ^= 0x80 >> (bit % 8)),
                Err(VxlanError::Vni)
            );
        }
    }

    #[test]
    fn frames_not_sent_to_us_by_a_neighbour_are_refused() {
        let macs: [(usize, [u8; 6]); 6] = [
            (8, [2, 0, 0, 0, 0, 9]),
            (8, [255; 6]),
            (8, [1, 0, 0x5e, 0, 0, 1]),
            (14, OWN.0),
            (14, [0; 6]),
            (14, [3, 0, 0, 0, 0, 2]),
        ];
        for (at, mac) in macs {
            assert_eq!(
                opened(|b| b[at..at + 6].copy_from_slice(&mac)),
                Err(VxlanError::Mac),
                "{mac:?} at {at}"
            );
        }
    }

    #[test]
    fn only_ip_of_the_announced_version_is_accepted() {
        for ethertype in [0x0806u16, 0x8100, 0x86dd, 0x0000] {
            assert_eq!(
                opened(|b| b[20..22].copy_from_slice(&ethertype.to_be_bytes())),
                Err(VxlanError::Ethertype)
            );
        }
        assert_eq!(opened(|b| b[22] = 0x60), Err(VxlanError::Ethertype));
    }
}

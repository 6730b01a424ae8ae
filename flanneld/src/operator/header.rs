//! The beginning of a packet in a few words, as `10.5.3.2:53 > 10.5.1.7:4711 udp`. Whatever the bytes are, at worst
//! there are no words.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// VXLAN and Ethernet headers in front of an inner packet.
const VXLAN: usize = 8 + 14;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An IP packet as it is, or else what VXLAN wraps.
pub(super) fn told(bytes: &[u8]) -> Option<String> {
    let wrapped = || {
        let network = bytes.get(4..7)?;
        let vni = network
            .iter()
            .fold(0, |vni, byte| vni << 8 | u32::from(*byte));
        let inner = ip(bytes.get(VXLAN..)?)?;
        Some(format!("VXLAN {vni}: {inner}"))
    };
    ip(bytes).or_else(wrapped)
}

fn ip(packet: &[u8]) -> Option<String> {
    let (protocol, source, destination, rest) = match packet.first()? >> 4 {
        4 => {
            let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk()?));
            let length = usize::from(packet[0] & 15) * 4;
            let rest = packet.get(length.max(20)..).unwrap_or_default();
            (
                *packet.get(9)?,
                address(12)?.into(),
                address(16)?.into(),
                rest,
            )
        }
        6 => {
            let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk()?));
            let rest = packet.get(40..).unwrap_or_default();
            (
                *packet.get(6)?,
                address(8)?.into(),
                address(24)?.into(),
                rest,
            )
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(*rest.get(at..)?.first_chunk()?));
    let ports = match protocol {
        TCP | UDP => port(0).zip(port(2)),
        _ => None,
    };
    let mut told = match ports {
        Some((from, to)) => format!(
            "{} > {}",
            SocketAddr::new(source, from),
            SocketAddr::new(destination, to)
        ),
        None => format!("{source} > {destination}"),
    };
    // Writing to a string does not fail.
    let _ = match protocol {
        1 | 58 => write!(told, " icmp"),
        TCP => write!(told, " tcp"),
        UDP => write!(told, " udp"),
        other => write!(told, " protocol {other}"),
    };
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp() -> Vec<u8> {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[9] = UDP;
        packet[12..16].copy_from_slice(&[10, 5, 3, 2]);
        packet[16..20].copy_from_slice(&[10, 5, 1, 7]);
        packet[20..24].copy_from_slice(&[0, 53, 0x12, 0x67]);
        packet
    }

    #[test]
    fn packets_are_told_by_their_addresses_ports_and_protocol() {
        assert_eq!(told(&udp()).unwrap(), "10.5.3.2:53 > 10.5.1.7:4711 udp");
        let mut six = vec![0; 44];
        (six[0], six[6], six[23], six[39]) = (0x60, 58, 1, 2);
        assert_eq!(told(&six).unwrap(), "::1 > ::2 icmp");
    }

    #[test]
    fn what_vxlan_wraps_is_told_with_its_network() {
        let wrapped = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &[0; 14], &udp()].concat();
        assert_eq!(
            told(&wrapped).unwrap(),
            "VXLAN 7: 10.5.3.2:53 > 10.5.1.7:4711 udp"
        );
    }

    #[test]
    fn bytes_of_any_kind_and_length_are_taken() {
        for length in 0..60 {
            for first in [0, 0x40, 0x45, 0x4f, 0x60, 0xff] {
                let mut bytes = vec![0xff; length];
                if let Some(byte) = bytes.first_mut() {
                    *byte = first;
                }
                let _ = told(&bytes);
            }
        }
        assert_eq!(told(b""), None);
    }
}

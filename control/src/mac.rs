//! Ethernet addresses of VXLAN endpoints.

use std::fmt;
use std::str::FromStr;

/// An Ethernet address; printed in lower case with colons, as lease records carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A fresh address that no manufacturer gives out: unicast, with the local bit set.
    pub fn random_local() -> Self {
        let mut bytes = [0; 6];
        crate::random::generator().fill(&mut bytes);
        bytes[0] = (bytes[0] & 0xfe) | 0x02;
        Self(bytes)
    }

    /// Whether the address can stand for one endpoint: neither multicast nor all zero.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// The text is not six pairs of hexadecimal digits with colons between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an Ethernet address")]
pub struct NotAMac;

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            *byte = pairs.next().and_then(hex_pair).ok_or(NotAMac)?;
        }
        pairs.next().map_or(Ok(Self(bytes)), |_| Err(NotAMac))
    }
}

fn hex_pair(pair: &str) -> Option<u8> {
    let digits = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_address_is_local_and_unicast() {
        for _ in 0..1000 {
            let mac = Mac::random_local();
            assert!(mac.is_unicast());
            assert_eq!(mac.0[0] & 2, 2);
        }
    }

    #[test]
    fn text_round_trips_in_lower_case() {
        let mac: Mac = "5E:f8:4f:00:e3:37".parse().unwrap();
        assert_eq!(mac.to_string(), "5e:f8:4f:00:e3:37");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "5e:f8:4f:00:e3",
            "5e:f8:4f:00:e3:37:00",
            "5e:f8:4f:00:e3:+7",
            "5ef8.4f00.e337",
            "5e:f8:4f:00:e3:3",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NotAMac), "{text}");
        }
    }
}

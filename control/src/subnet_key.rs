//! The name of a lease: `10.5.26.0-24`, or with an IPv6 subnet `10.5.26.0-24&fd05:0:0:1::-64`.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The subnets of one node; at least one of the two is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubnetKey {
    ipv4: Option<Ipv4Net>,
    ipv6: Option<Ipv6Net>,
}

impl SubnetKey {
    /// A key for the given subnets, or `None` where both are missing.
    pub fn new(ipv4: Option<Ipv4Net>, ipv6: Option<Ipv6Net>) -> Option<Self> {
        (ipv4.is_some() || ipv6.is_some()).then_some(Self { ipv4, ipv6 })
    }

    /// A key for subnets of different families; of two of the same family the last one counts.
    pub(crate) fn of(subnets: impl IntoIterator<Item = IpNet>) -> Option<Self> {
        let (mut ipv4, mut ipv6) = (None, None);
        for subnet in subnets {
            match subnet {
                IpNet::V4(subnet) => ipv4 = Some(subnet),
                IpNet::V6(subnet) => ipv6 = Some(subnet),
            }
        }
        Self::new(ipv4, ipv6)
    }

    /// The IPv4 subnet.
    pub fn ipv4(&self) -> Option<Ipv4Net> {
        self.ipv4
    }

    /// The IPv6 subnet.
    pub fn ipv6(&self) -> Option<Ipv6Net> {
        self.ipv6
    }

    /// The subnets of all families.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        self.ipv4
            .map(IpNet::V4)
            .into_iter()
            .chain(self.ipv6.map(IpNet::V6))
    }

    /// Whether any address belongs to both.
    pub fn overlaps(&self, subnet: IpNet) -> bool {
        self.subnets().any(|own| overlap(own, subnet))
    }
}

/// Whether two subnets share an address; one then contains the other.
pub(crate) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Text that names no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a subnet name such as 10.5.26.0-24: {0}")]
pub struct NotASubnetKey(String);

impl FromStr for SubnetKey {
    type Err = NotASubnetKey;

    fn from_str(text: &str) -> Result<Self, NotASubnetKey> {
        // One subnet must not hide behind two spellings: records are told apart by name.
        let canonical = parse(text).filter(|key| key.to_string() == text);
        canonical.ok_or_else(|| NotASubnetKey(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<SubnetKey> {
    let (ipv4, ipv6) = match text.split_once('&') {
        Some((ipv4, ipv6)) => (ipv4, Some(parse_ipv6(ipv6)?)),
        None => (text, None),
    };
    // A node without IPv4 writes 0.0.0.0-0 in its place.
    let ipv4 =
        parse_ipv4(ipv4).map(|subnet| Some(subnet).filter(|subnet| subnet.prefix_len() > 0))?;
    SubnetKey::new(ipv4, ipv6)
}

fn parse_ipv4(text: &str) -> Option<Ipv4Net> {
    let (address, len) = split(text, 31)?;
    let subnet = Ipv4Net::new(address.parse::<Ipv4Addr>().ok()?, len).ok()?;
    (subnet.trunc() == subnet).then_some(subnet)
}

fn parse_ipv6(text: &str) -> Option<Ipv6Net> {
    let (address, len) = split(text, 127)?;
    let subnet = Ipv6Net::new(address.parse::<Ipv6Addr>().ok()?, len).ok()?;
    (subnet.trunc() == subnet).then_some(subnet)
}

fn split(text: &str, len_max: u8) -> Option<(&str, u8)> {
    let (address, digits) = text.rsplit_once('-')?;
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let len = plain.then(|| digits.parse::<u8>().ok()).flatten()?;
    (len <= len_max).then_some((address, len))
}

impl fmt::Display for SubnetKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ipv4 {
            Some(subnet) => write!(formatter, "{}-{}", subnet.addr(), subnet.prefix_len())?,
            None => formatter.write_str("0.0.0.0-0")?,
        }
        match self.ipv6 {
            Some(subnet) => write!(formatter, "&{}-{}", subnet.addr(), subnet.prefix_len()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> SubnetKey {
        let key: SubnetKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        key
    }

    #[test]
    fn subnet_key_round_trip_v4() {
        let key = round_trip("10.12.13.0-24");
        assert_eq!(key.ipv4().unwrap().to_string(), "10.12.13.0/24");
        assert!(key.ipv6().is_none());
    }

    #[test]
    fn subnet_key_round_trip_v4_and_v6() {
        let key = round_trip("10.5.47.0-24&fd05:0:0:1::-64");
        assert_eq!(key.ipv6().unwrap().to_string(), "fd05:0:0:1::/64");
    }

    #[test]
    fn a_node_without_ipv4_is_named_with_zeros() {
        assert!(round_trip("0.0.0.0-0&fd05::-64").ipv4().is_none());
    }

    #[test]
    fn subnet_key_invalid() {
        let invalid = [
            "",
            "10.12.13.0",
            "10.12.13-24",
            "10.12.300.0-24",
            "10.12.13.0-24abc",
            "10.12.13.0-32",
            "10.12.13.0-",
            "10.12.13.0-+4",
            "&fd05::-64",
            "10.12.13.0-24&fd05:::-64",
            "10.12.13.0-24&fd05::",
            "10.12.13.0-24&fd05::-128",
            "10.12.13.0-24&",
            "0.0.0.0-0",
            "10.12.13.7-24",
            "10.12.13.0-024",
            "10.12.13.0-24&FD05::-64",
            "subnets/10.12.13.0-24",
        ];
        for text in invalid {
            assert!(text.parse::<SubnetKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_containment_either_way() {
        let key: SubnetKey = "10.5.4.0-22".parse().unwrap();
        let overlaps = |text: &str| key.overlaps(text.parse().unwrap());
        assert!(overlaps("10.5.7.0/24") && overlaps("10.5.0.0/16") && overlaps("10.5.4.0/22"));
        assert!(!overlaps("10.5.8.0/24") && !overlaps("fd05::/64"));
    }
}

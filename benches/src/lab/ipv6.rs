//! The same lab with IPv6 besides: addresses on the underlay, on bridges and in containers.

use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::{Lab, Side};

/// A node's IPv6 container network, which is always a /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet6 {
    /// The first address, which is the node's own on the overlay device.
    pub base: Ipv6Addr,
}

impl Subnet6 {
    /// The bridge's address.
    pub fn gateway(self) -> Ipv6Addr {
        self.host(1)
    }

    /// The container's address.
    pub fn container(self) -> Ipv6Addr {
        self.host(2)
    }

    fn host(self, number: u128) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.base.to_bits() + number)
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/64", self.base)
    }
}

impl FromStr for Subnet6 {
    type Err = String;

    /// Reads `fd05:0:0:7::1/64`; the host part is cleared.
    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.strip_suffix("/64");
        let address = address.and_then(|address| address.parse::<Ipv6Addr>().ok());
        let address = address.ok_or_else(|| format!("`{text}` is not an IPv6 network of /64"))?;
        Ok(Self {
            base: Ipv6Addr::from_bits(address.to_bits() >> 64 << 64),
        })
    }
}

impl Side {
    /// The node's IPv6 address on the underlay.
    pub fn underlay_ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1 + self as u16)
    }

    /// The IPv6 container network of a node whose lease no daemon chooses.
    pub fn default_subnet_ipv6(self) -> Subnet6 {
        Subnet6 {
            base: Ipv6Addr::new(0xfd05, 0, 0, 1 + self as u16, 0, 0, 0, 0),
        }
    }
}

impl Lab {
    /// Gives the nodes IPv6 addresses on the underlay.
    pub fn add_ipv6(&self) -> io::Result<()> {
        for side in Side::BOTH {
            let node = self.node(side);
            node.ip(&format!(
                "addr add {}/64 dev eth0 nodad",
                side.underlay_ipv6()
            ))?;
        }
        Ok(())
    }

    /// Gives the bridge and the container of a node IPv6 addresses out of `subnet`.
    pub fn address_ipv6(&self, side: Side, subnet: Subnet6) -> io::Result<()> {
        let (gateway, container) = (subnet.gateway(), subnet.container());
        let node = self.node(side);
        node.set("net/ipv6/conf/all/forwarding", "1")?;
        node.ip(&format!("addr replace {gateway}/64 dev cni0 nodad"))?;
        let inside =
            format!("addr replace {container}/64 dev eth0 nodad\nroute replace ::/0 via {gateway}");
        self.container(side).ip(&inside).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_subnet_is_read_from_the_gateway_address() {
        let subnet: Subnet6 = "fd05:0:0:2f::1/64".parse().unwrap();
        assert_eq!(subnet.to_string(), "fd05:0:0:2f::/64");
        assert_eq!(subnet.container().to_string(), "fd05:0:0:2f::2");
        for wrong in ["fd05::1", "fd05::1/48", "10.5.1.1/64", ""] {
            assert!(wrong.parse::<Subnet6>().is_err(), "{wrong}");
        }
    }
}

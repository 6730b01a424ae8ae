//! Which interface carries the tunnel, and which address other nodes are told. The choice is pure; the view
//! of the host it is made from is read once.

use super::netlink::{Address, Interface, Netlink, RouteFound};
use crate::registry::Addresses;
use ipnet::IpNet;
use regex::Regex;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tracing::info;

/// What the operator said about it; the first that leads to an interface decides.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Names or addresses, in order.
    pub interfaces: Vec<String>,
    /// Patterns for addresses, then for names.
    pub patterns: Vec<Regex>,
    /// The interface that leads there.
    pub can_reach: Option<IpAddr>,
    /// Address to advertise.
    pub public_ip: Option<Ipv4Addr>,
    /// IPv6 address to advertise.
    pub public_ipv6: Option<Ipv6Addr>,
    /// Address to advertise whatever the interface is.
    pub advertised_ip: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub advertised_ipv6: Option<Ipv6Addr>,
}

impl Choice {
    /// The same, but for what the store says about this node.
    pub fn with(&self, told: Addresses) -> Self {
        Self {
            public_ip: told.public_ip.or(self.public_ip),
            public_ipv6: told.public_ipv6.or(self.public_ipv6),
            advertised_ip: told.advertised_ip.or(self.advertised_ip),
            advertised_ipv6: told.advertised_ipv6.or(self.advertised_ipv6),
            ..self.clone()
        }
    }

    /// Whether no interface is named in any way.
    fn names_none(&self) -> bool {
        self.interfaces.is_empty() && self.patterns.is_empty() && self.can_reach.is_none()
    }

    /// Whether nothing at all is said.
    fn leaves_it_open(&self) -> bool {
        self.names_none() && self.public_ip.is_none() && self.public_ipv6.is_none()
    }
}

/// Address families the underlay must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4 wanted.
    pub ipv4: bool,
    /// IPv6 wanted.
    pub ipv6: bool,
}

/// The interface chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalInterface {
    /// Its name.
    pub name: String,
    /// Largest packet it carries.
    pub mtu: u32,
    /// Addresses to bind, one per family wanted.
    pub addresses: Vec<IpAddr>,
    /// Address other nodes send to.
    pub public_ip: Option<Ipv4Addr>,
    /// IPv6 address other nodes send to.
    pub public_ipv6: Option<Ipv6Addr>,
    /// The networks the interface is in, with its own addresses.
    pub networks: Vec<IpNet>,
}

impl ExternalInterface {
    /// The addresses other nodes send to.
    pub fn public_addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let ipv4 = self.public_ip.map(IpAddr::V4);
        ipv4.into_iter().chain(self.public_ipv6.map(IpAddr::V6))
    }

    /// Whether nodes are reached as by another one, whatever other addresses come and go beside the ones in use.
    pub fn same_way(&self, other: &Self) -> bool {
        let networks = self.networks.clone();
        *self
            == Self {
                networks,
                ..other.clone()
            }
    }
}

impl fmt::Display for ExternalInterface {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &mut dyn Iterator<Item = IpAddr>| {
            let texts: Vec<String> = addresses.map(|address| address.to_string()).collect();
            texts.join(" and ")
        };
        let own = list(&mut self.addresses.iter().copied());
        let public = list(&mut self.public_addresses());
        write!(formatter, "{} with {own}, MTU {}", self.name, self.mtu)?;
        if own == public {
            return Ok(());
        }
        write!(formatter, ", known to others as {public}")
    }
}

/// Why there is no such interface.
#[derive(Debug, thiserror::Error)]
pub enum NoInterface {
    /// The kernel does not tell.
    #[error("cannot read the host's interfaces: {0}")]
    Unreadable(#[from] io::Error),
    /// Nothing matches.
    #[error("{0}")]
    NoMatch(String),
}

/// What the host looks like.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// All interfaces.
    pub interfaces: Vec<Interface>,
    /// Interface of the IPv4 default route.
    pub default_ipv4: Option<u32>,
    /// Interface of the IPv6 default route.
    pub default_ipv6: Option<u32>,
    /// The route to [`Choice::can_reach`].
    pub reach: Option<RouteFound>,
    /// Leave unsaid what does not match.
    pub quiet: bool,
}

/// Finds the interface on this host.
pub fn find(
    netlink: &mut Netlink,
    choice: &Choice,
    families: Families,
) -> Result<ExternalInterface, NoInterface> {
    view(netlink, choice)?.choose(choice, families)
}

/// Finds it again after something has changed. The interface that holds our addresses stays the one, whatever
/// became of routes and names: nodes know us by them. Only where no interface does is the choice made anew.
pub fn find_again(
    netlink: &mut Netlink,
    choice: &Choice,
    families: Families,
    was: &ExternalInterface,
) -> Result<ExternalInterface, NoInterface> {
    let view = HostView {
        quiet: true,
        ..view(netlink, choice)?
    };
    view.choose_again(choice, families, was)
}

fn view(netlink: &mut Netlink, choice: &Choice) -> io::Result<HostView> {
    Ok(HostView {
        interfaces: netlink.interfaces()?,
        default_ipv4: netlink.default_interface(true)?,
        default_ipv6: netlink.default_interface(false)?,
        // No route there is a miss, not a failure.
        reach: choice
            .can_reach
            .and_then(|address| netlink.route_to(address).ok()),
        quiet: false,
    })
}

/// An interface and the address that led to it, if one did.
type Match<'a> = (&'a Interface, Option<IpAddr>);

impl HostView {
    /// Makes the choice.
    pub fn choose(
        &self,
        choice: &Choice,
        families: Families,
    ) -> Result<ExternalInterface, NoInterface> {
        let (interface, address) = self.matching(choice, families)?;
        if interface.mtu == 0 {
            return no_match(format!("interface {} has no MTU", interface.name));
        }
        let ipv4 = own_address(interface, address, true);
        let ipv6 = own_address(interface, address, false);
        let missing = |family: &str| {
            NoInterface::NoMatch(format!(
                "interface {} has no {family} address",
                interface.name
            ))
        };
        let ipv4 = families
            .ipv4
            .then(|| ipv4.ok_or_else(|| missing("IPv4")))
            .transpose()?;
        let ipv6 = families
            .ipv6
            .then(|| ipv6.ok_or_else(|| missing("IPv6")))
            .transpose()?;
        Ok(ExternalInterface {
            name: interface.name.clone(),
            mtu: interface.mtu,
            addresses: ipv4.into_iter().chain(ipv6).collect(),
            public_ip: choice
                .advertised_ip
                .or(choice.public_ip)
                .filter(|_| families.ipv4)
                .or_else(|| ipv4.and_then(only_v4)),
            public_ipv6: choice
                .advertised_ipv6
                .or(choice.public_ipv6)
                .filter(|_| families.ipv6)
                .or_else(|| ipv6.and_then(only_v6)),
            networks: networks(interface),
        })
    }

    /// Makes the choice again, see [`find_again`].
    pub fn choose_again(
        &self,
        choice: &Choice,
        families: Families,
        was: &ExternalInterface,
    ) -> Result<ExternalInterface, NoInterface> {
        if let Some(holder) = self.holder_of_all(was) {
            return Ok(ExternalInterface {
                name: holder.name.clone(),
                mtu: holder.mtu,
                networks: networks(holder),
                ..was.clone()
            });
        }
        let chosen = self.choose(choice, families);
        if chosen.is_ok() || !choice.leaves_it_open() {
            return chosen;
        }
        // The default route often comes back later than the address, or never.
        let by_name = Choice {
            interfaces: vec![was.name.clone()],
            ..choice.clone()
        };
        self.choose(&by_name, families).or(chosen)
    }

    /// Whoever holds all our addresses; the interface of the same name if there are several.
    fn holder_of_all(&self, was: &ExternalInterface) -> Option<&Interface> {
        let holds = |interface: &&Interface| {
            let has = |address: &IpAddr| {
                let mut held = interface.addresses.iter();
                held.any(|held| held.net.addr() == *address)
            };
            interface.mtu > 0 && was.addresses.iter().all(has)
        };
        let holders = self.interfaces.iter().filter(holds);
        holders.min_by_key(|interface| interface.name != was.name)
    }

    fn matching(&self, choice: &Choice, families: Families) -> Result<Match<'_>, NoInterface> {
        if choice.names_none() {
            return self.unasked(choice, families);
        }
        let by_word = choice
            .interfaces
            .iter()
            .find_map(|word| self.tell_miss(word, self.by_word(word)));
        let by_pattern = || {
            choice.patterns.iter().find_map(|pattern| {
                self.tell_miss(pattern.as_str(), self.by_pattern(pattern, families))
            })
        };
        let by_reach = || {
            choice
                .can_reach
                .and_then(|address| self.tell_miss(&address.to_string(), self.by_reach()))
        };
        let found = by_word.or_else(by_pattern).or_else(by_reach);
        found.map_or_else(
            || {
                no_match(format!(
                    "no interface matches what was asked for; there are {}",
                    self.list()
                ))
            },
            Ok,
        )
    }

    /// Without a word about interfaces: the holder of the public address, else the way out.
    fn unasked(&self, choice: &Choice, families: Families) -> Result<Match<'_>, NoInterface> {
        let ipv4 = choice.public_ip.filter(|_| families.ipv4).map(IpAddr::V4);
        let public = ipv4.or_else(|| choice.public_ipv6.filter(|_| families.ipv6).map(IpAddr::V6));
        let Some(public) = public else {
            return self.on_the_way_out(families);
        };
        let cure = || {
            no_match(format!(
                "no interface has the public address {public}; say which one to use with --iface"
            ))
        };
        self.holder(public)
            .map_or_else(cure, |interface| Ok((interface, Some(public))))
    }

    fn on_the_way_out(&self, families: Families) -> Result<Match<'_>, NoInterface> {
        if families.ipv4 && families.ipv6 && self.default_ipv4 != self.default_ipv6 {
            return no_match("the IPv4 and IPv6 default routes leave by different interfaces; choose one with --iface".to_owned());
        }
        let index = if families.ipv4 {
            self.default_ipv4
        } else {
            self.default_ipv6
        };
        let found = index.and_then(|index| self.by_index(index));
        let cure = || {
            no_match(
                "there is no default route to find the interface by; choose one with --iface"
                    .to_owned(),
            )
        };
        found.map_or_else(cure, |interface| Ok((interface, None)))
    }

    fn by_word(&self, word: &str) -> Option<Match<'_>> {
        match word.parse() {
            Ok(address) => self
                .holder(address)
                .map(|interface| (interface, Some(address))),
            Err(_) => self
                .interfaces
                .iter()
                .find(|interface| interface.name == word)
                .map(|interface| (interface, None)),
        }
    }

    /// Addresses first; names count only where no address matches anywhere.
    fn by_pattern(&self, pattern: &Regex, families: Families) -> Option<Match<'_>> {
        let by_address = self.interfaces.iter().find_map(|interface| {
            let mut candidates = usable(interface).filter(|address| {
                if address.is_ipv4() {
                    families.ipv4
                } else {
                    families.ipv6
                }
            });
            let matching = candidates.find(|address| pattern.is_match(&address.to_string()))?;
            Some((interface, Some(matching)))
        });
        let by_name = || {
            self.interfaces
                .iter()
                .find(|interface| pattern.is_match(&interface.name))
        };
        by_address.or_else(|| by_name().map(|interface| (interface, None)))
    }

    fn by_reach(&self) -> Option<Match<'_>> {
        let found = self.reach?;
        self.by_index(found.interface)
            .map(|interface| (interface, found.source))
    }

    fn by_index(&self, index: u32) -> Option<&Interface> {
        self.interfaces
            .iter()
            .find(|interface| interface.index == index)
    }

    fn holder(&self, address: IpAddr) -> Option<&Interface> {
        let holds = |interface: &&Interface| {
            interface
                .addresses
                .iter()
                .any(|held| held.net.addr() == address)
        };
        self.interfaces.iter().find(holds)
    }

    fn tell_miss<'a>(&self, asked: &str, found: Option<Match<'a>>) -> Option<Match<'a>> {
        if found.is_none() && !self.quiet {
            info!("no interface matches {asked}");
        }
        found
    }

    fn list(&self) -> String {
        let told = |interface: &Interface| {
            let addresses: Vec<String> = interface
                .addresses
                .iter()
                .map(|address| address.net.addr().to_string())
                .collect();
            format!("{}:[{}]", interface.name, addresses.join(" "))
        };
        self.interfaces
            .iter()
            .map(told)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The networks an interface is in.
fn networks(interface: &Interface) -> Vec<IpNet> {
    let addresses = interface.addresses.iter();
    addresses.map(|address| address.net).collect()
}

fn no_match<T>(why: String) -> Result<T, NoInterface> {
    Err(NoInterface::NoMatch(why))
}

/// The address asked for if it is of the family, else the interface's best.
fn own_address(interface: &Interface, asked: Option<IpAddr>, ipv4: bool) -> Option<IpAddr> {
    let of_family = |address: &IpAddr| address.is_ipv4() == ipv4;
    asked
        .filter(of_family)
        .or_else(|| usable(interface).find(of_family))
}

/// Addresses fit for use, best first: global, lasting, not made up for privacy; else as the kernel lists them.
fn usable(interface: &Interface) -> impl Iterator<Item = IpAddr> {
    let fit = |address: &&Address| {
        !address.deprecated && (is_global(address.net.addr()) || is_link_local(address.net.addr()))
    };
    let mut addresses: Vec<&Address> = interface.addresses.iter().filter(fit).collect();
    addresses.sort_by_key(|address| {
        (
            is_link_local(address.net.addr()),
            !address.permanent,
            address.temporary,
        )
    });
    addresses.into_iter().map(|address| address.net.addr())
}

fn is_global(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || is_link_local(address)
        || broadcast)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn only_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn only_v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    }
}

#[cfg(test)]
mod tests;

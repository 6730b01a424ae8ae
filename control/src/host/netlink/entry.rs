//! Lines of the kernel's forwarding tables, as this daemon writes them and finds them again.

use super::{Netlink, family};
use crate::mac::Mac;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::fmt;
use std::io;
use std::net::IpAddr;

/// A line of one of the kernel's tables. They are put in this order and removed in the opposite one, so that no
/// route leads to where nothing is known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// The Ethernet address behind an address on a link.
    Neighbour {
        /// The link.
        interface: u32,
        /// Who is meant.
        address: IpAddr,
        /// Where it listens.
        mac: Mac,
    },
    /// Where a VXLAN device sends frames for an Ethernet address.
    Endpoint {
        /// The device.
        interface: u32,
        /// Who is meant.
        mac: Mac,
        /// The node that holds it.
        address: IpAddr,
    },
    /// Packets for a network go out of an interface, to a gateway if there is one.
    Route {
        /// The network.
        to: IpNet,
        /// Next hop.
        gateway: Option<IpAddr>,
        /// The link.
        interface: u32,
        /// The gateway is on the link even if no address there says so.
        onlink: bool,
    },
    /// Packets for a network end here unless a route with a smaller metric leads on.
    Blackhole {
        /// The network.
        to: IpNet,
        /// The smaller, the stronger.
        metric: u32,
    },
}

/// What to do about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Let it stand, in place of one for the same destination.
    Put(Entry),
    /// Remove exactly this one.
    Remove(Entry),
}

impl Netlink {
    /// Puts one line.
    pub fn put(&mut self, entry: Entry) -> io::Result<()> {
        self.change(&[Change::Put(entry)])?.into_iter().collect()
    }

    /// Lasting neighbours of all links; what the kernel finds out by itself is left out.
    pub fn neighbours(&mut self, ipv4: bool) -> io::Result<Vec<Entry>> {
        let family = if ipv4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        self.lasting(family)
    }

    /// Lasting forwarding lines of all VXLAN devices.
    pub fn endpoints(&mut self) -> io::Result<Vec<Entry>> {
        self.lasting(AddressFamily::Bridge)
    }

    fn lasting(&mut self, family: AddressFamily) -> io::Result<Vec<Entry>> {
        let mut question = NeighbourMessage::default();
        question.header.family = family;
        let answers = self.dump(RouteNetlinkMessage::GetNeighbour(question))?;
        Ok(answers.iter().filter_map(lasting).collect())
    }

    /// Makes all changes in order; one that fails keeps no other from being made.
    pub fn change(&mut self, changes: &[Change]) -> io::Result<Vec<io::Result<()>>> {
        let outcomes = self.request_all(changes.iter().map(request).collect())?;
        Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.map(drop))
            .collect())
    }
}

fn request(change: &Change) -> super::batch::Request {
    let put = NLM_F_CREATE | NLM_F_REPLACE;
    match *change {
        Change::Put(entry) => match message(entry) {
            Message::Route(route) => (RouteNetlinkMessage::NewRoute(route), put),
            Message::Neighbour(line) => (RouteNetlinkMessage::NewNeighbour(line), put),
        },
        Change::Remove(entry) => match message(entry) {
            Message::Route(route) => (RouteNetlinkMessage::DelRoute(whoever_made(route)), 0),
            Message::Neighbour(line) => (RouteNetlinkMessage::DelNeighbour(line), 0),
        },
    }
}

enum Message {
    Route(RouteMessage),
    Neighbour(NeighbourMessage),
}

fn message(entry: Entry) -> Message {
    match entry {
        Entry::Neighbour {
            interface,
            address,
            mac,
        } => Message::Neighbour(neighbour(family(address), interface, address, mac)),
        Entry::Endpoint {
            interface,
            mac,
            address,
        } => {
            let mut line = neighbour(AddressFamily::Bridge, interface, address, mac);
            line.header.flags = NeighbourFlags::Own;
            Message::Neighbour(line)
        }
        Entry::Route {
            to,
            gateway,
            interface,
            onlink,
        } => {
            let mut route = route(to);
            route.attributes.push(RouteAttribute::Oif(interface));
            let gateway = gateway.map(|gateway| RouteAttribute::Gateway(gateway.into()));
            route.attributes.extend(gateway);
            if onlink {
                route.header.flags = RouteFlags::Onlink;
            }
            Message::Route(route)
        }
        Entry::Blackhole { to, metric } => {
            let mut route = route(to);
            route.header.kind = RouteType::BlackHole;
            route.attributes.push(RouteAttribute::Priority(metric));
            Message::Route(route)
        }
    }
}

fn neighbour(family: AddressFamily, interface: u32, address: IpAddr, mac: Mac) -> NeighbourMessage {
    let mut line = NeighbourMessage::default();
    line.header.family = family;
    line.header.ifindex = interface;
    line.header.state = NeighbourState::Permanent;
    line.header.kind = RouteType::Unicast;
    line.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    line
}

/// A neighbour's or forwarding line that stays until it is removed.
fn lasting(answer: &RouteNetlinkMessage) -> Option<Entry> {
    let RouteNetlinkMessage::NewNeighbour(line) = answer else {
        return None;
    };
    (line.header.state == NeighbourState::Permanent).then_some(())?;
    let (mut address, mut mac) = (None, None);
    for attribute in &line.attributes {
        match attribute {
            NeighbourAttribute::Destination(found) => address = plain(found),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes[..].try_into().ok().map(Mac),
            _ => {}
        }
    }
    let (interface, address, mac) = (line.header.ifindex, address?, mac?);
    Some(match line.header.family {
        AddressFamily::Bridge => Entry::Endpoint {
            interface,
            mac,
            address,
        },
        _ => Entry::Neighbour {
            interface,
            address,
            mac,
        },
    })
}

/// Forwarding lines say nothing of the family of their address but its length.
fn plain(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(address) => Some((*address).into()),
        NeighbourAddress::Inet6(address) => Some((*address).into()),
        NeighbourAddress::Other(bytes) => {
            let four = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from))
                .ok()
        }
        _ => None,
    }
}

/// As an operator's `ip route add` makes it, and as flannel always has.
fn route(to: IpNet) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family(to.addr());
    route.header.destination_prefix_length = to.prefix_len();
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    let destination = RouteAttribute::Destination(to.network().into());
    route.attributes.push(destination);
    route
}

/// A route to be removed, whoever made it and however far it reaches.
fn whoever_made(mut route: RouteMessage) -> RouteMessage {
    route.header.protocol = RouteProtocol::Unspec;
    route.header.scope = RouteScope::NoWhere;
    route
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neighbour { address, mac, .. } => write!(out, "neighbour {address} at {mac}"),
            Self::Endpoint { mac, address, .. } => write!(out, "forwarding of {mac} to {address}"),
            Self::Route { to, gateway, .. } => match gateway {
                Some(gateway) => write!(out, "route {to} via {gateway}"),
                None => write!(out, "route {to}"),
            },
            Self::Blackhole { to, .. } => write!(out, "blackhole route {to}"),
        }
    }
}

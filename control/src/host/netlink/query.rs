//! Questions to the kernel.

use super::{Netlink, family};
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Largest packet it carries.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Network identifier and port if it is a VXLAN device.
    pub vxlan: Option<(u32, u16)>,
    /// Its addresses in the kernel's order.
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address with the length of the network it is in.
    pub net: IpNet,
    /// Not to be used for anything new.
    pub deprecated: bool,
    /// Without an end of life.
    pub permanent: bool,
    /// Made up for privacy, to be replaced soon.
    pub temporary: bool,
}

/// How the kernel would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteFound {
    /// Number of the interface.
    pub interface: u32,
    /// Source address the kernel would choose.
    pub source: Option<IpAddr>,
    /// Next hop, if the destination is not on the link itself.
    pub gateway: Option<IpAddr>,
}

impl Netlink {
    /// All interfaces with their addresses.
    pub fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let links = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let mut interfaces: Vec<Interface> = links.into_iter().filter_map(interface).collect();
        for answer in self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
            let RouteNetlinkMessage::NewAddress(message) = answer else {
                continue;
            };
            let holder = interfaces
                .iter_mut()
                .find(|interface| interface.index == message.header.index);
            if let (Some(holder), Some(address)) = (holder, address(&message)) {
                holder.addresses.push(address);
            }
        }
        Ok(interfaces)
    }

    /// Number of the interface a name belongs to.
    pub fn index_of(&mut self, name: &str) -> io::Result<u32> {
        let interfaces = self.interfaces()?;
        let found = interfaces.iter().find(|interface| interface.name == name);
        found
            .map(|interface| interface.index)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no interface {name}")))
    }

    /// Interface of the first default route of the main table.
    pub fn default_interface(&mut self, ipv4: bool) -> io::Result<Option<u32>> {
        let routes = self.main_routes(ipv4)?;
        let default = routes
            .iter()
            .find(|(destination, _)| destination.prefix_len() == 0);
        Ok(default.map(|(_, found)| found.interface))
    }

    /// Routes of the main table that lead somewhere, in the kernel's order.
    pub fn main_routes(&mut self, ipv4: bool) -> io::Result<Vec<(IpNet, RouteFound)>> {
        let any: IpAddr = if ipv4 {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let mut question = RouteMessage::default();
        question.header.address_family = family(any);
        let answers = self.dump(RouteNetlinkMessage::GetRoute(question))?;
        Ok(answers
            .iter()
            .filter_map(|answer| main_route(answer, any))
            .collect())
    }

    /// How the kernel would reach an address.
    pub fn route_to(&mut self, address: IpAddr) -> io::Result<RouteFound> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(address);
        question.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        question
            .attributes
            .push(RouteAttribute::Destination(address.into()));
        let answers = self.request(RouteNetlinkMessage::GetRoute(question), 0)?;
        let found = answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => route_found(route),
            _ => None,
        });
        found.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::HostUnreachable,
                format!("no route to {address}"),
            )
        })
    }
}

fn interface(answer: RouteNetlinkMessage) -> Option<Interface> {
    let RouteNetlinkMessage::NewLink(message) = answer else {
        return None;
    };
    let up = message.header.flags.contains(LinkFlags::Up);
    let mut interface = Interface {
        index: message.header.index,
        up,
        ..Interface::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            LinkAttribute::LinkInfo(info) => interface.vxlan = vxlan(&info),
            _ => {}
        }
    }
    Some(interface)
}

fn vxlan(info: &[LinkInfo]) -> Option<(u32, u16)> {
    info.contains(&LinkInfo::Kind(InfoKind::Vxlan))
        .then_some(())?;
    let (mut vni, mut port) = (0, 0);
    let data = info.iter().filter_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    });
    for attribute in data.flatten() {
        match attribute {
            InfoVxlan::Id(id) => vni = *id,
            InfoVxlan::Port(number) => port = *number,
            _ => {}
        }
    }
    Some((vni, port))
}

fn address(message: &AddressMessage) -> Option<Address> {
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link the other attribute is the far end.
            AddressAttribute::Local(own) => local = Some(*own),
            AddressAttribute::Address(other) => address = Some(*other),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some(Address {
        net,
        deprecated: flags.contains(AddressFlags::Deprecated),
        permanent: flags.contains(AddressFlags::Permanent),
        // For IPv6 this flag means temporary; for IPv4 only that another address came first.
        temporary: net.addr().is_ipv6() && flags.contains(AddressFlags::Secondary),
    })
}

fn main_route(answer: &RouteNetlinkMessage, any: IpAddr) -> Option<(IpNet, RouteFound)> {
    let RouteNetlinkMessage::NewRoute(route) = answer else {
        return None;
    };
    let unicast =
        route.header.table == RouteHeader::RT_TABLE_MAIN && route.header.kind == RouteType::Unicast;
    unicast.then_some(())?;
    let given = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(destination) => plain(destination),
            _ => None,
        });
    let destination =
        IpNet::new(given.unwrap_or(any), route.header.destination_prefix_length).ok()?;
    Some((destination, route_found(route)?))
}

fn route_found(route: &RouteMessage) -> Option<RouteFound> {
    let (mut interface, mut source, mut gateway) = (None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::PrefSource(address) => source = plain(address),
            RouteAttribute::Gateway(address) => gateway = plain(address),
            _ => {}
        }
    }
    Some(RouteFound {
        interface: interface?,
        source,
        gateway,
    })
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

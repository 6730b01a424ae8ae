//! Questions to the kernel.

use super::batch::Outcome;
use super::{Entry, Netlink, family};
use crate::mac::Mac;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the kernel gives an IPv6 route that asks for no metric.
const IPV6_METRIC: u32 = 1024;

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
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// What it is made of if it is a VXLAN device.
    pub vxlan: Option<VxlanDevice>,
    /// Whether it is a TUN device.
    pub tun: bool,
    /// Its addresses in the kernel's order.
    pub addresses: Vec<Address>,
}

/// What a kernel VXLAN device is made of, and cannot change later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VxlanDevice {
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The interface below.
    pub link: u32,
    /// Source address of its datagrams.
    pub local: Option<IpAddr>,
    /// Whether it learns addresses from what it receives.
    pub learning: bool,
    /// Whether it carries group-based policy bits.
    pub gbp: bool,
    /// Whether it does things flannel never asks for.
    pub odd: bool,
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

impl Interface {
    /// Whether this is a TUN device by the name flannel gives it.
    pub fn is_flannel_tun(&self) -> bool {
        let number = self.name.strip_prefix("flannel").unwrap_or_default();
        self.tun && number.parse::<u32>().is_ok()
    }

    /// Whether this is a kernel VXLAN device by the name flannel gives it.
    pub fn is_flannel_vxlan(&self) -> bool {
        self.vxlan.is_some_and(|VxlanDevice { vni, .. }| {
            self.name == format!("flannel.{vni}") || self.name == format!("flannel-v6.{vni}")
        })
    }
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRoute {
    /// Where it leads, in the form it would be put again.
    pub entry: Entry,
    /// Whether it was made by hand or by flannel, which leave the same traces: neither kernel nor routing daemon.
    pub by_hand: bool,
    /// Whether its metric is the one given to routes without any.
    pub usual: bool,
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
        Ok(routes.iter().find_map(|found| match found.entry {
            Entry::Route { to, interface, .. } if to.prefix_len() == 0 => Some(interface),
            _ => None,
        }))
    }

    /// Routes of the main table that lead somewhere or end here on purpose, in the kernel's order.
    pub fn main_routes(&mut self, ipv4: bool) -> io::Result<Vec<FoundRoute>> {
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
        let found = self.routes_to(&[address])?.pop().flatten();
        found.ok_or_else(|| {
            let why = format!("no route to {address}");
            io::Error::new(io::ErrorKind::HostUnreachable, why)
        })
    }

    /// How the kernel would reach each of some addresses; none where it would not.
    pub fn routes_to(&mut self, addresses: &[IpAddr]) -> io::Result<Vec<Option<RouteFound>>> {
        let questions = addresses.iter().map(|address| (way_to(*address), 0));
        let outcomes = self.request_all(questions.collect())?;
        Ok(outcomes.into_iter().map(way_found).collect())
    }
}

fn way_to(address: IpAddr) -> RouteNetlinkMessage {
    let mut question = RouteMessage::default();
    question.header.address_family = family(address);
    question.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    let destination = RouteAttribute::Destination(address.into());
    question.attributes.push(destination);
    RouteNetlinkMessage::GetRoute(question)
}

pub(super) fn way_found(outcome: Outcome) -> Option<RouteFound> {
    match outcome {
        Ok(Some(RouteNetlinkMessage::NewRoute(route))) => {
            route_found(&route).filter(|_| route.header.kind == RouteType::Unicast)
        }
        _ => None,
    }
}

pub(super) fn interface(answer: RouteNetlinkMessage) -> Option<Interface> {
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
            LinkAttribute::Address(bytes) => interface.mac = bytes.try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(info) => {
                interface.vxlan = vxlan(&info);
                interface.tun = info.contains(&LinkInfo::Kind(InfoKind::Tun));
            }
            _ => {}
        }
    }
    Some(interface)
}

fn vxlan(info: &[LinkInfo]) -> Option<VxlanDevice> {
    info.contains(&LinkInfo::Kind(InfoKind::Vxlan))
        .then_some(())?;
    let mut device = VxlanDevice::default();
    let data = info.iter().filter_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
        _ => None,
    });
    for attribute in data.flatten() {
        match attribute {
            InfoVxlan::Id(id) => device.vni = *id,
            InfoVxlan::Port(number) => device.port = *number,
            InfoVxlan::Link(index) => device.link = *index,
            InfoVxlan::Local(address) => device.local = Some((*address).into()),
            InfoVxlan::Local6(address) => device.local = Some((*address).into()),
            InfoVxlan::Learning(on) => device.learning = *on,
            InfoVxlan::Gbp => device.gbp = true,
            InfoVxlan::Group(_) | InfoVxlan::Group6(_) => device.odd = true,
            InfoVxlan::L2Miss(on) | InfoVxlan::CollectMetadata(on) => device.odd |= on,
            _ => {}
        }
    }
    Some(device)
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

fn main_route(answer: &RouteNetlinkMessage, any: IpAddr) -> Option<FoundRoute> {
    let RouteNetlinkMessage::NewRoute(route) = answer else {
        return None;
    };
    (route.header.table == RouteHeader::RT_TABLE_MAIN).then_some(())?;
    let (mut to, mut metric) = (any, 0);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(destination) => to = plain(destination)?,
            RouteAttribute::Priority(number) => metric = *number,
            _ => {}
        }
    }
    let to = IpNet::new(to, route.header.destination_prefix_length).ok()?;
    let entry = match route.header.kind {
        RouteType::Unicast => leading(to, route)?,
        RouteType::BlackHole => Entry::Blackhole { to, metric },
        _ => return None,
    };
    let usual_metric = if any.is_ipv4() { 0 } else { IPV6_METRIC };
    Some(FoundRoute {
        entry,
        by_hand: route.header.protocol == RouteProtocol::Boot,
        usual: metric == usual_metric && route.header.tos == 0,
    })
}

/// A route that leads somewhere; one over several ways at once is none of ours.
fn leading(to: IpNet, route: &RouteMessage) -> Option<Entry> {
    let found = route_found(route)?;
    Some(Entry::Route {
        to,
        gateway: found.gateway,
        interface: found.interface,
        onlink: route.header.flags.contains(RouteFlags::Onlink),
    })
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

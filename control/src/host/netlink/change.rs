//! Changes asked of the kernel. What is already as wanted is no error.

use super::{Netlink, family};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use std::io;
use std::net::IpAddr;

impl Netlink {
    /// Sets an interface's packet size and switches it on.
    pub fn bring_up(&mut self, interface: u32, mtu: u32) -> io::Result<()> {
        let mut change = LinkMessage::default();
        change.header.index = interface;
        change.header.flags = LinkFlags::Up;
        change.header.change_mask = LinkFlags::Up;
        change.attributes.push(LinkAttribute::Mtu(mtu));
        self.request(RouteNetlinkMessage::SetLink(change), 0)
            .map(drop)
    }

    /// Removes an interface.
    pub fn delete_interface(&mut self, interface: u32) -> io::Result<()> {
        let mut change = LinkMessage::default();
        change.header.index = interface;
        self.request(RouteNetlinkMessage::DelLink(change), 0)
            .map(drop)
    }

    /// Gives an interface an address.
    pub fn add_address(&mut self, interface: u32, net: IpNet) -> io::Result<()> {
        let mut change = AddressMessage::default();
        change.header.family = family(net.addr());
        change.header.prefix_len = net.prefix_len();
        change.header.index = interface;
        change.header.scope = AddressScope::Universe;
        change
            .attributes
            .push(AddressAttribute::Address(net.addr()));
        if net.addr().is_ipv4() {
            change.attributes.push(AddressAttribute::Local(net.addr()));
        }
        self.request(
            RouteNetlinkMessage::NewAddress(change),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    /// Sends packets for a network out of an interface, or to a gateway there; replaces an older route.
    pub fn set_route(
        &mut self,
        destination: IpNet,
        interface: u32,
        gateway: Option<IpAddr>,
    ) -> io::Result<()> {
        let route = route(destination, interface, gateway);
        self.request(
            RouteNetlinkMessage::NewRoute(route),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    /// Removes a route.
    pub fn delete_route(
        &mut self,
        destination: IpNet,
        interface: u32,
        gateway: Option<IpAddr>,
    ) -> io::Result<()> {
        let mut route = route(destination, interface, gateway);
        // Whoever made it and however far it reaches.
        route.header.protocol = RouteProtocol::Unspec;
        route.header.scope = RouteScope::NoWhere;
        self.request(RouteNetlinkMessage::DelRoute(route), 0)
            .map(drop)
    }
}

fn route(destination: IpNet, interface: u32, gateway: Option<IpAddr>) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = family(destination.addr());
    route.header.destination_prefix_length = destination.prefix_len();
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route
        .attributes
        .push(RouteAttribute::Destination(destination.network().into()));
    route.attributes.push(RouteAttribute::Oif(interface));
    if let Some(gateway) = gateway {
        route
            .attributes
            .push(RouteAttribute::Gateway(gateway.into()));
    }
    route
}

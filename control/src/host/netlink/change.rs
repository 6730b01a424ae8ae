//! Changes asked of the kernel. What is already as wanted is no error.

use super::{Netlink, family};
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use std::io;

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
}

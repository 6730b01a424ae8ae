//! Changes asked of the kernel. What is already as wanted is no error.

use super::{Netlink, VxlanDevice, family};
use crate::mac::Mac;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
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

    /// Makes a VXLAN device. What is not said is left to the kernel, as flannel does.
    pub fn create_vxlan(
        &mut self,
        name: &str,
        mac: Mac,
        mtu: u32,
        shape: VxlanDevice,
    ) -> io::Result<()> {
        let mut data = vec![
            InfoVxlan::Id(shape.vni),
            InfoVxlan::Link(shape.link),
            InfoVxlan::Port(shape.port),
            InfoVxlan::Learning(shape.learning),
        ];
        data.extend(shape.local.map(|local| match local {
            IpAddr::V4(local) => InfoVxlan::Local(local),
            IpAddr::V6(local) => InfoVxlan::Local6(local),
        }));
        data.extend(shape.gbp.then_some(InfoVxlan::Gbp));
        let mut device = LinkMessage::default();
        device.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::Mtu(mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(data)),
            ]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(device),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map(drop)
    }

    /// Gives an interface an Ethernet address.
    pub fn set_mac(&mut self, interface: u32, mac: Mac) -> io::Result<()> {
        let mut change = LinkMessage::default();
        change.header.index = interface;
        change
            .attributes
            .push(LinkAttribute::Address(mac.0.to_vec()));
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
        self.request(
            RouteNetlinkMessage::NewAddress(address(interface, net)),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map(drop)
    }

    /// Takes an address from an interface.
    pub fn delete_address(&mut self, interface: u32, net: IpNet) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelAddress(address(interface, net)), 0)
            .map(drop)
    }
}

fn address(interface: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.addr());
    message.header.prefix_len = net.prefix_len();
    message.header.index = interface;
    message.header.scope = AddressScope::Universe;
    let address = AddressAttribute::Address(net.addr());
    message.attributes.push(address);
    if net.addr().is_ipv4() {
        message.attributes.push(AddressAttribute::Local(net.addr()));
    }
    message
}

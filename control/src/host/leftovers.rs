//! Removes kernel VXLAN devices of an earlier run before they can win over what is set up now: such a device keeps
//! the port, and its routes to single subnets beat the one for the whole network. Routes of earlier runs that need
//! no device are taken over by [`PeerRoutes`](crate::backend::peer_routes::PeerRoutes).

use super::netlink::{Interface, Netlink};
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use tracing::info;

/// Removes flannel's own devices of these networks but those named in `kept`; those of other networks stay. One that
/// has no address to judge it by is of the network whose number it has.
pub fn remove_devices(
    netlink: &mut Netlink,
    networks: &[IpNet],
    vni: Option<u32>,
    kept: &[String],
) -> io::Result<()> {
    for interface in netlink.interfaces()? {
        let stays = kept.contains(&interface.name) || !interface.is_flannel_vxlan();
        if !stays && of_networks(&interface, networks, vni) {
            info!(
                "removing the kernel device {} of an earlier run",
                interface.name
            );
            netlink.delete_interface(interface.index)?;
        }
    }
    Ok(())
}

fn of_networks(interface: &Interface, networks: &[IpNet], vni: Option<u32>) -> bool {
    let held = interface.addresses.iter().map(|address| address.net.addr());
    let mut telling = held.filter(|address| !link_local(address)).peekable();
    if telling.peek().is_none() {
        return interface.vxlan.map(|device| device.vni) == vni;
    }
    telling.any(|address| networks.iter().any(|network| network.contains(&address)))
}

fn link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

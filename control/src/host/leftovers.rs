//! Removes kernel VXLAN devices of an earlier run before they can win over what is set up now: such a device keeps
//! the port, and its routes to single subnets beat the one for the whole network. Routes of earlier runs that need
//! no device are taken over by [`PeerRoutes`](crate::backend::peer_routes::PeerRoutes).

use super::netlink::{Interface, Netlink};
use crate::network::{Backend, NetworkConfig};
use ipnet::IpNet;
use std::io;
use tracing::info;

/// Removes flannel's own devices of this network but those named in `kept`; those of other networks stay.
pub fn remove_devices(
    netlink: &mut Netlink,
    network: &NetworkConfig,
    kept: &[String],
) -> io::Result<()> {
    for interface in netlink.interfaces()? {
        let stays = kept.contains(&interface.name) || !interface.is_flannel_vxlan();
        if !stays && of_this_network(&interface, network) {
            info!(
                "removing the kernel device {} of an earlier run",
                interface.name
            );
            netlink.delete_interface(interface.index)?;
        }
    }
    Ok(())
}

/// By its addresses; a device that has none is judged by its number.
fn of_this_network(interface: &Interface, network: &NetworkConfig) -> bool {
    let inside = |net: IpNet| {
        network
            .networks()
            .any(|network| network.contains(&net.addr()))
    };
    let addresses = interface.addresses.iter().map(|address| address.net);
    let vni = match &network.backend {
        Backend::Vxlan(options) => Some(options.vni),
        _ => None,
    };
    addresses.clone().any(inside)
        || interface
            .vxlan
            .is_some_and(|device| Some(device.vni) == vni)
}

//! Removes what an earlier backend left behind, before it can win over what is set up now: a kernel VXLAN
//! device keeps our port, and a route for one peer's subnet beats the route for the whole network.

use super::netlink::Netlink;
use crate::network::{Backend, NetworkConfig};
use ipnet::IpNet;
use std::io;
use tracing::info;

/// Removes flannel's own devices and routes of earlier runs; everything else stays.
pub fn remove(netlink: &mut Netlink, network: &NetworkConfig) -> io::Result<()> {
    remove_devices(netlink, network)?;
    for net in network.networks() {
        remove_routes(netlink, net)?;
    }
    Ok(())
}

/// Kernel devices by the names flannel gives them.
fn remove_devices(netlink: &mut Netlink, network: &NetworkConfig) -> io::Result<()> {
    let port = match &network.backend {
        Backend::Vxlan(options) => Some(options.port),
        Backend::Udp { .. } => None,
    };
    for interface in netlink.interfaces()? {
        let Some((vni, theirs)) = interface.vxlan else {
            continue;
        };
        let named = interface.name == format!("flannel.{vni}")
            || interface.name == format!("flannel-v6.{vni}");
        let in_the_way = port == Some(theirs)
            || interface
                .addresses
                .iter()
                .any(|address| inside(network, address.net));
        if named && in_the_way {
            info!(
                "removing the kernel device {} of an earlier run",
                interface.name
            );
            netlink.delete_interface(interface.index)?;
        }
    }
    Ok(())
}

fn inside(network: &NetworkConfig, net: IpNet) -> bool {
    network
        .networks()
        .any(|network| network.contains(&net.addr()))
}

/// Routes to single subnets by way of another node. Routes without a gateway belong to container bridges.
fn remove_routes(netlink: &mut Netlink, net: IpNet) -> io::Result<()> {
    for (destination, found) in netlink.main_routes(net.addr().is_ipv4())? {
        let smaller = destination != net && net.contains(&destination);
        if let (true, Some(gateway)) = (smaller, found.gateway) {
            info!("removing the route {destination} via {gateway} of an earlier run");
            netlink.delete_route(destination, found.interface, Some(gateway))?;
        }
    }
    Ok(())
}

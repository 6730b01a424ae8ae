//! Sets up the TUN device the data plane opened: size, address, routes, switches.
//!
//! Nothing is undone at exit: the device is not persistent, so with the process everything here vanishes.

use super::netlink::{Entry, Netlink};
use super::sysctl;
use ipnet::IpNet;
use std::io;
use tracing::warn;

/// What the tunnel's device shall look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelSetup {
    /// Largest packet.
    pub mtu: u32,
    /// This node's subnets: the first address of each becomes the device's own.
    pub subnets: Vec<IpNet>,
    /// Networks to send into the tunnel.
    pub networks: Vec<IpNet>,
}

impl TunnelSetup {
    /// Applies it to a device. Doing so again restores what was changed in between.
    pub fn apply(&self, netlink: &mut Netlink, device: &str) -> io::Result<()> {
        let index = netlink.index_of(device)?;
        self.set_switches(device);
        let failed = |what: String| {
            move |error: io::Error| io::Error::new(error.kind(), format!("cannot {what}: {error}"))
        };
        netlink
            .bring_up(index, self.mtu)
            .map_err(failed(format!("bring up {device} with MTU {}", self.mtu)))?;
        for subnet in &self.subnets {
            let address = host_net(*subnet);
            netlink
                .add_address(index, address)
                .map_err(failed(format!("give {device} the address {address}")))?;
        }
        for network in &self.networks {
            netlink
                .put(whole(*network, index))
                .map_err(failed(format!("route {network} to {device}")))?;
        }
        Ok(())
    }

    /// Whether the device carries the tunnel. Its size is not asked for: operators lower it for narrow paths.
    pub fn stands(&self, netlink: &mut Netlink, device: &str) -> io::Result<bool> {
        let interfaces = netlink.interfaces()?;
        let Some(found) = interfaces.iter().find(|interface| interface.name == device) else {
            return Ok(false);
        };
        let has = |subnet: &IpNet| {
            found
                .addresses
                .iter()
                .any(|held| held.net == host_net(*subnet))
        };
        let mut well = found.up && self.subnets.iter().all(has);
        for network in &self.networks {
            let routes = netlink.main_routes(network.addr().is_ipv4())?;
            well &= routes
                .iter()
                .any(|route| route.entry == whole(*network, found.index));
        }
        Ok(well)
    }

    /// Whether some device has been the tunnel before, and is still there.
    pub fn is_held(&self, netlink: &mut Netlink) -> io::Result<bool> {
        let ours = |net: IpNet| self.subnets.iter().any(|subnet| host_net(*subnet) == net);
        let interfaces = netlink.interfaces()?;
        let mut tunnels = interfaces.iter().filter(|interface| interface.tun);
        Ok(tunnels.any(|device| device.addresses.iter().any(|held| ours(held.net))))
    }

    /// Without these the tunnel still works, but less is told to senders.
    fn set_switches(&self, device: &str) {
        // Answers such as "net unreachable" come out of the tunnel with this node's own address as source;
        // the kernel takes that for an impostor unless told otherwise.
        warn_if_refused(
            sysctl::set("ipv4", device, "accept_local", "1"),
            "this host will not see ICMP errors from the tunnel: where it shall, set net.ipv4.conf.default.accept_local=1 on it and start this again",
        );
        // Loose: a peer's host may answer from its tunnel address over another route.
        warn_if_refused(
            sysctl::set("ipv4", device, "rp_filter", "2"),
            "packets from some peers may be dropped where net.ipv4.conf.all.rp_filter is 1: then set it to 2 on this host",
        );
        let ipv6 = self.subnets.iter().any(|subnet| subnet.addr().is_ipv6());
        if ipv6 {
            warn_if_refused(
                sysctl::set("ipv6", device, "accept_ra", "0"),
                "router advertisements from the tunnel may be believed: set net.ipv6.conf.default.accept_ra=0 on this host and start this again",
            );
        } else {
            // No link-local address, hence no router solicitations into a tunnel that carries none.
            warn_if_refused(
                sysctl::set("ipv6", device, "addr_gen_mode", "1"),
                "the kernel may send IPv6 noise into the tunnel, which does no harm",
            );
        }
    }
}

fn warn_if_refused(outcome: io::Result<()>, consequence: &str) {
    match outcome {
        // A kernel without IPv6 has no switches for it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => warn!("{error}; {consequence}"),
        Ok(()) => {}
    }
}

/// The route of a whole network into the tunnel.
fn whole(network: IpNet, interface: u32) -> Entry {
    Entry::Route {
        to: network,
        gateway: None,
        interface,
        onlink: false,
    }
}

/// The first address of a subnet as a network of its own.
fn host_net(subnet: IpNet) -> IpNet {
    IpNet::from(subnet.network())
}

//! The kernel's VXLAN devices as the plan wants them, one per address family.

use crate::plan::Plan;
use anyhow::{Context, Result, bail};
use control::host::vxlan::{VxlanSetup, device_name};
use control::network::Backend;
use ipnet::IpNet;

/// Kernel VXLAN over IPv6 has longer headers, which the kernel insists on.
const IPV6_HEADERS: u32 = 70;

/// What the devices shall look like.
pub(super) fn devices(plan: &Plan) -> Result<Vec<VxlanSetup>> {
    let networks = plan.network.networks();
    networks.map(|network| device(plan, network)).collect()
}

fn device(plan: &Plan, network: IpNet) -> Result<VxlanSetup> {
    let Backend::Vxlan(options) = &plan.network.backend else {
        bail!("this backend has no VXLAN device");
    };
    let ipv4 = network.addr().is_ipv4();
    let mut subnets = plan.lease.key.subnets();
    let subnet = subnets.find(|subnet| network.contains(subnet));
    // An address the host has: the public one may be a NAT's, and nothing can be sent from there.
    let mut held = plan.external.addresses.iter();
    let local = held.find(|address| address.is_ipv4() == ipv4);
    let mtu = match ipv4 {
        true => plan.mtu,
        false => plan.mtu.min(plan.external.mtu.saturating_sub(IPV6_HEADERS)),
    };
    Ok(VxlanSetup {
        name: device_name(options.vni, ipv4),
        vni: options.vni,
        port: options.port,
        link: plan.external.name.clone(),
        local: *local.context("the interface has no address of the family")?,
        learning: options.learning,
        gbp: options.gbp,
        mac: plan.mac.context("our lease has no VtepMAC")?,
        mtu,
        address: IpNet::from(
            subnet
                .context("our lease has no subnet of the family")?
                .network(),
        ),
        network,
    })
}

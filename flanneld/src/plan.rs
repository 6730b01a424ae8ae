//! What is settled once the lease is there, and what follows from it for files and records.

use crate::settings::Settings;
use control::host::external_interface::ExternalInterface;
use control::lease::{Lease, LeaseAttrs, VtepData};
use control::mac::Mac;
use control::network::NetworkConfig;
use control::screen::Screen;
use control::subnet_file::SubnetFile;
use ipnet::IpNet;
use std::net::IpAddr;
use tracing::{info, warn};

/// What is settled before the backend starts.
pub(crate) struct Plan {
    pub(crate) network: NetworkConfig,
    pub(crate) external: ExternalInterface,
    pub(crate) lease: Lease,
    pub(crate) mac: Option<Mac>,
    /// As told to containers.
    pub(crate) mtu: u32,
    /// Of our device, which lets pass what gets to some nodes only.
    pub(crate) device_mtu: u32,
    /// Whether a tunnel of ours carries packets, which need not be of the family of what wraps them.
    pub(crate) across: bool,
}

impl Plan {
    /// The same lease, reached another way.
    pub(crate) fn moved_to(&self, external: ExternalInterface) -> Self {
        let mut lease = self.lease.clone();
        let mac = self.mac.unwrap_or_else(Mac::random_local);
        lease.attrs = own_attrs(&self.network, &external, mac);
        Self::new(self.network.clone(), external, lease, self.across)
    }

    /// Draws the conclusions from a lease.
    pub(crate) fn new(
        network: NetworkConfig,
        external: ExternalInterface,
        lease: Lease,
        across: bool,
    ) -> Self {
        let ipv6_alone = external.addresses.iter().all(IpAddr::is_ipv6);
        Self {
            mac: vtep_mac(&lease.attrs),
            mtu: network.told_mtu(external.mtu, ipv6_alone),
            device_mtu: network.device_mtu(external.mtu, ipv6_alone),
            network,
            external,
            lease,
            across,
        }
    }

    pub(crate) fn screen(&self) -> Screen {
        let public = self.external.public_addresses().map(IpNet::from);
        let underlay = self
            .external
            .networks
            .iter()
            .copied()
            .chain(public)
            .collect();
        Screen {
            network: self.network.clone(),
            own: self.lease.key,
            underlay,
            mac: self.mac,
            across: self.across,
        }
    }

    /// The tunnel works without it; only those who read the file wait. Tells whether it is written.
    pub(crate) fn write_subnet_file(&self, settings: &Settings) -> bool {
        let file = SubnetFile {
            network: &self.network,
            subnets: self.lease.key,
            mtu: self.mtu,
            masquerade: settings.rules.masquerade,
        };
        let path = settings.subnet_file.display();
        let written = file.write(&settings.subnet_file);
        match &written {
            Ok(()) => info!("wrote {path}"),
            Err(error) => warn!("cannot write {path}: {error}"),
        }
        written.is_ok()
    }
}

/// What this node writes about itself.
pub(crate) fn own_attrs(
    network: &NetworkConfig,
    external: &ExternalInterface,
    mac: Mac,
) -> LeaseAttrs {
    let mut attrs = LeaseAttrs {
        public_ip: external.public_ip,
        public_ipv6: external.public_ipv6,
        backend_type: network.backend.lease_type().to_owned(),
        ..LeaseAttrs::default()
    };
    // Where our lease says udp it is for ourselves: the address lasts, should it say vxlan some day.
    if let Some(options) = network.vxlan() {
        let data = VtepData {
            vni: Some(options.vni),
            mac,
        }
        .to_data();
        attrs.backend_data = network.ipv4.map(|_| data.clone());
        attrs.backend_v6_data = network.ipv6.map(|_| data);
    }
    attrs
}

/// The Ethernet address in a record of ours, which outlives restarts there, so that peers need not learn another.
pub(crate) fn vtep_mac(attrs: &LeaseAttrs) -> Option<Mac> {
    let data = attrs
        .backend_data
        .as_ref()
        .or(attrs.backend_v6_data.as_ref())?;
    VtepData::parse(data).ok().map(|data| data.mac)
}

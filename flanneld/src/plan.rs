//! What is settled once the lease is there, and what follows from it for engine, device, files and records.

use crate::settings::{EngineOptions, Settings};
use anyhow::{Result, anyhow};
use control::host::external_interface::ExternalInterface;
use control::host::links::TunnelSetup;
use control::lease::{Lease, LeaseAttrs, VtepData};
use control::mac::Mac;
use control::network::{Backend, NetworkConfig};
use control::screen::Screen;
use control::subnet_file::SubnetFile;
use engine::{EngineConfig, Form};
use ipnet::IpNet;
use tracing::{info, warn};

/// The device of the first daemon on a host is flannel0.
const DEVICE: &str = "flannel%d";

/// What is settled before the engine starts.
pub(crate) struct Plan {
    pub(crate) network: NetworkConfig,
    pub(crate) external: ExternalInterface,
    pub(crate) lease: Lease,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
}

impl Plan {
    /// The same lease, reached another way.
    pub(crate) fn moved_to(&self, external: ExternalInterface) -> Self {
        let mut lease = self.lease.clone();
        let fresh_mac = self.mac.unwrap_or_else(Mac::random_local);
        lease.attrs = own_attrs(&self.network, &external, Some(&self.lease.attrs), fresh_mac);
        Self::new(self.network.clone(), external, lease)
    }

    /// Draws the conclusions from a lease.
    pub(crate) fn new(network: NetworkConfig, external: ExternalInterface, lease: Lease) -> Self {
        let (mac, mtu) = (
            vtep_mac(&lease.attrs),
            network.backend.tunnel_mtu(external.mtu),
        );
        Self {
            network,
            external,
            lease,
            mac,
            mtu,
        }
    }

    pub(crate) fn engine_config(&self, options: &EngineOptions) -> Result<EngineConfig> {
        let mtu = u16::try_from(self.mtu).unwrap_or(u16::MAX);
        if mtu < 576 {
            return Err(anyhow!(
                "interface {} carries only {} bytes, too few for a tunnel",
                self.external.name,
                self.external.mtu
            ));
        }
        Ok(EngineConfig {
            tun_name: DEVICE.to_owned(),
            workers: options.workers,
            pin: options.pin,
            io: options.io,
            forms: vec![self.form()?],
            bind: self.external.addresses.clone(),
            mtu,
            tun_addresses: self
                .lease
                .key
                .subnets()
                .map(|subnet| subnet.network())
                .collect(),
            offloads: options.offloads,
            spin: options.spin,
            flow_ports: options.flow_ports,
        })
    }

    fn form(&self) -> Result<Form> {
        match &self.network.backend {
            Backend::Udp { port } => Ok(Form::Udp { port: *port }),
            Backend::Vxlan(options) => {
                let mac = self
                    .mac
                    .ok_or_else(|| anyhow!("our lease has no VtepMAC"))?;
                Ok(Form::Vxlan {
                    port: options.port,
                    vni: options.vni,
                    mac: engine::Mac(mac.0),
                })
            }
        }
    }

    pub(crate) fn tunnel(&self) -> TunnelSetup {
        TunnelSetup {
            mtu: self.mtu,
            subnets: self.lease.key.subnets().collect(),
            networks: self.network.networks().collect(),
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

/// What this node writes about itself. Its Ethernet address outlives restarts in its own record, so that peers need not learn another.
pub(crate) fn own_attrs(
    network: &NetworkConfig,
    external: &ExternalInterface,
    old: Option<&LeaseAttrs>,
    fresh_mac: Mac,
) -> LeaseAttrs {
    let mut attrs = LeaseAttrs {
        public_ip: external.public_ip,
        public_ipv6: external.public_ipv6,
        ..LeaseAttrs::default()
    };
    if let Backend::Vxlan(options) = &network.backend {
        let mac = old.and_then(vtep_mac).unwrap_or(fresh_mac);
        let data = VtepData {
            vni: Some(options.vni),
            mac,
        }
        .to_value();
        attrs.backend_type = "vxlan".to_owned();
        attrs.backend_data = network.ipv4.map(|_| data.clone());
        attrs.backend_v6_data = network.ipv6.map(|_| data);
    }
    attrs
}

fn vtep_mac(attrs: &LeaseAttrs) -> Option<Mac> {
    let data = attrs
        .backend_data
        .as_ref()
        .or(attrs.backend_v6_data.as_ref())?;
    VtepData::parse(data).ok().map(|data| data.mac)
}

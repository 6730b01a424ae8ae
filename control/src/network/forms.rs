//! More than one form in a network: which ones a node speaks, and which of them its own lease states.

use super::{Backend, ConfigError, NetworkConfig, UdpConfig, VxlanConfig, refuse};
use crate::json::Object;
use std::iter::once;

/// A form by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormName {
    /// Bare inner packets in UDP datagrams.
    Udp,
    /// VXLAN.
    Vxlan,
}

impl NetworkConfig {
    /// What nodes here speak: first what our own lease states.
    pub fn spoken(&self) -> impl Iterator<Item = &Backend> {
        once(&self.backend).chain(&self.beside)
    }

    /// The UDP form, where it is spoken.
    pub fn udp(&self) -> Option<&UdpConfig> {
        self.spoken().find_map(|backend| match backend {
            Backend::Udp(options) => Some(options),
            _ => None,
        })
    }

    /// VXLAN, where it is spoken.
    pub fn vxlan(&self) -> Option<&VxlanConfig> {
        self.spoken().find_map(|backend| match backend {
            Backend::Vxlan(options) => Some(options),
            _ => None,
        })
    }

    /// Whether peers on our own link shall be reached without a tunnel.
    pub fn direct_routing(&self) -> bool {
        self.spoken().any(Backend::direct_routing)
    }

    /// The same for a node that speaks these forms, of which its lease states the first. Options are the config's where
    /// it has the form, else the usual ones.
    pub fn speaking(self, forms: &[FormName]) -> Result<Self, ConfigError> {
        let Some((first, others)) = forms.split_first() else {
            return Ok(self);
        };
        if !matches!(self.backend, Backend::Udp(_) | Backend::Vxlan(_)) {
            return refuse(&format!(
                "--forms goes with the backends udp and vxlan, and this network has {}: leave the flag out",
                self.backend.name()
            ));
        }
        let backend = self.options_of(*first);
        let beside = others.first().map(|other| self.options_of(*other));
        Ok(Self {
            beside: checked(&backend, beside)?,
            backend,
            ..self
        })
    }

    fn options_of(&self, form: FormName) -> Backend {
        match form {
            FormName::Udp => Backend::Udp(self.udp().cloned().unwrap_or_default()),
            FormName::Vxlan => Backend::Vxlan(self.vxlan().cloned().unwrap_or_default()),
        }
    }

    /// Size of the largest packet that gets to every node, as told to container runtimes. Where there are IPv4 addresses
    /// to travel between it is what fits there, as it always was.
    pub fn told_mtu(&self, underlay_mtu: u32, ipv6_alone: bool) -> u32 {
        self.fits(underlay_mtu, ipv6_alone)
            .min()
            .unwrap_or_default()
    }

    /// Size of the largest packet that gets to any node. Containers that were told more than is told now go on sending
    /// it where it fits.
    pub fn device_mtu(&self, underlay_mtu: u32, ipv6_alone: bool) -> u32 {
        self.fits(underlay_mtu, ipv6_alone)
            .max()
            .unwrap_or_default()
    }

    fn fits(&self, underlay_mtu: u32, ipv6_alone: bool) -> impl Iterator<Item = u32> {
        self.spoken().map(move |form| {
            let headers = form.longer_headers(ipv6_alone);
            form.tunnel_mtu(underlay_mtu).saturating_sub(headers)
        })
    }
}

/// The form that the `Beside` object of a backend asks for.
pub(super) fn beside(config: &Object, backend: &Backend) -> Result<Option<Backend>, ConfigError> {
    let Some(options) = config.object("Backend")? else {
        return Ok(None);
    };
    let other = options.object("Beside")?;
    let other = other.map(|options| Backend::of(&options)).transpose()?;
    checked(backend, other)
}

/// Two forms must be two, and be told apart by their ports.
fn checked(backend: &Backend, other: Option<Backend>) -> Result<Option<Backend>, ConfigError> {
    match (backend, &other) {
        (_, None) => {}
        (Backend::Udp(udp), Some(Backend::Vxlan(vxlan)))
        | (Backend::Vxlan(vxlan), Some(Backend::Udp(udp))) => {
            if udp.port == vxlan.port {
                return refuse(&format!(
                    "udp and vxlan need ports of their own, and both have {}",
                    udp.port
                ));
            }
        }
        (_, Some(_)) => return refuse("Beside names udp where Type is vxlan, or the reverse"),
    }
    Ok(other)
}

//! How packets travel between nodes: the `Backend` object of the network config.

use super::{ConfigError, refuse};
use crate::json::Object;
use std::net::IpAddr;

/// How packets travel between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Bare inner packets in UDP datagrams.
    Udp(UdpConfig),
    /// VXLAN.
    Vxlan(VxlanConfig),
    /// Plain routes between nodes on one link.
    HostGw,
    /// Leases only; somebody else carries packets.
    Alloc,
}

/// Options of the UDP backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// UDP port on every node.
    pub port: u16,
    /// Plain routes to peers on the same link.
    pub direct_routing: bool,
}

/// Options of the VXLAN backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanConfig {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// UDP port on every node.
    pub port: u16,
    /// Underlay packet size to assume instead of the interface's.
    pub mtu: Option<u32>,
    /// Group-based policy bits, which need a kernel device.
    pub gbp: bool,
    /// Address learning, which needs a kernel device.
    pub learning: bool,
    /// Plain routes to peers on the same link.
    pub direct_routing: bool,
    /// Who wraps packets, where the config says so.
    pub datapath: Option<Datapath>,
}

/// Who wraps packets in VXLAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Datapath {
    /// The packet engine.
    #[default]
    Userspace,
    /// A device of the kernel's.
    Kernel,
}

/// Port of the UDP form when the config names none.
const UDP_PORT: u16 = 8285;
/// Port Linux has always used for VXLAN; the registered one is 4789.
const VXLAN_PORT: u16 = 8472;
/// Network identifier when the config names none.
const VNI: u32 = 1;
const VNI_MAX: u32 = (1 << 24) - 1;
/// What there is, for error messages.
const SERVED: &str = "udp, vxlan, host-gw and alloc are served";
const BACKENDS_OF_STOCK: [&str; 6] = [
    "extension",
    "ipip",
    "wireguard",
    "ipsec",
    "tencent-vpc",
    "awsvpc",
];

impl Backend {
    pub(super) fn parse(config: &Object) -> Result<Self, ConfigError> {
        match config.object("Backend")? {
            None => Ok(Self::Udp(UdpConfig::default())),
            Some(options) => Self::of(&options),
        }
    }

    /// The backend that an object of options describes.
    pub(super) fn of(options: &Object) -> Result<Self, ConfigError> {
        match options.text("Type")?.to_lowercase().as_str() {
            "udp" => UdpConfig::parse(options).map(Self::Udp),
            "vxlan" => VxlanConfig::parse(options).map(Self::Vxlan),
            "host-gw" => Ok(Self::HostGw),
            "alloc" => Ok(Self::Alloc),
            known if BACKENDS_OF_STOCK.contains(&known) => refuse(&format!(
                "there is no backend {known} in this build; {SERVED}"
            )),
            unknown => refuse(&format!("unknown backend type: {unknown}; {SERVED}")),
        }
    }

    /// The name in the network config.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Udp(_) => "udp",
            Self::Alloc => "alloc",
            other => other.lease_type(),
        }
    }

    /// The name in leases; the UDP form has none.
    pub fn lease_type(&self) -> &'static str {
        match self {
            Self::Udp(_) | Self::Alloc => "",
            Self::Vxlan(_) => "vxlan",
            Self::HostGw => "host-gw",
        }
    }

    /// Whether peers on our own link shall be reached without a tunnel.
    pub fn direct_routing(&self) -> bool {
        match self {
            Self::Udp(options) => options.direct_routing,
            Self::Vxlan(options) => options.direct_routing,
            Self::HostGw | Self::Alloc => false,
        }
    }

    /// Bytes the form adds to each packet: outer IPv4 and UDP headers, and what else the form puts between.
    fn overhead(&self) -> u32 {
        match self {
            Self::Udp(_) => 28,
            Self::Vxlan(_) => 50,
            Self::HostGw | Self::Alloc => 0,
        }
    }

    /// Size of the largest inner packet, as told to container runtimes: what fits between IPv4 addresses.
    pub fn tunnel_mtu(&self, underlay_mtu: u32) -> u32 {
        self.packet_size(underlay_mtu)
            .saturating_sub(self.overhead())
    }

    /// Size of the largest inner packet to a node at an address; IPv6 headers are longer.
    pub fn path_mtu(&self, underlay_mtu: u32, endpoint: IpAddr) -> u32 {
        let longer = self.longer_headers(endpoint.is_ipv6());
        self.tunnel_mtu(underlay_mtu).saturating_sub(longer)
    }

    /// By how much headers between IPv6 addresses are longer, where there are any.
    pub(super) fn longer_headers(&self, ipv6: bool) -> u32 {
        match self {
            Self::Udp(_) | Self::Vxlan(_) if ipv6 => 20,
            _ => 0,
        }
    }

    /// UDP port of the tunnel, where there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Udp(options) => Some(options.port),
            Self::Vxlan(options) => Some(options.port),
            Self::HostGw | Self::Alloc => None,
        }
    }

    fn packet_size(&self, underlay_mtu: u32) -> u32 {
        match self {
            Self::Vxlan(options) => options.mtu.unwrap_or(underlay_mtu),
            _ => underlay_mtu,
        }
    }
}

impl UdpConfig {
    fn parse(options: &Object) -> Result<Self, ConfigError> {
        Ok(Self {
            port: port(options, UDP_PORT)?,
            direct_routing: options.flag("DirectRouting", false)?,
        })
    }
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            port: UDP_PORT,
            direct_routing: false,
        }
    }
}

impl Default for VxlanConfig {
    fn default() -> Self {
        Self {
            vni: VNI,
            port: VXLAN_PORT,
            mtu: None,
            gbp: false,
            learning: false,
            direct_routing: false,
            datapath: None,
        }
    }
}

impl VxlanConfig {
    fn parse(options: &Object) -> Result<Self, ConfigError> {
        let vni = options.number("VNI", VNI)?;
        if vni > VNI_MAX {
            return refuse(&format!("VNI must be at most {VNI_MAX}: {vni}"));
        }
        let mtu = Some(options.number("MTU", 0)?).filter(|mtu| *mtu > 0);
        Ok(Self {
            vni,
            port: port(options, VXLAN_PORT)?,
            mtu,
            gbp: options.flag("GBP", false)?,
            learning: options.flag("Learning", false)?,
            direct_routing: options.flag("DirectRouting", false)?,
            datapath: datapath(options)?,
        })
    }
}

fn datapath(options: &Object) -> Result<Option<Datapath>, ConfigError> {
    match options.text("Datapath")?.to_lowercase().as_str() {
        "" => Ok(None),
        "kernel" => Ok(Some(Datapath::Kernel)),
        "userspace" => Ok(Some(Datapath::Userspace)),
        other => refuse(&format!(
            "Datapath must be userspace or kernel, not {other}"
        )),
    }
}

/// A port; zero asks for the default, as it always has in the VXLAN options.
fn port(options: &Object, default: u16) -> Result<u16, ConfigError> {
    let port = options.number("Port", default)?;
    Ok(if port == 0 { default } else { port })
}

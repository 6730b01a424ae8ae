//! The network config: the JSON text an operator puts under `config`, parsed, completed with defaults, and checked.
//!
//! Texts of the checks are flannel's own, because operators search for them.

use crate::json::{JsonError, Object};
use crate::pool::Pool;
use ipnet::IpNet;
use std::net::IpAddr;

/// What every node of one overlay network agrees on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// IPv4 subnets, unless switched off.
    pub ipv4: Option<Pool>,
    /// IPv6 subnets, if switched on.
    pub ipv6: Option<Pool>,
    /// Whether firewall rules go to nftables instead of iptables.
    pub nftables: bool,
    /// How packets travel between nodes.
    pub backend: Backend,
}

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

/// Why a network config cannot be used, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// Port of the UDP form when the config names none.
const UDP_PORT: u16 = 8285;
/// Port Linux has always used for VXLAN; the registered one is 4789.
const VXLAN_PORT: u16 = 8472;
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

impl NetworkConfig {
    /// Parses and checks a config text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let object = Object::parse(text)?;
        let ipv4 = object
            .flag("EnableIPv4", true)?
            .then(|| pool(&object, &IPV4))
            .transpose()?;
        let ipv6 = object
            .flag("EnableIPv6", false)?
            .then(|| pool(&object, &IPV6))
            .transpose()?;
        if ipv4.is_none() && ipv6.is_none() {
            return refuse("none defined stack: set EnableIPv4 or EnableIPv6 to true");
        }
        Ok(Self {
            ipv4,
            ipv6,
            nftables: object.flag("EnableNFTables", false)?,
            backend: Backend::parse(&object)?,
        })
    }

    /// The networks of all families in use.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.pools().map(|pool| pool.network)
    }

    /// The pools of all families in use.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.ipv4.iter().chain(&self.ipv6)
    }
}

impl Backend {
    fn parse(config: &Object) -> Result<Self, ConfigError> {
        let Some(value) = config.get("Backend") else {
            return Ok(Self::Udp(UdpConfig::default()));
        };
        let options = Object::from_value(value)?;
        match options.text("Type")?.to_lowercase().as_str() {
            "udp" => UdpConfig::parse(&options).map(Self::Udp),
            "vxlan" => VxlanConfig::parse(&options).map(Self::Vxlan),
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
        let longer = if endpoint.is_ipv6() { 20 } else { 0 };
        self.tunnel_mtu(underlay_mtu).saturating_sub(longer)
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

impl VxlanConfig {
    fn parse(options: &Object) -> Result<Self, ConfigError> {
        let vni = options.number("VNI", 1)?;
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

/// What differs between the two address families of the config.
struct FamilyFields {
    network: &'static str,
    subnet_len: &'static str,
    subnet_min: &'static str,
    subnet_max: &'static str,
    /// Longest subnet that may be asked for.
    len_max: u8,
    /// Longest network prefix that still holds useful subnets.
    network_max: u8,
    /// Subnet length where the network is wide enough for it.
    len_usual: u8,
}

const IPV4: FamilyFields = FamilyFields {
    network: "Network",
    subnet_len: "SubnetLen",
    subnet_min: "SubnetMin",
    subnet_max: "SubnetMax",
    len_max: 30,
    network_max: 28,
    len_usual: 24,
};

const IPV6: FamilyFields = FamilyFields {
    network: "IPv6Network",
    subnet_len: "IPv6SubnetLen",
    subnet_min: "IPv6SubnetMin",
    subnet_max: "IPv6SubnetMax",
    len_max: 126,
    network_max: 124,
    len_usual: 64,
};

fn pool(config: &Object, fields: &FamilyFields) -> Result<Pool, ConfigError> {
    let network = network(config, fields)?;
    let subnet_len = subnet_len(config, fields, network)?;
    let mut pool = Pool::whole(network, subnet_len);
    if let Some(min) = bound(config, fields.subnet_min, &pool)? {
        pool.min = min;
    }
    if let Some(max) = bound(config, fields.subnet_max, &pool)? {
        pool.max = max;
    }
    if pool.min > pool.max {
        let (min, max) = (fields.subnet_min, fields.subnet_max);
        return refuse(&format!("{min} must not be above {max}"));
    }
    Ok(pool)
}

fn network(config: &Object, fields: &FamilyFields) -> Result<IpNet, ConfigError> {
    let name = fields.network;
    let text = config.text(name)?;
    if text.is_empty() {
        return refuse(&format!(
            "please define a correct {name} parameter in the flannel config"
        ));
    }
    let parsed: Option<IpNet> = text.parse().ok();
    let of_family = parsed.filter(|network| network.max_prefix_len() == fields.len_max + 2);
    of_family
        .map(|network| network.trunc())
        .ok_or_else(|| ConfigError(format!("{name}: invalid CIDR address: {text}")))
}

fn subnet_len(config: &Object, fields: &FamilyFields, network: IpNet) -> Result<u8, ConfigError> {
    let (given, prefix) = (config.number(fields.subnet_len, 0u8)?, network.prefix_len());
    if given > fields.len_max {
        return refuse(&format!(
            "{} must be less than /{}",
            fields.subnet_len,
            fields.len_max + 1
        ));
    }
    if given > 0 && given < prefix + 2 {
        return refuse("network must be able to accommodate at least four subnets");
    }
    if given > 0 {
        return Ok(given);
    }
    if prefix > fields.network_max {
        return refuse(&format!(
            "network is too small. Minimum useful network prefix is /{}",
            fields.network_max
        ));
    }
    Ok(fields.len_usual.max(prefix + 2))
}

/// A given end of the subnet range, checked against the network.
fn bound(config: &Object, name: &str, pool: &Pool) -> Result<Option<IpAddr>, ConfigError> {
    let Some(address) = config.parsed::<IpAddr>(name, "IP address")? else {
        return Ok(None);
    };
    if !pool.network.contains(&address) {
        return refuse(&format!("{name} is not in the range of the Network"));
    }
    if !pool.aligned(address) {
        return refuse(&format!("{name} is not on a SubnetLen boundary: {address}"));
    }
    Ok(Some(address))
}

fn refuse<T>(why: &str) -> Result<T, ConfigError> {
    Err(ConfigError(why.to_owned()))
}

impl From<JsonError> for ConfigError {
    fn from(error: JsonError) -> Self {
        Self(error.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NetworkConfig {
        NetworkConfig::parse(text).unwrap()
    }

    fn refusal(text: &str) -> String {
        NetworkConfig::parse(text).unwrap_err().to_string()
    }

    fn in_words(pool: Option<Pool>) -> String {
        let pool = pool.unwrap();
        format!(
            "{} /{} {}..{}",
            pool.network, pool.subnet_len, pool.min, pool.max
        )
    }

    #[test]
    fn config_defaults() {
        let config = parse(r#"{"network":"10.3.0.0/16"}"#);
        assert_eq!(
            in_words(config.ipv4),
            "10.3.0.0/16 /24 10.3.1.0..10.3.255.0"
        );
        assert_eq!(config.backend, Backend::Udp(UdpConfig::default()));
        assert!(config.ipv6.is_none());
    }

    #[test]
    fn ipv6_config_defaults() {
        let config =
            parse(r#"{"enableIPv6":true,"Network":"10.3.0.0/16","ipv6Network":"fc00::/48"}"#);
        assert_eq!(
            in_words(config.ipv6),
            "fc00::/48 /64 fc00:0:0:1::..fc00:0:0:ffff::"
        );
    }

    #[test]
    fn config_overrides_are_kept_verbatim() {
        let text = r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28,"Backend":{"Type":"VXLAN","VNI":7,"Port":4789,"Directrouting":true}}"#;
        let config = parse(text);
        assert_eq!(in_words(config.ipv4), "10.3.0.0/16 /28 10.3.5.0..10.3.8.0");
        let Backend::Vxlan(options) = config.backend else {
            panic!("not vxlan")
        };
        assert_eq!(
            (options.vni, options.port, options.direct_routing),
            (7, 4789, true)
        );
    }

    #[test]
    fn ipv6_config_overrides_are_kept_verbatim() {
        let text = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:1::","IPv6SubnetMax":"fc00:0:0:f::","IPv6SubnetLen":64}"#;
        let config = parse(text);
        assert_eq!(
            in_words(config.ipv6),
            "fc00::/48 /64 fc00:0:0:1::..fc00:0:0:f::"
        );
        assert!(config.ipv4.is_none());
    }

    #[test]
    fn host_bits_of_the_network_are_cleared() {
        assert_eq!(
            parse(r#"{"Network":"10.5.3.7/16"}"#)
                .networks()
                .next()
                .unwrap()
                .to_string(),
            "10.5.0.0/16"
        );
    }

    #[test]
    fn a_narrow_network_gets_subnets_two_bits_longer() {
        assert_eq!(
            in_words(parse(r#"{"Network":"10.5.0.0/23"}"#).ipv4),
            "10.5.0.0/23 /25 10.5.0.128..10.5.1.128"
        );
        assert_eq!(
            in_words(parse(r#"{"Network":"10.5.0.0/28"}"#).ipv4),
            "10.5.0.0/28 /30 10.5.0.4..10.5.0.12"
        );
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_refused() {
        // Stock takes it, and ends for want of a subnet.
        let upside_down =
            r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}"#;
        let refused = NetworkConfig::parse(upside_down).unwrap_err().to_string();
        assert_eq!(refused, "SubnetMin must not be above SubnetMax");
        let single = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.9.0"}"#;
        assert!(NetworkConfig::parse(single).is_ok());
    }

    #[test]
    fn refusals_have_the_words_operators_search_for() {
        let cases = [
            (
                r#"{}"#,
                "please define a correct Network parameter in the flannel config",
            ),
            (
                r#"{"Network":"10.5.0.0"}"#,
                "Network: invalid CIDR address: 10.5.0.0",
            ),
            (
                r#"{"Network":"fd00::/48"}"#,
                "Network: invalid CIDR address: fd00::/48",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":31}"#,
                "SubnetLen must be less than /31",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":17}"#,
                "network must be able to accommodate at least four subnets",
            ),
            (
                r#"{"Network":"10.5.0.0/29"}"#,
                "network is too small. Minimum useful network prefix is /28",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0"}"#,
                "SubnetMin is not in the range of the Network",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMax":"10.5.1.128"}"#,
                "SubnetMax is not on a SubnetLen boundary: 10.5.1.128",
            ),
            (
                r#"{"EnableIPv4":false}"#,
                "none defined stack: set EnableIPv4 or EnableIPv6 to true",
            ),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{}}"#,
                "unknown backend type: ; udp, vxlan, host-gw and alloc are served",
            ),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard"}}"#,
                "there is no backend wireguard in this build; udp, vxlan, host-gw and alloc are served",
            ),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":"7"}}"#,
                r#"VNI must be a whole number in range, not "7""#,
            ),
            (
                r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#,
                "VNI must be at most 16777215: 16777216",
            ),
        ];
        for (text, words) in cases {
            assert_eq!(refusal(text), words, "{text}");
        }
    }

    #[test]
    fn tunnel_mtu_is_the_underlays_less_the_headers() {
        assert_eq!(
            parse(r#"{"Network":"10.5.0.0/16"}"#)
                .backend
                .tunnel_mtu(1500),
            1472
        );
        let vxlan = |mtu: &str| {
            parse(&format!(
                r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan"{mtu}}}}}"#
            ))
            .backend
        };
        assert_eq!(vxlan("").tunnel_mtu(1500), 1450);
        assert_eq!(
            vxlan("").path_mtu(1500, "192.168.77.2".parse().unwrap()),
            1450
        );
        assert_eq!(vxlan("").path_mtu(1500, "fd77::2".parse().unwrap()), 1430);
        assert_eq!(vxlan(r#","MTU":1300"#).tunnel_mtu(1500), 1250);
    }
}

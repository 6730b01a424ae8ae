//! The network config: the JSON text an operator puts under `config`, parsed, completed with defaults, and checked.
//!
//! Texts of the checks are flannel's own, because operators search for them.

mod backend;
mod forms;

pub use backend::{Backend, Datapath, UdpConfig, VxlanConfig};
pub use forms::FormName;

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
    /// How they travel to nodes whose leases say something else, where such nodes are peers.
    pub beside: Option<Backend>,
}

/// Why a network config cannot be used, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

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
        let backend = Backend::parse(&object)?;
        Ok(Self {
            ipv4,
            ipv6,
            nftables: object.flag("EnableNFTables", false)?,
            beside: forms::beside(&object, &backend)?,
            backend,
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
mod tests;

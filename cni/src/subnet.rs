//! subnet.env as flanneld leaves it: the network, this node's part of it, and how large packets may be.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ipnet::IpNet;

use crate::error::{Error, code};

/// Whoever sees this plugin fail for want of the file should look there first.
const LOOK: &str = "flanneld writes it once it has a subnet: see whether flanneld runs on this node and what it logs \
    (systemctl status flanneld, or the flannel pod of this node), or name another file with subnetFile";

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    /// Every network of the cluster, IPv4 before IPv6, each once.
    pub(crate) networks: Vec<IpNet>,
    /// This node's part, in the same order.
    pub(crate) subnets: Vec<IpNet>,
    pub(crate) mtu: u32,
    /// Whether flanneld masquerades, so that nobody else needs to.
    pub(crate) masquerade: bool,
}

impl Subnet {
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(file).map_err(|error| {
            let code = match error.kind() {
                ErrorKind::NotFound => code::TRY_AGAIN,
                _ => code::IO,
            };
            Error::new(code, format!("cannot read {}: {error}", file.display())).cure(LOOK)
        })?;
        Self::parse(&text).map_err(|why| {
            let why = format!("{} {why}", file.display());
            Error::new(code::UNREADABLE, why).cure(LOOK)
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let value = |name: &str| value(text, name);
        let (mut networks, mut subnets) = (Vec::new(), Vec::new());
        for family in ["FLANNEL_", "FLANNEL_IPV6_"] {
            let of_family = value(&format!("{family}NETWORK"))?.unwrap_or_default();
            networks.extend(nets(of_family)?);
            let of_family = value(&format!("{family}SUBNET"))?.unwrap_or_default();
            subnets.extend(nets(of_family)?);
        }
        let (mtu, masquerade) = (value("FLANNEL_MTU")?, value("FLANNEL_IPMASQ")?);
        let missing = [
            ("FLANNEL_NETWORK", networks.is_empty()),
            ("FLANNEL_SUBNET", subnets.is_empty()),
            ("FLANNEL_MTU", mtu.is_none()),
            ("FLANNEL_IPMASQ", masquerade.is_none()),
        ];
        none(&missing)?;
        let mtu = mtu.unwrap_or_default();
        let no_number = |_| format!("has an FLANNEL_MTU that is no number: \"{mtu}\"");
        Ok(Self {
            networks,
            subnets,
            mtu: mtu.parse().map_err(no_number)?,
            masquerade: masquerade == Some("true"),
        })
    }
}

/// An error that names what is missing.
fn none(missing: &[(&str, bool)]) -> Result<(), String> {
    let missing = missing.iter().filter(|(_, missing)| *missing);
    let names: Vec<_> = missing.map(|(name, _)| *name).collect();
    match names[..] {
        [] => Ok(()),
        _ => Err(format!("is missing {}", names.join(", "))),
    }
}

/// What a name is set to; the last line counts, as in a shell. Blanks and quotes around it are a person's.
fn value<'a>(text: &'a str, name: &str) -> Result<Option<&'a str>, String> {
    let mut found = None;
    for line in text.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        match line.split_once('=') {
            Some((key, value)) if key.trim() == name => {
                found = Some(value.trim().trim_matches(['"', '\'']));
            }
            None if line == name => return Err(format!("has a line {name} without a value")),
            _ => {}
        }
    }
    Ok(found.filter(|value| !value.is_empty()))
}

/// A comma list of networks, each by any of its addresses; what is there twice counts once.
fn nets(list: &str) -> Result<Vec<IpNet>, String> {
    let mut nets = Vec::new();
    for text in list.split(',').filter(|_| !list.is_empty()) {
        let parsed: Result<IpNet, _> = text.trim().parse();
        let net = parsed.map_err(|_| format!("has \"{text}\" where a network belongs"))?;
        if !nets.contains(&net.trunc()) {
            nets.push(net.trunc());
        }
    }
    Ok(nets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_IPV6_NETWORK=fd05::/48\n\
        FLANNEL_IPV6_SUBNET=fd05:0:0:50::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    fn texts(nets: &[IpNet]) -> Vec<String> {
        nets.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn what_flanneld_writes_is_read() {
        let subnet = Subnet::parse(BOTH).unwrap();
        assert_eq!(texts(&subnet.networks), ["10.5.0.0/16", "fd05::/48"]);
        assert_eq!(texts(&subnet.subnets), ["10.5.26.0/24", "fd05:0:0:50::/64"]);
        assert_eq!((subnet.mtu, subnet.masquerade), (1450, true));
    }

    #[test]
    fn several_networks_count_once_each_and_unknown_lines_not() {
        let text = "X=1\nno line\nFLANNEL_NETWORK=10.5.0.0/16,10.5.0.0/16,10.6.0.0/16\nFLANNEL_SUBNET=10.5.1.1/24\n\
            FLANNEL_MTU=1472\nFLANNEL_IPMASQ=yes\n";
        let subnet = Subnet::parse(text).unwrap();
        assert_eq!(texts(&subnet.networks), ["10.5.0.0/16", "10.6.0.0/16"]);
        assert!(!subnet.masquerade, "true alone is true");
    }

    #[test]
    fn what_is_missing_or_senseless_is_named() {
        let without = |line: &str| Subnet::parse(&BOTH.replace(line, "")).unwrap_err();
        assert_eq!(without("FLANNEL_MTU=1450"), "is missing FLANNEL_MTU");
        assert_eq!(
            Subnet::parse("").unwrap_err(),
            "is missing FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ"
        );
        assert_eq!(without("=1450"), "has a line FLANNEL_MTU without a value");
        let with = |line: &str| Subnet::parse(&(BOTH.to_owned() + line)).unwrap_err();
        assert!(with("FLANNEL_MTU=-1").contains("no number"));
        assert!(with("FLANNEL_SUBNET=10.5.26").contains("\"10.5.26\" where a network belongs"));
    }
}

//! subnet.env: tells container runtimes which subnet this node has, and this daemon which one it had.

use crate::atomic_file;
use crate::network::NetworkConfig;
use crate::subnet_key::SubnetKey;
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// What its lines may assign, and what that means.
pub const VARIABLES: [(&str, &str); 6] = [
    (
        "FLANNEL_NETWORK",
        "The overlay network's IPv4 range: the subnets of all nodes lie in it.",
    ),
    (
        "FLANNEL_SUBNET",
        "This node's IPv4 subnet, as its first address and the prefix length: the address for the bridge of its containers.",
    ),
    (
        "FLANNEL_IPV6_NETWORK",
        "The overlay network's IPv6 range, where it has one.",
    ),
    (
        "FLANNEL_IPV6_SUBNET",
        "This node's IPv6 subnet, written alike.",
    ),
    (
        "FLANNEL_MTU",
        "The largest packet, in bytes, that containers may send through the overlay network.",
    ),
    (
        "FLANNEL_IPMASQ",
        "true where flanneld itself hides containers' addresses from the world outside (--ip-masq), so that nobody else has to; else false.",
    ),
];

/// What subnet.env says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetFile<'a> {
    /// The network config in force.
    pub network: &'a NetworkConfig,
    /// This node's subnets.
    pub subnets: SubnetKey,
    /// Largest packet the tunnel carries.
    pub mtu: u32,
    /// Whether this daemon masquerades, so that nobody else needs to.
    pub masquerade: bool,
}

impl SubnetFile<'_> {
    /// The file's exact text.
    pub fn render(&self) -> String {
        let mut lines = Vec::new();
        for (pool, prefix) in [
            (&self.network.ipv4, "FLANNEL_"),
            (&self.network.ipv6, "FLANNEL_IPV6_"),
        ] {
            let network = pool.as_ref().map(|pool| pool.network);
            let subnet = self
                .subnets
                .subnets()
                .find(|subnet| network.is_some_and(|network| network.contains(subnet)));
            if let (Some(network), Some(subnet)) = (network, subnet) {
                lines.push(format!("{prefix}NETWORK={network}"));
                lines.push(format!("{prefix}SUBNET={}", first_host(subnet)));
            }
        }
        lines.push(format!("FLANNEL_MTU={}", self.mtu));
        lines.push(format!("FLANNEL_IPMASQ={}", self.masquerade));
        lines.join("\n") + "\n"
    }

    /// Writes the file whole, readable by all; a link or another user's file in its place is refused.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        atomic_file::replace(path, self.render().as_bytes(), 0o644)
    }
}

/// The subnets a file of an earlier run names; `None` where there is none or it makes no sense.
pub fn previous_subnets(path: &Path) -> Option<SubnetKey> {
    parse(&read_own(path)?)
}

/// The network a file of an earlier run names for each family.
pub fn previous_networks(path: &Path) -> Vec<IpNet> {
    let text = read_own(path).unwrap_or_default();
    let names = ["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"];
    let network = |name: &str| {
        let mut lines = text.lines().rev();
        lines
            .find_map(|line| assignment(line, name))
            .and_then(only_net)
    };
    names.into_iter().filter_map(network).collect()
}

/// A file that may be somebody's trap is as good as none; writing it later says why.
fn read_own(path: &Path) -> Option<String> {
    io::read_to_string(atomic_file::open_own(path).ok()?).ok()
}

/// The subnets a text names.
pub(crate) fn parse(text: &str) -> Option<SubnetKey> {
    let subnet = |name: &str| {
        text.lines()
            .rev()
            .find_map(|line| assignment(line, name))
            .and_then(only_net)
    };
    let of_family = |net: IpNet, ipv4: bool| Some(net).filter(|net| net.addr().is_ipv4() == ipv4);
    let ipv4 = subnet("FLANNEL_SUBNET").and_then(|net| of_family(net, true));
    let ipv6 = subnet("FLANNEL_IPV6_SUBNET").and_then(|net| of_family(net, false));
    SubnetKey::of(ipv4.into_iter().chain(ipv6))
}

/// The value if the line assigns to the name; shells and editors leave `export`, blanks and quotes around it.
fn assignment<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, value) = line.split_once('=')?;
    (key.trim() == name).then(|| value.trim().trim_matches(['"', '\'']))
}

/// The one subnet of a list; a bad element is passed over, several good ones are no answer.
fn only_net(list: &str) -> Option<IpNet> {
    let mut nets = list
        .split(',')
        .filter_map(|text| text.trim().parse::<IpNet>().ok());
    let only = nets.next().filter(|_| nets.next().is_none())?;
    Some(only.trunc())
}

/// The first address hosts may use, with the subnet's length.
fn first_host(subnet: IpNet) -> IpNet {
    let next = match subnet.network() {
        IpAddr::V4(base) => IpAddr::V4((base.to_bits() + 1).into()),
        IpAddr::V6(base) => IpAddr::V6((base.to_bits() + 1).into()),
    };
    IpNet::new_assert(next, subnet.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(config: &str, key: &str, mtu: u32, masquerade: bool) -> String {
        let network = NetworkConfig::parse(config).unwrap();
        SubnetFile {
            network: &network,
            subnets: key.parse().unwrap(),
            mtu,
            masquerade,
        }
        .render()
    }

    fn read(text: &str) -> Option<String> {
        parse(text).map(|key| key.to_string())
    }

    #[test]
    fn the_text_is_what_container_runtimes_expect() {
        let text = render(r#"{"Network":"10.5.0.0/16"}"#, "10.5.26.0-24", 1472, false);
        assert_eq!(
            text,
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"
        );
    }

    #[test]
    fn both_families_have_their_lines() {
        let config = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48"}"#;
        let text = render(config, "10.5.96.0-24&fd05:0:0:50::-64", 1450, true);
        let wanted = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.96.1/24\nFLANNEL_IPV6_NETWORK=fd05::/48\n\
                      FLANNEL_IPV6_SUBNET=fd05:0:0:50::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        assert_eq!(text, wanted);
        let names = wanted.lines().filter_map(|line| line.split('=').next());
        assert!(names.eq(VARIABLES.map(|(name, _)| name)));
        assert_eq!(read(wanted).unwrap(), "10.5.96.0-24&fd05:0:0:50::-64");
    }

    #[test]
    fn a_preset_subnet_is_read_back() {
        assert_eq!(
            read("FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\n").unwrap(),
            "172.7.21.0-24"
        );
        assert_eq!(
            read("export FLANNEL_SUBNET=\"172.7.21.1/24\"").unwrap(),
            "172.7.21.0-24"
        );
    }

    #[test]
    fn read_cidrs_skips_invalid_elements() {
        assert_eq!(
            read("FLANNEL_SUBNET=nonsense,10.5.3.1/24").unwrap(),
            "10.5.3.0-24"
        );
        assert_eq!(
            read("FLANNEL_IPV6_SUBNET=nonsense,fd05::1/64").unwrap(),
            "0.0.0.0-0&fd05::-64"
        );
    }

    #[test]
    fn read_cidrs_of_only_invalid_elements_is_empty() {
        assert_eq!(read("FLANNEL_SUBNET=10.5.3.1,x"), None);
        assert_eq!(read("FLANNEL_IPV6_SUBNET=10.5.3.1/24"), None);
        assert_eq!(read("FLANNEL_SUBNET=10.5.3.1/24,10.5.4.1/24"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn the_file_is_readable_by_all_and_a_link_in_its_place_is_refused() {
        use std::fs;
        use std::os::unix::fs::{MetadataExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flannel/subnet.env");
        let network = NetworkConfig::parse(r#"{"Network":"10.5.0.0/16"}"#).unwrap();
        let file = SubnetFile {
            network: &network,
            subnets: "10.5.26.0-24".parse().unwrap(),
            mtu: 1472,
            masquerade: false,
        };
        file.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        assert_eq!(previous_subnets(&path), Some(file.subnets));
        fs::remove_file(&path).unwrap();
        symlink("/etc/passwd", &path).unwrap();
        assert!(file.write(&path).is_err());
    }
}

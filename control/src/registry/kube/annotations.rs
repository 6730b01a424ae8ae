//! A node's record as annotations, byte by byte as flannel writes them.

use super::node::Node;
use super::prefix::Prefix;
use crate::lease::{BackendData, LeaseAttrs};
use crate::registry::{Addresses, VALUE_MAX};
use crate::subnet_key::SubnetKey;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::str::FromStr;

/// What backend data is where a backend has none to tell.
const NOTHING: &str = "null";
/// Every name of a record.
const MANAGED: &str = "kube-subnet-manager";
const BACKEND_TYPE: &str = "backend-type";
const BACKEND_DATA: &str = "backend-data";
const PUBLIC_IP: &str = "public-ip";
const BACKEND_V6_DATA: &str = "backend-v6-data";
const PUBLIC_IPV6: &str = "public-ipv6";
const RECORD: [&str; 6] = [
    MANAGED,
    BACKEND_TYPE,
    BACKEND_DATA,
    PUBLIC_IP,
    BACKEND_V6_DATA,
    PUBLIC_IPV6,
];

/// What annotations shall become; `None` for one that is to go.
pub(super) type Changes = BTreeMap<String, Option<String>>;

/// The names of annotations.
#[derive(Clone, Debug)]
pub(super) struct Annotations(Prefix);

impl Annotations {
    pub(super) fn new(prefix: Prefix) -> Self {
        Self(prefix)
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }

    /// An annotation that says something.
    fn text<'a>(&self, node: &'a Node, name: &str) -> Option<&'a str> {
        let text = node.metadata.annotations.get(&self.name(name))?;
        Some(text.trim()).filter(|text| !text.is_empty())
    }

    fn parsed<T: FromStr>(&self, node: &Node, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.text(node, name) else {
            return Ok(None);
        };
        let told: String = text.chars().take(60).collect();
        let read = text.parse().map(Some);
        read.map_err(|_| format!("its annotation {} is {told:?}", self.name(name)))
    }

    fn data(&self, node: &Node, name: &str) -> Result<Option<BackendData>, String> {
        let Some(text) = self.text(node, name).filter(|text| *text != NOTHING) else {
            return Ok(None);
        };
        let read = text.parse().map(Some);
        read.map_err(|error| format!("its annotation {}: {error}", self.name(name)))
    }

    /// The record of a node, if it has one; an error says what is wrong with it.
    pub(super) fn record(&self, node: &Node) -> Option<Result<(SubnetKey, LeaseAttrs), String>> {
        (self.text(node, MANAGED) == Some("true")).then(|| self.read(node))
    }

    fn read(&self, node: &Node) -> Result<(SubnetKey, LeaseAttrs), String> {
        let texts = RECORD.iter().filter_map(|name| self.text(node, name));
        let length: usize = texts.map(str::len).sum();
        if length > VALUE_MAX {
            return Err(format!("its annotations have {length} bytes"));
        }
        let public_ip: Option<std::net::Ipv4Addr> = self.parsed(node, PUBLIC_IP)?;
        let attrs = LeaseAttrs {
            public_ip: public_ip.filter(|address| !address.is_unspecified()),
            public_ipv6: self.parsed(node, PUBLIC_IPV6)?,
            backend_type: self.text(node, BACKEND_TYPE).unwrap_or_default().to_owned(),
            backend_data: self.data(node, BACKEND_DATA)?,
            backend_v6_data: self.data(node, BACKEND_V6_DATA)?,
            bridge: None,
        };
        // A subnet of a family the node cannot be reached by is not in use.
        let used = |subnet: &IpNet| match subnet {
            IpNet::V4(_) => attrs.public_ip.is_some(),
            IpNet::V6(_) => attrs.public_ipv6.is_some(),
        };
        let key = SubnetKey::of(node.subnets()?.into_iter().filter(used));
        let key = key.ok_or("it has no podCIDR of a family that it has a public address for")?;
        Ok((key, attrs))
    }

    /// What has to change for a node's annotations to be this record; nothing, if they are.
    pub(super) fn changes(&self, node: &Node, attrs: &LeaseAttrs) -> Changes {
        let wanted = record(attrs);
        let mut changes = Changes::new();
        for name in RECORD {
            let (key, wanted) = (self.name(name), wanted.get(name));
            if node.metadata.annotations.get(&key) != wanted {
                changes.insert(key, wanted.cloned());
            }
        }
        changes
    }

    /// What has to change for a node to have no record.
    pub(super) fn removal(&self, node: &Node) -> Changes {
        let names = RECORD.iter().map(|name| self.name(name));
        let present = names.filter(|name| node.metadata.annotations.contains_key(name));
        present.map(|name| (name, None)).collect()
    }

    /// What operators say about the node's addresses.
    pub(super) fn addresses(&self, node: &Node) -> Result<Addresses, String> {
        Ok(Addresses {
            public_ip: self.parsed(node, "node-public-ip")?,
            public_ipv6: self.parsed(node, "node-public-ipv6")?,
            advertised_ip: self.parsed(node, "public-ip-overwrite")?,
            advertised_ipv6: self.parsed(node, "public-ipv6-overwrite")?,
        })
    }
}

/// The record's annotations, without the prefix of their names.
fn record(attrs: &LeaseAttrs) -> BTreeMap<&'static str, String> {
    let data = |data: &Option<BackendData>| match data {
        Some(data) => data.to_string(),
        None => NOTHING.to_owned(),
    };
    let mut record = BTreeMap::from([
        (MANAGED, "true".to_owned()),
        (BACKEND_TYPE, attrs.backend_type.clone()),
    ]);
    if let Some(address) = attrs.public_ip {
        record.insert(BACKEND_DATA, data(&attrs.backend_data));
        record.insert(PUBLIC_IP, address.to_string());
    }
    if let Some(address) = attrs.public_ipv6 {
        record.insert(BACKEND_V6_DATA, data(&attrs.backend_v6_data));
        record.insert(PUBLIC_IPV6, address.to_string());
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = r#"{"PublicIP":"192.168.77.2","PublicIPv6":"fd77::2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:5b:8b:ba:16:5f"},"BackendV6Data":{"VNI":1,"VtepMAC":"1a:fa:a1:76:a0:8e"}}"#;

    fn annotations() -> Annotations {
        Annotations::new("flannel.alpha.coreos.com".parse().unwrap())
    }

    /// A node with these subnets and the annotations of a record.
    fn node(subnets: &[&str], value: &str) -> Node {
        let mut node: Node =
            serde_json::from_value(serde_json::json!({"spec": {"podCIDRs": subnets}})).unwrap();
        let changes = annotations().changes(&node, &LeaseAttrs::parse(value).unwrap());
        let set = changes
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        node.metadata.annotations = set.collect();
        node
    }

    fn told(node: &Node) -> String {
        let texts = node.metadata.annotations.iter();
        let lines: Vec<_> = texts.map(|(name, text)| format!("{name}={text}")).collect();
        lines.join("\n")
    }

    #[test]
    fn a_nodes_annotations_are_flannels_byte_by_byte() {
        let all =
            "flannel.alpha.coreos.com/backend-data={\"VNI\":1,\"VtepMAC\":\"0a:5b:8b:ba:16:5f\"}
flannel.alpha.coreos.com/backend-type=vxlan
flannel.alpha.coreos.com/backend-v6-data={\"VNI\":1,\"VtepMAC\":\"1a:fa:a1:76:a0:8e\"}
flannel.alpha.coreos.com/kube-subnet-manager=true
flannel.alpha.coreos.com/public-ip=192.168.77.2
flannel.alpha.coreos.com/public-ipv6=fd77::2";
        assert_eq!(told(&node(&["10.244.2.0/24"], VALUE)), all);
        let plain = "flannel.alpha.coreos.com/backend-data=null
flannel.alpha.coreos.com/backend-type=host-gw
flannel.alpha.coreos.com/kube-subnet-manager=true
flannel.alpha.coreos.com/public-ip=1.2.3.4";
        let value = r#"{"PublicIP":"1.2.3.4","BackendType":"host-gw"}"#;
        assert_eq!(told(&node(&["10.244.2.0/24"], value)), plain);
        let udp = r#"{"PublicIP":"1.2.3.4"}"#;
        assert_eq!(told(&node(&[], udp)), plain.replace("host-gw", ""));
    }

    #[test]
    fn a_record_read_is_the_record_written() {
        let node = node(&["10.244.2.0/24", "fd05:0:0:2::/64"], VALUE);
        let (key, attrs) = annotations().record(&node).unwrap().unwrap();
        assert_eq!(key.to_string(), "10.244.2.0-24&fd05:0:0:2::-64");
        assert_eq!(attrs.to_json(), VALUE);
        assert!(annotations().changes(&node, &attrs).is_empty());
    }

    #[test]
    fn a_change_of_one_family_is_seen_whatever_the_other_says() {
        // Stock compares IPv6 last, and takes a change of IPv4 alone for none.
        let node = node(&["10.244.2.0/24", "fd05:0:0:2::/64"], VALUE);
        let moved = VALUE.replace("192.168.77.2", "192.168.77.9");
        let changes = annotations().changes(&node, &LeaseAttrs::parse(&moved).unwrap());
        let name = "flannel.alpha.coreos.com/public-ip".to_owned();
        assert_eq!(
            changes,
            Changes::from([(name, Some("192.168.77.9".to_owned()))])
        );
    }

    #[test]
    fn what_is_left_of_another_family_goes() {
        let node = node(&["10.244.2.0/24", "fd05:0:0:2::/64"], VALUE);
        let ipv4 = LeaseAttrs::parse(r#"{"PublicIP":"192.168.77.2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:5b:8b:ba:16:5f"}}"#).unwrap();
        let gone = ["backend-v6-data", "public-ipv6"];
        let gone = gone.map(|name| (format!("flannel.alpha.coreos.com/{name}"), None));
        assert_eq!(annotations().changes(&node, &ipv4), Changes::from(gone));
    }

    #[test]
    fn nodes_without_a_record_are_told_from_those_with_a_bad_one() {
        assert!(annotations().record(&Node::default()).is_none());
        let mut other = node(&["10.244.2.0/24"], VALUE);
        for (name, text) in [
            ("public-ip", "here"),
            ("backend-data", "{"),
            ("public-ipv6", "1.2.3.4"),
        ] {
            let mut node = other.clone();
            let name = format!("flannel.alpha.coreos.com/{name}");
            node.metadata.annotations.insert(name, text.to_owned());
            assert!(annotations().record(&node).unwrap().is_err(), "{text}");
        }
        other.spec = Node::default().spec;
        assert!(annotations().record(&other).unwrap().is_err());
    }

    #[test]
    fn a_subnet_of_a_family_that_is_not_in_use_does_not_count() {
        let value = r#"{"PublicIP":"1.2.3.4"}"#;
        let node = node(&["10.244.2.0/24", "fd05:0:0:2::/64"], value);
        let (key, _) = annotations().record(&node).unwrap().unwrap();
        assert_eq!(key.to_string(), "10.244.2.0-24");
    }
}

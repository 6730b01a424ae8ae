//! A lease: which node holds which subnet, and how packets reach it.
//!
//! The value's JSON is the contract with every other node, so its bytes are fixed: field order, `PublicIPv6`
//! always written, the backend fields left out when empty. Reading is lenient, as older nodes write less.

use crate::json::{JsonError, Object, compact};
use crate::mac::Mac;
use crate::subnet_key::SubnetKey;
use serde::Serialize;
use serde_json::value::RawValue;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What a node tells the others about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LeaseAttrs {
    /// Underlay address for IPv4; unspecified on a node without it.
    #[serde(rename = "PublicIP", serialize_with = "zeros_for_none")]
    pub public_ip: Option<Ipv4Addr>,
    /// Underlay address for IPv6.
    #[serde(rename = "PublicIPv6")]
    pub public_ipv6: Option<Ipv6Addr>,
    /// Name of the backend; empty for the UDP form.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub backend_type: String,
    /// What the backend needs to know to reach the node over IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_data: Option<BackendData>,
    /// The same over IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_v6_data: Option<BackendData>,
    /// The bridge that has copied this record from another store; a node's own record names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Box<str>>,
}

/// What a backend says of its node: JSON text as it was written, but for space. Thousands are kept, few are ever looked
/// into, and what is written again must not have changed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendData(Box<str>);

impl BackendData {
    fn new(text: &str) -> Self {
        Self(compact(text).into())
    }
}

impl FromStr for BackendData {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text).map(|read: &RawValue| Self::new(read.get()))
    }
}

impl fmt::Display for BackendData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for BackendData {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        text.serialize(serializer)
    }
}

/// Backend data of a VXLAN node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VtepData {
    /// Network identifier; records of old nodes carry none.
    pub vni: Option<u32>,
    /// Ethernet address packets to the node must be sent to.
    pub mac: Mac,
}

/// Which version of a record was read; a change is made only to the version its author saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision(pub(crate) u64, pub(crate) u64);

/// A record of the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The subnets leased.
    pub key: SubnetKey,
    /// What the holder says about itself.
    pub attrs: LeaseAttrs,
    /// Whether it lasts without being renewed.
    pub reserved: bool,
    /// The version that was read.
    pub revision: Revision,
}

impl LeaseAttrs {
    /// Reads a record's value.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let object = Object::parse(text)?;
        let public_ip = object.parsed("PublicIP", "IP address")?;
        Ok(Self {
            public_ip: public_ip.filter(|address: &Ipv4Addr| !address.is_unspecified()),
            public_ipv6: object.parsed("PublicIPv6", "IPv6 address")?,
            backend_type: object.text("BackendType")?,
            backend_data: object.get("BackendData").map(BackendData::new),
            backend_v6_data: object.get("BackendV6Data").map(BackendData::new),
            // A name that is no text is nobody's.
            bridge: object
                .get("Bridge")
                .and_then(|name| serde_json::from_str(name).ok()),
        })
    }

    /// The value's exact text.
    pub fn to_json(&self) -> String {
        // Plain fields and JSON values always have a text; a map with other keys than strings would not.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether both records speak of the same node: its IPv4 address, or where it has none its IPv6 address.
    pub fn same_node(&self, other: &Self) -> bool {
        match (self.public_ip, other.public_ip) {
            (None, None) => self.public_ipv6.is_some() && self.public_ipv6 == other.public_ipv6,
            (ours, theirs) => ours == theirs,
        }
    }
}

impl VtepData {
    /// Reads backend data.
    pub fn parse(data: &BackendData) -> Result<Self, JsonError> {
        let object = Object::parse(&data.0)?;
        let vni = object
            .get("VNI")
            .map(|_| object.number("VNI", 0))
            .transpose()?;
        let mac = object.parsed("VtepMAC", "Ethernet address")?;
        let mac = mac
            .filter(|mac: &Mac| mac.is_unicast())
            .ok_or_else(|| JsonError("VtepMAC is missing or not of one node".to_owned()))?;
        Ok(Self { vni, mac })
    }

    /// The JSON other nodes read.
    pub fn to_data(self) -> BackendData {
        let (vni, mac) = (self.vni.unwrap_or(1), self.mac);
        BackendData::new(&format!(r#"{{"VNI":{vni},"VtepMAC":"{mac}"}}"#))
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.reserved { " (reserved)" } else { "" };
        write!(formatter, "{}{kind}", self.key)
    }
}

fn zeros_for_none<S: serde::Serializer>(
    address: &Option<Ipv4Addr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    address
        .unwrap_or(Ipv4Addr::UNSPECIFIED)
        .serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(text: &str) -> LeaseAttrs {
        LeaseAttrs::parse(text).unwrap()
    }

    #[test]
    fn value_bytes_of_every_form_are_kept_exactly() {
        let texts = [
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null}"#,
            r#"{"PublicIP":"192.168.77.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"16:bd:34:0f:eb:94"}}"#,
            r#"{"PublicIP":"192.168.77.2","PublicIPv6":"fd77::2","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:5b:8b:ba:16:5f"},"BackendV6Data":{"VNI":1,"VtepMAC":"1a:fa:a1:76:a0:8e"}}"#,
            r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendType":"host-gw"}"#,
            r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"BackendData":{"b":11111111211.310001,"a":1e0,"a":"\u0041 \ud800"}}"#,
            r#"{"PublicIP":"192.168.77.1","PublicIPv6":null,"Bridge":"3f7a"}"#,
        ];
        for text in texts {
            assert_eq!(attrs(text).to_json(), text);
        }
    }

    #[test]
    fn records_of_old_nodes_are_read() {
        let old = attrs(
            r#"{"PublicIP":"10.0.0.2","BackendType":"vxlan","BackendData":{"VtepMAC":"16:bd:34:0f:eb:94"}}"#,
        );
        let data = VtepData::parse(&old.backend_data.unwrap()).unwrap();
        assert_eq!(
            (data.vni, data.mac.to_string().as_str()),
            (None, "16:bd:34:0f:eb:94")
        );
    }

    #[test]
    fn an_absent_address_is_written_as_zeros() {
        let only_v6 = LeaseAttrs {
            public_ipv6: Some(Ipv6Addr::LOCALHOST),
            ..LeaseAttrs::default()
        };
        assert_eq!(
            only_v6.to_json(),
            r#"{"PublicIP":"0.0.0.0","PublicIPv6":"::1"}"#
        );
        assert_eq!(attrs(&only_v6.to_json()), only_v6);
    }

    #[test]
    fn broken_values_are_refused() {
        for text in [
            "",
            "x",
            r#"{"PublicIP":7}"#,
            r#"{"PublicIP":"10.0.0"}"#,
            r#"{"PublicIPv6":"10.0.0.1"}"#,
            r#"{"BackendType":[]}"#,
        ] {
            assert!(LeaseAttrs::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nodes_without_ipv4_are_told_apart_by_ipv6() {
        let node = |text: &str| attrs(&format!(r#"{{"PublicIP":"0.0.0.0","PublicIPv6":{text}}}"#));
        assert!(node(r#""fd77::1""#).same_node(&node(r#""fd77::1""#)));
        assert!(!node(r#""fd77::1""#).same_node(&node(r#""fd77::2""#)));
        assert!(!node("null").same_node(&node("null")));
    }

    #[test]
    fn backend_data_written_is_backend_data_read() {
        let data = VtepData {
            vni: Some(7),
            mac: Mac([2, 0, 0, 0, 0, 1]),
        };
        assert_eq!(
            &*data.to_data().0,
            r#"{"VNI":7,"VtepMAC":"02:00:00:00:00:01"}"#
        );
        assert_eq!(VtepData::parse(&data.to_data()), Ok(data));
    }

    #[test]
    fn an_ethernet_address_of_many_nodes_is_refused() {
        for mac in [
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "",
        ] {
            assert!(
                VtepData::parse(&BackendData::new(&format!(r#"{{"VtepMAC":"{mac}"}}"#))).is_err(),
                "{mac}"
            );
        }
    }
}

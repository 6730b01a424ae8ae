//! Text others wrote is read or refused, and never ends the process: every reader is given what is nearly right.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on may as well end here"
)]

use control::lease::{LeaseAttrs, VtepData};
use control::mac::Mac;
use control::network::NetworkConfig;
use control::subnet_file::previous_subnets;
use control::subnet_key::SubnetKey;
use fastrand::Rng;
use std::fs;

const ROUNDS: usize = 20_000;

const CONFIGS: [&str; 4] = [
    r#"{"Network":"10.5.0.0/16","SubnetLen":24,"SubnetMin":"10.5.1.0","SubnetMax":"10.5.255.0"}"#,
    r#"{"network":"10.5.0.0/28","Backend":{"Type":"VXLAN","VNI":16777215,"Port":65535,"MTU":4294967295,"Directrouting":true}}"#,
    r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd05::/126","IPv6SubnetLen":128,"Backend":{"Type":"host-gw"}}"#,
    r#"{"Network":"255.255.255.0/24","SubnetLen":30,"EnableIPv6":true,"IPv6Network":"ffff:ffff::/48","Backend":{"Type":"udp","Port":1}}"#,
];
const LEASES: [&str; 3] = [
    r#"{"PublicIP":"192.168.77.1","PublicIPv6":null}"#,
    r#"{"PublicIP":"192.168.77.1","PublicIPv6":"fd77::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"12:30:d8:f4:40:de"},"BackendV6Data":{"VNI":1,"VtepMAC":"fa:81:9d:10:9c:1f"}}"#,
    r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd77::1","BackendType":"host-gw"}"#,
];
const KEYS: [&str; 4] = [
    "10.5.26.0-24",
    "10.5.47.0-24&fd05:0:0:1::-64",
    "0.0.0.0-0&fd05::-64",
    "255.255.255.255-31&ffff::-127",
];
const FILE: &str = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_IPV6_NETWORK=fd05::/48\nFLANNEL_IPV6_SUBNET=fd05:0:0:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

/// A text that is not quite one of these: bytes changed, doubled, taken away, or the end of another.
fn nearly(texts: &[&str], random: &mut Rng) -> String {
    let mut bytes = random.choice(texts).unwrap().as_bytes().to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        let interesting = b"0123456789.:/-&,\"{}[]\\= \n\0\xff\xc3e+ntf";
        match random.u8(0..5) {
            0 if at < bytes.len() => bytes[at] = *random.choice(interesting).unwrap(),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, *random.choice(interesting).unwrap()),
            3 => bytes.truncate(at),
            _ => {
                let other = random.choice(texts).unwrap().as_bytes();
                bytes.extend_from_slice(&other[random.usize(0..other.len())..]);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Gives a reader many texts; what comes of them is its own affair.
fn read_many<T>(texts: &[&str], read: impl Fn(&str) -> T) {
    let mut random = Rng::with_seed(4711);
    for text in texts {
        read(text);
    }
    for _ in 0..ROUNDS {
        read(&nearly(texts, &mut random));
    }
}

#[test]
fn no_network_config_ends_the_process() {
    read_many(&CONFIGS, |text| {
        if let Ok(network) = NetworkConfig::parse(text) {
            network.told_mtu(0, true);
            assert!(network.networks().count() > 0, "{text}");
        }
    });
}

#[test]
fn no_lease_ends_the_process() {
    read_many(&LEASES, |text| {
        if let Ok(attrs) = LeaseAttrs::parse(text) {
            for data in [&attrs.backend_data, &attrs.backend_v6_data] {
                let _read_or_refused = data.as_ref().map(VtepData::parse);
            }
        }
    });
}

#[test]
fn no_lease_name_ends_the_process() {
    read_many(&KEYS, |text| {
        if let Ok(key) = text.parse::<SubnetKey>() {
            assert_eq!(key.to_string().parse::<SubnetKey>(), Ok(key), "{text}");
        }
    });
}

#[test]
fn no_ethernet_address_ends_the_process() {
    read_many(&["12:30:d8:f4:40:de", "ff:ff:ff:ff:ff:ff"], |text| {
        text.parse::<Mac>()
    });
}

#[test]
fn no_subnet_file_ends_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("subnet.env");
    let mut random = Rng::with_seed(4711);
    for _ in 0..ROUNDS / 20 {
        fs::write(&path, nearly(&[FILE], &mut random)).unwrap();
        previous_subnets(&path);
    }
}

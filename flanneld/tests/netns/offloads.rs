//! What the devices on the way promise to do changes all the time; what arrives does not.

use benches::{Namespace, Path, Profile, Side};

use super::setup::{up, versions};
use super::traffic::stream;

/// Features of a device that change how packets look on the way.
const FEATURES: [&str; 5] = ["tx", "tso", "gso", "gro", "rx-udp-gro-forwarding"];

/// Every device on the way from one container to the other.
fn devices(path: &Path) -> Vec<(&Namespace, &'static str)> {
    let of_side = |side| {
        let (node, container) = (path.lab().node(side), path.lab().container(side));
        [(node, "eth0"), (node, "pod0"), (container, "eth0")]
    };
    Side::BOTH.into_iter().flat_map(of_side).collect()
}

/// Switches each feature as its bit says. Where one needs another that is off, it stays off, too.
fn switch(path: &Path, bits: usize) {
    let switches: String = FEATURES
        .iter()
        .enumerate()
        .map(|(place, name)| format!(" {name} {}", ["off", "on"][bits >> place & 1]))
        .collect();
    for (namespace, device) in devices(path) {
        let _ = namespace.run(&format!("ethtool -K {device}{switches}"));
    }
}

/// Packets that a kernel on the way, or at the end of it, found damaged.
pub(crate) fn damaged(path: &Path) -> u64 {
    let of_namespace = |namespace: &Namespace| {
        let table = namespace.run("cat /proc/net/snmp").unwrap();
        let lines: Vec<_> = table.lines().collect();
        lines
            .chunks(2)
            .map(|pair| column_sum(pair, "InCsumErrors"))
            .sum::<u64>()
    };
    let both = |side| [path.lab().node(side), path.lab().container(side)];
    Side::BOTH
        .into_iter()
        .flat_map(both)
        .map(of_namespace)
        .sum()
}

pub(crate) fn column_sum(rows: &[&str], column: &str) -> u64 {
    let [names, values] = rows else { return 0 };
    let pairs = names.split(' ').zip(values.split(' '));
    let wanted = pairs.filter(|(name, _)| *name == column);
    wanted
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

fn streams_arrive_whatever_devices_offload(name: &str) {
    let path = up(name, Profile::Offload);
    for bits in 0..1 << FEATURES.len() {
        switch(&path, bits);
        stream(&path, Side::A);
    }
    assert_eq!(damaged(&path), 0);
}

versions! { streams_arrive_whatever_devices_offload:
    streams_arrive_in_udp_form_whatever_devices_offload("udp");
    streams_arrive_over_vxlan_whatever_devices_offload("vxlan");
}

//! Where the daemons of one lab keep their leases: in a directory, stock ones in an etcd of their own.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ends::Lease;
use super::{End, Form, PathSpec};
use crate::etcd::Etcd;
use crate::lab::{Lab, Side, Subnet};
use crate::preflight;

/// The network all container networks are part of.
pub(super) const NETWORK: &str = "10.5.0.0/16";
const NETWORK_IPV6: &str = "fd05::/48";
/// The network where there are leases of others, which lie above those that the daemons choose from.
const WIDE: [(&str, &str); 3] = [
    ("Network", "10.0.0.0/8"),
    ("SubnetMin", "10.0.0.0"),
    ("SubnetMax", "10.15.255.192"),
];
const WIDE_LENGTH: u8 = 26;
const FIRST_STRANGER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 16, 0, 0), Ipv4Addr::new(172, 16, 0, 1)];
/// The VXLAN network identifier, flannel's default.
pub(super) const VNI: u32 = 1;

/// Where the network configuration is in etcd.
const CONFIG: &str = "/coreos.com/network/config";
/// What stock flannel insists on seeing before it starts.
const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// The leases of one lab.
#[derive(Debug)]
pub(super) enum Store {
    /// A directory inside the lab's scratch directory.
    Directory(PathBuf),
    /// An etcd on node A.
    Etcd(Box<Etcd>),
}

impl Store {
    /// Makes what the ends of `spec` share, with the network configuration in it.
    pub(super) fn create(lab: &Lab, spec: &PathSpec) -> io::Result<Self> {
        let mut config = json!({ "Network": NETWORK, "Backend": { "Type": backend(spec.form) } });
        if spec.strangers > 0 {
            config["SubnetLen"] = json!(WIDE_LENGTH);
            for (key, value) in WIDE {
                config[key] = json!(value);
            }
        }
        if spec.ipv6 {
            config["EnableIPv6"] = json!(true);
            config["IPv6Network"] = json!(NETWORK_IPV6);
        }
        if spec.ends.contains(&End::Stock) {
            return Self::for_stock(lab, &config.to_string());
        }
        let directory = lab.scratch().join("store");
        fs::create_dir_all(directory.join("subnets"))?;
        fs::write(directory.join("config"), config.to_string())?;
        let store = Self::Directory(directory);
        store.record_strangers(spec)?;
        Ok(store)
    }

    /// Writes the leases of nodes that do not exist.
    fn record_strangers(&self, spec: &PathSpec) -> io::Result<()> {
        let [subnets, nodes] = FIRST_STRANGER.map(u32::from);
        for number in 0..spec.strangers {
            let subnet = Subnet {
                base: (subnets + (number << (32 - WIDE_LENGTH))).into(),
                length: WIDE_LENGTH,
            };
            let [_, a, b, c] = number.to_be_bytes();
            let mac = format!("0e:00:00:{a:02x}:{b:02x}:{c:02x}");
            let lease = lease((nodes + number).into(), spec.form, &mac);
            fs::write(self.lease_file(subnet)?, lease.to_string())?;
        }
        Ok(())
    }

    /// Refuses with cause and cure what a stock daemon would wait for, or end over.
    fn for_stock(lab: &Lab, config: &str) -> io::Result<Self> {
        if !["etcd", "etcdctl"].into_iter().all(preflight::is_installed) {
            return Err(io::Error::other(
                "stock flannel keeps leases in etcd, and there is none here: install it \
                 (Debian: apt install etcd-server etcd-client)",
            ));
        }
        let node = lab.node(Side::A);
        if !node.enter(|| Ok(Path::new(BRIDGE_FILTER).exists()))? {
            return Err(io::Error::other(format!(
                "stock flannel does not start without {BRIDGE_FILTER}: modprobe br_netfilter"
            )));
        }
        let etcd = Etcd::plan()
            .member(node, Side::A.underlay().into())?
            .launch()?;
        etcd.put(CONFIG, config)?;
        Ok(Self::Etcd(Box::new(etcd)))
    }

    /// How a daemon is told where it is.
    pub(super) fn argument(&self) -> String {
        match self {
            Self::Directory(directory) => format!("--store=file:{}", directory.display()),
            Self::Etcd(etcd) => format!("--etcd-endpoints={}", etcd.endpoints()),
        }
    }

    /// Records the lease of a node that runs no daemon, as its daemon would have.
    pub(super) fn record(&self, side: Side, spec: &PathSpec, mac: &str) -> io::Result<()> {
        let mut lease = lease(side.underlay(), spec.form, mac);
        let subnet = side.default_subnet();
        let mut file = self.lease_file(subnet)?;
        if spec.ipv6 {
            lease["PublicIPv6"] = json!(side.underlay_ipv6());
            lease["BackendV6Data"] = lease["BackendData"].clone();
            let base = side.default_subnet_ipv6().base;
            file.set_file_name(format!("{}-{}&{base}-64", subnet.base, subnet.length));
        }
        fs::write(file, lease.to_string())
    }

    /// The overlay MAC address in a lease.
    pub(super) fn overlay_mac(&self, lease: &Lease) -> io::Result<String> {
        let (subnet, mut file) = (lease.subnet, self.lease_file(lease.subnet)?);
        if let Some(ipv6) = lease.ipv6 {
            file.set_file_name(format!(
                "{}-{}&{}-64",
                subnet.base, subnet.length, ipv6.base
            ));
        }
        let lease: Value = serde_json::from_str(&fs::read_to_string(file)?)?;
        let mac = lease["BackendData"]["VtepMAC"].as_str().map(str::to_owned);
        mac.ok_or_else(|| {
            io::Error::other(format!("the lease of {subnet} has no VtepMAC: {lease}"))
        })
    }

    fn lease_file(&self, subnet: Subnet) -> io::Result<PathBuf> {
        match self {
            Self::Directory(directory) => Ok(directory
                .join("subnets")
                .join(format!("{}-{}", subnet.base, subnet.length))),
            Self::Etcd(_) => Err(io::Error::other("stock daemons write their own leases")),
        }
    }
}

fn lease(node: Ipv4Addr, form: Form, mac: &str) -> Value {
    let mut lease = json!({ "PublicIP": node, "PublicIPv6": null, "BackendType": backend(form) });
    if form == Form::Vxlan {
        lease["BackendData"] = json!({ "VNI": VNI, "VtepMAC": mac });
    }
    lease
}

fn backend(form: Form) -> &'static str {
    match form {
        Form::Plain => "host-gw",
        Form::Udp => "udp",
        Form::Vxlan => "vxlan",
    }
}

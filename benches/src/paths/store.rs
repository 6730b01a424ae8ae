//! The lease directory that the daemons of one lab share.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Form;
use crate::lab::{Lab, Side, Subnet};

/// The network all container networks are part of.
pub(super) const NETWORK: &str = "10.5.0.0/16";
/// The VXLAN network identifier, flannel's default.
pub(super) const VNI: u32 = 1;

/// The lease directory inside a lab's scratch directory.
pub(super) struct Store(PathBuf);

impl Store {
    /// Makes the directory and the network configuration.
    pub(super) fn create(lab: &Lab, form: Form) -> io::Result<Self> {
        let store = Self::of(lab);
        fs::create_dir_all(store.0.join("subnets"))?;
        let config = json!({ "Network": NETWORK, "Backend": { "Type": backend(form) } });
        fs::write(store.0.join("config"), config.to_string())?;
        Ok(store)
    }

    /// The directory of a lab that has one.
    pub(super) fn of(lab: &Lab) -> Self {
        Self(lab.scratch().join("store"))
    }

    /// How the daemon is told where it is.
    pub(super) fn argument(&self) -> String {
        format!("--store=file:{}", self.0.display())
    }

    /// Records the lease of a node that runs no daemon, as its daemon would have.
    pub(super) fn record(
        &self,
        side: Side,
        subnet: Subnet,
        form: Form,
        mac: &str,
    ) -> io::Result<()> {
        let mut lease = json!({ "PublicIP": side.underlay(), "PublicIPv6": null, "BackendType": backend(form) });
        if form == Form::Vxlan {
            lease["BackendData"] = json!({ "VNI": VNI, "VtepMAC": mac });
        }
        fs::write(self.lease_file(subnet), lease.to_string())
    }

    /// The overlay MAC address in a lease.
    pub(super) fn overlay_mac(&self, subnet: Subnet) -> io::Result<String> {
        let lease: Value = serde_json::from_str(&fs::read_to_string(self.lease_file(subnet))?)?;
        let mac = lease["BackendData"]["VtepMAC"].as_str().map(str::to_owned);
        mac.ok_or_else(|| {
            io::Error::other(format!("the lease of {subnet} has no VtepMAC: {lease}"))
        })
    }

    fn lease_file(&self, subnet: Subnet) -> PathBuf {
        self.0
            .join("subnets")
            .join(format!("{}-{}", subnet.base, subnet.length))
    }
}

fn backend(form: Form) -> &'static str {
    match form {
        Form::Plain => "host-gw",
        Form::Udp => "udp",
        Form::Vxlan => "vxlan",
    }
}

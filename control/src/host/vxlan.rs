//! A kernel VXLAN device exactly as flannel makes it: taken over where it fits, made anew where it does not, and
//! always with the same Ethernet address, which other nodes know from our lease.

use super::netlink::{Interface, Netlink, VxlanDevice};
use super::sysctl;
use crate::mac::Mac;
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use tracing::{info, warn};

/// "Operation not supported" on Linux.
const EOPNOTSUPP: i32 = 95;

/// What a device shall look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanSetup {
    /// `flannel.` or `flannel-v6.` and the network identifier.
    pub name: String,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Name of the interface below.
    pub link: String,
    /// Address of that interface, from which datagrams come.
    pub local: IpAddr,
    /// Whether it learns addresses from what it receives.
    pub learning: bool,
    /// Whether it carries group-based policy bits.
    pub gbp: bool,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Largest packet.
    pub mtu: u32,
    /// Its own address, that of the subnet's first host.
    pub address: IpNet,
    /// The overlay network. Other addresses in it are not the device's.
    pub network: IpNet,
}

/// How a device was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The kernel's number for it.
    pub index: u32,
    /// Whether anything had to be changed.
    pub mended: bool,
}

/// The name flannel gives the device for an address family.
pub fn device_name(vni: u32, ipv4: bool) -> String {
    let family = if ipv4 { "" } else { "-v6" };
    format!("flannel{family}.{vni}")
}

/// The Ethernet address of a device that is there, to be kept.
pub fn standing_mac(netlink: &mut Netlink, vni: u32) -> io::Result<Option<Mac>> {
    let interfaces = netlink.interfaces()?;
    let names = [true, false].map(|ipv4| device_name(vni, ipv4));
    let of = |name: &String| {
        let mut devices = interfaces.iter().filter(|found| found.is_flannel_vxlan());
        devices
            .find(|found| found.name == *name)
            .and_then(|found| found.mac)
    };
    Ok(names.iter().find_map(of).filter(|mac| mac.is_unicast()))
}

impl VxlanSetup {
    /// Sees to it that the device is there and as wanted. Its size is set when it is made or `at_start`: later,
    /// operators may lower it for narrow paths.
    pub fn apply(&self, netlink: &mut Netlink, at_start: bool) -> io::Result<Applied> {
        let interfaces = netlink.interfaces()?;
        let named = |name: &str| interfaces.iter().find(|found| found.name == name);
        let link = named(&self.link).map(|found| found.index);
        let link = link.ok_or_else(|| {
            let why = format!(
                "cannot set up {}: there is no interface {}",
                self.name, self.link
            );
            io::Error::new(io::ErrorKind::NotFound, why)
        })?;
        let shape = self.shape(link);
        let applied = match named(&self.name) {
            Some(found) if found.vxlan == Some(shape) => self.adjust(netlink, found, at_start),
            Some(found) => {
                info!(
                    "{} is not as the network config asks for; making it anew",
                    self.name
                );
                netlink.delete_interface(found.index)?;
                self.create(netlink, shape)
            }
            None => self.create(netlink, shape),
        };
        applied.map_err(|error| self.explain(error))
    }

    fn shape(&self, link: u32) -> VxlanDevice {
        VxlanDevice {
            vni: self.vni,
            port: self.port,
            link,
            local: Some(self.local),
            learning: self.learning,
            gbp: self.gbp,
            odd: false,
        }
    }

    fn create(&self, netlink: &mut Netlink, shape: VxlanDevice) -> io::Result<Applied> {
        netlink.create_vxlan(&self.name, self.mac, self.mtu, shape)?;
        self.set_switches();
        let index = netlink.index_of(&self.name)?;
        netlink.bring_up(index, self.mtu)?;
        netlink.add_address(index, self.address)?;
        info!(
            "made the kernel device {} with the address {}",
            self.name, self.mac
        );
        Ok(Applied {
            index,
            mended: true,
        })
    }

    fn adjust(
        &self,
        netlink: &mut Netlink,
        found: &Interface,
        at_start: bool,
    ) -> io::Result<Applied> {
        let index = found.index;
        let mut mended = false;
        if at_start {
            self.set_switches();
        }
        if found.mac != Some(self.mac) {
            netlink.set_mac(index, self.mac)?;
            mended = true;
        }
        if !found.up || at_start && found.mtu != self.mtu {
            netlink.bring_up(index, self.mtu)?;
            mended = true;
        }
        let mut held = found.addresses.iter().map(|address| address.net);
        if !held.clone().any(|net| net == self.address) {
            netlink.add_address(index, self.address)?;
            mended = true;
        }
        let strange = |net: &IpNet| *net != self.address && self.network.contains(&net.addr());
        for net in held.by_ref().filter(strange) {
            info!(
                "removing {net} from {}: it belongs to another subnet",
                self.name
            );
            netlink.delete_address(index, net)?;
            mended = true;
        }
        Ok(Applied { index, mended })
    }

    /// Without it the tunnel still works.
    fn set_switches(&self) {
        match sysctl::set("ipv6", &self.name, "accept_ra", "0") {
            // A kernel without IPv6 has no switches for it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!("{error}; router advertisements from the tunnel may be believed");
            }
            _ => {}
        }
    }

    fn explain(&self, error: io::Error) -> io::Error {
        let cure = match (error.kind(), error.raw_os_error()) {
            (_, Some(EOPNOTSUPP)) => "; this kernel has no VXLAN, use --vxlan-datapath=userspace",
            (io::ErrorKind::AddrInUse, _) => {
                "; another program has the UDP port, or another device the network identifier"
            }
            _ => "",
        };
        let why = format!("cannot set up {}: {error}{cure}", self.name);
        io::Error::new(error.kind(), why)
    }
}

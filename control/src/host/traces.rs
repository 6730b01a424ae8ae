//! Everything runs of this daemon, and of flannel, may have left on a host: found first, so that it can be told, and
//! then removed one by one. Only what bears a name of ours or lies inside a network of ours is taken for ours.

use super::firewall::remains::{self, Remains};
use super::netlink::{Change, Entry, Netlink};
use crate::atomic_file;
use ipnet::IpNet;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

/// What is known of earlier runs.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Overlay networks.
    pub networks: Vec<IpNet>,
    /// This node's subnets of them.
    pub own: Vec<IpNet>,
    /// Files that were written.
    pub files: Vec<PathBuf>,
}

/// Something left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// A device, by number and name.
    Device(u32, String),
    /// A line of a routing table.
    Line(Entry),
    /// Firewall rules.
    Rules(Remains),
    /// A file.
    File(PathBuf),
}

/// Finds all that is left, in the order in which it is best removed.
pub fn find(netlink: &mut Netlink, known: &Known) -> io::Result<Vec<Trace>> {
    let rules = remains::find(&known.networks, &known.own)?;
    let mut traces: Vec<Trace> = rules.into_iter().map(Trace::Rules).collect();
    traces.extend(lines(netlink, known)?);
    traces.extend(devices(netlink)?);
    traces.extend(files(known));
    Ok(traces)
}

/// By the names flannel gives them, and of the kind it makes.
fn devices(netlink: &mut Netlink) -> io::Result<Vec<Trace>> {
    let interfaces = netlink.interfaces()?.into_iter();
    let ours = interfaces.filter(|one| one.is_flannel_vxlan() || one.is_flannel_tun());
    Ok(ours.map(|one| Trace::Device(one.index, one.name)).collect())
}

/// Routes to other nodes' subnets by way of those nodes, and what ends packets for subnets of ours. Routes without
/// a gateway belong to container bridges, and those of devices of ours go with them.
fn lines(netlink: &mut Netlink, known: &Known) -> io::Result<Vec<Trace>> {
    let mut found = netlink.main_routes(true)?;
    found.extend(netlink.main_routes(false)?);
    let inside = |to: &IpNet| {
        let mut networks = known.networks.iter();
        networks.any(|network| network.contains(to) && network != to)
    };
    let ours = found.into_iter().filter(|route| match &route.entry {
        Entry::Route {
            to,
            gateway: Some(_),
            ..
        } => route.by_hand && inside(to),
        Entry::Blackhole { to, .. } => route.by_hand && (known.own.contains(to) || inside(to)),
        _ => false,
    });
    Ok(ours.map(|route| Trace::Line(route.entry)).collect())
}

fn files(known: &Known) -> impl Iterator<Item = Trace> {
    let drafts = known
        .files
        .iter()
        .flat_map(|path| atomic_file::drafts(path));
    let written = known.files.iter().cloned();
    let there = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir());
    written.chain(drafts).filter(there).map(Trace::File)
}

impl Trace {
    /// Removes it; what has gone by itself meanwhile is removed.
    pub fn remove(&self, netlink: &mut Netlink) -> io::Result<()> {
        let removed = match self {
            Self::Device(index, _) => netlink.delete_interface(*index),
            Self::Line(entry) => netlink
                .change(&[Change::Remove(*entry)])?
                .into_iter()
                .collect(),
            Self::Rules(rules) => rules.remove(),
            // Only the name goes: what a link leads to stays.
            Self::File(path) => fs::remove_file(path),
        };
        const GONE: [i32; 3] = [2, 3, 19]; // ENOENT, ESRCH, ENODEV
        match removed {
            Err(error)
                if error
                    .raw_os_error()
                    .is_some_and(|code| GONE.contains(&code)) =>
            {
                Ok(())
            }
            removed => removed,
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(_, name) => write!(formatter, "device {name}"),
            Self::Line(entry) => entry.fmt(formatter),
            Self::Rules(rules) => rules.fmt(formatter),
            Self::File(path) => write!(formatter, "file {}", path.display()),
        }
    }
}

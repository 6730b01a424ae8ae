//! `flanneld cleanup`: removes what runs of the daemon, and of flannel, have left on this host.

use crate::boot::open_registry;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use control::host::Netlink;
use control::host::traces::{self, Known};
use control::lease::LeaseAttrs;
use control::memory::Memory;
use control::network::NetworkConfig;
use control::subnet_file::{previous_networks, previous_subnets};
use control::subnet_key::SubnetKey;
use std::fs;
use std::net::IpAddr;

/// What to do, and what not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// Only say what would be done.
    pub(crate) dry_run: bool,
    /// Give the lease back as well.
    pub(crate) release_lease: bool,
}

/// Tells and removes what is left; doing so again finds nothing.
pub(crate) fn run(settings: &Settings, wish: Wish) -> Result<()> {
    if let Some(process) = running_daemon() {
        let why = format!(
            "a flannel daemon runs on this host (process {process}): what is removed would come back"
        );
        match wish.dry_run {
            true => println!("{why}"),
            false => bail!("{why}; stop it first"),
        }
    }
    let memory = remembered(settings);
    let own = memory
        .as_ref()
        .map(|memory| memory.own)
        .or_else(|| previous_subnets(&settings.subnet_file));
    if wish.release_lease {
        release(settings, own, memory.as_ref(), wish)?;
    }
    remove_traces(&known(settings, own, memory.as_ref()), wish)
}

fn remove_traces(known: &Known, wish: Wish) -> Result<()> {
    let mut netlink = Netlink::open().context("cannot talk to the kernel about interfaces")?;
    let found = traces::find(&mut netlink, known).context("cannot find out what is left")?;
    let mut failures = 0;
    for trace in &found {
        if wish.dry_run {
            println!("would remove {trace}");
            continue;
        }
        match trace.remove(&mut netlink) {
            Ok(()) => println!("removed {trace}"),
            Err(error) => {
                failures += 1;
                eprintln!("cannot remove {trace}: {error}");
            }
        }
    }
    if found.is_empty() {
        println!("nothing is left of flannel on this host");
    }
    if failures > 0 {
        bail!("{failures} of {} things could not be removed", found.len());
    }
    Ok(())
}

/// What the last run wrote down, however old it is: it only helps to tell what is ours.
fn remembered(settings: &Settings) -> Option<Memory> {
    let path = settings.state_file.as_ref()?;
    Memory::read_however_old(path, &settings.store.name()).ok()
}

fn known(settings: &Settings, own: Option<SubnetKey>, memory: Option<&Memory>) -> Known {
    let mut networks = previous_networks(&settings.subnet_file);
    let config = memory.and_then(|memory| NetworkConfig::parse(&memory.config).ok());
    networks.extend(config.iter().flat_map(NetworkConfig::networks));
    networks.sort();
    networks.dedup();
    let files = [
        Some(&settings.subnet_file),
        settings.state_file.as_ref(),
        settings.control_socket.as_ref(),
        Some(&settings.door),
    ];
    Known {
        networks,
        own: own.iter().flat_map(SubnetKey::subnets).collect(),
        files: files.into_iter().flatten().cloned().collect(),
    }
}

/// Gives our lease back, so that another node can have the subnet at once. Nobody else's, and no reservation.
fn release(
    settings: &Settings,
    own: Option<SubnetKey>,
    memory: Option<&Memory>,
    wish: Wish,
) -> Result<()> {
    let Some(own) = own else {
        println!("no lease of this host is known");
        return Ok(());
    };
    let registry = open_registry(settings)?;
    let records = registry.snapshot().context("cannot release the lease")?;
    let Some(lease) = records.leases.into_iter().find(|lease| lease.key == own) else {
        println!("lease {own} is not in the store");
        return Ok(());
    };
    let remembered = memory.and_then(Memory::own_attrs);
    let ours = remembered.is_some_and(|attrs| attrs.same_node(&lease.attrs))
        || is_of_this_host(&lease.attrs)?;
    if !ours || lease.reserved {
        let why = match ours {
            true => "it is a reservation",
            false => "another node holds it",
        };
        println!("lease {own} stays: {why}");
        return Ok(());
    }
    if !wish.dry_run {
        registry
            .remove(&lease)
            .context("cannot release the lease")?;
    }
    println!(
        "{} lease {own}",
        if wish.dry_run {
            "would remove"
        } else {
            "removed"
        }
    );
    Ok(())
}

/// Whether this host has the address a record names.
fn is_of_this_host(attrs: &LeaseAttrs) -> Result<bool> {
    let interfaces = Netlink::open().and_then(|mut netlink| netlink.interfaces());
    let interfaces = interfaces.context("cannot read the host's interfaces")?;
    let named = [
        attrs.public_ip.map(IpAddr::V4),
        attrs.public_ipv6.map(IpAddr::V6),
    ];
    let mut held = interfaces.iter().flat_map(|one| &one.addresses);
    Ok(held.any(|address| named.contains(&Some(address.net.addr()))))
}

/// A daemon of any kind in this network namespace.
fn running_daemon() -> Option<u32> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let here = namespace("self")?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| *process != std::process::id())
        .find(|process: &u32| {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            name.trim() == "flanneld" && namespace(&process.to_string()) == Some(here.clone())
        })
}

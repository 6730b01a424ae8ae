//! From nothing to a daemon at work: everything in the order it depends on each other.

use crate::account::Account;
use crate::backend::{self, Backend};
use crate::caller::Caller;
use crate::daemon::{Daemon, Happening, Renewal};
use crate::manager;
use crate::plan::{Plan, own_attrs, vtep_mac};
use crate::settings::{Settings, Store};
use crate::underlay::Underlay;
use crate::upkeep::Rules;
use anyhow::{Context, Result};
use control::acquire::{Wish, acquire};
use control::clock::since_boot;
use control::health::Health;
use control::hold::{Hold, Terms};
use control::host::external_interface::{self, ExternalInterface, Families};
use control::host::{Netlink, monitor};
use control::lease::{Lease, LeaseAttrs};
use control::mac::Mac;
use control::network::NetworkConfig;
use control::registry::{EtcdRegistry, FileRegistry, Registry};
use control::subnet_file::previous_subnets;
use control::sync::Sync;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;
use tracing::{info, warn};

/// Pause between attempts while something outside is missing at start.
const RETRY: Duration = Duration::from_secs(1);

/// Starts everything; `None` when asked to stop meanwhile.
pub(crate) fn boot<'a>(
    settings: &'a Settings,
    account: &'a Account,
    sender: Sender<Happening>,
    happenings: &Receiver<Happening>,
) -> Result<Option<Daemon<'a>>> {
    let health = Health::default();
    if let Some(address) = settings.probes {
        health
            .serve(address)
            .with_context(|| format!("cannot answer probes on {address}"))?;
    }
    let registry = open_registry(settings)?;
    let Some(network) = wait_for_network(&*registry, happenings) else {
        return Ok(None);
    };
    let mut netlink = Netlink::open().context("cannot talk to the kernel about interfaces")?;
    let external = find_interface(&mut netlink, settings, &network)?;
    backend::check(&network, &external)?;
    let mac = backend::standing_mac(&mut netlink, &network)?;
    let lease = wait_for_lease(settings, &*registry, &network, &external, mac, happenings);
    let Some(lease) = lease else {
        return Ok(None);
    };
    info!("lease acquired: {lease}");
    let plan = Plan::new(network, external, lease);

    let backend = Backend::start(&plan, settings, account, sender.clone())?;
    report_changes(sender.clone())?;
    let rules = Rules::start(&plan, settings)?;
    let written = plan.write_subnet_file(settings);

    let sync = Sync::new(plan.screen(), backend);
    let watcher = sender.clone();
    let watch = registry.watch(Box::new(move |news| {
        drop(watcher.send(Happening::News(news)))
    }))?;
    let terms = Terms {
        lease_time: registry.lease_time(),
        margin: settings.margin,
    };
    let hold = Hold::new(plan.lease.clone(), terms, since_boot());
    let caller = Caller::start(registry, sender.clone()).context("cannot start a thread")?;
    let underlay = Underlay::watch(netlink, settings.interface.clone(), families(&plan.network));
    if written {
        health.ready();
    }
    manager::ready();
    Ok(Some(Daemon {
        settings,
        account,
        happenings: sender,
        caller,
        hold,
        sync,
        rules,
        plan,
        underlay,
        renewal: Renewal::default(),
        _watch: watch,
    }))
}

fn open_registry(settings: &Settings) -> Result<Arc<dyn Registry>> {
    Ok(match &settings.store {
        Store::File {
            dir,
            config,
            lease_time,
        } => {
            let store = FileRegistry::open(dir, *lease_time);
            let store =
                store.with_context(|| format!("cannot open the store {}", dir.display()))?;
            match config {
                Some(path) => Arc::new(store.with_config(path)),
                None => Arc::new(store),
            }
        }
        Store::Etcd(options) => {
            Arc::new(EtcdRegistry::open(options.clone()).context("cannot use etcd")?)
        }
    })
}

/// Waits for a network config that can be used; each fault is told once.
fn wait_for_network(
    registry: &dyn Registry,
    happenings: &Receiver<Happening>,
) -> Option<NetworkConfig> {
    let mut told = String::new();
    loop {
        let fault = match registry.config().map(|text| NetworkConfig::parse(&text)) {
            Ok(Ok(network)) => return Some(network),
            Ok(Err(error)) => format!("the network config cannot be used: {error}"),
            Err(error) => format!("Couldn't fetch network config: {error}"),
        };
        pause(&mut told, fault, happenings)?;
    }
}

/// Waits for the registry to give a lease; `None` when asked to stop.
fn wait_for_lease(
    settings: &Settings,
    registry: &dyn Registry,
    network: &NetworkConfig,
    external: &ExternalInterface,
    standing_mac: Option<Mac>,
    happenings: &Receiver<Happening>,
) -> Option<Lease> {
    let fresh_mac = Mac::random_local();
    let attrs = |old: Option<&LeaseAttrs>| {
        let mac = standing_mac.or_else(|| old.and_then(vtep_mac));
        own_attrs(network, external, mac.unwrap_or(fresh_mac))
    };
    let wish = Wish {
        network,
        attrs: &attrs,
        previous: previous_subnets(&settings.subnet_file),
    };
    let mut told = String::new();
    loop {
        match acquire(registry, &wish) {
            Ok(lease) => return Some(lease),
            // Nothing of this needs a restart to be mended: the store comes back, a subnet is freed.
            Err(error) => pause(
                &mut told,
                format!("cannot get a lease: {error}"),
                happenings,
            )?,
        }
    }
}

/// Tells a fault unless it was the last one told, and waits a little; `None` when asked to stop.
fn pause(told: &mut String, fault: String, happenings: &Receiver<Happening>) -> Option<()> {
    if *told != fault {
        warn!("{fault}. Waiting");
        *told = fault;
    }
    matches!(
        happenings.recv_timeout(RETRY),
        Err(RecvTimeoutError::Timeout)
    )
    .then_some(())
}

/// Turns changes of the host into happenings.
fn report_changes(sender: Sender<Happening>) -> Result<()> {
    let report = move || drop(sender.send(Happening::HostChanged));
    monitor::watch(report).context("cannot watch the host's interfaces")
}

/// Finds the interface to the other nodes and says which one it is.
fn find_interface(
    netlink: &mut Netlink,
    settings: &Settings,
    network: &NetworkConfig,
) -> Result<ExternalInterface> {
    let external = external_interface::find(netlink, &settings.interface, families(network))?;
    info!("using interface {external}");
    Ok(external)
}

fn families(network: &NetworkConfig) -> Families {
    Families {
        ipv4: network.ipv4.is_some(),
        ipv6: network.ipv6.is_some(),
    }
}

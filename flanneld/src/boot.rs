//! From nothing to a daemon at work: everything in the order it depends on each other.

use crate::args::Outer;
use crate::backend::{Backend, await_former, has_engine};
use crate::beginning::{self, Beginning};
use crate::caller::Caller;
use crate::confine::Denials;
use crate::contact::Contact;
use crate::daemon::{Daemon, Desk, Happening};
use crate::manager;
use crate::plan::{Plan, own_attrs, vtep_mac};
use crate::recall::Recall;
use crate::renewal::Renewal;
use crate::scribe::Scribe;
use crate::settings::{Settings, Store};
use crate::take_over::Predecessor;
use crate::underlay::Underlay;
use crate::upkeep::Rules;
use crate::vitals::Vitals;
use anyhow::{Context, Result};
use control::acquire::{Wish, acquire};
use control::clock::since_boot;
use control::hold::{Hold, Terms};
use control::host::Netlink;
use control::host::external_interface::{self, Choice, ExternalInterface, Families};
use control::in_force::InForce;
use control::lease::{Lease, LeaseAttrs};
use control::mac::Mac;
use control::memory::Memory;
use control::network::NetworkConfig;
use control::registry::{Addresses, EtcdRegistry, FileRegistry, Registry, Watch, kube};
use control::subnet_file::previous_subnets;
use control::subnet_key::SubnetKey;
use control::sync::Sync;
use engine::{QueueHandle, StartError};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Pause between attempts while something outside is missing at start.
const RETRY: Duration = Duration::from_secs(1);

/// Attempts at a port that somebody still has, and the pause between them.
const BUSY_TRIES: u32 = 500;
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// Starts everything; `None` when asked to stop meanwhile.
pub(crate) fn boot<'a>(
    desk: &'a Desk<'a>,
    recall: Recall,
    inbox: &Receiver<Happening>,
    predecessor: Option<Predecessor>,
) -> Result<Option<Daemon<'a>>> {
    let registry = open_registry(desk.settings)?;
    let mut netlink = Netlink::open().context("cannot talk to the kernel about interfaces")?;
    let beginning = match predecessor {
        Some(predecessor) => Some(beginning::from_predecessor(
            desk,
            &*registry,
            predecessor,
            &mut netlink,
        )?),
        None => beginning::begin(desk, recall, &registry, &mut netlink, inbox)?,
    };
    let Some(beginning) = beginning else {
        return Ok(None);
    };
    info!("lease acquired: {}", beginning.lease);
    set_up(desk, registry, netlink, beginning).map(Some)
}

/// Sets the host up and begins to follow the registry.
fn set_up<'a>(
    desk: &'a Desk<'a>,
    registry: Arc<dyn Registry>,
    netlink: Netlink,
    beginning: Beginning,
) -> Result<Daemon<'a>> {
    let Beginning {
        network,
        config,
        choice,
        external,
        lease,
        sync,
        remembered,
        said,
        predecessor,
    } = beginning;
    let settings = desk.settings;
    let across = has_engine(&network, settings);
    let plan = Plan::new(network.clone(), external, lease, across);
    let alone = predecessor.is_none();
    let sync = match sync {
        Some(sync) => sync,
        None => Sync::new(plan.screen(), start_backend(desk, &plan, None)?),
    };
    let rules = Rules::start(&plan, settings)?;
    let subnet_told = plan.write_subnet_file(settings);
    let hold = hold(&*registry, &plan, settings, said);
    let (watch, caller) = connect(desk, registry)?;
    let daemon = Daemon {
        desk,
        hold,
        sync,
        rules,
        config: InForce::new(config),
        // What has changed since the old daemon began waits for a restart under the new one, too.
        config_remembered: remembered && alone,
        contact: Contact::new(!remembered || !alone, since_boot()),
        since: since_boot(),
        subnet_told,
        underlay: Underlay::watch(netlink, choice, families(&network, settings)),
        renewal: Renewal::default(),
        scribe: Scribe::new(settings.state_file.clone()),
        vitals: Vitals::new(desk.health.clone()),
        denials: Denials::default(),
        watch,
        caller,
        plan,
    };
    match predecessor {
        Some(predecessor) => predecessor.relieve(desk)?,
        None => manager::ready(),
    }
    Ok(daemon)
}

/// The kernel lets go of the sockets of a daemon that was killed a moment after it is gone.
pub(crate) fn start_backend(
    desk: &Desk<'_>,
    plan: &Plan,
    mut queues: Option<Vec<QueueHandle>>,
) -> Result<Backend> {
    if queues.is_none() {
        await_former(plan, desk.settings);
    }
    let mut tries = 0;
    loop {
        match Backend::start(plan, desk, queues.take()) {
            Err(error) if tries < BUSY_TRIES && is_in_use(&error) => thread::sleep(BUSY_PAUSE),
            outcome => return outcome,
        }
        tries += 1;
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    let in_use = |cause: &io::Error| cause.kind() == io::ErrorKind::AddrInUse;
    matches!(error.downcast_ref(), Some(StartError::Bind { cause, .. }) if in_use(cause))
}

fn hold(
    registry: &dyn Registry,
    plan: &Plan,
    settings: &Settings,
    said: Option<LeaseAttrs>,
) -> Hold {
    let terms = Terms {
        lease_time: registry.lease_time(),
        margin: settings.margin,
    };
    match said {
        Some(said) => Hold::remembered(plan.lease.clone(), said, terms),
        None => Hold::new(plan.lease.clone(), terms, since_boot()),
    }
}

/// Begins to follow the registry and to take calls to it.
pub(crate) fn connect(desk: &Desk<'_>, registry: Arc<dyn Registry>) -> Result<(Watch, Caller)> {
    let sender = desk.happenings.clone();
    let tell = move |news| drop(sender.send(Happening::News(news)));
    let watch = registry.watch(Box::new(tell))?;
    let caller = Caller::start(registry, desk.happenings.clone());
    Ok((watch, caller.context("cannot start a thread")?))
}

/// Opens the store the settings name.
pub(crate) fn open_registry(settings: &Settings) -> Result<Arc<dyn Registry>> {
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
        Store::Kube(options) => {
            kube::open(options.clone()).context("cannot use the Kubernetes API")?
        }
        Store::Etcd(options) => {
            Arc::new(EtcdRegistry::open(options.clone()).context("cannot use etcd")?)
        }
    })
}

/// Waits for a network config that can be used, and gives its text as well; each fault is told once.
pub(crate) fn wait_for_network(
    desk: &Desk<'_>,
    registry: &dyn Registry,
    inbox: &Receiver<Happening>,
) -> Option<(NetworkConfig, String)> {
    let mut told = String::new();
    loop {
        let read = registry.config();
        let usable = |text: String| desk.settings.network(&text).map(|read| (read, text));
        let fault = match read.map(usable) {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => format!("the network config cannot be used: {error}"),
            Err(error) => format!("Couldn't fetch network config: {error}"),
        };
        pause(desk, &mut told, fault, inbox)?;
    }
}

/// Waits for the registry to give a lease; `None` when asked to stop.
pub(crate) fn wait_for_lease(
    desk: &Desk<'_>,
    registry: &dyn Registry,
    network: &NetworkConfig,
    external: &ExternalInterface,
    standing_mac: Option<Mac>,
    inbox: &Receiver<Happening>,
) -> Option<Lease> {
    let fresh_mac = Mac::random_local();
    let attrs = |old: Option<&LeaseAttrs>| {
        let mac = standing_mac.or_else(|| old.and_then(vtep_mac));
        own_attrs(network, external, mac.unwrap_or(fresh_mac))
    };
    let wish = Wish {
        network,
        attrs: &attrs,
        previous: last_subnet(desk.settings),
    };
    let mut told = String::new();
    loop {
        match acquire(registry, &wish) {
            Ok(lease) => return Some(lease),
            // Nothing of this needs a restart to be mended: the store comes back, a subnet is freed.
            Err(error) => pause(
                desk,
                &mut told,
                format!("cannot get a lease: {error}"),
                inbox,
            )?,
        }
    }
}

/// The subnet this node had last: containers may still run on what the subnet file says, and after a restart of the
/// machine, or weeks away, the state file remembers.
fn last_subnet(settings: &Settings) -> Option<SubnetKey> {
    let remembered = || {
        let path = settings.state_file.as_ref()?;
        let memory = Memory::read_however_old(path, &settings.store.name());
        memory.ok().map(|memory| memory.own)
    };
    previous_subnets(&settings.subnet_file).or_else(remembered)
}

/// Tells a fault unless it was the last one told, and waits a little; `None` when asked to stop.
fn pause(
    desk: &Desk<'_>,
    told: &mut String,
    fault: String,
    inbox: &Receiver<Happening>,
) -> Option<()> {
    if *told != fault {
        warn!("{fault}. Waiting");
        manager::status(&fault);
        desk.board.waiting(&fault);
        *told = fault;
    }
    // Waiting is doing one's work.
    desk.health.alive(since_boot());
    manager::alive();
    let end = Instant::now() + RETRY;
    loop {
        match inbox.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => return Some(()),
            Ok(Happening::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            // Of a daemon that is no more, or of a host not set up yet.
            Ok(_) => {}
        }
    }
}

/// Waits until the registry has said what it knows of this node's addresses; `None` when asked to stop.
pub(crate) fn wait_for_addresses(
    desk: &Desk<'_>,
    registry: &dyn Registry,
    inbox: &Receiver<Happening>,
) -> Option<Addresses> {
    let mut told = String::new();
    loop {
        match registry.addresses() {
            Ok(addresses) => return Some(addresses),
            Err(error) => pause(desk, &mut told, error.to_string(), inbox)?,
        }
    }
}

/// Finds the interface to the other nodes and says which one it is.
pub(crate) fn find_interface(
    netlink: &mut Netlink,
    choice: &Choice,
    settings: &Settings,
    network: &NetworkConfig,
) -> Result<ExternalInterface> {
    let external = external_interface::find(netlink, choice, families(network, settings))?;
    info!("using interface {external}");
    Ok(external)
}

/// Between addresses of which families packets travel: their own, unless told otherwise.
fn families(network: &NetworkConfig, settings: &Settings) -> Families {
    let (ipv4, ipv6) = match settings.outer {
        None => (network.ipv4.is_some(), network.ipv6.is_some()),
        Some(outer) => (outer == Outer::Ipv4, outer == Outer::Ipv6),
    };
    Families { ipv4, ipv6 }
}

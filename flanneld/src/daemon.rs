//! The daemon's life: boot from top to bottom, follow the registry, shut down from bottom to top.

use crate::engine_sink::EngineSink;
use crate::plan::{Plan, own_attrs};
use crate::settings::{Settings, Store};
use crate::signals;
use crate::upkeep::{Rules, Tunnel};
use anyhow::{Context, Result, anyhow};
use control::acquire::{AcquireError, Wish, acquire};
use control::clock::since_boot;
use control::health::Health;
use control::hold::Hold;
use control::host::external_interface::{self, ExternalInterface, Families};
use control::host::{Netlink, leftovers, monitor};
use control::lease::{Lease, LeaseAttrs};
use control::mac::Mac;
use control::network::NetworkConfig;
use control::registry::{EtcdRegistry, FileRegistry, News, Registry, RegistryError, Watch};
use control::subnet_file::previous_subnets;
use control::sync::Sync;
use engine::{Engine, SubnetTable};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use tracing::{info, warn};

/// What can happen to a running daemon.
#[derive(Debug)]
pub(crate) enum Happening {
    /// The registry reports.
    News(News),
    /// Something on the host changed.
    HostChanged,
    /// A worker ended, and why.
    EngineFailed(String),
    /// Somebody wants the daemon gone.
    Stop,
}

/// Pause between attempts while something outside is missing at start.
const RETRY: Duration = Duration::from_secs(1);
/// Time since boot is looked at this often even if nothing happens.
const LOOK_UP: Duration = Duration::from_secs(60);
/// Reports taken in before the table is renewed: a burst costs few tables, and none waits long.
const BURST: usize = 1000;

/// Runs until asked to stop.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    let (sender, happenings) = channel();
    signals::listen(sender.clone()).context("cannot listen for signals")?;
    match boot(settings, sender, &happenings)? {
        Some(daemon) => daemon.follow(&happenings),
        None => Ok(()),
    }
}

/// A daemon at work. Fields end in this order.
struct Daemon {
    _watch: Watch,
    hold: Hold,
    sync: Sync<EngineSink>,
    tunnel: Tunnel,
    rules: Rules,
    engine: Arc<Engine>,
}

/// Starts everything in the order it depends on each other; `None` when asked to stop meanwhile.
fn boot(
    settings: &Settings,
    sender: Sender<Happening>,
    happenings: &Receiver<Happening>,
) -> Result<Option<Daemon>> {
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
    let families = Families {
        ipv4: network.ipv4.is_some(),
        ipv6: network.ipv6.is_some(),
    };
    let external = external_interface::find(&mut netlink, &settings.interface, families)?;
    info!(
        "using interface {} {:?}, MTU {}, known to others as {}",
        external.name,
        external.addresses,
        external.mtu,
        public(&external)
    );
    leftovers::remove(&mut netlink, &network).context("cannot remove leftovers of earlier runs")?;
    let Some(lease) = wait_for_lease(settings, &*registry, &network, &external, happenings)? else {
        return Ok(None);
    };
    info!("lease acquired: {lease}");
    let plan = Plan::new(network, external, lease);

    let engine = Arc::new(Engine::start(
        plan.engine_config(&settings.engine)?,
        SubnetTable::default(),
    )?);
    info!("engine: {}", engine.capabilities());
    report_failures(&engine, sender.clone())?;
    report_changes(sender.clone())?;
    let tunnel = Tunnel::start(netlink, plan.tunnel(), engine.tun_name())?;
    let rules = Rules::start(&plan, settings)?;
    let written = plan.write_subnet_file(settings);

    let sink = EngineSink {
        engine: Arc::clone(&engine),
        backend: plan.network.backend.clone(),
        underlay_mtu: plan.external.mtu,
        own: plan.lease.key.subnets().collect(),
    };
    let sync = Sync::new(plan.screen(), sink);
    let watch = registry.watch(Box::new(move |news| {
        drop(sender.send(Happening::News(news)))
    }))?;
    let hold = Hold::new(registry, plan.lease, settings.margin, since_boot());
    if written {
        health.ready();
    }
    tell_manager(&[NotifyState::Ready]);
    Ok(Some(Daemon {
        _watch: watch,
        hold,
        sync,
        tunnel,
        rules,
        engine,
    }))
}

impl Daemon {
    /// Does what happenings ask for until one of them is the end.
    fn follow(mut self, happenings: &Receiver<Happening>) -> Result<()> {
        let end = loop {
            let first = happenings.recv_timeout(self.patience());
            let more = happenings.try_iter().take(BURST).map(Ok);
            if let Some(end) = std::iter::once(first)
                .chain(more)
                .find_map(|happening| self.take(happening))
            {
                break end;
            }
            self.sync.settle(since_boot());
            self.hold.tick(since_boot());
            self.tunnel.tick(since_boot());
            self.rules.tick(since_boot());
        };
        self.shut_down();
        end
    }

    /// How long nothing needs to be done of our own accord.
    fn patience(&self) -> Duration {
        let dues = [
            self.hold.due(),
            self.sync.due(),
            self.tunnel.due(),
            self.rules.due(),
        ];
        let due = dues.into_iter().flatten().min();
        let wait = due.map(|due| due.saturating_sub(since_boot()));
        wait.unwrap_or(LOOK_UP).min(LOOK_UP)
    }

    /// Takes in a happening; one that ends the daemon says how.
    fn take(&mut self, happening: Result<Happening, RecvTimeoutError>) -> Option<Result<()>> {
        match happening {
            Ok(Happening::News(news)) => {
                let now = since_boot();
                self.hold.hear(&news, now);
                self.sync.hear(news, now);
                None
            }
            Ok(Happening::HostChanged) => {
                self.tunnel.doubt(since_boot());
                None
            }
            Err(RecvTimeoutError::Timeout) => None,
            Ok(Happening::Stop) | Err(RecvTimeoutError::Disconnected) => Some(Ok(())),
            Ok(Happening::EngineFailed(why)) => {
                Some(Err(anyhow!("the engine cannot go on: {why}")))
            }
        }
    }

    fn shut_down(self) {
        tell_manager(&[NotifyState::Stopping]);
        let Self {
            _watch: watch,
            hold,
            sync,
            tunnel: _,
            rules: _,
            engine,
        } = self;
        drop((watch, hold, sync));
        let counters = match Arc::try_unwrap(engine) {
            Ok(engine) => engine.stop(),
            Err(shared) => shared.counters(),
        };
        let counted: Vec<String> = counters
            .nonzero()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        info!(
            "Exiting cleanly. Packets: {}",
            if counted.is_empty() {
                "none".to_owned()
            } else {
                counted.join(", ")
            }
        );
    }
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
    happenings: &Receiver<Happening>,
) -> Result<Option<Lease>> {
    let fresh_mac = Mac::random_local();
    let attrs = |old: Option<&LeaseAttrs>| own_attrs(network, external, old, fresh_mac);
    let wish = Wish {
        network,
        attrs: &attrs,
        previous: previous_subnets(&settings.subnet_file),
    };
    let mut told = String::new();
    loop {
        match acquire(registry, &wish) {
            Ok(lease) => return Ok(Some(lease)),
            Err(AcquireError::Registry(error @ RegistryError::Unavailable(_))) => {
                if pause(
                    &mut told,
                    format!("cannot get a lease: {error}"),
                    happenings,
                )
                .is_none()
                {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error.into()),
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

fn public(external: &ExternalInterface) -> String {
    let addresses: Vec<String> = external
        .public_addresses()
        .map(|address| address.to_string())
        .collect();
    addresses.join(" and ")
}

/// Turns changes of the host into happenings.
fn report_changes(sender: Sender<Happening>) -> Result<()> {
    let report = move || drop(sender.send(Happening::HostChanged));
    monitor::watch(report).context("cannot watch the host's interfaces")
}

/// Turns a worker's end into a happening.
fn report_failures(engine: &Engine, sender: Sender<Happening>) -> Result<()> {
    let failures = engine.failures().clone();
    let relay = move || {
        failures
            .iter()
            .for_each(|why| drop(sender.send(Happening::EngineFailed(why))))
    };
    thread::Builder::new()
        .name("engine-failures".to_owned())
        .spawn(relay)
        .context("cannot start a thread")
        .map(drop)
}

/// Tells the service manager, if there is one.
fn tell_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot notify the service manager: {error}");
    }
}

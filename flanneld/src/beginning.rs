//! What a daemon begins with: from the registry, from what an earlier run knew, or from a daemon that hands over.

use crate::backend::{self, Backend};
use crate::boot::{
    find_interface, start_backend, wait_for_addresses, wait_for_lease, wait_for_network,
};
use crate::daemon::{Desk, Happening};
use crate::plan::Plan;
use crate::recall::{self, Asked, Recall};
use crate::take_over::Predecessor;
use anyhow::{Context, Result, bail};
use control::clock::since_boot;
use control::host::Netlink;
use control::host::external_interface::{Choice, ExternalInterface};
use control::lease::{Lease, LeaseAttrs};
use control::memory::Memory;
use control::network::NetworkConfig;
use control::registry::{News, Registry};
use control::sync::Sync;
use engine::QueueHandle;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tracing::{info, warn};

/// What a daemon begins with.
pub(crate) struct Beginning {
    pub(crate) network: NetworkConfig,
    pub(crate) config: String,
    /// How the interface is found again.
    pub(crate) choice: Choice,
    pub(crate) external: ExternalInterface,
    pub(crate) lease: Lease,
    /// Whether all this is from an earlier run, and the registry has said nothing.
    pub(crate) remembered: bool,
    /// What our record said then.
    pub(crate) said: Option<LeaseAttrs>,
    /// A data plane that carries packets by this already.
    pub(crate) sync: Option<Sync<Backend>>,
    /// The daemon that is to end once this one is at work.
    pub(crate) predecessor: Option<Predecessor>,
}

/// From the registry. Where an earlier run has left what it knew, packets are carried by that while the registry is
/// asked, and further on if it does not answer soon.
pub(crate) fn begin(
    desk: &Desk<'_>,
    recall: Recall,
    registry: &Arc<dyn Registry>,
    netlink: &mut Netlink,
    inbox: &Receiver<Happening>,
) -> Result<Option<Beginning>> {
    let Some(memory) = recall::memory(desk, recall) else {
        return from_registry(desk, &**registry, netlink, inbox);
    };
    let asked = Asked::begin(registry);
    let remembered = from_memory(desk, memory, netlink)?;
    match (asked.answered_soon(), remembered) {
        (Err(why), Some((beginning, known))) => {
            info!("the store does not answer: {why}. Starting with {known}");
            Ok(Some(beginning))
        }
        (_, remembered) => {
            let beginning = from_registry(desk, &**registry, netlink, inbox)?;
            Ok(beginning.map(|beginning| match remembered {
                Some((before, _)) => beginning.going_on_from(before),
                None => beginning,
            }))
        }
    }
}

impl Beginning {
    /// Goes on with the data plane of another beginning, if it is the right one.
    fn going_on_from(self, before: Self) -> Self {
        let same = self.network == before.network
            && self.lease.key == before.lease.key
            && self.lease.attrs == before.lease.attrs
            && self.external == before.external;
        Self {
            sync: before.sync.filter(|_| same),
            ..self
        }
    }
}

pub(crate) fn from_predecessor(
    desk: &Desk<'_>,
    registry: &dyn Registry,
    mut predecessor: Predecessor,
    netlink: &mut Netlink,
) -> Result<Beginning> {
    let unusable = "what the old daemon knows cannot be used";
    let known = recall::usable(predecessor.memory()?, desk.settings).context(unusable)?;
    if predecessor.has_engine() != backend::has_engine(&known.network, desk.settings) {
        bail!(
            "the old daemon carries packets another way than this one would: give both the same --vxlan-datapath, or restart instead"
        );
    }
    // A store that is away must hold up no takeover; what it would say shows in the old daemon's record.
    let told = registry.addresses().unwrap_or_default();
    let choice = desk.settings.interface.with(told);
    let external = find_interface(netlink, &choice, desk.settings, &known.network)?;
    let mac = backend::standing_mac(netlink, &known.network)?;
    let lease = known.held_at(&external, mac).context(
        "the old daemon has another public address than this one would have: give both the same --iface and --public-ip",
    )?;
    let said = known.memory.own_attrs().cloned();
    let across = backend::has_engine(&known.network, desk.settings);
    let plan = Plan::new(
        known.network.clone(),
        external.clone(),
        lease.clone(),
        across,
    );
    let sync = carry(desk, &plan, known.memory, predecessor.queues())?;
    Ok(Beginning {
        choice,
        external,
        lease,
        sync: Some(sync),
        remembered: true,
        said,
        network: known.network,
        config: known.config,
        predecessor: Some(predecessor),
    })
}

/// Carries packets by what an earlier run knew, if that can be used; also says what that was.
fn from_memory(
    desk: &Desk<'_>,
    memory: (Memory, Duration),
    netlink: &mut Netlink,
) -> Result<Option<(Beginning, String)>> {
    let Some(recalled) = recall::usable(memory, desk.settings) else {
        return Ok(None);
    };
    let choice = desk.settings.interface.clone();
    let external = find_interface(netlink, &choice, desk.settings, &recalled.network)?;
    let mac = backend::standing_mac(netlink, &recalled.network)?;
    let Some(lease) = recalled.held_at(&external, mac) else {
        warn!(
            "what this node knew is not used: it is from another host, or from this one with another public address. This start needs the store"
        );
        return Ok(None);
    };
    let (known, said) = (recalled.told(), recalled.memory.own_attrs().cloned());
    let across = backend::has_engine(&recalled.network, desk.settings);
    let plan = Plan::new(
        recalled.network.clone(),
        external.clone(),
        lease.clone(),
        across,
    );
    let sync = carry(desk, &plan, recalled.memory, None)?;
    let beginning = Beginning {
        choice,
        external,
        lease,
        sync: Some(sync),
        remembered: true,
        said,
        network: recalled.network,
        config: recalled.config,
        predecessor: None,
    };
    Ok(Some((beginning, known)))
}

/// A data plane that knows the peers that are remembered.
fn carry(
    desk: &Desk<'_>,
    plan: &Plan,
    memory: Memory,
    queues: Option<Vec<QueueHandle>>,
) -> Result<Sync<Backend>> {
    let backend = start_backend(desk, plan, queues)?;
    let mut sync = Sync::new(plan.screen(), backend);
    sync.hear(News::Snapshot(memory.snapshot()), since_boot());
    sync.settle(since_boot());
    Ok(sync)
}

fn from_registry(
    desk: &Desk<'_>,
    registry: &dyn Registry,
    netlink: &mut Netlink,
    inbox: &Receiver<Happening>,
) -> Result<Option<Beginning>> {
    let Some((network, config)) = wait_for_network(desk, registry, inbox) else {
        return Ok(None);
    };
    let Some(told) = wait_for_addresses(desk, registry, inbox) else {
        return Ok(None);
    };
    let choice = desk.settings.interface.with(told);
    let external = find_interface(netlink, &choice, desk.settings, &network)?;
    backend::check(&network, &external, desk.settings)?;
    let mac = backend::standing_mac(netlink, &network)?;
    let lease = wait_for_lease(desk, registry, &network, &external, mac, inbox);
    Ok(lease.map(|lease| Beginning {
        network,
        config,
        choice,
        external,
        lease,
        sync: None,
        remembered: false,
        said: None,
        predecessor: None,
    }))
}

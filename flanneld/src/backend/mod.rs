//! The data plane: which backend the network config asks for, its start and its end. What each of them does is in a
//! room of its own: the packet engine's in [`tunnel`], those the kernel carries out in [`control::backend`].

mod tunnel;

use crate::account::Account;
use crate::daemon::Happening;
use crate::plan::Plan;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use control::backend::alloc::Alloc;
use control::backend::direct::{Direct, Plain, Tunnelled};
use control::backend::host_gw::HostGw;
use control::backend::peer_routes::{Ground, PeerRoutes};
use control::host::external_interface::ExternalInterface;
use control::host::{Netlink, leftovers};
use control::network::{Backend as Kind, NetworkConfig};
use control::sink::{Peer, TableSink};
use engine::Engine;
use std::io;
use std::sync::mpsc::Sender;
use std::thread;
use tunnel::Tunnel;

/// Whatever carries packets to other nodes. When it is dropped an engine ends; what the kernel carries out stays, and
/// carries on.
pub(crate) struct Backend(Box<dyn TableSink>);

/// Refuses what cannot work, before anything is written for others to see.
pub(crate) fn check(network: &NetworkConfig, external: &ExternalInterface) -> Result<()> {
    let foreign = external
        .public_addresses()
        .find(|public| !external.addresses.contains(public));
    match (&network.backend, foreign) {
        (Kind::HostGw, Some(public)) => bail!(
            "your PublicIP {public} differs from interface IP {:?} of {}: with host-gw, nodes reach each other without NAT. Leave out --public-ip, or use vxlan or udp",
            external.addresses,
            external.name
        ),
        _ => Ok(()),
    }
}

impl Backend {
    /// Makes what the backend needs on this host; peers come with the first table.
    pub(crate) fn start(
        plan: &Plan,
        settings: &Settings,
        account: &Account,
        happenings: Sender<Happening>,
    ) -> Result<Self> {
        check(&plan.network, &plan.external)?;
        let ground = Ground {
            networks: plan.network.networks().collect(),
            own: plan.lease.key.subnets().collect(),
            blackhole: settings.blackhole,
        };
        let routes = || PeerRoutes::new(ground.clone()).context("cannot read the host's routes");
        match plan.network.backend {
            Kind::Alloc => PeerRoutes::beside_others(ground)
                .map(|routes| Self::of(Alloc::new(routes)))
                .context("cannot talk to the kernel about routes"),
            Kind::HostGw => {
                remove_devices(plan)?;
                Ok(Self::of(HostGw::new(routes()?, &plan.external.name)))
            }
            Kind::Udp(_) | Kind::Vxlan(_) => {
                remove_devices(plan)?;
                let tunnel = Tunnel::start(plan, &settings.engine)?;
                account.open(tunnel.engine());
                report_failures(tunnel.engine(), happenings)?;
                Ok(Self::of(Direct::new(
                    routes()?,
                    plain(plan),
                    tunnel,
                    Tunnelled::All,
                )))
            }
        }
    }

    fn of(sink: impl TableSink + 'static) -> Self {
        Self(Box::new(sink))
    }
}

impl TableSink for Backend {
    fn replace(&mut self, peers: &[Peer]) -> io::Result<()> {
        self.0.replace(peers)
    }

    fn restore(&mut self) -> io::Result<bool> {
        self.0.restore()
    }
}

/// Turns the first worker's end into a happening; the others of its engine are of no more use.
fn report_failures(engine: &Engine, sender: Sender<Happening>) -> Result<()> {
    let failures = engine.failures().clone();
    let relay = move || {
        if let Ok(why) = failures.recv() {
            // Nobody listens any more: the daemon is ending.
            let _ = sender.send(Happening::EngineFailed(why));
        }
    };
    thread::Builder::new()
        .name("engine-failures".to_owned())
        .spawn(relay)
        .context("cannot start a thread")
        .map(drop)
}

fn plain(plan: &Plan) -> Plain {
    match plan.network.backend.direct_routing() {
        true => Plain::Neighbours,
        false => Plain::Never,
    }
}

fn remove_devices(plan: &Plan) -> Result<()> {
    let mut netlink = Netlink::open().context("cannot talk to the kernel about interfaces")?;
    leftovers::remove_devices(&mut netlink, &plan.network, &[])
        .context("cannot remove devices of earlier runs")
}

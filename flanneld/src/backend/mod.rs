//! The data plane: which backend the network config asks for, its start and its end. What each of them does is in a
//! room of its own: the packet engine's in [`tunnel`], those the kernel carries out in [`control::backend`].

mod kernel;
mod tunnel;

use crate::daemon::{Desk, Happening};
use crate::plan::Plan;
use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use control::backend::alloc::Alloc;
use control::backend::direct::{Direct, Plain, Tunnelled};
use control::backend::host_gw::HostGw;
use control::backend::kernel_vxlan::KernelVxlan;
use control::backend::peer_routes::{Ground, PeerRoutes};
use control::host::external_interface::ExternalInterface;
use control::host::vxlan::{self, VxlanSetup};
use control::host::{Netlink, leftovers};
use control::mac::Mac;
use control::network::{Backend as Kind, Datapath, NetworkConfig};
use control::sink::{Peer, TableSink};
use control::subnet_file::previous_networks;
use engine::{Engine, QueueHandle};
use ipnet::IpNet;
use std::io;
use std::sync::mpsc::Sender;
use std::thread;
use tracing::warn;
use tunnel::Tunnel;

/// Whatever carries packets to other nodes. When it is dropped an engine ends; what the kernel carries out stays, and
/// carries on.
pub(crate) struct Backend(Box<dyn TableSink>);

/// Refuses what cannot work, before anything is written for others to see.
pub(crate) fn check(
    network: &NetworkConfig,
    external: &ExternalInterface,
    settings: &Settings,
) -> Result<()> {
    if network.beside.is_some() && !has_engine(network, settings) {
        bail!(
            "the kernel's VXLAN device speaks no other form: leave out --vxlan-datapath=kernel, or --forms and Beside"
        );
    }
    if settings.outer.is_some() && !has_engine(network, settings) {
        bail!(
            "--outer goes with the packet engine: the kernel's devices and plain routes have addresses of the family they carry"
        );
    }
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

/// Whether a packet engine carries packets.
pub(crate) fn has_engine(network: &NetworkConfig, settings: &Settings) -> bool {
    match network.backend {
        Kind::Alloc | Kind::HostGw => false,
        Kind::Udp(_) => true,
        Kind::Vxlan(_) => settings.datapath(network) == Datapath::Userspace,
    }
}

/// Waits for what the kernel still has of a daemon that was killed a moment ago.
pub(crate) fn await_former(plan: &Plan, settings: &Settings) {
    if has_engine(&plan.network, settings)
        && let Err(error) = tunnel::await_former(plan)
    {
        warn!(
            "cannot look for the device of a daemon before: {error}; this one's may get another name"
        );
    }
}

/// The Ethernet address of a kernel device from an earlier run: peers know it, and so it stays ours.
pub(crate) fn standing_mac(netlink: &mut Netlink, network: &NetworkConfig) -> Result<Option<Mac>> {
    match network.vxlan() {
        Some(options) => {
            vxlan::standing_mac(netlink, options.vni).context("cannot read the host's interfaces")
        }
        None => Ok(None),
    }
}

impl Backend {
    /// Makes what the backend needs on this host; peers come with the first table. An engine that gets the queues of
    /// another waits for [`Engine::go`].
    pub(crate) fn start(
        plan: &Plan,
        desk: &Desk<'_>,
        queues: Option<Vec<QueueHandle>>,
    ) -> Result<Self> {
        let settings = desk.settings;
        check(&plan.network, &plan.external, settings)?;
        let ground = Ground {
            networks: plan.network.networks().collect(),
            former_networks: previous_networks(&settings.subnet_file),
            own: plan.lease.key.subnets().collect(),
            blackhole: settings.blackhole,
        };
        let routes = || PeerRoutes::new(ground.clone()).context("cannot read the host's routes");
        match plan.network.backend {
            Kind::Alloc => PeerRoutes::beside_others(ground)
                .map(|routes| Self::of(Alloc::new(routes)))
                .context("cannot talk to the kernel about routes"),
            Kind::HostGw => {
                remove_devices(plan, &ground, &[])?;
                Ok(Self::of(HostGw::new(routes()?, &plan.external.name)))
            }
            Kind::Vxlan(_) if settings.datapath(&plan.network) == Datapath::Kernel => {
                let devices = kernel::devices(plan)?;
                remove_devices(plan, &ground, &devices)?;
                let tunnel = KernelVxlan::start(devices)?;
                Ok(Self::of(Direct::new(
                    routes()?,
                    plain(plan),
                    tunnel,
                    Tunnelled::Others,
                )))
            }
            Kind::Udp(_) | Kind::Vxlan(_) => {
                remove_devices(plan, &ground, &[])?;
                let tunnel = Tunnel::start(plan, &settings.engine, queues)?;
                desk.account.open(tunnel.engine());
                report_failures(tunnel.engine(), desk.happenings.clone())?;
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

    fn is_plain(&self, subnet: IpNet) -> bool {
        self.0.is_plain(subnet)
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
    match plan.network.direct_routing() {
        true => Plain::Neighbours,
        false => Plain::Never,
    }
}

fn remove_devices(plan: &Plan, ground: &Ground, but: &[VxlanSetup]) -> Result<()> {
    let mut netlink = Netlink::open().context("cannot talk to the kernel about interfaces")?;
    let kept: Vec<String> = but.iter().map(|device| device.name.clone()).collect();
    let networks = [&ground.networks[..], &ground.former_networks].concat();
    let vni = plan.network.vxlan().map(|options| options.vni);
    leftovers::remove_devices(&mut netlink, &networks, vni, &kept)
        .context("cannot remove devices of earlier runs")
}

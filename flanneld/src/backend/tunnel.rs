//! The packet engine as a data plane: its device, and control's peers as its table.

use crate::plan::Plan;
use crate::settings::EngineOptions;
use anyhow::{Context, Result, anyhow};
use control::host::Netlink;
use control::host::links::TunnelSetup;
use control::network::{Backend, NetworkConfig, VxlanConfig};
use control::sink::{Peer, PeerForm, TableSink};
use engine::{
    Device, Engine, EngineConfig, Form, Mac, QueueHandle, Route, SourceCheck, SubnetTable,
};
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;
use tracing::{info, warn};

/// The device of the first daemon on a host is flannel0.
const DEVICE: &str = "flannel%d";
/// Below this, IPv4 hosts need not accept packets whole.
const MTU_MIN: u16 = 576;

/// How long the kernel may take to remove the device of a daemon that was killed, half a second on a busy machine, and how
/// often it is looked for.
const FORMER_TRIES: u32 = 2500;
const FORMER_PAUSE: Duration = Duration::from_millis(2);

/// Waits until the device of a daemon that was killed a moment ago is gone: the kernel lets go of it last, and another one
/// would have to have another name meanwhile. One that stays is somebody else's business.
pub(super) fn await_former(plan: &Plan) -> io::Result<()> {
    let (setup, mut netlink) = (setup(plan), Netlink::open()?);
    for _ in 0..FORMER_TRIES {
        if !setup.is_held(&mut netlink)? {
            break;
        }
        sleep(FORMER_PAUSE);
    }
    Ok(())
}

/// A running engine whose device leads into the overlay network.
pub(super) struct Tunnel {
    engine: Arc<Engine>,
    netlink: Netlink,
    setup: TunnelSetup,
    /// Every peer uses a form we speak, its port included.
    network: NetworkConfig,
    /// Largest packet of the interface to peers.
    underlay_mtu: u32,
    /// Our own subnets.
    own: Vec<IpNet>,
    /// Our addresses on the underlay.
    addresses: Vec<IpAddr>,
}

impl Tunnel {
    /// Starts the engine and sets its device up. With queues of another, it waits for [`Engine::go`].
    pub(super) fn start(
        plan: &Plan,
        options: &EngineOptions,
        queues: Option<Vec<QueueHandle>>,
    ) -> Result<Self> {
        let config = engine_config(plan, options)?;
        let ports = ports(&config.forms);
        let adopts = queues.is_some();
        let engine = match queues {
            None => Engine::start(config, SubnetTable::default())?,
            Some(queues) => Engine::adopt(config, SubnetTable::default(), queues)?,
        };
        info!("engine: {}", engine.capabilities());
        if options.source_check == SourceCheck::Off {
            warn!(
                "--source-check=off: whoever reaches port {ports} can send packets to containers here, in anybody's \
                 name; leave the flag out to listen to nodes with a lease alone"
            );
        }
        let mut tunnel = Self {
            engine: Arc::new(engine),
            netlink: Netlink::open().context("cannot talk to the kernel about interfaces")?,
            setup: setup(plan),
            network: plan.network.clone(),
            underlay_mtu: plan.external.mtu,
            own: plan.lease.key.subnets().collect(),
            addresses: plan.external.addresses.clone(),
        };
        match adopts {
            true => drop(tunnel.restore()?),
            false => tunnel.set_up()?,
        }
        Ok(tunnel)
    }

    /// The engine.
    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn set_up(&mut self) -> io::Result<()> {
        self.setup.apply(&mut self.netlink, self.engine.tun_name())
    }

    fn route(&self, peer: &Peer) -> Route {
        let form = match peer.form {
            PeerForm::Vxlan(mac) => engine::PeerForm::Vxlan { mac: Mac(mac.0) },
            PeerForm::Udp | PeerForm::Plain => engine::PeerForm::Udp,
        };
        let spoken = self.spoken_with(peer);
        let mtu = spoken.path_mtu(self.underlay_mtu, peer.endpoint);
        Route {
            subnet: peer.subnet,
            peer: engine::Peer {
                address: peer.endpoint,
                port: spoken.port().unwrap_or_default(),
                form,
                mtu: u16::try_from(mtu).ok(),
            },
        }
    }

    /// The form of a peer, with its options.
    fn spoken_with(&self, peer: &Peer) -> &Backend {
        let of_peer = |spoken: &&Backend| {
            matches!(peer.form, PeerForm::Vxlan(_)) == matches!(spoken, Backend::Vxlan(_))
        };
        let mut spoken = self.network.spoken();
        spoken.find(of_peer).unwrap_or(&self.network.backend)
    }
}

impl TableSink for Tunnel {
    fn replace(&mut self, peers: &[Peer]) -> io::Result<()> {
        let routes = peers.iter().map(|peer| self.route(peer));
        let table = SubnetTable::build(self.own.clone(), routes);
        self.engine
            .publish(table.with_addresses(self.addresses.clone()));
        Ok(())
    }

    fn restore(&mut self) -> io::Result<bool> {
        let device = self.engine.tun_name();
        if self.setup.stands(&mut self.netlink, device)? {
            return Ok(false);
        }
        self.set_up().map(|()| true)
    }
}

fn forms(plan: &Plan) -> Result<Vec<Form>> {
    let form = |spoken: &Backend| match spoken {
        Backend::Udp(options) => Ok(Form::Udp { port: options.port }),
        Backend::Vxlan(options) => vxlan(options, plan),
        Backend::HostGw | Backend::Alloc => Err(anyhow!("this backend has no tunnel")),
    };
    plan.network.spoken().map(form).collect()
}

fn vxlan(options: &VxlanConfig, plan: &Plan) -> Result<Form> {
    if options.gbp || options.learning {
        warn!("GBP and Learning have no effect in user space; they need \"Datapath\": \"kernel\"");
    }
    let mac = plan
        .mac
        .ok_or_else(|| anyhow!("our lease has no VtepMAC"))?;
    Ok(Form::Vxlan {
        port: options.port,
        vni: options.vni,
        mac: Mac(mac.0),
    })
}

/// For a message.
fn ports(forms: &[Form]) -> String {
    let ports: Vec<String> = forms.iter().map(|form| form.port().to_string()).collect();
    ports.join(" or ")
}

fn engine_config(plan: &Plan, options: &EngineOptions) -> Result<EngineConfig> {
    let mtu = u16::try_from(plan.device_mtu).unwrap_or(u16::MAX);
    if mtu < MTU_MIN {
        return Err(anyhow!(
            "interface {} carries only {} bytes, too few for a tunnel",
            plan.external.name,
            plan.external.mtu
        ));
    }
    let subnets = plan.lease.key.subnets();
    Ok(EngineConfig {
        tun_name: DEVICE.to_owned(),
        workers: options.workers,
        pin: options.pin,
        io: options.io,
        forms: forms(plan)?,
        bind: plan.external.addresses.clone(),
        shortcut: shortcut(plan, options),
        mtu,
        segment: u16::try_from(plan.mtu).map_or(mtu, |told| told.min(mtu)),
        tun_addresses: subnets.map(|subnet| subnet.network()).collect(),
        offloads: options.offloads,
        spin: options.spin,
        flow_ports: options.flow_ports,
        source_check: options.source_check,
        confine: options.confine,
    })
}

fn shortcut(plan: &Plan, options: &EngineOptions) -> Option<Device> {
    options.shortcut.then(|| Device {
        name: plan.external.name.clone(),
        mtu: plan.external.mtu,
    })
}

fn setup(plan: &Plan) -> TunnelSetup {
    TunnelSetup {
        mtu: plan.device_mtu,
        subnets: plan.lease.key.subnets().collect(),
        networks: plan.network.networks().collect(),
    }
}

//! What carries packets on this host: started from a plan, looked after, ended.

use crate::account::Account;
use crate::daemon::Happening;
use crate::engine_sink::EngineSink;
use crate::plan::Plan;
use crate::settings::Settings;
use crate::upkeep::Tunnel;
use anyhow::{Context, Result};
use control::host::Netlink;
use engine::{Engine, SubnetTable};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;
use tracing::info;

/// The engine and the device it serves. Ends when dropped, together with the sink.
pub(crate) struct DataPlane {
    tunnel: Tunnel,
    _engine: Arc<Engine>,
}

impl DataPlane {
    /// Starts what the plan asks for; peers reach it through the sink.
    pub(crate) fn start(
        plan: &Plan,
        settings: &Settings,
        account: &Account,
        happenings: Sender<Happening>,
    ) -> Result<(Self, EngineSink)> {
        let netlink = Netlink::open().context("cannot talk to the kernel about interfaces")?;
        let config = plan.engine_config(&settings.engine)?;
        let engine = Arc::new(Engine::start(config, SubnetTable::default())?);
        account.open(&engine);
        info!("engine: {}", engine.capabilities());
        report_failures(&engine, happenings)?;
        let tunnel = Tunnel::start(netlink, plan.tunnel(), engine.tun_name())?;
        let sink = EngineSink {
            engine: Arc::clone(&engine),
            backend: plan.network.backend.clone(),
            underlay_mtu: plan.external.mtu,
            own: plan.lease.key.subnets().collect(),
        };
        let dataplane = Self {
            tunnel,
            _engine: engine,
        };
        Ok((dataplane, sink))
    }

    /// Something on the host has changed.
    pub(crate) fn doubt(&mut self, now: Duration) {
        self.tunnel.doubt(now);
    }

    /// When [`DataPlane::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.tunnel.due()
    }

    /// Looks after what stands on the host if there is a reason to.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.tunnel.tick(now);
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

//! What this daemon makes on the host, over time: set up once, then looked after, as others may undo it.

use crate::plan::Plan;
use crate::settings::Settings;
use anyhow::{Context, Result};
use control::clock::since_boot;
use control::host::Netlink;
use control::host::firewall::Firewall;
use control::host::links::TunnelSetup;
use std::io;
use std::time::Duration;
use tracing::{info, warn};

/// Changes come in groups, as when a link goes down and takes its routes along; they are looked at together.
const SETTLE: Duration = Duration::from_millis(200);

/// The tunnel's device.
pub(crate) struct Tunnel {
    netlink: Netlink,
    setup: TunnelSetup,
    device: String,
    due: Option<Duration>,
}

impl Tunnel {
    /// Sets the device up.
    pub(crate) fn start(mut netlink: Netlink, setup: TunnelSetup, device: &str) -> Result<Self> {
        setup.apply(&mut netlink, device)?;
        Ok(Self {
            netlink,
            setup,
            device: device.to_owned(),
            due: None,
        })
    }

    /// Something on the host has changed.
    pub(crate) fn doubt(&mut self, now: Duration) {
        self.due.get_or_insert(now + SETTLE);
    }

    /// When [`Tunnel::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Looks after the device if there is a reason to.
    pub(crate) fn tick(&mut self, now: Duration) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        if let Err(error) = self.restore() {
            warn!("cannot restore {}: {error}", self.device);
        }
    }

    fn restore(&mut self) -> io::Result<()> {
        if self.setup.stands(&mut self.netlink, &self.device)? {
            return Ok(());
        }
        info!("{} was changed by somebody else; restoring it", self.device);
        self.setup.apply(&mut self.netlink, &self.device)
    }
}

/// Firewall rules and when to look after them, in time since boot; none where none can be set.
pub(crate) struct Rules {
    firewall: Option<Firewall>,
    every: Duration,
    due: Option<Duration>,
    failing: bool,
}

impl Rules {
    /// Sets the rules up. Without masquerading pods lose the outside world in silence, so that must succeed.
    pub(crate) fn start(plan: &Plan, settings: &Settings) -> Result<Self> {
        let wanted = settings.rules;
        let mut firewall = Firewall::new(&plan.network, plan.lease.key, wanted);
        let firewall = match firewall.set_up() {
            Ok(()) => Some(firewall).filter(|_| wanted.masquerade || wanted.forward),
            Err(error) if wanted.masquerade => {
                return Err(error)
                    .context("cannot set up masquerading; leave out --ip-masq to run without");
            }
            Err(error) if wanted.forward => {
                warn!(
                    "cannot set forward rules: {error}. Pods are reached only if the host forwards by itself"
                );
                None
            }
            Err(_) => None,
        };
        let due = firewall.is_some().then(|| since_boot() + settings.resync);
        Ok(Self {
            firewall,
            every: settings.resync,
            due,
            failing: false,
        })
    }

    /// When [`Rules::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Looks after the rules if it is time to.
    pub(crate) fn tick(&mut self, now: Duration) {
        let Some(firewall) = self
            .firewall
            .as_mut()
            .filter(|_| self.due.is_some_and(|due| due <= now))
        else {
            return;
        };
        let failed = firewall.restore().err();
        if let Some(error) = failed.as_ref().filter(|_| !self.failing) {
            warn!("cannot look after the firewall rules: {error}");
        }
        self.failing = failed.is_some();
        self.due = Some(now + self.every);
    }
}

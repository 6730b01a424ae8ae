//! Firewall rules over time: set up once, then looked after, as others may undo them.

use crate::plan::Plan;
use crate::settings::Settings;
use anyhow::{Context, Result};
use control::clock::since_boot;
use control::host::firewall::Firewall;
use std::time::Duration;
use tracing::warn;

/// Firewall rules and when to look after them, in time since boot; none where none can be set.
pub(crate) struct Rules {
    firewall: Option<Firewall>,
    every: Duration,
    due: Option<Duration>,
    /// When they were looked at last.
    looked: Duration,
    failing: bool,
}

/// Who replaces rules removes some and puts others a moment later.
const SETTLE: Duration = Duration::from_millis(200);
/// Other programs may replace rules of their own all the time.
const PAUSE: Duration = Duration::from_millis(900);

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
            looked: since_boot(),
            failing: false,
        })
    }

    /// Somebody removed rules, perhaps ours.
    pub(crate) fn doubt(&mut self, now: Duration) {
        let soon = (now + SETTLE).max(self.looked + PAUSE);
        self.due = self.due.map(|due| due.min(soon));
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
        self.looked = now;
        self.due = Some(now + self.every);
    }
}

//! Keeps this node's lease: renews it in time, takes it back when it vanished, and never fights over it.

use crate::lease::Lease;
use crate::registry::{News, Registry, RegistryError};
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};

/// Pause between attempts while the registry does not answer.
const RETRY: Duration = Duration::from_secs(10);

/// This node's lease and what is known of its record.
pub struct Hold {
    registry: Arc<dyn Registry>,
    lease: Lease,
    margin: Duration,
    state: State,
    /// When to act next, in time since boot.
    due: Option<Duration>,
    failing: bool,
}

/// Whose record stands under our subnet's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ours,
    Missing,
    /// Traffic goes on as it is; an operator must decide.
    Taken,
}

impl Hold {
    /// Takes charge of a lease acquired or renewed just now; renews it `margin` before its end.
    pub fn new(registry: Arc<dyn Registry>, lease: Lease, margin: Duration, now: Duration) -> Self {
        let mut hold = Self {
            registry,
            lease,
            margin,
            state: State::Ours,
            due: None,
            failing: false,
        };
        hold.schedule(now);
        hold
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// When [`Hold::tick`] has something to do, in time since boot.
    pub fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Looks in a report for what concerns our record.
    pub fn hear(&mut self, news: &News, now: Duration) {
        let key = self.lease.key;
        match news {
            News::Put(lease) if lease.key == key => self.found(lease, now),
            News::Gone(gone) if *gone == key => self.vanished(now),
            News::Bad(record) if record.name == key.to_string() => {
                self.taken("something unreadable")
            }
            News::Snapshot(all) => match all.leases.iter().find(|lease| lease.key == key) {
                Some(lease) => self.found(lease, now),
                None if all.bad.iter().any(|record| record.name == key.to_string()) => {
                    self.taken("something unreadable")
                }
                None => self.vanished(now),
            },
            _ => {}
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let outcome = match self.state {
            State::Ours => self.registry.renew(&self.lease, &self.lease.attrs),
            State::Missing => self.registry.create(self.lease.key, &self.lease.attrs),
            State::Taken => return self.due = None,
        };
        match outcome {
            Ok(lease) => self.renewed(lease, now),
            Err(RegistryError::Conflict(_)) => self.look(now),
            Err(error) => self.failed(&error, now),
        }
    }

    fn found(&mut self, lease: &Lease, now: Duration) {
        if !lease.attrs.same_node(&self.lease.attrs) {
            return self.taken(&format!(
                "a record of another node: {}",
                lease.attrs.to_json()
            ));
        }
        self.state = State::Ours;
        if lease.expires.is_some() != self.lease.expires.is_some() {
            info!("our lease is now {lease}");
        }
        let ours = std::mem::replace(&mut self.lease.attrs, lease.attrs.clone());
        if (self.lease.revision, self.lease.expires) != (lease.revision, lease.expires) {
            (self.lease.revision, self.lease.expires) = (lease.revision, lease.expires);
            self.schedule(now);
        }
        self.restore(ours, now);
    }

    /// What we say about ourselves is ours to say.
    fn restore(&mut self, ours: crate::lease::LeaseAttrs, now: Duration) {
        if self.lease.attrs != ours {
            warn!(
                "our lease record was changed to {}; writing it anew",
                self.lease.attrs.to_json()
            );
            self.lease.attrs = ours;
            self.due = Some(now);
        }
    }

    fn vanished(&mut self, now: Duration) {
        if self.state == State::Missing {
            return;
        }
        warn!(
            "our lease {} has vanished from the registry; taking it back",
            self.lease.key
        );
        self.state = State::Missing;
        self.due = Some(now);
    }

    fn taken(&mut self, by: &str) {
        if self.state == State::Taken {
            return;
        }
        error!(
            "our subnet {} is now held by {by}. Traffic goes on as it is; remove that record to get the subnet back, or restart this daemon to get another",
            self.lease.key
        );
        self.state = State::Taken;
        self.due = None;
    }

    /// Somebody was faster; who?
    fn look(&mut self, now: Duration) {
        match self.registry.snapshot() {
            Ok(all) => {
                self.hear(&News::Snapshot(all), now);
                if self.state == State::Missing {
                    self.due = Some(now + RETRY);
                }
            }
            Err(error) => self.failed(&error, now),
        }
    }

    fn renewed(&mut self, lease: Lease, now: Duration) {
        if self.state == State::Missing {
            info!("our lease {} is in the registry again", lease.key);
        } else {
            info!("lease {} renewed", lease.key);
        }
        self.lease = lease;
        self.state = State::Ours;
        self.failing = false;
        self.schedule(now);
    }

    fn failed(&mut self, error: &RegistryError, now: Duration) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!("cannot renew our lease: {error}; trying on");
        }
        self.due = Some(now + RETRY);
    }

    /// A reservation needs no renewing.
    fn schedule(&mut self, now: Duration) {
        let lease_time = self.registry.lease_time();
        let wait = lease_time.saturating_sub(self.margin).max(lease_time / 2);
        self.due = self.lease.expires.map(|_| now + wait);
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Hold")
            .field("lease", &self.lease)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

//! The interface to the other nodes, over time: it may get another address or size, vanish and come back.

use control::clock::since_boot;
use control::host::Netlink;
use control::host::external_interface::{self, Choice, ExternalInterface, Families};
use std::time::Duration;
use tracing::{info, warn};

/// An address is often removed a moment before its successor is there.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches over the interface chosen at start.
pub(crate) struct Underlay {
    netlink: Netlink,
    choice: Choice,
    families: Families,
    due: Option<Duration>,
    /// Why there is none at the moment.
    missing: Option<String>,
}

impl Underlay {
    /// Begins with a look, for what has changed since the interface was chosen.
    pub(crate) fn watch(netlink: Netlink, choice: Choice, families: Families) -> Self {
        Self {
            netlink,
            choice,
            families,
            due: Some(since_boot()),
            missing: None,
        }
    }

    /// Something on the host has changed.
    pub(crate) fn doubt(&mut self, now: Duration) {
        self.due.get_or_insert(now + SETTLE);
    }

    /// Whether there is none at the moment.
    pub(crate) fn is_missing(&self) -> bool {
        self.missing.is_some()
    }

    /// When [`Underlay::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// The interface as it is now, if that differs from how it was.
    pub(crate) fn tick(
        &mut self,
        was: &ExternalInterface,
        now: Duration,
    ) -> Option<ExternalInterface> {
        self.due.take_if(|due| *due <= now)?;
        let found =
            external_interface::find_again(&mut self.netlink, &self.choice, self.families, was);
        match found {
            Ok(found) => {
                if self.missing.take().is_some() {
                    info!("the interface to other nodes is there again: {found}");
                }
                Some(found).filter(|found| found != was)
            }
            Err(error) => {
                self.tell_missing(was, &error.to_string());
                None
            }
        }
    }

    fn tell_missing(&mut self, was: &ExternalInterface, why: &str) {
        if self.missing.as_deref() == Some(why) {
            return;
        }
        warn!(
            "the interface to other nodes, {was}, is not there any more: {why}. \
             Carrying on with what is left until it comes back; --iface and --public-ip choose another at the next start"
        );
        self.missing = Some(why.to_owned());
    }
}

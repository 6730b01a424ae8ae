//! What the service manager is told, if there is one: that the daemon is ready, how it fares, that it lives, that it ends.

use sd_notify::NotifyState;
use std::sync::OnceLock;
use std::time::Duration;
use tracing::warn;

/// What [`taken_over`] was told.
static INHERITED: OnceLock<Duration> = OnceLock::new();

/// Containers may rely on the daemon.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// This process is the daemon from now on. `patience` is what the one before was told about signs of life: service
/// managers tell it only to those they start.
pub(crate) fn taken_over(patience: Option<Duration>) {
    if let Some(patience) = patience {
        // There is one takeover in the life of a process, at its beginning.
        let _ = INHERITED.set(patience);
    }
    tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// How the daemon fares, in few words.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The daemon does its work.
pub(crate) fn alive() {
    if patience().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// The daemon is about to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// After how long without a sign of life it ends us; never, unless it says so.
pub(crate) fn patience() -> Option<Duration> {
    sd_notify::watchdog_enabled().or_else(|| INHERITED.get().copied())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot notify the service manager: {error}");
    }
}

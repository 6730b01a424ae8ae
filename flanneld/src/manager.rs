//! What the service manager is told, if there is one.

use sd_notify::NotifyState;
use tracing::warn;

/// Containers may rely on the daemon.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The daemon is about to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot notify the service manager: {error}");
    }
}

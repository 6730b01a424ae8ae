//! Tells of system calls that workers were denied. None of ours makes one.

use sandbox::denied;
use tracing::warn;

/// What has been told of them.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    /// How many there are when it is told again: whoever makes many shall not fill the disk.
    next: u64,
}

impl Denials {
    /// Tells of those since it was last told, if that is worth another line.
    pub(crate) fn tick(&mut self) {
        let (count, last) = denied::so_far();
        if count == 0 || count < self.next {
            return;
        }
        self.next = count * 2;
        warn!(
            "a worker was denied a system call, number {last}; {count} so far. The daemon never makes one, so this is a bug, or somebody has got into the worker by a packet: keep this log, restart the daemon, and report it"
        );
    }
}

/// For the operator, if there is one to tell of.
pub(crate) fn problem() -> (bool, String) {
    let (count, last) = denied::so_far();
    let told = format!(
        "workers were denied {count} system calls, the last one number {last}: a bug, or a break-in; keep the log and restart the daemon"
    );
    (count > 0, told)
}

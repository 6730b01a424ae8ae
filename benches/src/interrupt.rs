//! Nothing is left behind when a measuring program is interrupted.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{daemon, scratch};

/// From now on a signal that ends the process also ends its daemons and removes its directories.
///
/// Namespaces need no hand: they go with the last process in them. The daemons end first, because
/// one that lives on would put its lease back into the directory that is being removed.
pub fn leave_nothing() -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    let end = move || {
        if let Some(signal) = signals.forever().next() {
            daemon::kill_all();
            scratch::remove_own();
            std::process::exit(128 + signal);
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(end)
        .map(drop)
}

//! Signals as happenings: the first asks to stop, a second one does not wait.

use crate::account::Account;
use crate::daemon::Happening;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;
use tracing::info;

/// How long the daemon may take to end by itself.
const PATIENCE: Duration = Duration::from_millis(110);

/// Sends a happening for the first signal that asks to stop.
pub(crate) fn listen(happenings: Sender<Happening>, account: Account) -> io::Result<()> {
    // SIGUSR1 has never meant anything to flannel, and never hurt.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGUSR1])?;
    let mut asked = false;
    let listener = move || {
        for signal in signals.forever().filter(|signal| *signal != SIGUSR1) {
            if asked {
                std::process::exit(128 + signal);
            }
            asked = true;
            info!("signal {signal}: stopping");
            let account = account.clone();
            let _ = thread::Builder::new().spawn(move || leave_in_time(&account));
            // Nobody listens any more: the daemon is ending anyway.
            let _ = happenings.send(Happening::Stop);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listener)
        .map(drop)
}

/// A registry or a tool that does not answer must not hold up the end: what has to vanish vanishes with the process.
fn leave_in_time(account: &Account) {
    thread::sleep(PATIENCE);
    account.tell();
    std::process::exit(0);
}

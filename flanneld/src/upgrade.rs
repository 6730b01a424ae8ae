//! `flanneld upgrade`: starts this program in place of the daemon that runs, and waits until it has taken over.

use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use control::handover::{self, Word};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(10);
/// How long the daemon that waits may take to say who it is.
const ANSWER: Duration = Duration::from_secs(5);

/// Ends well once a new daemon with these flags has taken over.
pub(crate) fn run(settings: &Settings, flags: &[String]) -> Result<()> {
    let door = &settings.door;
    let Some((old, log)) = waiting(door)? else {
        bail!(
            "no daemon waits for a successor at {}: give the flags it was given, or start it anew",
            door.display()
        );
    };
    let program = std::env::current_exe().context("cannot find this program")?;
    // In a group of its own, so that what ends this command in a terminal does not end the daemon. It writes its log
    // where the old one does.
    let mut new = Command::new(program)
        .args(flags)
        .arg("--takeover")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("cannot start this program")?;
    loop {
        if let Some(status) = new.try_wait()? {
            bail!(
                "process {old} carries on: the new daemon ended with {status}; the last lines of its log say why"
            );
        }
        let waits = waiting(door).ok().flatten();
        if waits.is_some_and(|(process, _)| process == new.id()) {
            println!("process {} has taken over from process {old}", new.id());
            return Ok(());
        }
        sleep(LOOK);
    }
}

/// The process that waits for a successor, and where it writes its log.
fn waiting(door: &Path) -> Result<Option<(u32, OwnedFd)>> {
    let failed = || format!("cannot ask at {}", door.display());
    let Some(channel) = handover::call(door).with_context(failed)? else {
        return Ok(None);
    };
    channel.say(&Word::Who, &[]).with_context(failed)?;
    let (word, descriptors) = channel.hear(ANSWER).with_context(failed)?;
    match (word, descriptors.into_iter().next()) {
        (Word::Here { process }, Some(log)) => Ok(Some((process, log))),
        (word, _) => bail!("{} says {word:?}", door.display()),
    }
}

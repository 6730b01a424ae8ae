//! Before anything else begins, the daemon gives up what it does not need: threads started later, and the programs they
//! run, have no more than what is left here. Workers give up the rest themselves.
//!
//! What is left: interfaces, routes and rules (CAP_NET_ADMIN); files of the system and those named in the settings, of
//! which it changes only its own; TCP connections to the ports of etcd. See `docs/adr/0012-sandbox.md`.

mod denials;
mod legacy;
mod places;

use crate::settings::Settings;
pub(crate) use denials::{Denials, problem};
use engine::IoChoice;
use places::Places;
use sandbox::capabilities::{self, Capabilities};
use sandbox::files::{self, Enforced};
use sandbox::{calls, process};
use std::io;
use tracing::{info, warn};

/// Something given up, in words; or what could not be and why.
type Wall = Result<String, String>;

/// Gives up what is not needed, and says what is left; what the kernel does not let us give up costs a line.
pub(crate) fn confine(settings: &Settings) {
    let places = Places::of(settings);
    let legacy = legacy::is_in_use();
    if legacy {
        legacy::prepare();
    }
    process::raise_limits();
    let walls = [
        capabilities_left(&places, wanted(settings, legacy)),
        files_left(&places),
        wall("no dangerous system calls", no_dangerous_calls(settings)),
        wall("no core files", process::keep_secrets()),
    ];
    let standing: Vec<_> = walls.iter().flatten().map(String::as_str).collect();
    info!("sandbox: {}", standing.join(", "));
    for missing in walls.iter().filter_map(|wall| wall.as_ref().err()) {
        warn!(
            "sandbox: {missing}. The daemon goes on with more than it needs: use a newer kernel or a less strict container, or --sandbox=off to give up nothing"
        );
    }
}

fn no_dangerous_calls(settings: &Settings) -> io::Result<()> {
    match settings.engine.shortcut {
        true => calls::forbid(&calls::dangerous_but_for_programs()),
        false => calls::forbid(calls::DANGEROUS),
    }
}

fn wall(what: &str, outcome: io::Result<()>) -> Wall {
    let missing = |error| format!("{what}: not possible here ({error})");
    outcome.map(|()| what.to_owned()).map_err(missing)
}

/// What the daemon's work takes; mostly one.
fn wanted(settings: &Settings, legacy: bool) -> Capabilities {
    let mut wanted = Capabilities::NET_ADMIN;
    if legacy {
        // iptables of the older kind talks to the kernel through a raw socket.
        wanted |= Capabilities::NET_RAW;
    }
    let mut listening = [settings.probes, settings.metrics].into_iter().flatten();
    if listening.any(|address| address.port() < 1024) {
        wanted |= Capabilities::NET_BIND_SERVICE;
    }
    if settings.engine.shortcut {
        // Whenever the engine begins anew it loads its program and opens its sockets anew.
        wanted |= Capabilities::NET_RAW | Capabilities::BPF;
    }
    let rings = !matches!(settings.engine.io, IoChoice::Epoll | IoChoice::SingleQueue);
    if (rings || settings.engine.shortcut) && process::memory_in_place().is_some() {
        wanted |= Capabilities::IPC_LOCK;
    }
    wanted
}

/// Why a capability is left that could be spared, and the cure.
fn tell_of_spare(left: Capabilities) {
    if let (true, Some(limit)) = (
        left.contains(Capabilities::IPC_LOCK),
        process::memory_in_place(),
    ) {
        info!(
            "sandbox: CAP_IPC_LOCK is kept, as io_uring and --shortcut need memory that stays in place and the limit of that, {} KiB, cannot be raised here. LimitMEMLOCK=infinity spares it, as does --io=epoll without --shortcut",
            limit / 1024
        );
    }
}

fn capabilities_left(places: &Places, kept: Capabilities) -> Wall {
    let left = places
        .out_of_reach(kept)
        .and_then(|files| capabilities::keep(kept | files));
    match left {
        Ok(left) if left.is_empty() => Ok("no capabilities".to_owned()),
        Ok(left) => {
            tell_of_spare(left);
            let names: Vec<_> = left.iter_names().map(|(name, _)| name).collect();
            Ok(format!("capabilities {}", names.join(" ")))
        }
        Err(error) => Err(format!("capabilities cannot be given up ({error})")),
    }
}

fn files_left(places: &Places) -> Wall {
    let (files, ports) = ("only the files needed", "only the TCP ports needed");
    match files::limit(&places.reach()) {
        Ok(Enforced::Fully) => Ok(format!("{files}, {ports}")),
        Ok(Enforced::Partly) => Ok(files.to_owned()),
        Ok(Enforced::Not) => Err(format!("{files}: this kernel has no Landlock")),
        Err(error) => Err(format!("{files}: not possible here ({error})")),
    }
}

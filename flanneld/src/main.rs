//! The flannel daemon: reads what was typed, runs, and says why it ended.

mod account;
mod args;
mod backend;
mod beginning;
mod boot;
mod caller;
mod cleanup;
mod confine;
mod contact;
mod daemon;
mod go_flags;
mod hand_over;
mod listeners;
mod log;
mod manager;
mod operator;
mod plan;
mod recall;
mod renewal;
mod scribe;
mod settings;
mod signals;
mod take_over;
mod underlay;
mod upgrade;
mod upkeep;
mod vitals;

use args::Args;
use clap::Parser;
use settings::Settings;
use std::process::ExitCode;
use tracing::{debug, error, info, warn};

/// Exit code for a command line that makes no sense, so that service managers see a failure.
const BAD_USAGE: u8 = 2;

/// First words that are no flag and have a meaning.
const CLEANUP: &str = "cleanup";
const UPGRADE: &str = "upgrade";

fn main() -> ExitCode {
    sandbox::names::load_nothing();
    let mut typed = std::env::args().skip(1).peekable();
    let cleanup = typed.next_if(|word| word == CLEANUP).is_some();
    let upgrade = typed.next_if(|word| word == UPGRADE).is_some();
    let typed: Vec<String> = typed.collect();
    let words = match go_flags::effective(typed.iter().cloned(), |name| std::env::var(name).ok()) {
        Ok(words) => words,
        Err(refused) => return complain(&refused),
    };
    let args = match Args::try_parse_from(&words.flags) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    if args.version {
        eprintln!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let wish = cleanup::Wish {
        dry_run: args.dry_run,
        release_lease: args.release_lease,
    };
    if !cleanup && (wish.dry_run || wish.release_lease) {
        return complain(&"--dry-run and --release-lease are for flanneld cleanup");
    }
    let settings = match Settings::try_from(args) {
        Ok(settings) => settings,
        Err(wrong) => return complain(&wrong),
    };
    if cleanup {
        return outcome(cleanup::run(&settings, wish), |why| {
            eprintln!("flanneld: {why}")
        });
    }
    if upgrade {
        return outcome(upgrade::run(&settings, &typed), |why| {
            eprintln!("flanneld: {why}")
        });
    }
    log::start(settings.verbosity, settings.log_format);
    for remark in words.remarks.iter().chain(&settings.remarks) {
        warn!("{remark}");
    }
    let (kind, places) = operator::places(&settings.store);
    info!(
        "flanneld {} starting, with leases in {kind} at {}",
        env!("CARGO_PKG_VERSION"),
        places.join(", ")
    );
    debug!("{settings:?}");
    if settings.engine.confine.is_some() {
        confine::confine(&settings);
    }
    outcome(daemon::run(&settings), |why| error!("{why}"))
}

fn outcome(ended: anyhow::Result<()>, tell: impl Fn(&str)) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tell(&format!("{why:#}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("flanneld: {why}\nFor all flags, try --help");
    ExitCode::from(BAD_USAGE)
}

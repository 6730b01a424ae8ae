//! The flannel daemon: reads what was typed, runs, and says why it ended.

mod account;
mod args;
mod backend;
mod boot;
mod caller;
mod daemon;
mod go_flags;
mod log;
mod manager;
mod plan;
mod recall;
mod renewal;
mod scribe;
mod settings;
mod signals;
mod underlay;
mod upkeep;
mod vitals;

use args::Args;
use clap::Parser;
use settings::Settings;
use std::process::ExitCode;
use tracing::{error, info, warn};

/// Exit code for a command line that makes no sense, so that service managers see a failure.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let words = match go_flags::effective(std::env::args().skip(1), |name| std::env::var(name).ok())
    {
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
    let settings = match Settings::try_from(args) {
        Ok(settings) => settings,
        Err(wrong) => return complain(&wrong),
    };
    log::start(settings.verbosity);
    for remark in words.remarks.iter().chain(&settings.remarks) {
        warn!("{remark}");
    }
    info!(
        "flanneld {} starting: {settings:?}",
        env!("CARGO_PKG_VERSION")
    );
    match daemon::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            error!("{why:#}");
            ExitCode::FAILURE
        }
    }
}

fn complain(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("flanneld: {why}\nFor all flags, try --help");
    ExitCode::from(BAD_USAGE)
}

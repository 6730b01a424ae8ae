//! The operator's tool beside the daemon: reads what was typed and calls who does it.

mod args;
mod bench;

use std::process::ExitCode;

use args::{Arguments, Command};
use clap::Parser;

fn main() -> ExitCode {
    let Command::Bench(arguments) = Arguments::parse().command;
    match bench::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flannelctl: {error}");
            ExitCode::FAILURE
        }
    }
}

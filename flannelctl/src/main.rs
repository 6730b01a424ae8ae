//! The operator's tool beside the daemon: reads what was typed and calls who does it.

mod args;
mod ask;
mod bench;
mod exit;

use std::process::ExitCode;

use args::{Arguments, Command};
use clap::Parser;
use exit::Exit;

fn main() -> ExitCode {
    run(&Arguments::parse().command).into()
}

fn run(command: &Command) -> Exit {
    match command {
        Command::Status(asking) => ask::status(asking),
        Command::Lease(asking) => ask::lease(asking),
        Command::Peers(asking) => ask::peers(asking),
        Command::Routes(asking) => ask::routes(asking),
        Command::Stats(asking) => ask::stats(asking),
        Command::Drops(rates) => ask::drops(rates),
        Command::Bench(arguments) => bench::run(arguments).map_or_else(
            |error| {
                eprintln!("flannelctl: {error}");
                Exit::Failed
            },
            |()| Exit::Well,
        ),
    }
}

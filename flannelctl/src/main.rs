//! The operator's tool beside the daemon: reads what was typed and calls who does it.

mod args;
mod ask;
mod bench;
mod bridge;
mod capture;
mod config;
mod doctor;
mod echo;
mod exit;
mod keeping;
mod leases;
mod ping;
mod top;
mod trip;

use std::process::ExitCode;

use args::{Arguments, Command, Config};
use clap::Parser;
use exit::Exit;

fn main() -> ExitCode {
    sandbox::names::load_nothing();
    run(&Arguments::parse().command).into()
}

fn run(command: &Command) -> Exit {
    match command {
        Command::Status(asking) => ask::status(asking),
        Command::Lease(arguments) => match &arguments.all {
            None => ask::lease(&arguments.asking),
            Some(command) => leases::run(command),
        },
        Command::Bridge(arguments) => bridge::run(arguments),
        Command::Peers(asking) => ask::peers(asking),
        Command::Routes(asking) => ask::routes(asking),
        Command::Stats(asking) => ask::stats(asking),
        Command::Drops(rates) => ask::drops(rates),
        Command::Top(arguments) => top::run(arguments),
        Command::Config(Config::Check(arguments)) => config::check(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Capture(arguments) => capture::run(arguments),
        Command::Ping(arguments) => ping::run(arguments),
        Command::Bench(arguments) => bench::run(arguments).map_or_else(
            |error| {
                eprintln!("flannelctl: {error}");
                Exit::Failed
            },
            |()| Exit::Well,
        ),
    }
}

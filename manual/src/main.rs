//! Writes manual pages and completions of both programs into a directory, from the very definitions their `--help` is
//! made of. Packages are built with it; the programs themselves need not carry it.

#![allow(
    dead_code,
    reason = "of both programs only the definitions are of interest, not what was typed"
)]

#[path = "../../flanneld/src/args.rs"]
mod daemon;
mod page;
mod subnet_file;

// What the tool's definitions lie in.
#[path = "../../flannelctl/src/args.rs"]
mod args;
#[path = "../../flannelctl/src/ask/mod.rs"]
mod ask;
#[path = "../../flannelctl/src/bridge.rs"]
mod bridge;
#[path = "../../flannelctl/src/exit.rs"]
mod exit;
#[path = "../../flannelctl/src/keeping.rs"]
mod keeping;
#[path = "../../flannelctl/src/leases.rs"]
mod leases;

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use page::Page;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Where completions lie below the directory.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash"),
    (Shell::Zsh, "zsh"),
    (Shell::Fish, "fish"),
];

/// How the daemon is called.
const USAGE: &str = "flanneld [flags]\nflanneld cleanup [flags]\nflanneld upgrade [flags]";

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("manual: name the directory to write to");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: cannot write to {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let pages = directory.join("man");
    fs::create_dir_all(&pages)?;
    let mut tool = args::Arguments::command().disable_help_subcommand(true);
    tool.build();
    let more = ["flanneld(8)", "subnet.env(5)"];
    write_tree(&tool, &pages, &more)?;
    let daemon = Page {
        section: "8",
        more: &["flannelctl(1)", "subnet.env(5)"],
    };
    daemon.write(daemon_command().override_usage(USAGE), &pages)?;
    fs::write(pages.join("subnet.env.5"), subnet_file::page())?;
    for (shell, name) in SHELLS {
        let place = directory.join(name);
        fs::create_dir_all(&place)?;
        generate_to(shell, &mut args::Arguments::command(), "flannelctl", &place)?;
        generate_to(shell, &mut with_words(daemon_command()), "flanneld", &place)?;
    }
    Ok(())
}

/// A page for a command and one for each below it.
fn write_tree(command: &Command, pages: &Path, more: &[&str]) -> io::Result<()> {
    let page = Page { section: "1", more };
    page.write(command.clone(), pages)?;
    let mut below = command.get_subcommands();
    below.try_for_each(|command| write_tree(command, pages, &["flannelctl(1)", "flanneld(8)"]))
}

/// The daemon; what it is in a line is not what `--help` begins with.
fn daemon_command() -> Command {
    let command = daemon::Args::command();
    let about = command.get_about().cloned().unwrap_or_default();
    command
        .about("overlay network daemon for containers")
        .long_about(about)
}

/// With the words that are no flags, for completions.
fn with_words(command: Command) -> Command {
    let word = |name: &'static str, about: &'static str| {
        let flags = command.get_arguments().cloned();
        Command::new(name)
            .about(about)
            .disable_help_flag(true)
            .args(flags)
    };
    let words = [
        word(
            "cleanup",
            "Remove what runs of this daemon and of flannel left here",
        ),
        word(
            "upgrade",
            "Put this program in place of the daemon that runs",
        ),
    ];
    command.subcommands(words)
}

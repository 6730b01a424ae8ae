//! `flannel`, the plugin that container runtimes call: turns the node's subnet file into the config of another
//! plugin, by default `bridge` with `host-local`, and lets that one do the work.
//!
//! ```text
//!             config, CNI_*                  config, CNI_*
//! runtime ─────────────────> flannel ─────────────────────> bridge ──> host-local
//!                              │ ^
//!        /var/lib/cni/flannel/ID │ subnet.env <── flanneld
//! ```
//!
//! What the other plugin was given is kept until it has undone it, because the subnet may change in between.
//! Everything is said in CNI's own words: a result or an error object on stdout, nothing else.

mod config;
mod delegate;
mod error;
mod request;
mod state;
mod subnet;
mod verbs;
mod version;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde_json::Value;

use error::{Error, code};
use version::Version;

fn main() -> ExitCode {
    let Some(command) = request::variable("CNI_COMMAND") else {
        eprintln!("{}", about());
        return ExitCode::SUCCESS;
    };
    let input = match read_input() {
        Ok(input) => input,
        Err(error) => return refuse(&error, Version::NEWEST.name()),
    };
    match verbs::answer(&command, &input) {
        Ok(said) => print(&said),
        Err(error) => {
            let version = input.get("cniVersion").and_then(Value::as_str);
            refuse(&error, version.unwrap_or_else(|| Version::OLDEST.name()))
        }
    }
}

fn about() -> String {
    format!(
        "flannel {}: a CNI plugin, called by container runtimes\nCNI protocol versions supported: {}",
        env!("CARGO_PKG_VERSION"),
        version::SUPPORTED.join(", ")
    )
}

fn read_input() -> Result<Value, Error> {
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text);
    let read = read.map_err(|error| Error::new(code::IO, format!("cannot read stdin: {error}")));
    read.and_then(|_| config::parse_input(&text))
}

fn print(said: &[u8]) -> ExitCode {
    match io::stdout().write_all(said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flannel: cannot write the result: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A runtime that does not listen learns of the failure by the exit code.
fn refuse(error: &Error, version: &str) -> ExitCode {
    print(error.render(version).as_bytes());
    ExitCode::FAILURE
}

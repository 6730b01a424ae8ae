//! The daemon's local socket: what an operator may ask, and the shape of the answers.
//!
//! - [`protocol`] is one line there and one line and a text back; pure
//! - [`server`] answers for the daemon, to root and its own user only
//! - [`client`] asks, and tells a daemon that is not there from one that is stuck
//! - [`answers`] are the documents, the same for `--json`, tables and pages; `docs/console.md` explains each field
//!
//! Nothing here knows leases or packets: whoever serves fills the documents in.

#![forbid(unsafe_code)]

pub mod answers;
pub mod client;
pub mod protocol;
pub mod server;

use std::path::{Path, PathBuf};

/// Where a daemon listens unless told otherwise: beside its subnet file, of which each on a host has its own.
pub fn socket_beside(subnet_file: &Path) -> PathBuf {
    let mut name = subnet_file.as_os_str().to_owned();
    name.push(".sock");
    name.into()
}

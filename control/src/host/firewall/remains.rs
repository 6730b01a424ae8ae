//! Rules that runs of this daemon and of flannel left behind, in either tool's hands, found without knowing how they
//! were configured.

use super::{iptables, nftables, run};
use ipnet::IpNet;
use std::fmt;
use std::io::{self, ErrorKind};

/// Something of ours in a firewall, and how to remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    pub(super) what: String,
    pub(super) tool: &'static str,
    pub(super) words: &'static [&'static str],
    pub(super) batch: String,
}

impl Remains {
    /// Removes it, in one step.
    pub fn remove(&self) -> io::Result<()> {
        run(self.tool, self.words, &self.batch).map(drop)
    }
}

impl fmt::Display for Remains {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

/// Finds all there is. Networks and subnets known from earlier runs tell rules of old versions, which have neither
/// chain nor comment, from other people's.
pub fn find(networks: &[IpNet], own: &[IpNet]) -> io::Result<Vec<Remains>> {
    let mut found = Vec::new();
    for any in ["0.0.0.0/0", "::/0"] {
        let family = any.parse().map_err(io::Error::other)?;
        found.extend(if_installed(iptables::remains(family, networks, own))?);
        found.extend(if_installed(nftables::remains(family))?);
    }
    Ok(found)
}

/// A tool that is not there has left nothing.
fn if_installed(found: io::Result<Vec<Remains>>) -> io::Result<Vec<Remains>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        found => found,
    }
}

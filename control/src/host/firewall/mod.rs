//! Firewall rules: pods keep their addresses among each other, and leave the overlay under the host's address.
//!
//! What the rules are is decided once for both flavours, in [`rules`]; `iptables` and `nftables` put them into
//! one batch each, which the kernel takes whole or not at all. Rules stay when the daemon ends: containers
//! outlive it, and so must their way to the world.

mod iptables;
mod nftables;
pub mod remains;
mod rules;

use crate::network::NetworkConfig;
use crate::subnet_key::SubnetKey;
use ipnet::IpNet;
use std::env;
use std::io::{self, ErrorKind, Write};
use std::process::{Command, Stdio};
use tracing::{info, warn};

/// Which rules to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Hide pods' addresses outside the overlay.
    pub masquerade: bool,
    /// Choose source ports of hidden connections wholly at random.
    pub random_ports: bool,
    /// Let pods' packets pass where the host forwards nothing by itself.
    pub forward: bool,
}

/// One address family's overlay, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Overlay {
    network: IpNet,
    subnet: IpNet,
    wanted: Wanted,
}

/// Whose rules in our chains are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// Ours alone: what stands there at a start may be of an earlier run.
    Ours,
    /// Those for other networks, too: what has come since is of another daemon.
    Others,
}

impl Overlay {
    /// Whether a rule speaks of networks, and not of this one.
    fn is_anothers(&self, rule: &str) -> bool {
        let word_is = |net: IpNet| rule.split_whitespace().any(|word| word == net.to_string());
        let speaks_of_networks = rule
            .split_whitespace()
            .any(|word| word.parse::<IpNet>().is_ok());
        speaks_of_networks && !word_is(self.network) && !word_is(self.subnet)
    }

    /// Whether a listing of our rules has all that speak of networks.
    fn is_complete(&self, listed: &str) -> bool {
        let wanted = [
            (self.wanted.masquerade, rules::leaving(self).len()),
            (self.wanted.forward, rules::passing(self).len()),
        ];
        let wanted: usize = wanted
            .iter()
            .map(|(on, rules)| usize::from(*on) * rules)
            .sum();
        let names = [self.network, self.subnet].map(|net| net.to_string());
        let speaks_of_us = |line: &&str| {
            line.split_whitespace()
                .any(|word| names.iter().any(|name| name == word))
        };
        listed.lines().filter(speaks_of_us).count() >= wanted
    }
}

/// The rules of this daemon.
#[derive(Debug)]
pub struct Firewall {
    nftables: bool,
    overlays: Vec<Overlay>,
    /// Our rules as the kernel lists them when all is well; empty if they were not seen like that yet.
    standing: Vec<String>,
}

impl Firewall {
    /// Rules for a node; nothing is changed yet.
    pub fn new(network: &NetworkConfig, key: SubnetKey, wanted: Wanted) -> Self {
        let overlay = |subnet: IpNet| {
            let around = network.networks().find(|network| network.contains(&subnet));
            around.map(|network| Overlay {
                network,
                subnet,
                wanted,
            })
        };
        Self {
            nftables: network.nftables,
            overlays: key.subnets().filter_map(overlay).collect(),
            standing: Vec::new(),
        }
    }

    /// Sets the rules up, whatever stood there before, and removes those of the other flavour.
    pub fn set_up(&mut self) -> io::Result<()> {
        self.remove_other_flavour();
        self.apply(Keep::Ours)
    }

    fn apply(&mut self, keep: Keep) -> io::Result<()> {
        for overlay in &self.overlays {
            if self.nftables {
                nftables::apply(overlay, keep)?
            } else {
                iptables::apply(overlay, keep)?
            }
        }
        let standing = self.list()?;
        let mut listed = self.overlays.iter().zip(&standing);
        let complete = listed.all(|(overlay, listed)| overlay.is_complete(listed));
        // Somebody who removes rules at this moment does not say how they should stand.
        self.standing = if complete { standing } else { Vec::new() };
        Ok(())
    }

    /// Sets the rules up again if somebody changed them.
    pub fn restore(&mut self) -> io::Result<()> {
        if self.list()? == self.standing {
            return Ok(());
        }
        info!("firewall rules were changed; setting them up again");
        self.apply(Keep::Others)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let list = if self.nftables {
            nftables::list
        } else {
            iptables::list
        };
        self.overlays.iter().map(list).collect()
    }

    /// Rules of a run with the other setting would apply as well. Tools that are not there have left none.
    fn remove_other_flavour(&self) {
        for overlay in &self.overlays {
            let removed = if self.nftables {
                iptables::remove(overlay)
            } else {
                nftables::remove(overlay.network)
            };
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    warn!("cannot remove rules of an earlier run: {error}")
                }
                _ => {}
            }
        }
    }
}

/// Runs a tool to its end and returns what it prints.
fn run(program: &str, words: &[&str], input: &str) -> io::Result<String> {
    let told = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => {
            io::Error::new(ErrorKind::NotFound, format!("{program} is not installed"))
        }
        kind => io::Error::new(kind, format!("cannot run {program}: {error}")),
    };
    let piped = Command::new(program)
        .args(words)
        // What else is in our environment is none of its business: a password may be.
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = piped.map_err(told)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends without reading says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_that_lost_a_rule_is_not_complete() {
        let overlay = Overlay {
            network: "10.5.0.0/16".parse().unwrap(),
            subnet: "10.5.1.0/24".parse().unwrap(),
            wanted: Wanted {
                masquerade: false,
                random_ports: true,
                forward: true,
            },
        };
        let forward = ["ip saddr 10.5.0.0/16 accept", "ip daddr 10.5.0.0/16 accept"];
        assert!(overlay.is_complete(&format!("chain forward {{\n{}\n}}", forward.join("\n"))));
        assert!(!overlay.is_complete(&format!("chain forward {{\n{}\n}}", forward[0])));
        assert!(!overlay.is_complete(""));
    }
}

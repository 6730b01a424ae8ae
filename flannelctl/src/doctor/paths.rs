//! The way to each node and back: the port, and the largest packet.

use super::{Finding, clock};
use crate::args::Doctor;
use crate::ask::document;
use crate::echo::{Echo, echo};
use crate::trip::{Way, inside, trip};
use console::answers::{Peer, Peers};
use console::client::Unanswered;
use console::protocol::Question;
use std::net::IpAddr;

/// Tries the way to so many nodes.
pub(super) fn findings(arguments: &Doctor) -> Vec<Finding> {
    let peers: Peers = match document(&arguments.asking.socket, Question::Peers) {
        Ok(peers) => peers,
        Err(why) => {
            return vec![Finding::bad(
                "nodes",
                why.to_string(),
                "see flannelctl status",
            )];
        }
    };
    let tried = peers.peers.iter().take(arguments.peers);
    let mut findings: Vec<Finding> = tried
        .map(|peer| {
            path(arguments, peer).unwrap_or_else(|why| {
                Finding::bad("path", why.to_string(), "see flannelctl status")
            })
        })
        .collect();
    findings.extend(clock::findings(&peers.peers, arguments.peers));
    let left = peers.peers.len().saturating_sub(arguments.peers);
    if left > 0 {
        findings.push(Finding::good(
            "nodes",
            format!("{left} more were not tried; --peers tries more"),
        ));
    }
    if peers.peers.is_empty() {
        findings.push(Finding::doubtful(
            "nodes",
            "no other node is known",
            "if there are others: do they use this store and this prefix?",
        ));
    }
    findings
}

fn path(arguments: &Doctor, peer: &Peer) -> Result<Finding, Unanswered> {
    match (Way::to(peer), inside(peer)) {
        (Way::Engine, Some(target)) => tunnel(arguments, peer, target),
        (way, target) => Ok(by_the_kernel(peer, way, target)),
    }
}

/// A short packet first, then the largest: what only the large one loses is the size.
fn tunnel(arguments: &Doctor, peer: &Peer, target: IpAddr) -> Result<Finding, Unanswered> {
    const CHECK: &str = "path";
    let address = peer.address;
    let socket = &arguments.asking.socket;
    let short = trip(socket, peer, target, None)?;
    if let Some(loss) = short.loss(peer, || echo(address, None)) {
        let found = format!(
            "{address} is not reached through the tunnel: lost at {}",
            loss.hop
        );
        return Ok(Finding::bad(CHECK, found, loss.words));
    }
    let size = peer.mtu;
    let long = trip(socket, peer, target, size)?;
    let size = size.unwrap_or_default();
    if long.echo == Echo::Answered {
        let found =
            format!("{address} is reached through the tunnel, also by packets of {size} bytes");
        return Ok(Finding::good(CHECK, found));
    }
    let most = largest(size, |size| {
        trip(socket, peer, target, Some(size)).is_ok_and(|trip| trip.echo == Echo::Answered)
    });
    Ok(Finding::bad(
        "mtu",
        format!(
            "{address} is reached by packets of {most} bytes, but not of {size}, which containers may send"
        ),
        format!(
            "something on the way carries less than this host's interface: lower the interface's MTU by {}, or set \"MTU\" in the config, and start containers anew",
            size - most
        ),
    ))
}

/// The largest size that passes, below one that does not.
fn largest(fails: u32, passes: impl Fn(u32) -> bool) -> u32 {
    const SMALL: u32 = 100;
    let (mut good, mut bad) = (SMALL, fails);
    while bad - good > 1 && good < bad {
        let middle = good.midpoint(bad);
        match passes(middle) {
            true => good = middle,
            false => bad = middle,
        }
    }
    good
}

/// Packets that the kernel carries, and that nobody counts. At the end of a plain route only the node itself answers.
fn by_the_kernel(peer: &Peer, way: Way, inside: Option<IpAddr>) -> Finding {
    const CHECK: &str = "path";
    let address = peer.address;
    match (echo(inside.unwrap_or(address), None), inside) {
        (Echo::Answered, Some(_)) => Finding::good(CHECK, format!("{address} is reached {way}")),
        (Echo::Answered, None) => Finding::good(
            CHECK,
            format!("{address} answers; packets to its subnets get there {way}"),
        ),
        (other, _) => Finding::bad(
            CHECK,
            format!("{address} is not reached {way}: {other}"),
            "is the node up, is there a way to it, and do firewalls let these packets pass?",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_size_that_passes_is_found() {
        for most in [100, 101, 1280, 1399, 1449] {
            assert_eq!(largest(1450, |size| size <= most), most);
        }
    }
}

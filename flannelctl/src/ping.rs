//! `flannelctl ping`: a packet to another node through the daemon, naming the hop that fails.

use crate::args::Ping;
use crate::ask::{document, failed, json};
use crate::echo::{Echo, echo};
use crate::exit::Exit;
use crate::trip::{Loss, inside, trip};
use console::answers::{Peer, Peers, SCHEMA};
use console::client::Unanswered;
use console::protocol::Question;
use std::net::IpAddr;

/// Sends the packets and says how they fared.
pub(crate) fn run(arguments: &Ping) -> Exit {
    let peers: Peers = match document(&arguments.asking.socket, Question::Peers) {
        Ok(peers) => peers,
        Err(why) => return failed(&why, &arguments.asking),
    };
    let Some((peer, target)) = aim(&peers.peers, arguments.peer) else {
        return told(arguments, None, &unknown(arguments.peer));
    };
    match pings(arguments, peer, target) {
        Ok(loss) => told(arguments, Some(target), &loss),
        Err(why) => failed(&why, &arguments.asking),
    }
}

/// The node an address is of or behind, and where to send.
fn aim(peers: &[Peer], typed: IpAddr) -> Option<(&Peer, IpAddr)> {
    let node = peers.iter().find(|peer| peer.address == typed);
    let node = node.map(|peer| (peer, inside(peer).unwrap_or(typed)));
    let behind = |peer: &&Peer| peer.subnets.iter().any(|subnet| subnet.contains(&typed));
    node.or_else(|| peers.iter().find(behind).map(|peer| (peer, typed)))
}

fn unknown(typed: IpAddr) -> Option<Loss> {
    Some(Loss {
        hop: "the table here".to_owned(),
        words: format!(
            "{typed} is neither a node nor behind one: flannelctl peers lists them; is its lease in the store?"
        ),
    })
}

/// The first loss, if there is one.
fn pings(arguments: &Ping, peer: &Peer, target: IpAddr) -> Result<Option<Loss>, Unanswered> {
    for _ in 0..arguments.count {
        if peer.traffic.is_none() || peer.form == "plain" {
            let echo = echo(target, arguments.size);
            return Ok(by_the_kernel(&echo));
        }
        let trip = trip(&arguments.asking.socket, peer, target, arguments.size)?;
        let loss = trip.loss(peer, || echo(peer.address, None));
        if loss.is_some() {
            return Ok(loss);
        }
    }
    Ok(None)
}

/// Packets that the engine does not see.
fn by_the_kernel(echo: &Echo) -> Option<Loss> {
    (*echo != Echo::Answered).then(|| Loss {
        hop: "somewhere: the kernel carries these packets, and does not count them".to_owned(),
        words: format!("{echo:?}: look at routes, neighbours and firewall towards the node"),
    })
}

fn told(arguments: &Ping, target: Option<IpAddr>, loss: &Option<Loss>) -> Exit {
    let peer = arguments.peer;
    if arguments.asking.json {
        let document = serde_json::json!({
            "schema": SCHEMA, "peer": peer, "target": target, "reached": loss.is_none(),
            "hop": loss.as_ref().map(|loss| &loss.hop),
            "message": loss.as_ref().map(|loss| &loss.words),
        });
        println!("{}", json(&document));
    } else {
        match (loss, target) {
            (Some(Loss { hop, words }), _) => {
                println!("{peer} is not reached. Lost at: {hop}. {words}")
            }
            (None, Some(target)) => println!("{peer} is reached through the tunnel, as {target}"),
            (None, None) => {}
        }
    }
    match loss {
        Some(_) => Exit::Failed,
        None => Exit::Well,
    }
}

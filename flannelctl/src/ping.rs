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

/// How the packets fared.
struct Outcome {
    sent: u32,
    answered: u32,
    /// The last loss, if there was one.
    loss: Option<Loss>,
}

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
        Ok(outcome) => told(arguments, Some(target), &outcome),
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

fn unknown(typed: IpAddr) -> Outcome {
    let words = format!(
        "{typed} is neither a node nor behind one: flannelctl peers lists them; is its lease in the store?"
    );
    let hop = "the table here".to_owned();
    Outcome {
        sent: 0,
        answered: 0,
        loss: Some(Loss { hop, words }),
    }
}

/// Sends all of them, one after the other.
fn pings(arguments: &Ping, peer: &Peer, target: IpAddr) -> Result<Outcome, Unanswered> {
    let mut outcome = Outcome {
        sent: arguments.count,
        answered: 0,
        loss: None,
    };
    for _ in 0..arguments.count {
        match ping(arguments, peer, target)? {
            None => outcome.answered += 1,
            lost => outcome.loss = lost,
        }
    }
    Ok(outcome)
}

fn ping(arguments: &Ping, peer: &Peer, target: IpAddr) -> Result<Option<Loss>, Unanswered> {
    if peer.traffic.is_none() || peer.form == "plain" {
        return Ok(by_the_kernel(&echo(target, arguments.size)));
    }
    let trip = trip(&arguments.asking.socket, peer, target, arguments.size)?;
    Ok(trip.loss(peer, || echo(peer.address, None)))
}

/// Packets that the engine does not see.
fn by_the_kernel(echo: &Echo) -> Option<Loss> {
    (*echo != Echo::Answered).then(|| Loss {
        hop: "somewhere: the kernel carries these packets, and does not count them".to_owned(),
        words: format!("{echo:?}: look at routes, neighbours and firewall towards the node"),
    })
}

fn told(arguments: &Ping, target: Option<IpAddr>, outcome: &Outcome) -> Exit {
    let peer = arguments.peer;
    let Outcome {
        sent,
        answered,
        loss,
    } = outcome;
    if arguments.asking.json {
        let document = serde_json::json!({
            "schema": SCHEMA, "peer": peer, "target": target, "reached": loss.is_none(),
            "sent": sent, "answered": answered,
            "hop": loss.as_ref().map(|loss| &loss.hop),
            "message": loss.as_ref().map(|loss| &loss.words),
        });
        println!("{}", json(&document));
    } else {
        match (loss, target) {
            (Some(Loss { hop, words }), _) if *answered == 0 => {
                println!("{peer} is not reached. Lost at: {hop}. {words}")
            }
            (Some(Loss { hop, words }), _) => {
                let lost = sent - answered;
                println!("{lost} of {sent} packets to {peer} got lost, the last at: {hop}. {words}")
            }
            (None, Some(target)) => {
                println!(
                    "{peer} is reached through the tunnel, as {target}: {sent} of {sent} packets came back"
                )
            }
            (None, None) => {}
        }
    }
    match loss {
        Some(_) => Exit::Failed,
        None => Exit::Well,
    }
}

//! `flannelctl ping`: packets to another node the way those of containers go, naming the hop that fails.

use crate::args::Ping;
use crate::ask::words::list;
use crate::ask::{document, failed, json};
use crate::echo::{Echo, echo};
use crate::exit::Exit;
use crate::trip::{Loss, Way, inside, trip};
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
    let Some(aim) = aim(&peers.peers, arguments.peer) else {
        return told(arguments, None, &unknown(arguments.peer));
    };
    match pings(arguments, aim) {
        Ok(outcome) => told(arguments, Some(aim), &outcome),
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
fn pings(arguments: &Ping, (peer, target): (&Peer, IpAddr)) -> Result<Outcome, Unanswered> {
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
    if Way::to(peer) != Way::Engine {
        return Ok(by_the_kernel(&echo(target, arguments.size)));
    }
    let trip = trip(&arguments.asking.socket, peer, target, arguments.size)?;
    Ok(trip.loss(peer, || echo(peer.address, None)))
}

/// Packets that the engine does not see.
fn by_the_kernel(echo: &Echo) -> Option<Loss> {
    (*echo != Echo::Answered).then(|| Loss {
        hop: "somewhere: the kernel carries these packets, and does not count them".to_owned(),
        words: format!("{echo}: look at routes, neighbours and firewall towards the node"),
    })
}

fn told(arguments: &Ping, aim: Option<(&Peer, IpAddr)>, outcome: &Outcome) -> Exit {
    match arguments.asking.json {
        true => println!("{}", json(&answer(arguments.peer, aim, outcome))),
        false => println!("{}", page(arguments.peer, aim, outcome)),
    }
    match outcome.loss {
        Some(_) => Exit::Failed,
        None => Exit::Well,
    }
}

fn answer(typed: IpAddr, aim: Option<(&Peer, IpAddr)>, outcome: &Outcome) -> serde_json::Value {
    let loss = outcome.loss.as_ref();
    serde_json::json!({
        "schema": SCHEMA,
        "peer": typed,
        "target": aim.map(|(_, target)| target),
        "way": aim.map(|(peer, _)| Way::to(peer)),
        "reached": loss.is_none(),
        "sent": outcome.sent,
        "answered": outcome.answered,
        "hop": loss.map(|loss| &loss.hop),
        "message": loss.map(|loss| &loss.words),
    })
}

fn page(typed: IpAddr, aim: Option<(&Peer, IpAddr)>, outcome: &Outcome) -> String {
    let Outcome { sent, answered, .. } = outcome;
    match (&outcome.loss, aim) {
        (Some(Loss { hop, words }), _) if *answered == 0 => {
            format!("{typed} is not reached. Lost at: {hop}\n  {words}")
        }
        (Some(Loss { hop, words }), _) => {
            let lost = sent - answered;
            format!("{lost} of {sent} packets to {typed} got lost, the last at: {hop}\n  {words}")
        }
        (None, Some((peer, target))) => {
            let reached = reached(typed, peer, target);
            format!("{reached}; {sent} of {sent} packets came back")
        }
        (None, None) => String::new(),
    }
}

/// What an answer shows: of a node that is reached by a plain route nobody answers for its subnet.
fn reached(typed: IpAddr, peer: &Peer, target: IpAddr) -> String {
    let way = Way::to(peer);
    match way {
        Way::Plain if target == peer.address => format!(
            "the node {typed} itself is reached; packets to {} get there {way}, which pinging an address there tries",
            list(&peer.subnets)
        ),
        Way::Plain => format!("{typed} is reached {way}"),
        Way::Engine | Way::Kernel => format!("{typed} is reached {way}, as {target}"),
    }
}

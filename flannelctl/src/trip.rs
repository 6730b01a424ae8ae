//! A packet to another node through the daemon and back, watched by the daemon's own counters: where it got lost is
//! where it was counted last.

use crate::ask::document;
use crate::echo::{Echo, echo};
use console::answers::{Drops, Peer, Peers, Traffic};
use console::client::Unanswered;
use console::protocol::Question;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// Who carries packets to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// The daemon's engine, through the tunnel.
    Engine,
    /// The kernel, through a tunnel of its own.
    Kernel,
    /// The kernel, unwrapped.
    Plain,
}

impl Way {
    /// The way to a node.
    pub(crate) fn to(peer: &Peer) -> Self {
        match (peer.form.as_str(), peer.traffic) {
            ("plain", _) => Self::Plain,
            (_, None) => Self::Kernel,
            (_, Some(_)) => Self::Engine,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Engine => "through the tunnel",
            Self::Kernel => "through the kernel's tunnel",
            Self::Plain => "by a plain route, without the tunnel",
        })
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trip {
    /// What came back.
    pub(crate) echo: Echo,
    /// How much the counters of the peer have grown meanwhile.
    pub(crate) traffic: Traffic,
    /// Reasons to drop that were counted meanwhile.
    pub(crate) drops: Vec<String>,
}

/// Where a packet got lost, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// The hop that did not pass it on.
    pub(crate) hop: String,
    /// What is known about it, and the cure.
    pub(crate) words: String,
}

/// The counters at one moment.
struct Counts {
    traffic: Traffic,
    drops: Drops,
}

/// The address of a node inside the overlay network: its end of the tunnel, which answers for itself.
pub(crate) fn inside(peer: &Peer) -> Option<IpAddr> {
    let subnet = peer.subnets.first();
    let subnet = subnet.filter(|_| Way::to(peer) != Way::Plain);
    subnet.map(|subnet| subnet.network())
}

/// Sends one packet of a size to an address behind a node.
pub(crate) fn trip(
    socket: &Path,
    peer: &Peer,
    target: IpAddr,
    size: Option<u32>,
) -> Result<Trip, Unanswered> {
    let before = counts(socket, peer.address)?;
    let echo = echo(target, size);
    let after = counts(socket, peer.address)?;
    let grown =
        |which: fn(&Traffic) -> u64| which(&after.traffic).saturating_sub(which(&before.traffic));
    Ok(Trip {
        echo,
        traffic: Traffic {
            sent_packets: grown(|one| one.sent_packets),
            sent_bytes: grown(|one| one.sent_bytes),
            unsent_packets: grown(|one| one.unsent_packets),
            received_packets: grown(|one| one.received_packets),
            received_bytes: grown(|one| one.received_bytes),
            dropped_packets: grown(|one| one.dropped_packets),
            path_mtu: after.traffic.path_mtu,
            seen_seconds_ago: after.traffic.seen_seconds_ago,
        },
        drops: more(&before.drops, &after.drops),
    })
}

fn counts(socket: &Path, address: IpAddr) -> Result<Counts, Unanswered> {
    let peers: Peers = document(socket, Question::Peers)?;
    let peer = peers.peers.into_iter().find(|peer| peer.address == address);
    Ok(Counts {
        traffic: peer.and_then(|peer| peer.traffic).unwrap_or_default(),
        drops: document(socket, Question::Drops)?,
    })
}

fn more(before: &Drops, after: &Drops) -> Vec<String> {
    let earlier = |reason: &str| {
        let found = before.reasons.iter().find(|one| one.reason == reason);
        found.map_or(0, |one| one.packets)
    };
    let grown = after.reasons.iter();
    let grown = grown.filter(|one| one.packets > earlier(&one.reason));
    grown.map(|one| one.reason.clone()).collect()
}

impl Trip {
    /// Where the packet got lost, if it did; `underlay` sends one outside the tunnel.
    pub(crate) fn loss(&self, peer: &Peer, underlay: impl Fn() -> Echo) -> Option<Loss> {
        let refused = |side: &str| self.drops.iter().any(|reason| reason.starts_with(side));
        let loss = |hop: &str, words: String| {
            Some(Loss {
                hop: hop.to_owned(),
                words,
            })
        };
        match &self.echo {
            Echo::Answered => None,
            Echo::Impossible(why) => loss("this program", why.clone()),
            Echo::TooLong(most) => loss("the path", too_long(*most)),
            _ if refused("out_") => loss("the packet engine here, outward", dropped(&self.drops)),
            _ if self.traffic.unsent_packets > 0 => loss(
                "the underlay here",
                "the kernel would not send the datagram: look at the route and firewall towards the node".to_owned(),
            ),
            _ if self.traffic.sent_packets == 0 => loss(
                "the kernel here",
                "the packet never reached the packet engine: look at routes (ip route get) and firewall (OUTPUT)".to_owned(),
            ),
            _ if refused("in_") => loss("the packet engine here, inward", dropped(&self.drops)),
            _ if self.traffic.received_packets > 0 => loss(
                "the kernel here",
                "an answer came back through the engine, and the kernel did not take it: look at the firewall (INPUT) and rp_filter".to_owned(),
            ),
            _ => Some(beyond(peer, &underlay())),
        }
    }
}

fn too_long(most: Option<u32>) -> String {
    let most = most.map_or_else(String::new, |most| format!("only {most} bytes pass; "));
    format!(
        "{most}give the tunnel a smaller MTU, by the interface's or the config's \"MTU\", and containers too"
    )
}

fn dropped(drops: &[String]) -> String {
    format!(
        "it was dropped: {}; flannelctl drops shows an example",
        drops.join(", ")
    )
}

/// The packet has left this host and nothing has come back.
fn beyond(peer: &Peer, underlay: &Echo) -> Loss {
    let (address, form) = (peer.address, &peer.form);
    match underlay {
        Echo::Answered => Loss {
            hop: format!("the node {address}, or a firewall before it"),
            words: format!(
                "the node answers outside the tunnel, but nothing comes back through it: is flanneld running there, does it hold this node's lease, and do firewalls let UDP of the {form} form pass both ways?"
            ),
        },
        _ => Loss {
            hop: "the underlay".to_owned(),
            words: format!(
                "the node {address} does not answer outside the tunnel either: is it up, and is there a way to it?"
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer {
            address: "192.168.77.2".parse().unwrap(),
            subnets: vec!["10.5.2.0/24".parse().unwrap()],
            form: "udp".to_owned(),
            mac: None,
            mtu: None,
            traffic: None,
        }
    }

    fn lost(echo: Echo, [sent, unsent, received]: [u64; 3], drops: &[&str], far: Echo) -> String {
        let trip = Trip {
            echo,
            traffic: Traffic {
                sent_packets: sent,
                unsent_packets: unsent,
                received_packets: received,
                ..Traffic::default()
            },
            drops: drops.iter().map(|&reason| reason.to_owned()).collect(),
        };
        let loss = trip.loss(&peer(), || far.clone());
        loss.map_or_else(|| "none".to_owned(), |loss| loss.hop)
    }

    #[test]
    fn who_carries_packets_to_a_node_is_told_by_its_form_and_whether_they_are_counted() {
        let (kernel, traffic) = (peer(), Some(Traffic::default()));
        let engine = Peer { traffic, ..peer() };
        let plain = Peer {
            form: "plain".to_owned(),
            traffic,
            ..peer()
        };
        assert_eq!(
            [&engine, &kernel, &plain].map(Way::to),
            [Way::Engine, Way::Kernel, Way::Plain]
        );
        assert!(inside(&kernel).is_some() && inside(&plain).is_none());
    }

    #[test]
    fn a_packet_got_lost_after_it_was_counted_last() {
        use Echo::{Answered, Silence, TooLong};
        let cases = [
            (lost(Answered, [1, 0, 1], &[], Silence), "none"),
            (lost(TooLong(None), [0, 0, 0], &[], Silence), "the path"),
            (lost(Silence, [0, 0, 0], &[], Answered), "the kernel here"),
            (
                lost(Silence, [0, 0, 0], &["out_too_big"], Answered),
                "the packet engine here, outward",
            ),
            (lost(Silence, [0, 1, 0], &[], Answered), "the underlay here"),
            (
                lost(Silence, [1, 0, 1], &["in_not_ours"], Answered),
                "the packet engine here, inward",
            ),
            (lost(Silence, [1, 0, 1], &[], Answered), "the kernel here"),
            (
                lost(Silence, [1, 0, 0], &[], Answered),
                "the node 192.168.77.2, or a firewall before it",
            ),
            (lost(Silence, [1, 0, 0], &[], Silence), "the underlay"),
        ];
        for (found, hop) in cases {
            assert_eq!(found, hop);
        }
    }
}

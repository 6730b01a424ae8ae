//! Two looks at the daemon, and what went on between them. Pure.

use console::answers::{Drops, Peers, Spread, Stats, Status};
use std::net::IpAddr;
use std::time::Duration;

/// Everything asked at one moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Since the program started.
    pub(super) at: Duration,
    pub(super) status: Status,
    pub(super) stats: Stats,
    pub(super) peers: Peers,
    pub(super) drops: Drops,
}

/// Packets and bits a second, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Flow {
    pub(super) out_packets: f64,
    pub(super) out_bits: f64,
    pub(super) in_packets: f64,
    pub(super) in_bits: f64,
}

/// What one worker does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Worker {
    pub(super) flow: Flow,
    /// Packets a message sent.
    pub(super) a_send: f64,
    /// Packets a write to the device.
    pub(super) a_write: f64,
    pub(super) sleeps: f64,
}

/// What one peer sends and gets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    pub(super) form: String,
    pub(super) flow: Flow,
    pub(super) seen: Option<u64>,
}

/// What went on between two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) total: Flow,
    pub(super) workers: Vec<Worker>,
    pub(super) peers: Vec<Peer>,
    /// Reason, packets a second, packets in all.
    pub(super) drops: Vec<(String, f64, u64)>,
    /// Name, median and 99th percentile of what is told as a distribution.
    pub(super) spreads: Vec<(String, Option<u64>, Option<u64>)>,
}

impl Rates {
    /// From one look to a later one.
    pub(super) fn between(before: &Look, after: &Look) -> Self {
        let seconds = (after.at.saturating_sub(before.at))
            .as_secs_f64()
            .max(0.001);
        let workers = workers(before, after, seconds);
        let sum = |which: fn(&Flow) -> f64| workers.iter().map(|one| which(&one.flow)).sum();
        Self {
            total: Flow {
                out_packets: sum(|flow| flow.out_packets),
                out_bits: sum(|flow| flow.out_bits),
                in_packets: sum(|flow| flow.in_packets),
                in_bits: sum(|flow| flow.in_bits),
            },
            workers,
            peers: peers(before, after, seconds),
            drops: drops(before, after, seconds),
            spreads: spreads(before, after),
        }
    }
}

fn workers(before: &Look, after: &Look, seconds: f64) -> Vec<Worker> {
    let value = |look: &Look, name: &str, worker: usize| {
        let found = look.stats.counters.iter().find(|count| count.name == name);
        let value = found.and_then(|count| count.workers.get(worker).copied());
        value.unwrap_or(0)
    };
    let count = after.stats.counters.first();
    let count = count.map_or(0, |count| count.workers.len());
    let worker = |worker| {
        // A daemon that was started anew counts from zero.
        let more = |name| {
            let grown = value(after, name, worker).saturating_sub(value(before, name, worker));
            grown as f64 / seconds
        };
        let flow = Flow {
            out_packets: more("to_underlay_packets"),
            out_bits: more("to_underlay_bytes") * 8.0,
            in_packets: more("to_tun_packets"),
            in_bits: more("to_tun_bytes") * 8.0,
        };
        Worker {
            a_send: part(flow.out_packets, more("underlay_sends")),
            a_write: part(flow.in_packets, more("tun_writes")),
            sleeps: more("sleeps"),
            flow,
        }
    };
    (0..count).map(worker).collect()
}

fn part(packets: f64, messages: f64) -> f64 {
    if messages > 0.0 {
        packets / messages
    } else {
        0.0
    }
}

fn peers(before: &Look, after: &Look, seconds: f64) -> Vec<Peer> {
    let earlier = |address| {
        let found = before
            .peers
            .peers
            .iter()
            .find(|peer| peer.address == address);
        found.and_then(|peer| peer.traffic).unwrap_or_default()
    };
    let peer = |peer: &console::answers::Peer| {
        let (now, then) = (peer.traffic.unwrap_or_default(), earlier(peer.address));
        let more = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Peer {
            address: peer.address,
            form: peer.form.clone(),
            flow: Flow {
                out_packets: more(now.sent_packets, then.sent_packets),
                out_bits: more(now.sent_bytes, then.sent_bytes) * 8.0,
                in_packets: more(now.received_packets, then.received_packets),
                in_bits: more(now.received_bytes, then.received_bytes) * 8.0,
            },
            seen: now.seen_seconds_ago,
        }
    };
    after.peers.peers.iter().map(peer).collect()
}

fn drops(before: &Look, after: &Look, seconds: f64) -> Vec<(String, f64, u64)> {
    let earlier = |reason: &str| {
        let found = before
            .drops
            .reasons
            .iter()
            .find(|drop| drop.reason == reason);
        found.map_or(0, |drop| drop.packets)
    };
    let occurred = after.drops.reasons.iter().filter(|drop| drop.packets > 0);
    let rate = |drop: &console::answers::Drop| {
        let more = drop.packets.saturating_sub(earlier(&drop.reason));
        (drop.reason.clone(), more as f64 / seconds, drop.packets)
    };
    let mut drops: Vec<_> = occurred.map(rate).collect();
    drops.sort_by(|one, other| other.1.total_cmp(&one.1).then(other.2.cmp(&one.2)));
    drops
}

fn spreads(before: &Look, after: &Look) -> Vec<(String, Option<u64>, Option<u64>)> {
    let told = |spread: &Spread| {
        let earlier = before
            .stats
            .spreads
            .iter()
            .find(|one| one.name == spread.name);
        let count = |index: usize| {
            let then = earlier
                .and_then(|one| one.buckets.get(index))
                .map_or(0, |one| one.count);
            spread.buckets[index].count.saturating_sub(then)
        };
        let counts: Vec<u64> = (0..spread.buckets.len()).map(count).collect();
        let at = |share: f64| {
            let wanted = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
            let mut below = 0;
            let index = counts.iter().position(|count| {
                below += count;
                below >= wanted && wanted > 0
            });
            spread.buckets.get(index?)?.most
        };
        (spread.name.clone(), at(0.5), at(0.99))
    };
    after.stats.spreads.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn look(seconds: u64, sent: u64, dropped: u64, batches: [u64; 2]) -> Look {
        let count = |name: &str, value: u64| json!({"name": name, "about": "", "total": value, "workers": [value]});
        let status = json!({
            "schema": 1, "version": "0", "pid": 1, "uptime_seconds": seconds, "healthy": true,
            "problems": [], "silent_seconds": 0,
            "store": {"kind": "etcd", "places": [], "answers": true, "since_seconds": 0}
        });
        let stats = json!({
            "schema": 1, "uptime_seconds": seconds,
            "counters": [
                count("to_underlay_packets", sent), count("to_underlay_bytes", sent * 100),
                count("underlay_sends", sent / 10)
            ],
            "spreads": [{
                "name": "batch", "about": "", "sum": 0,
                "buckets": [{"most": 1, "count": batches[0]}, {"most": null, "count": batches[1]}]
            }]
        });
        let traffic = json!({
            "sent_packets": sent, "sent_bytes": sent * 100, "unsent_packets": 0,
            "received_packets": 0, "received_bytes": 0, "seen_seconds_ago": 3
        });
        let peers = json!({"schema": 1, "peers": [
            {"address": "192.168.77.2", "subnets": [], "form": "udp", "traffic": traffic}
        ]});
        let drops = json!({"schema": 1, "uptime_seconds": seconds, "reasons": [
            {"reason": "out_no_route", "about": "", "packets": dropped},
            {"reason": "out_too_big", "about": "", "packets": 0}
        ]});
        Look {
            at: Duration::from_secs(seconds),
            status: serde_json::from_value(status).unwrap(),
            stats: serde_json::from_value(stats).unwrap(),
            peers: serde_json::from_value(peers).unwrap(),
            drops: serde_json::from_value(drops).unwrap(),
        }
    }

    #[test]
    fn what_went_on_between_two_looks_is_told_by_the_second() {
        let (before, after) = (look(10, 1000, 4, [5, 0]), look(12, 3000, 10, [6, 3]));
        let rates = Rates::between(&before, &after);
        assert_eq!(rates.total.out_packets, 1000.0);
        assert_eq!(rates.total.out_bits, 800_000.0);
        assert_eq!(rates.workers[0].a_send, 10.0);
        assert_eq!(rates.peers[0].flow.out_packets, 1000.0);
        assert_eq!(rates.peers[0].seen, Some(3));
        assert_eq!(rates.drops, [("out_no_route".to_owned(), 3.0, 10)]);
        assert_eq!(rates.spreads, [("batch".to_owned(), None, None)]);
    }

    #[test]
    fn a_daemon_that_was_started_anew_counts_from_zero() {
        let rates = Rates::between(&look(10, 1000, 4, [5, 0]), &look(11, 7, 0, [1, 0]));
        assert_eq!(rates.total, Flow::default());
        assert_eq!(rates.spreads[0].1, None);
    }
}

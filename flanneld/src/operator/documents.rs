//! The answers, filled in from what is on the board and what the engine has counted.

use super::board::{LeaseNote, Note, Notes};
use super::{Sources, Way, header};
use console::answers::{
    Bucket, Count, Drop, Dropped, DroppedPacket, Drops, Engine, Example, Lease, Peer, Peers, Route,
    Routes, SCHEMA, Spread, Stats, Status, Store, Traffic,
};
use console::protocol::Question;
use control::clock::since_boot;
use control::health::LIFE;
use control::sink::PeerForm;
use engine::{Counter, Counters, DropReason, Measure, Recent};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

impl Sources {
    pub(super) fn status(&self) -> Status {
        let (now, notes) = (since_boot(), self.board.read());
        let mut problems = problems(&notes, now);
        problems.extend(self.store_problem(&notes, now));
        Status {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: ago(self.started, now),
            healthy: problems.is_empty(),
            problems,
            silent_seconds: ago(notes.turned, now),
            store: self.store(&notes, now),
            node: notes.daemon.as_ref().map(|daemon| daemon.node.clone()),
            network: notes.daemon.as_ref().map(|daemon| daemon.network.clone()),
            lease: notes
                .daemon
                .as_ref()
                .map(|daemon| lease(&daemon.lease, now)),
            others: notes.daemon.as_ref().map(|daemon| daemon.others),
            engine: self.engine(notes.daemon.as_ref()),
            waiting_for: notes.waiting_for,
        }
    }

    pub(super) fn lease(&self) -> Result<Lease, String> {
        let notes = self.board.read();
        let held = notes
            .daemon
            .map(|daemon| lease(&daemon.lease, since_boot()));
        held.ok_or_else(|| {
            let fault = notes.waiting_for.unwrap_or_default();
            format!("there is no lease yet. {fault}")
        })
    }

    pub(super) fn peers(&self) -> Result<Peers, String> {
        let daemon = self.board.read().daemon;
        let engine = self.account.engine();
        let table = engine.as_ref().map(|engine| engine.table());
        let mtu = |(peer, plain): &Way| {
            let hop = table
                .as_ref()
                .and_then(|table| table.route(peer.subnet.network()));
            let narrow = hop.and_then(|hop| hop.mtu).map(u32::from);
            let usual = daemon.as_ref().map(|daemon| match plain {
                true => daemon.node.mtu,
                false => daemon.network.mtu,
            });
            narrow.filter(|_| !plain).or(usual)
        };
        let traffic = |address| {
            let counted = table.as_ref()?.traffic(address)?;
            Some(told(&counted, engine.as_ref()?.age()))
        };
        let mut peers: BTreeMap<IpAddr, Peer> = BTreeMap::new();
        for way in self.ways()? {
            let known = peers.entry(way.0.endpoint);
            let peer = known.or_insert_with(|| peer(&way, mtu(&way), traffic(way.0.endpoint)));
            peer.subnets.push(way.0.subnet);
        }
        Ok(Peers {
            schema: SCHEMA,
            peers: peers.into_values().collect(),
        })
    }

    pub(super) fn routes(&self) -> Result<Routes, String> {
        let notes = self.board.read();
        let tunnel = self.account.engine().map_or_else(
            || "the kernel".to_owned(),
            |engine| engine.tun_name().to_owned(),
        );
        let interface = notes.daemon.map(|daemon| daemon.node.interface);
        let interface = interface.unwrap_or_default();
        let route = |way: Way| Route {
            subnet: way.0.subnet,
            peer: way.0.endpoint,
            form: form(&way).to_owned(),
            device: match way.1 {
                true => interface.clone(),
                false => tunnel.clone(),
            },
        };
        Ok(Routes {
            schema: SCHEMA,
            routes: self.ways()?.into_iter().map(route).collect(),
        })
    }

    pub(super) fn stats(&self) -> Stats {
        let total = self.account.counted();
        let engine = self.account.engine();
        let workers = engine.map(|engine| engine.worker_counters());
        let workers = workers.unwrap_or_default();
        let count = |name: &str, about: &str, value: &dyn Fn(&Counters) -> u64| Count {
            name: name.to_owned(),
            about: about.to_owned(),
            total: value(&total),
            workers: workers.iter().map(value).collect(),
        };
        let counters = Counter::ALL.iter().map(|&one| {
            let value = move |counters: &Counters| counters.get(one);
            count(one.name(), one.about(), &value)
        });
        let drops = DropReason::ALL.iter().map(|&one| {
            let value = move |counters: &Counters| counters.dropped(one);
            count(one.name(), one.about(), &value)
        });
        Stats {
            schema: SCHEMA,
            uptime_seconds: ago(self.started, since_boot()),
            counters: counters.chain(drops).collect(),
            spreads: Measure::ALL
                .iter()
                .map(|&one| spread(one, &total))
                .collect(),
        }
    }

    pub(super) fn drops(&self) -> Drops {
        let total = self.account.counted();
        let engine = self.account.engine();
        let reason = |&reason: &DropReason| Drop {
            reason: reason.name().to_owned(),
            about: reason.about().to_owned(),
            packets: total.dropped(reason),
            per_second: None,
            example: engine
                .as_ref()
                .and_then(|engine| engine.example(reason))
                .map(|packet| example(&packet)),
        };
        Drops {
            schema: SCHEMA,
            uptime_seconds: ago(self.started, since_boot()),
            reasons: DropReason::ALL.iter().map(reason).collect(),
        }
    }

    pub(super) fn dropped(&self) -> Dropped {
        let engine = self.account.engine();
        let recent = engine.map(|engine| engine.recent()).unwrap_or_default();
        let packet = |recent: Recent| DroppedPacket {
            worker: recent.worker,
            number: recent.number,
            reason: recent.reason.name().to_owned(),
            about: recent.reason.about().to_owned(),
            packet: example(&recent.packet),
        };
        Dropped {
            schema: SCHEMA,
            packets: recent.into_iter().map(packet).collect(),
        }
    }

    fn store(&self, notes: &Notes, now: Duration) -> Store {
        let (kind, places) = &self.store;
        let contact = notes.daemon.as_ref().map(|daemon| &daemon.contact);
        Store {
            kind: (*kind).to_owned(),
            places: places.clone(),
            answers: contact.is_some_and(|contact| contact.answers),
            since_seconds: ago(contact.map_or(self.started, |contact| contact.since), now),
            why: match contact {
                Some(contact) => contact.why.clone(),
                None => notes.waiting_for.clone(),
            },
        }
    }

    /// Packets need no store, but everything that changes does.
    fn store_problem(&self, notes: &Notes, now: Duration) -> Option<String> {
        let contact = &notes.daemon.as_ref()?.contact;
        let (kind, places) = &self.store;
        (!contact.answers).then(|| {
            format!(
                "{kind} at {} has not answered for {} s{}. Packets go on as they are, but nodes that come, go or move are not followed: see to it that it runs and is reachable from here",
                places.join(", "),
                ago(contact.since, now),
                contact.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
            )
        })
    }

    fn engine(&self, daemon: Option<&Note>) -> Option<Engine> {
        let engine = self.account.engine()?;
        let granted = engine.capabilities();
        Some(Engine {
            device: engine.tun_name().to_owned(),
            io: granted.io.to_string(),
            io_reason: granted.io_reason.clone(),
            workers: granted.workers,
            answers: daemon.is_none_or(|daemon| daemon.workers_answer),
            virtio_header: granted.vnet_header,
            tso: granted.tso,
            uso: granted.uso,
            gso_segments: granted.gso_segments,
            gro: granted.gro,
            merge: granted.merge,
            shortcut: engine.shortcut_at(),
        })
    }
}

/// The question whose answer lies at a path, as `/status.json`; what is in packets is root's alone.
pub(super) fn asked_for(path: &str) -> Option<Question> {
    let word = path.strip_prefix('/')?.strip_suffix(".json")?;
    let known = Question::ALL.into_iter().find(|one| one.word() == word);
    known.filter(|one| *one != Question::Dropped)
}

/// What is wrong, worst first.
fn problems(notes: &Notes, now: Duration) -> Vec<String> {
    let mut problems = Vec::new();
    let silent = now.saturating_sub(notes.turned);
    if silent > LIFE {
        problems.push(format!(
            "the control loop has not turned for {} s: it is stuck, restart the daemon",
            silent.as_secs()
        ));
    }
    match (&notes.waiting_for, &notes.daemon) {
        (Some(fault), _) => problems.push(format!("still starting: {fault}")),
        (None, Some(daemon)) => problems.extend(daemon.problems.iter().cloned()),
        (None, None) => problems.push("still starting".to_owned()),
    }
    problems
}

fn lease(note: &LeaseNote, now: Duration) -> Lease {
    let until = |end: Duration| end.saturating_sub(now).as_secs();
    Lease {
        schema: SCHEMA,
        subnets: note.subnets.clone(),
        standing: note.standing.to_owned(),
        reserved: note.reserved,
        age_seconds: ago(note.since, now),
        renewed_seconds_ago: note.renewed.map(|renewed| ago(renewed, now)),
        renewal_in_seconds: note.renewal.map(until),
        expires_in_seconds: note.end.map(until),
        record: note.record.clone(),
    }
}

fn spread(measure: Measure, total: &Counters) -> Spread {
    let values = total.distribution(measure);
    let buckets = values.buckets();
    Spread {
        name: measure.name().to_owned(),
        about: measure.about().to_owned(),
        sum: values.sum,
        buckets: buckets
            .map(|(most, count)| Bucket { most, count })
            .collect(),
    }
}

fn told(counted: &engine::Traffic, now: Duration) -> Traffic {
    Traffic {
        sent_packets: counted.sent_packets,
        sent_bytes: counted.sent_bytes,
        unsent_packets: counted.unsent_packets,
        received_packets: counted.received_packets,
        received_bytes: counted.received_bytes,
        dropped_packets: counted.dropped_packets,
        path_mtu: counted.path_mtu,
        seen_seconds_ago: counted.seen.map(|seen| ago(seen, now)),
    }
}

fn example(packet: &engine::Example) -> Example {
    Example {
        from: packet.source,
        summary: header::told(&packet.bytes),
        length: packet.length,
        bytes: packet
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    }
}

fn peer(way: &Way, mtu: Option<u32>, traffic: Option<Traffic>) -> Peer {
    Peer {
        address: way.0.endpoint,
        subnets: Vec::new(),
        form: form(way).to_owned(),
        mac: match way.0.form {
            PeerForm::Vxlan(mac) => Some(mac.to_string()),
            PeerForm::Udp | PeerForm::Plain => None,
        },
        mtu,
        traffic,
    }
}

fn form((peer, plain): &Way) -> &'static str {
    match peer.form {
        _ if *plain => "plain",
        PeerForm::Plain => "plain",
        PeerForm::Udp => "udp",
        PeerForm::Vxlan(_) => "vxlan",
    }
}

fn ago(then: Duration, now: Duration) -> u64 {
    now.saturating_sub(then).as_secs()
}

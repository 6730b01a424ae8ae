//! How the daemon fares, on one page.

use super::words::{count, list, switch, time};
use crate::exit::Exit;
use console::answers::{Engine, Lease, Network, Others, Status, Store};

/// The page.
pub(super) fn page(status: &Status) -> String {
    let mut lines = vec![verdict(status)];
    lines.extend(
        status
            .problems
            .iter()
            .map(|problem| format!("  - {problem}")),
    );
    let mut fact = |name: &str, told: String| lines.push(format!("{name:<9} {told}"));
    if let Some(held) = &status.lease {
        fact("lease", standing(held));
    }
    if let Some(network) = &status.network {
        fact("network", carried(network));
    }
    if let Some(node) = &status.node {
        let (interface, mtu) = (&node.interface, node.mtu);
        let public = list(&node.public);
        fact("node", format!("{public} on {interface}, MTU {mtu}"));
    }
    fact("store", store(&status.store));
    if let Some(others) = &status.others {
        fact(
            "others",
            format!(
                "{} reachable{}, {}, {} refused, {} unreadable",
                count(others.routes, "subnet"),
                by_form(others),
                count(others.records, "record"),
                others.refused,
                others.unreadable
            ),
        );
    }
    if let Some(engine) = &status.engine {
        let (device, io) = (&engine.device, &engine.io);
        let workers = count(engine.workers, "worker");
        let why = &engine.io_reason;
        fact("engine", format!("{device}, {workers}, {io} ({why})"));
        fact("offloads", offloads(engine));
    }
    let up = time(status.uptime_seconds);
    fact("process", format!("{}, up {up}", status.pid));
    lines.join("\n") + "\n"
}

/// Whether a script should worry.
pub(super) fn exit(status: &Status) -> Exit {
    if status.healthy {
        Exit::Well
    } else {
        Exit::Failed
    }
}

/// The lease on a page of its own.
pub(super) fn lease(lease: &Lease) -> String {
    format!("{}\nrecord    {}\n", standing(lease), lease.record)
}

fn verdict(status: &Status) -> String {
    let version = &status.version;
    match status.problems.len() {
        0 => format!("flanneld {version} is well"),
        1 => format!("flanneld {version} has a problem:"),
        count => format!("flanneld {version} has {count} problems:"),
    }
}

fn standing(lease: &Lease) -> String {
    let (subnets, standing) = (list(&lease.subnets), &lease.standing);
    let age = time(lease.age_seconds);
    let mut told = format!("{subnets}, {standing}, here for {age}");
    if lease.reserved {
        return told + ", reserved: it does not end";
    }
    let times = [
        ("renewed", lease.renewed_seconds_ago, " ago"),
        ("again in", lease.renewal_in_seconds, ""),
        ("would end in", lease.expires_in_seconds, ""),
    ];
    for (before, seconds, after) in times {
        if let Some(seconds) = seconds {
            told += &format!(", {before} {}{after}", time(seconds));
        }
    }
    told
}

fn carried(network: &Network) -> String {
    let Network {
        backend,
        carried_by,
        mtu,
        ..
    } = network;
    let ranges = list(&network.ranges);
    let direct = if network.direct_routing {
        ", neighbours directly"
    } else {
        ""
    };
    let beside = network.beside.as_ref();
    let beside = beside.map_or_else(String::new, |form| format!(" and {}", form.name));
    format!("{ranges}, {backend}{beside} by {carried_by}{direct}, MTU {mtu}")
}

/// Where both forms are in use.
fn by_form(others: &Others) -> String {
    match (others.udp, others.vxlan) {
        (udp @ 1.., vxlan @ 1..) => format!(" ({udp} in UDP form, {vxlan} in VXLAN form)"),
        _ => String::new(),
    }
}

fn store(store: &Store) -> String {
    let (kind, places, since) = (&store.kind, list(&store.places), time(store.since_seconds));
    let answers = if store.answers {
        "answers"
    } else {
        "does not answer"
    };
    format!("{kind} at {places}, {answers}, for {since}")
}

fn offloads(engine: &Engine) -> String {
    let shortcut = engine.shortcut.iter();
    let shortcut: String = shortcut
        .map(|device| format!(", shortcut at {device}"))
        .collect();
    format!(
        "virtio header {}, tso {}, uso {}, gso {}, gro {}, merge {}{shortcut}",
        switch(engine.virtio_header),
        switch(engine.tso),
        switch(engine.uso),
        engine.gso_segments,
        switch(engine.gro),
        switch(engine.merge)
    )
}

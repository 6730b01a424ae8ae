//! Tables of peers, routes and counters.

use super::table::Table;
use super::words::{list, or_dash, time};
use console::answers::{Peers, Routes, Stats, Traffic};

/// The nodes packets go to.
pub(super) fn peers(peers: &Peers) -> String {
    let mut table = Table::new(&[
        "NODE", "SUBNETS", "FORM", "MTU", "PATH", "SENT", "BYTES", "UNSENT", "RECEIVED", "BYTES",
        "DROPPED", "SEEN",
    ]);
    for peer in &peers.peers {
        let counted = |which: fn(&Traffic) -> u64| or_dash(peer.traffic.as_ref().map(which));
        table.row(vec![
            peer.address.to_string(),
            list(&peer.subnets),
            peer.form.clone(),
            or_dash(peer.mtu),
            or_dash(peer.traffic.and_then(|traffic| traffic.path_mtu)),
            counted(|traffic| traffic.sent_packets),
            counted(|traffic| traffic.sent_bytes),
            counted(|traffic| traffic.unsent_packets),
            counted(|traffic| traffic.received_packets),
            counted(|traffic| traffic.received_bytes),
            counted(|traffic| traffic.dropped_packets),
            seen(peer.traffic.as_ref()),
        ]);
    }
    table.render()
}

fn seen(traffic: Option<&Traffic>) -> String {
    let Some(traffic) = traffic else {
        return "-".to_owned();
    };
    match traffic.seen_seconds_ago {
        Some(seconds) => format!("{} ago", time(seconds)),
        None => "never".to_owned(),
    }
}

/// The subnets packets go to.
pub(super) fn routes(routes: &Routes) -> String {
    let mut table = Table::new(&["SUBNET", "NODE", "FORM", "THROUGH"]);
    for route in &routes.routes {
        table.row(vec![
            route.subnet.to_string(),
            route.peer.to_string(),
            route.form.clone(),
            route.device.clone(),
        ]);
    }
    table.render()
}

/// The counters that have counted something, each worker's beside the total where there are several.
pub(super) fn stats(stats: &Stats) -> String {
    let workers = stats.counters.first().map_or(0, |one| one.workers.len());
    let shown = if workers > 1 { workers } else { 0 };
    let names: Vec<String> = (0..shown)
        .map(|worker| format!("WORKER {worker}"))
        .collect();
    let mut heading = vec!["COUNTER", "TOTAL"];
    heading.extend(names.iter().map(String::as_str));
    heading.push("WHAT");
    let mut table = Table::new(&heading);
    for count in stats.counters.iter().filter(|count| count.total > 0) {
        let mut row = vec![count.name.clone(), count.total.to_string()];
        row.extend(count.workers.iter().take(shown).map(u64::to_string));
        row.push(count.about.clone());
        table.row(row);
    }
    match table.is_empty() {
        true => "nothing has been counted yet\n".to_owned(),
        false => table.render(),
    }
}

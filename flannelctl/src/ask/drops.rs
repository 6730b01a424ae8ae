//! What was not carried: reasons, counts, and how fast they grow.

use super::document;
use super::table::Table;
use super::words::{or_dash, time};
use console::answers::Drops;
use console::client::Unanswered;
use console::protocol::Question;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Asks twice, that much apart.
pub(super) fn with_rates(socket: &Path, interval: Duration) -> Result<Drops, Unanswered> {
    let (began, before): (_, Drops) = (Instant::now(), document(socket, Question::Drops)?);
    thread::sleep(interval);
    let mut after: Drops = document(socket, Question::Drops)?;
    let seconds = began.elapsed().as_secs_f64();
    for drop in &mut after.reasons {
        let earlier = before.reasons.iter().find(|one| one.reason == drop.reason);
        let more = drop
            .packets
            .saturating_sub(earlier.map_or(0, |one| one.packets));
        drop.per_second = Some((more as f64 / seconds * 10.0).round() / 10.0);
    }
    Ok(after)
}

/// The reasons that have occurred.
pub(super) fn page(drops: &Drops) -> String {
    let mut table = Table::new(&["REASON", "PACKETS", "PER SECOND", "MEANING"]);
    for drop in drops.reasons.iter().filter(|drop| drop.packets > 0) {
        table.row(vec![
            drop.reason.clone(),
            drop.packets.to_string(),
            or_dash(drop.per_second),
            drop.about.clone(),
        ]);
    }
    match table.is_empty() {
        true => format!("no packet was dropped in {}\n", time(drops.uptime_seconds)),
        false => table.render() + &examples(drops),
    }
}

/// A packet of each reason.
fn examples(drops: &Drops) -> String {
    let mut table = Table::new(&["EXAMPLE OF", "FROM", "LENGTH", "PACKET"]);
    for drop in &drops.reasons {
        let Some(example) = &drop.example else {
            continue;
        };
        let summary = example.summary.as_ref().unwrap_or(&example.bytes);
        table.row(vec![
            drop.reason.clone(),
            example
                .from
                .map_or_else(|| "this host".to_owned(), |from| from.to_string()),
            example.length.to_string(),
            summary.clone(),
        ]);
    }
    match table.is_empty() {
        true => String::new(),
        false => format!("\n{}", table.render()),
    }
}

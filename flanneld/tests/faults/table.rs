//! The table every run prints: one line per fault.

use std::io::Write;
use std::time::Duration;

use benches::traffic::probe::Outcome;

/// What a line begins with, for whoever collects them.
const MARK: &str = "fault";

/// Prints what a probe lost during a fault, and how long things took.
///
/// Past the harness, which keeps what tests that pass have printed.
pub(crate) fn report(fault: &str, probe: Option<&Outcome>, figures: &[(&str, String)]) {
    let traffic = probe.map_or_else(|| "- | - | -".to_owned(), shown);
    let figures: Vec<_> = figures
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let line = format!("{MARK} | {fault} | {traffic} | {}\n", figures.join(", "));
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

fn shown(outcome: &Outcome) -> String {
    format!(
        "{} | {} | {}",
        outcome.sent,
        outcome.lost,
        ms(outcome.longest_gap())
    )
}

/// A time as the table shows it.
pub(crate) fn ms(time: Duration) -> String {
    match time.as_secs_f64() * 1000.0 {
        short if short < 10.0 => format!("{short:.1} ms"),
        long => format!("{long:.0} ms"),
    }
}

/// Fails if any packet of a probe was lost.
pub(crate) fn assert_none_lost(outcome: &Outcome) {
    assert!(outcome.sent > 100, "the probe could not send: {outcome}");
    assert_eq!(outcome.lost, 0, "{outcome}");
}

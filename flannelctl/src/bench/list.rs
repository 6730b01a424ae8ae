//! Everything that can be measured, for `--list`.

use benches::Profile;
use benches::measure::METRICS;
use benches::paths::{KNOWN, OPTIONS};

/// Paths, profiles and metrics with their meanings.
pub(super) fn everything() -> String {
    let line = |(name, about): (&str, &str)| format!("  {name:<18}{about}\n");
    let paths: String = KNOWN
        .iter()
        .map(|path| line((path.name, path.about)))
        .collect();
    let options: String = OPTIONS.into_iter().map(line).collect();
    let profiles: String = Profile::ALL
        .iter()
        .map(|profile| line((profile.name(), profile.about())))
        .collect();
    let metrics: String = METRICS.into_iter().map(line).collect();
    format!(
        "Paths; the daemon's take its options, as in udp+io=epoll+spin=0:\n{paths}\n\
         Options of the lab's own, as in udp+inner=6:\n{options}\n\
         Profiles of the link between the nodes:\n{profiles}\n\
         Metrics; with -back the other side sends, as in tcp4-back:\n{metrics}"
    )
}

//! The sections of a report: which numbers stand together, and what they are called.

/// Numbers that are read together.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) note: &'static str,
    pub(super) holds: fn(&str) -> bool,
}

pub(super) const SECTIONS: [Section; 7] = [
    Section {
        title: "TCP throughput, Gbit/s",
        note: "",
        holds: |name| whole(name, "tcp"),
    },
    Section {
        title: "Processor time, seconds per gigabyte",
        note: "`all` is everything that was busy, traffic generators included; `daemons` is the part of what carries the packets.",
        holds: |name| name.starts_with("tcp") && name.contains('_') && !name.contains("-back"),
    },
    Section {
        title: "Packets, thousands per second",
        note: "`max`: the highest rate with at most 1 % lost; `flood`: what survives a sender without a brake; `pps`: in a closed loop.",
        holds: |name| {
            ["max", "flood", "pps"]
                .iter()
                .any(|family| whole(name, family))
        },
    },
    Section {
        title: "Round trip, µs",
        note: "",
        holds: |name| {
            let shown = ["_p50", "_p99", "_p999"]
                .iter()
                .any(|end| name.ends_with(end));
            name.starts_with("rr") && shown
        },
    },
    Section {
        title: "Memory of a daemon, MiB",
        note: "",
        holds: |name| name == "memory",
    },
    Section {
        title: "From start to first ping, ms",
        note: "Everything a node does: the daemon's start, its lease, its device, and the containers' addresses.",
        holds: |name| name == "start",
    },
    Section {
        title: "TCP throughput by iperf3, Gbit/s",
        note: "A second opinion on the generator.",
        holds: |name| whole(name, "iperf"),
    },
];

/// Whether `name` is a member of `family` and no detail of one.
fn whole(name: &str, family: &str) -> bool {
    name.starts_with(family) && !name.contains('_')
}

/// What a column or an axis calls a number: `tcp4-back` is "4 streams, back".
pub fn heading(name: &str) -> String {
    let (measurement, detail) = name.split_once('_').unwrap_or((name, ""));
    let (metric, back) = measurement
        .strip_suffix("-back")
        .map_or((measurement, ""), |metric| (metric, ", back"));
    let digits = metric.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
    let what = match &metric[..metric.len() - digits.len()] {
        "tcp" | "iperf" if digits == "1" => "1 stream".to_owned(),
        "tcp" | "iperf" => format!("{digits} streams"),
        family @ ("max" | "flood" | "pps") => format!("{family}, {digits} B"),
        "rr" => String::new(),
        "rrgap" => "with gaps".to_owned(),
        _ => metric.to_owned(),
    };
    let detail = match detail {
        "cpu" => "all".to_owned(),
        "p50" => "median".to_owned(),
        "p99" => "99 %".to_owned(),
        "p999" => "99.9 %".to_owned(),
        other => other.to_owned(),
    };
    let parts = [what + back, detail];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_called_by_what_they_hold() {
        let named = [
            ("tcp1", "1 stream"),
            ("tcp4-back", "4 streams, back"),
            ("tcp1_cpu", "1 stream, all"),
            ("max64", "max, 64 B"),
            ("rr_p999", "99.9 %"),
            ("rrgap_p50", "with gaps, median"),
            ("memory", "memory"),
        ];
        for (name, title) in named {
            assert_eq!(heading(name), title);
        }
    }

    #[test]
    fn no_number_stands_in_two_sections() {
        for name in [
            "tcp1",
            "tcp1_cpu",
            "tcp8-back",
            "max64",
            "rr_p50",
            "memory",
            "start",
        ] {
            let holding = SECTIONS.iter().filter(|section| (section.holds)(name));
            assert_eq!(holding.count(), 1, "{name}");
        }
    }
}

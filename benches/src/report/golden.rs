//! A report of made-up numbers, and the files that come of it, compared with those people have looked at.
//!
//! `UPDATE_GOLDEN=1 cargo test --package benches golden` writes the files anew; look at them before
//! committing.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Machine, Report};
use crate::measure::Reading;
use crate::plot;

/// Paths with their TCP rate, packet rate, round trip and processor time.
const PATHS: [(&str, [f64; 4]); 10] = [
    ("loopback", [61.0, 700.0, 9.0, 0.2]),
    ("plain", [5.1, 191.0, 43.0, 2.0]),
    ("kernel-vxlan", [6.84, 130.0, 63.7, 1.46]),
    ("one-packet", [0.96, 84.5, 91.7, 14.4]),
    ("udp", [6.6, 245.0, 48.9, 2.43]),
    ("vxlan", [6.63, 238.0, 47.0, 2.35]),
    ("stock-udp", [0.51, 56.0, 129.0, 28.0]),
    ("udp+io=epoll", [6.1, 180.0, 51.0, 2.6]),
    ("udp+no-offload=merge", [2.2, 120.0, 60.0, 6.0]),
    ("vxlan+no-offload=merge", [2.1, 118.0, 61.0, 6.2]),
];

/// Three repeats, a few per cent apart.
fn sample() -> Report {
    let references = ["kernel-vxlan", "one-packet", "plain"].map(str::to_owned);
    let mut report = Report::new(&references, "Everything shares this machine.");
    report.machine = machine();
    for (repeat, part) in [(0, 0.95), (1, 1.0), (2, 1.08)] {
        for (path, numbers) in PATHS {
            let numbers = numbers.map(|number| number * part);
            report.add("wire", path, repeat, readings(path, numbers));
        }
    }
    let reason = "there is no `etcd`: install it (Debian: apt install etcd-server)";
    report.refuse("wire", "stock-vxlan", None, reason);
    report.refuse("wire", "plain", Some("iperf1".to_owned()), "no iperf3");
    report
}

fn machine() -> Machine {
    Machine {
        kernel: "6.18.0".to_owned(),
        processor: "Example 9".to_owned(),
        processors: 2,
        memory_gib: 24.0,
        command: "flannelctl bench --quick".to_owned(),
        versions: vec!["flanneld 0.1.0".to_owned()],
        commit: Some("0123abc".to_owned()),
        date: "2026-11-20 13:05 UTC".to_owned(),
    }
}

fn readings(path: &str, [tcp, packets, round_trip, processor]: [f64; 4]) -> Vec<Reading> {
    let reading = |name: &str, unit: &'static str, value| Reading {
        name: name.to_owned(),
        unit: unit.into(),
        value,
    };
    let tail = [
        ("p10", 0.9),
        ("p50", 1.0),
        ("p90", 1.3),
        ("p99", 1.6),
        ("p999", 4.0),
    ];
    let round_trips =
        tail.map(|(name, part)| reading(&format!("rr_{name}"), "µs", round_trip * part));
    let daemons = if path.starts_with("plain") || path.starts_with("kernel") {
        0.0
    } else {
        0.6
    };
    let mut all = vec![
        reading("tcp1", "Gbit/s", tcp),
        reading("tcp1_cpu", "s/GB", processor),
        reading("tcp1_daemons", "s/GB", processor * daemons),
        reading("pps64", "kpps", packets * 0.8),
    ];
    all.extend(round_trips);
    if !path.contains('+') {
        let sizes = [("max64", 1.0), ("max512", 0.97), ("max1400", 0.7)];
        all.extend(sizes.map(|(name, part)| reading(name, "kpps", packets * part)));
        all.push(reading("tcp4", "Gbit/s", tcp * 0.9));
    }
    all
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/report/golden")
        .join(name)
}

/// Compares a file with the one that was looked at, or replaces that.
fn compare(name: &str, text: &str) {
    let file = golden(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, text).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap();
    for (number, (old, new)) in expected.lines().zip(text.lines()).enumerate() {
        assert_eq!(old, new, "line {} of {}", number + 1, file.display());
    }
    assert_eq!(
        expected.lines().count(),
        text.lines().count(),
        "{}",
        file.display()
    );
}

#[test]
fn the_page_and_its_plots_are_the_golden_ones() {
    let report = sample();
    let plots = plot::all(&report);
    let files: Vec<_> = plots.iter().map(|plot| plot.file.as_str()).collect();
    assert_eq!(
        files,
        [
            "throughput-wire.svg",
            "packets-wire.svg",
            "latency-wire.svg",
            "cpu-wire.svg",
            "variants-wire.svg"
        ]
    );
    compare("README.md", &report.page(&plots));
    for plot in &plots {
        compare(&plot.file, &plot.svg);
    }
}

#[test]
fn one_number_on_one_path_is_a_report_too() {
    let mut report = Report::new(&[], "");
    report.machine = machine();
    let reading = Reading {
        name: "max64".to_owned(),
        unit: "kpps".into(),
        value: 100.0,
    };
    report.add("between", "direct", 0, vec![reading]);
    assert!(plot::all(&report).is_empty());
    assert!(report.page(&[]).contains("| direct | 100 |"));
}

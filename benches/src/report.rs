//! Measurements as raw data, and as tables people can read.

use std::fmt::Write;
use std::fs;

use serde::Serialize;

use crate::measure::Reading;
use crate::stats;

/// One number of one repeat.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The underlay profile.
    pub profile: String,
    /// The path it was measured on.
    pub path: String,
    /// Which repeat; numbers of one repeat were taken seconds apart.
    pub repeat: u32,
    /// The number itself.
    #[serde(flatten)]
    pub reading: Reading,
}

/// On what, with what and when something was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processor model.
    pub processor: String,
    /// Processors online.
    pub processors: usize,
    /// The command line.
    pub command: String,
    /// The commit, when run in a checkout.
    pub commit: Option<String>,
}

impl Machine {
    /// Describes this machine and this run.
    pub fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or_default();
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            commit: commit(),
        }
    }
}

fn commit() -> Option<String> {
    let output = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// The paths the others are compared with.
    pub references: Vec<String>,
    /// Every number.
    pub records: Vec<Record>,
}

impl Report {
    /// An empty report that compares with `references`.
    pub fn new(references: &[String]) -> Self {
        Self {
            machine: Machine::here(),
            references: references.to_vec(),
            records: Vec::new(),
        }
    }

    /// Adds what one measurement said.
    pub fn add(&mut self, profile: &str, path: &str, repeat: u32, readings: Vec<Reading>) {
        let record = |reading| Record {
            profile: profile.to_owned(),
            path: path.to_owned(),
            repeat,
            reading,
        };
        self.records.extend(readings.into_iter().map(record));
    }

    /// All numbers as comma-separated values.
    pub fn csv(&self) -> String {
        let mut out = String::from("profile,path,repeat,metric,unit,value\n");
        for Record {
            profile,
            path,
            repeat,
            reading,
        } in &self.records
        {
            let Reading { name, unit, value } = reading;
            out += &format!("{profile},{path},{repeat},{name},{unit},{value}\n");
        }
        out
    }

    /// One table per profile: medians, and in brackets the ratios to the reference paths.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "Medians; in brackets the median ratios to {}.\n",
            self.references.join(" and ")
        );
        for profile in self.distinct(|record| &record.profile) {
            let mut metrics = self.distinct_in(&profile, |record| &record.reading.name);
            metrics.retain(|metric| !is_detail(metric));
            let _ = writeln!(
                out,
                "\n### {profile}\n\n| path | {} |",
                self.headings(&metrics).join(" | ")
            );
            let _ = writeln!(out, "|---|{}", "---:|".repeat(metrics.len()));
            for path in self.distinct_in(&profile, |record| &record.path) {
                let cells: Vec<_> = metrics
                    .iter()
                    .map(|metric| self.cell(&profile, &path, metric))
                    .collect();
                let _ = writeln!(out, "| {path} | {} |", cells.join(" | "));
            }
        }
        out
    }

    /// A page that says what was measured where, and how to repeat it.
    pub fn page(&self) -> String {
        let Machine {
            kernel,
            processor,
            processors,
            command,
            commit,
        } = &self.machine;
        let commit = commit.as_deref().unwrap_or("unknown");
        format!(
            "# Linux {kernel}, {processors} x {processor}\n\n\
             Both nodes, both daemons and both ends of the traffic share this machine. Commit `{commit}`.\n\n\
             ```\n{command}\n```\n\n{}\n\
             All numbers of all repeats: [raw.csv](raw.csv), [raw.json](raw.json).\n",
            self.markdown()
        )
    }

    /// Writes the page and the raw numbers into a directory.
    pub fn save(&self, directory: &std::path::Path) -> std::io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::write(directory.join("README.md"), self.page())?;
        fs::write(
            directory.join("raw.json"),
            serde_json::to_string_pretty(self)?,
        )?;
        fs::write(directory.join("raw.csv"), self.csv())
    }

    /// The median of one number on one path, and its ratios to the references.
    pub fn summary(
        &self,
        profile: &str,
        path: &str,
        metric: &str,
    ) -> Option<(f64, Vec<Option<f64>>)> {
        let own = self.values(profile, path, metric);
        let median = stats::median(&own.iter().map(|(_, value)| *value).collect::<Vec<_>>())?;
        let ratio = |reference: &String| {
            stats::paired_ratio(&own, &self.values(profile, reference, metric))
        };
        Some((median, self.references.iter().map(ratio).collect()))
    }

    fn cell(&self, profile: &str, path: &str, metric: &str) -> String {
        let Some((median, ratios)) = self.summary(profile, path, metric) else {
            return "-".to_owned();
        };
        let ratios: Vec<_> = ratios
            .into_iter()
            .flatten()
            .filter(|ratio| ratio.is_finite())
            .map(short)
            .collect();
        if ratios.is_empty() {
            short(median)
        } else {
            format!("{} ({})", short(median), ratios.join(", "))
        }
    }

    fn values(&self, profile: &str, path: &str, metric: &str) -> Vec<(u32, f64)> {
        let wanted = |record: &&Record| {
            record.profile == profile && record.path == path && record.reading.name == metric
        };
        self.records
            .iter()
            .filter(wanted)
            .map(|record| (record.repeat, record.reading.value))
            .collect()
    }

    fn headings(&self, metrics: &[String]) -> Vec<String> {
        let unit = |metric: &String| {
            self.records
                .iter()
                .find(|record| record.reading.name == *metric)
        };
        metrics
            .iter()
            .map(|metric| format!("{metric} {}", unit(metric).map_or("", |r| r.reading.unit)))
            .collect()
    }

    fn distinct(&self, of: impl Fn(&Record) -> &String) -> Vec<String> {
        unique(self.records.iter().map(of))
    }

    fn distinct_in(&self, profile: &str, of: impl Fn(&Record) -> &String) -> Vec<String> {
        unique(
            self.records
                .iter()
                .filter(|record| record.profile == profile)
                .map(of),
        )
    }
}

/// The different values in the order of their first appearance.
fn unique<'a>(values: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for value in values {
        if !seen.contains(value) {
            seen.push(value.clone());
        }
    }
    seen
}

/// Numbers that are in the raw data but would only widen the tables.
fn is_detail(metric: &str) -> bool {
    ["_daemons", "_p999", "_loss"]
        .iter()
        .any(|ending| metric.ends_with(ending))
}

/// Three digits that mean something.
fn short(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Report {
        let mut report = Report::new(&["kernel".to_owned()]);
        for (repeat, kernel, ours) in [(0, 10.0, 20.0), (1, 11.0, 33.0), (2, 12.0, 12.0)] {
            let reading = |value| {
                vec![Reading {
                    name: "tcp1".to_owned(),
                    unit: "Gbit/s",
                    value,
                }]
            };
            report.add("wire", "kernel", repeat, reading(kernel));
            report.add("wire", "ours", repeat, reading(ours));
        }
        report
    }

    #[test]
    fn the_table_shows_medians_and_paired_ratios() {
        let table = sample().markdown();
        assert!(table.contains("| kernel | 11.0 (1.00) |"), "{table}");
        assert!(table.contains("| ours | 20.0 (2.00) |"), "{table}");
    }

    #[test]
    fn every_number_is_in_the_raw_data() {
        let report = sample();
        assert_eq!(report.csv().lines().count(), 7);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["records"][1]["value"], 20.0);
    }
}

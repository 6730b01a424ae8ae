//! Measurements as raw data, and as pages people can read.

mod compare;
#[cfg(test)]
mod golden;
mod machine;
mod page;
mod sections;

pub use compare::Comparison;
pub use machine::Machine;
pub use sections::heading;

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::measure::Reading;
use crate::plot;
use crate::stats::{self, Sample};

/// Every number of a report, as programs read them.
const RAW: &str = "raw.json";

/// One number of one repeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// Something that could not be measured, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The underlay profile.
    pub profile: String,
    /// The path.
    pub path: String,
    /// The measurement; all of them when the path did not even come up.
    pub metric: Option<String>,
    /// The cause, and the cure where one is known.
    pub reason: String,
}

/// Everything of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// How the parts of the test share processors, in a sentence.
    pub setting: String,
    /// The paths the others are compared with.
    pub references: Vec<String>,
    /// What could not be measured.
    pub refused: Vec<Refusal>,
    /// Every number.
    pub records: Vec<Record>,
}

/// The median of one number on one path with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle value.
    pub median: f64,
    /// The smallest value.
    pub low: f64,
    /// The largest value.
    pub high: f64,
}

impl Report {
    /// An empty report that compares with `references`.
    pub fn new(references: &[String], setting: &str) -> Self {
        Self {
            machine: Machine::here(),
            setting: setting.to_owned(),
            references: references.to_vec(),
            refused: Vec::new(),
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

    /// Notes what could not be measured.
    pub fn refuse(&mut self, profile: &str, path: &str, metric: Option<String>, reason: &str) {
        self.refused.push(Refusal {
            profile: profile.to_owned(),
            path: path.to_owned(),
            metric,
            reason: reason.to_owned(),
        });
    }

    /// Whether something was tried before, and could not be measured.
    pub fn has_refused(&self, profile: &str, path: &str, metric: &str) -> bool {
        self.refused.iter().any(|refusal| {
            refusal.profile == profile
                && refusal.path == path
                && refusal.metric.as_deref() == Some(metric)
        })
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

    /// Writes the page, its plots and the raw numbers into a directory.
    pub fn save(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let plots = plot::all(self);
        for plot in &plots {
            fs::write(directory.join(&plot.file), &plot.svg)?;
        }
        fs::write(directory.join("README.md"), self.page(&plots))?;
        let json = serde_json::to_string_pretty(self)?;
        fs::write(directory.join(RAW), json)?;
        fs::write(directory.join("raw.csv"), self.csv())
    }

    /// Reads what was saved in a directory.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let file = directory.join(RAW);
        let explain = |error: io::Error| {
            let file = file.display();
            io::Error::other(format!("{file}: {error}; a report's directory has one"))
        };
        let text = fs::read_to_string(&file).map_err(explain)?;
        serde_json::from_str(&text).map_err(|error| explain(error.into()))
    }

    /// The median of one number on one path, the smallest and the largest value.
    pub fn summary(&self, profile: &str, path: &str, metric: &str) -> Option<Summary> {
        let own = self.samples(profile, path, metric);
        let values: Vec<_> = own.iter().map(|sample| sample.value).collect();
        let (low, high) = stats::range(&values)?;
        let median = stats::median(&values)?;
        Some(Summary { median, low, high })
    }

    /// The median of the ratios to another path, each to its number taken nearest in the same repeat.
    pub fn ratio(&self, profile: &str, path: &str, metric: &str, reference: &str) -> Option<f64> {
        let own = self.samples(profile, path, metric);
        let other = self.samples(profile, reference, metric);
        stats::paired_ratio(&own, &other).filter(|ratio| ratio.is_finite())
    }

    /// The profiles in the order of measurement.
    pub fn profiles(&self) -> Vec<String> {
        unique(self.records.iter().map(|record| &record.profile))
    }

    /// The paths of a profile on which one of `metrics` was measured, in the order of measurement.
    pub fn paths(&self, profile: &str, metrics: &[String]) -> Vec<String> {
        let wanted =
            |record: &&Record| record.profile == profile && metrics.contains(&record.reading.name);
        let found = self.records.iter().filter(wanted);
        unique(found.map(|record| &record.path))
    }

    /// The numbers of a profile that `wanted` names, in the order of measurement.
    pub fn metrics(&self, profile: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let named = |record: &&Record| record.profile == profile && wanted(&record.reading.name);
        let found = self.records.iter().filter(named);
        unique(found.map(|record| &record.reading.name))
    }

    fn samples(&self, profile: &str, path: &str, metric: &str) -> Vec<Sample> {
        let wanted = |(_, record): &(usize, &Record)| {
            record.profile == profile && record.path == path && record.reading.name == metric
        };
        let sample = |(place, record): (usize, &Record)| Sample {
            repeat: record.repeat,
            place,
            value: record.reading.value,
        };
        let records = self.records.iter().enumerate();
        records.filter(wanted).map(sample).collect()
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

/// Three digits that mean something.
pub fn short(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_the_raw_data() {
        let report = page::tests::sample();
        assert_eq!(report.csv().lines().count(), report.records.len() + 1);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["records"][1]["value"], 20.0);
        assert_eq!(json["refused"][0]["path"], "stock-udp");
    }

    #[test]
    fn summaries_and_ratios_leave_out_what_was_not_measured() {
        let report = page::tests::sample();
        let summary = report.summary("wire", "udp", "tcp1").unwrap();
        assert_eq!(
            (summary.median, summary.low, summary.high),
            (20.0, 12.0, 33.0)
        );
        assert_eq!(
            report.ratio("wire", "udp", "tcp1", "kernel-vxlan"),
            Some(2.0)
        );
        assert_eq!(report.ratio("wire", "udp", "tcp1", "nothing"), None);
        assert_eq!(report.summary("wire", "udp", "tcp9"), None);
    }
}

//! The page people read: where it was measured, plots, tables, what was left out.

use std::fmt::Write;

use super::sections::{SECTIONS, Section};
use super::{Machine, Refusal, Report, Summary, heading, short};
use crate::plot::Plot;

/// Paths on which nothing but the generator and the kernel's own stack works.
const YARDSTICKS: [&str; 2] = ["loopback", "plain"];
/// Paths that are no tunnels: as fast as plain routing, and so no faster than the generator.
const ROUTES: [&str; 4] = ["loopback", "plain", "host-gw", "stock-host-gw"];
/// A tunnel that comes this near to a yardstick may have been held back by the generator.
const CLOSE: f64 = 0.9;

impl Report {
    /// Everything in one page of Markdown that shows `plots` and leads to the raw numbers.
    pub fn page(&self, plots: &[Plot]) -> String {
        let mut out = self.preface();
        for profile in self.profiles() {
            let _ = writeln!(out, "\n## {profile}");
            for plot in plots.iter().filter(|plot| plot.profile == profile) {
                let _ = writeln!(out, "\n![{}]({})", plot.title, plot.file);
            }
            out += &self.tables(&profile);
        }
        out += &self.left_out();
        out += "\n## Raw numbers\n\nAll numbers of all repeats: [raw.csv](raw.csv), [raw.json](raw.json).\n";
        out
    }

    /// The tables of every profile, for a terminal.
    pub fn markdown(&self) -> String {
        let mut out = self.legend();
        for profile in self.profiles() {
            let _ = writeln!(out, "\n## {profile}");
            out += &self.tables(&profile);
        }
        out + &self.left_out()
    }

    fn preface(&self) -> String {
        let Machine {
            kernel,
            processor,
            processors,
            memory_gib,
            command,
            versions,
            commit,
            date,
        } = &self.machine;
        let commit = commit.as_deref().unwrap_or("not in a checkout");
        format!(
            "# Linux {kernel}, {processors} x {processor}\n\n\
             {date}, {memory_gib} GiB of memory, {versions}, commit: {commit}. {setting}\n\n\
             ```\n{command}\n```\n\n{legend}",
            versions = versions.join(", "),
            setting = self.setting,
            legend = self.legend()
        )
    }

    fn legend(&self) -> String {
        let mut out = String::from("Medians; in brackets the lowest and the highest repeat.");
        let references = self.measured_references();
        if !references.is_empty() {
            let references = references.join(" · ");
            let _ = write!(
                out,
                " Ratios are medians of the ratios to the nearest measurement in the same repeat, of {references}."
            );
        }
        out + "\n"
    }

    fn tables(&self, profile: &str) -> String {
        let sections = SECTIONS.iter();
        let tables = sections.map(|section| self.section(profile, section));
        tables.collect::<String>() + &self.generator_check(profile)
    }

    fn section(&self, profile: &str, section: &Section) -> String {
        let metrics = self.metrics(profile, section.holds);
        if metrics.is_empty() {
            return String::new();
        }
        let mut out = format!("\n### {}\n", section.title);
        if !section.note.is_empty() {
            let _ = writeln!(out, "\n{}", section.note);
        }
        out += &self.table("", profile, &metrics, |path, metric| {
            self.summary(profile, path, metric).map(spread)
        });
        // What has no daemon has no time of one: a ratio to that says nothing.
        let compared: Vec<_> = metrics
            .into_iter()
            .filter(|metric| !metric.ends_with("_daemons"))
            .collect();
        out + &self.table("ratio", profile, &compared, |path, metric| {
            self.ratios(profile, path, metric)
        })
    }

    /// A table with a row per path, left out where it would be empty.
    fn table(
        &self,
        corner: &str,
        profile: &str,
        metrics: &[String],
        cell: impl Fn(&str, &str) -> Option<String>,
    ) -> String {
        let titles: Vec<_> = metrics.iter().map(|metric| heading(metric)).collect();
        let mut rows = String::new();
        for path in self.paths(profile, metrics) {
            let cells: Vec<_> = metrics.iter().map(|metric| cell(&path, metric)).collect();
            if cells.iter().any(Option::is_some) {
                let cells: Vec<_> = cells
                    .into_iter()
                    .map(|cell| cell.unwrap_or_default())
                    .collect();
                let _ = writeln!(rows, "| {path} | {} |", cells.join(" | "));
            }
        }
        if rows.is_empty() {
            return rows;
        }
        let rule = "---:|".repeat(metrics.len());
        format!(
            "\n| {corner} | {} |\n|---|{rule}\n{rows}",
            titles.join(" | ")
        )
    }

    /// The references that others can be compared with: nothing is compared with itself alone.
    fn measured_references(&self) -> Vec<&str> {
        let is_path = |name: &&str| self.records.iter().any(|record| record.path == *name);
        let first = self.records.first().map(|record| &record.path);
        if self
            .records
            .iter()
            .all(|record| Some(&record.path) == first)
        {
            return Vec::new();
        }
        let references = self.references.iter().map(String::as_str);
        references.filter(is_path).collect()
    }

    /// The ratios to all references, a dash where one of them was not measured.
    fn ratios(&self, profile: &str, path: &str, metric: &str) -> Option<String> {
        let references = self.measured_references().into_iter();
        let ratios: Vec<_> = references
            .map(|reference| self.ratio(profile, path, metric, reference))
            .collect();
        let shown = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), short);
        ratios.iter().any(Option::is_some).then(|| {
            ratios
                .into_iter()
                .map(shown)
                .collect::<Vec<_>>()
                .join(" · ")
        })
    }

    /// Whether the traffic generator can have been the limit.
    fn generator_check(&self, profile: &str) -> String {
        // The generator is the same in both directions.
        let checked = |name: &str| ["tcp", "max"].iter().any(|family| name.starts_with(family));
        let checked = self.metrics(profile, |name| checked(name) && !name.contains(['_', '-']));
        let lines: String = checked
            .iter()
            .filter_map(|metric| self.generator_line(profile, metric))
            .collect();
        if lines.is_empty() {
            return lines;
        }
        format!(
            "\n### Is the generator the limit?\n\n\
             Not where it is faster without a tunnel: routed plainly, or on the loopback of one container.\n\n{lines}"
        )
    }

    fn generator_line(&self, profile: &str, metric: &str) -> Option<String> {
        let median = |path: &str| Some(self.summary(profile, path, metric)?.median);
        let faster = |one: &(String, f64), other: &(String, f64)| one.1.total_cmp(&other.1);
        let measured = self.paths(profile, &[metric.to_owned()]);
        let measured = measured.into_iter().filter_map(|path| {
            let median = median(&path)?;
            Some((path, median))
        });
        let (routes, tunnels): (Vec<_>, Vec<_>) =
            measured.partition(|(path, _)| ROUTES.contains(&path.as_str()));
        let (tunnel, best) = tunnels.into_iter().max_by(faster)?;
        let yardsticks = routes
            .into_iter()
            .filter(|(path, _)| YARDSTICKS.contains(&path.as_str()));
        let (yardstick, limit) = yardsticks.max_by(faster)?;
        let verdict = if best < limit * CLOSE {
            format!("the generator has room, {} times", short(limit / best))
        } else {
            "the generator may be the limit".to_owned()
        };
        Some(format!(
            "- {}: {yardstick} {}, fastest tunnel {tunnel} {}: {verdict}.\n",
            heading(metric),
            short(limit),
            short(best)
        ))
    }

    /// What could not be measured; what one cause kept from several measurements is said once.
    fn left_out(&self) -> String {
        let mut causes: Vec<(&Refusal, Vec<&str>)> = Vec::new();
        for refusal in &self.refused {
            let metric = refusal.metric.as_deref();
            match causes
                .iter_mut()
                .find(|(known, _)| same_cause(known, refusal))
            {
                Some((_, metrics)) => metrics.extend(metric),
                None => causes.push((refusal, metric.into_iter().collect())),
            }
        }
        let line = |(refusal, metrics): (&Refusal, Vec<&str>)| {
            let place = [refusal.profile.as_str(), refusal.path.as_str()];
            let what = [&place, metrics.as_slice()].concat().join(", ");
            format!("- {what}: {}\n", refusal.reason)
        };
        let lines: String = causes.into_iter().map(line).collect();
        match lines.as_str() {
            "" => lines,
            _ => format!("\n## Left out\n\n{lines}"),
        }
    }
}

fn same_cause(one: &Refusal, other: &Refusal) -> bool {
    let of = |refusal: &Refusal| {
        (
            refusal.profile.clone(),
            refusal.path.clone(),
            refusal.reason.clone(),
        )
    };
    of(one) == of(other)
}

fn spread(summary: Summary) -> String {
    let Summary { median, low, high } = summary;
    if low.to_bits() == high.to_bits() {
        return short(median);
    }
    format!("{} ({}–{})", short(median), short(low), short(high))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::measure::Reading;

    /// Three repeats on two paths, and one path that could not be measured.
    pub(in crate::report) fn sample() -> Report {
        let references = ["kernel-vxlan".to_owned()];
        let mut report = Report::new(&references, "Everything shares this machine.");
        for (repeat, kernel, ours) in [(0, 10.0, 20.0), (1, 11.0, 33.0), (2, 12.0, 12.0)] {
            let reading = |value| {
                vec![Reading {
                    name: "tcp1".to_owned(),
                    unit: "Gbit/s".into(),
                    value,
                }]
            };
            report.add("wire", "kernel-vxlan", repeat, reading(kernel));
            report.add("wire", "udp", repeat, reading(ours));
            report.add("wire", "plain", repeat, reading(40.0));
        }
        report.refuse("wire", "stock-udp", None, "there is no etcd; install it");
        report
    }

    #[test]
    fn the_tables_show_medians_with_their_spread_and_paired_ratios() {
        let text = sample().markdown();
        for row in [
            "| kernel-vxlan | 11.0 (10.0–12.0) |",
            "| udp | 20.0 (12.0–33.0) |",
            "| udp | 2.00 |",
            "- wire, stock-udp: there is no etcd; install it",
            "fastest tunnel udp 20.0: the generator has room, 2.00 times",
        ] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
    }

    #[test]
    fn the_page_says_where_and_how_it_was_measured() {
        let report = sample();
        let page = report.page(&[]);
        assert!(page.contains(&report.machine.command) && page.contains(&report.machine.date));
    }
}

//! Which numbers of a report go into which plot.

use crate::report::{Report, heading};

use super::Plot;
use super::bars::{Bars, Panel};
use super::lines::{Lines, Series};
use super::scale::Scale;

/// The points of the distribution of round trips, with the part of all that stays below.
const QUANTILES: [(&str, f64); 9] = [
    ("rr_p10", 0.1),
    ("rr_p25", 0.25),
    ("rr_p50", 0.5),
    ("rr_p75", 0.75),
    ("rr_p90", 0.9),
    ("rr_p95", 0.95),
    ("rr_p99", 0.99),
    ("rr_p995", 0.995),
    ("rr_p999", 0.999),
];
/// The parts that are named below the axis.
const NAMED: [(&str, f64); 6] = [
    ("10 %", 0.1),
    ("50 %", 0.5),
    ("90 %", 0.9),
    ("99 %", 0.99),
    ("99.5 %", 0.995),
    ("99.9 %", 0.999),
];
const SPREAD: &str = "Medians; the thin lines span all repeats.";

/// Every plot of one profile for which there are numbers.
pub(super) fn of(report: &Report, profile: &str) -> Vec<Plot> {
    let view = View { report, profile };
    let plots = [
        view.throughput(),
        view.packets(),
        view.latency(),
        view.processor(),
        view.variants(),
    ];
    plots.into_iter().flatten().collect()
}

/// One profile of a report.
struct View<'a> {
    report: &'a Report,
    profile: &'a str,
}

impl View<'_> {
    fn throughput(&self) -> Option<Plot> {
        let metrics = self.metrics(|name| {
            name.starts_with("tcp") && !name.contains('_') && !name.contains("-back")
        });
        let rows = self.paths(&metrics);
        let panels = self.panels(&rows, &metrics, "Gbit/s");
        self.bars(
            "throughput",
            "TCP throughput",
            "More is better.",
            rows,
            panels,
        )
    }

    fn processor(&self) -> Option<Plot> {
        let metrics = self.metrics(|name| {
            let part = name.ends_with("_cpu") || name.ends_with("_daemons");
            name.starts_with("tcp1_") && part
        });
        let rows = self.paths(&metrics);
        let panels = self.panels(&rows, &metrics, "s/GB");
        let note =
            "Less is better. All: traffic generators included; daemons: what carries the packets.";
        self.bars(
            "cpu",
            "Processor seconds per gigabyte of TCP",
            note,
            rows,
            panels,
        )
    }

    fn variants(&self) -> Option<Plot> {
        let metrics = self.metrics(|name| ["tcp1", "pps64", "rr_p50"].contains(&name));
        let has_options = |path: &String| path.contains('+');
        let all = self.report.paths(self.profile, &metrics);
        if !all.iter().any(has_options) {
            return None;
        }
        let based = |path: &String| {
            all.iter()
                .any(|other| other.starts_with(&format!("{path}+")))
        };
        let rows = all.iter().filter(|path| has_options(path) || based(path));
        let rows = ordered(rows.cloned().collect());
        let panels = metrics.iter().map(|metric| {
            let title = match metric.as_str() {
                "tcp1" => "TCP, 1 stream, Gbit/s",
                "pps64" => "64 B packets, k/s",
                _ => "round trip, median, µs",
            };
            self.panel(&rows, metric, title.to_owned())
        });
        let panels = panels.collect();
        let title = "Ways of moving packets, and each offload off in turn";
        self.bars("variants", title, SPREAD, rows, panels)
    }

    fn packets(&self) -> Option<Plot> {
        let family = ["max", "pps"]
            .into_iter()
            .find(|family| self.sizes(family).len() > 1)?;
        let sizes = self.sizes(family);
        let metrics: Vec<_> = sizes.iter().map(|size| format!("{family}{size}")).collect();
        let last = (sizes.len() - 1) as f64;
        let places: Vec<_> = (0..sizes.len())
            .map(|number| number as f64 / last)
            .collect();
        let points: Vec<_> = places.iter().copied().zip(metrics.clone()).collect();
        let series = self.series(&self.paths(&metrics), &points);
        let marks = sizes.iter().map(|size| format!("{size} B"));
        let lines = Lines {
            title: format!("Packet rate by size, {}", self.profile),
            note: match family {
                "max" => "More is better. The highest rate with at most 1 % lost; medians.",
                _ => "More is better. A closed loop of four flows; medians.",
            }
            .to_owned(),
            values: "thousand packets per second".to_owned(),
            places: "size of the inner packet".to_owned(),
            marks: places.iter().copied().zip(marks).collect(),
            scale: Scale::linear(values(&series)),
            series,
        };
        self.plot("packets", &lines.title, lines.draw())
    }

    fn latency(&self) -> Option<Plot> {
        let points: Vec<_> = QUANTILES
            .iter()
            .map(|(name, part)| (by_nines(*part), (*name).to_owned()))
            .collect();
        let metrics: Vec<_> = points.iter().map(|(_, name)| name.clone()).collect();
        let series = self.series(&self.paths(&metrics), &points);
        if series.is_empty() {
            return None;
        }
        let marks = NAMED
            .iter()
            .map(|(name, part)| (by_nines(*part), (*name).to_owned()));
        let lines = Lines {
            title: format!("Round trip of a small packet, {}", self.profile),
            note:
                "Less is better. How long most, nearly all, and all but the slowest take; medians."
                    .to_owned(),
            values: "µs, in equal ratios".to_owned(),
            places: "part of all round trips that is faster".to_owned(),
            marks: marks.collect(),
            scale: Scale::logarithmic(values(&series)),
            series,
        };
        self.plot("latency", &lines.title, lines.draw())
    }

    fn metrics(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.report.metrics(self.profile, wanted)
    }

    /// The paths people compare: none of the daemon's variants, unless there is nothing else.
    fn paths(&self, metrics: &[String]) -> Vec<String> {
        let mut paths = self.report.paths(self.profile, metrics);
        paths.retain(|path| path != "loopback");
        let (variants, main): (Vec<_>, Vec<_>) =
            paths.into_iter().partition(|path| path.contains('+'));
        if main.len() > 1 {
            main
        } else {
            ordered([main, variants].concat())
        }
    }

    fn sizes(&self, family: &str) -> Vec<usize> {
        let names = self.metrics(|name| name.starts_with(family));
        let digits = names.iter().filter_map(|name| name.strip_prefix(family));
        let mut sizes: Vec<_> = digits.filter_map(|digits| digits.parse().ok()).collect();
        sizes.sort_unstable();
        sizes
    }

    fn panels(&self, rows: &[String], metrics: &[String], unit: &str) -> Vec<Panel> {
        let panel =
            |metric: &String| self.panel(rows, metric, format!("{}, {unit}", heading(metric)));
        metrics.iter().map(panel).collect()
    }

    fn panel(&self, rows: &[String], metric: &str, title: String) -> Panel {
        let value = |path: &String| self.report.summary(self.profile, path, metric);
        Panel {
            title,
            values: rows.iter().map(value).collect(),
        }
    }

    fn series(&self, paths: &[String], points: &[(f64, String)]) -> Vec<Series> {
        let series = paths.iter().map(|path| {
            let points = points.iter().filter_map(|(place, metric)| {
                let summary = self.report.summary(self.profile, path, metric)?;
                Some((*place, summary.median))
            });
            Series {
                path: path.clone(),
                points: points.collect(),
            }
        });
        series.filter(|series| !series.points.is_empty()).collect()
    }

    fn bars(
        &self,
        name: &str,
        title: &str,
        note: &str,
        rows: Vec<String>,
        panels: Vec<Panel>,
    ) -> Option<Plot> {
        if rows.is_empty() {
            return None;
        }
        let bars = Bars {
            title: format!("{title}, {}", self.profile),
            note: match note {
                SPREAD => SPREAD.to_owned(),
                note => format!("{note} {SPREAD}"),
            },
            rows,
            panels,
        };
        self.plot(name, &bars.title, bars.draw())
    }

    fn plot(&self, name: &str, title: &str, svg: String) -> Option<Plot> {
        let profile = self.profile.to_owned();
        let file = format!("{name}-{}.svg", file_name(&profile));
        let title = title.to_owned();
        Some(Plot {
            profile,
            title,
            file,
            svg,
        })
    }
}

/// Every path followed by its own variants.
fn ordered(paths: Vec<String>) -> Vec<String> {
    let base = |path: &str| path.split('+').next().unwrap_or_default().to_owned();
    let mut bases: Vec<String> = Vec::new();
    for path in &paths {
        if !bases.contains(&base(path)) {
            bases.push(base(path));
        }
    }
    let mut paths = paths;
    paths.sort_by_key(|path| bases.iter().position(|known| *known == base(path)));
    paths
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> {
    series
        .iter()
        .flat_map(|series| series.points.iter().map(|(_, value)| *value))
}

/// Gives each further nine the same room: 90 %, 99 % and 99.9 % are equally far apart.
fn by_nines(part: f64) -> f64 {
    let nines = |part: f64| -(1.0 - part).log10();
    let (first, last) = (QUANTILES[0].1, QUANTILES[QUANTILES.len() - 1].1);
    (nines(part) - nines(first)) / (nines(last) - nines(first))
}

/// A name without what file names should not have.
fn file_name(name: &str) -> String {
    let kept = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    name.chars().map(kept).collect()
}

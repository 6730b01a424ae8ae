//! A whole run: brings paths up, measures everything in turn, and reports what could not be done.
//!
//! ```text
//! for every repeat: for every measurement: for every path that has it
//! ```
//!
//! All paths are up all the time, and the numbers that are compared are taken seconds apart, so that
//! what else the machine does hits all of them alike; the first reference is measured again after every few
//! others, and a ratio pairs what was measured next to each other.

mod plan;
mod presets;
mod progress;

pub use plan::{Lane, Plan, Work};
pub use presets::{Choice, REFERENCES};
pub use progress::{Progress, human};

use std::io;

use crate::measure::{Measurement, Reading, Subject, measure};
use crate::report::Report;

/// A run under way: every profile is one more setting of the same plan.
#[derive(Debug)]
pub struct Run<'a> {
    /// What is measured.
    pub plan: &'a Plan,
    /// Where the numbers go.
    pub report: &'a mut Report,
    /// Where is said how far it is.
    pub progress: Progress,
}

/// A lane whose path is up.
struct Running<'a> {
    lane: &'a Lane,
    subject: Box<dyn Subject + 'a>,
}

impl<'a> Run<'a> {
    /// Measures every lane in one setting; `up` makes what traffic is sent through.
    pub fn measure(
        &mut self,
        setting: &str,
        up: impl Fn(&Lane) -> io::Result<Box<dyn Subject + 'a>>,
    ) {
        let running = self.bring_up(setting, up);
        for repeat in 0..self.plan.repeats() {
            for measurement in self.plan.measurements() {
                let lanes = running.iter().map(|path| path.lane);
                for lane in self.plan.round(lanes, measurement, repeat) {
                    let mut paths = running.iter();
                    if let Some(path) = paths.find(|path| path.lane.name == lane.name) {
                        self.take(setting, path, measurement, repeat);
                    }
                }
            }
        }
    }

    fn bring_up(
        &mut self,
        setting: &str,
        up: impl Fn(&Lane) -> io::Result<Box<dyn Subject + 'a>>,
    ) -> Vec<Running<'a>> {
        let mut running = Vec::new();
        for lane in &self.plan.lanes {
            self.progress
                .show(&format!("{setting}: setting up {}", lane.name));
            match up(lane) {
                Ok(subject) => running.push(Running { lane, subject }),
                Err(error) => {
                    let (name, reason) = (&lane.name, one_line(&error.to_string()));
                    self.progress
                        .say(&format!("{setting}: left out {name}: {reason}"));
                    self.progress.skip(self.plan.lane_cost(lane));
                    self.report.refuse(setting, name, None, &reason);
                }
            }
        }
        running
    }

    /// One measurement on one path, unless it has failed before.
    fn take(&mut self, setting: &str, path: &Running<'_>, what: Measurement, repeat: u32) {
        let (name, cost) = (&path.lane.name, what.cost(self.plan.duration));
        if self.report.has_refused(setting, name, &what.to_string()) {
            self.progress.skip(cost);
            return;
        }
        let repeats = self.plan.repeats();
        let label = format!("{setting} {}/{repeats} {name} {what}", repeat + 1);
        self.progress.show(&label);
        let said = match measure(&*path.subject, what.metric, what.from, self.plan.duration) {
            Ok(readings) => {
                let said = headline(&readings);
                self.report.add(setting, name, repeat, readings);
                said
            }
            Err(error) => {
                let reason = one_line(&format!("{error}\n{}", path.subject.logs()));
                self.report
                    .refuse(setting, name, Some(what.to_string()), &reason);
                format!("left out: {reason}")
            }
        };
        self.progress.done(&label, &said, cost);
    }
}

/// The one number of several that says most: the median of a distribution, or the first.
fn headline(readings: &[Reading]) -> String {
    let mut medians = readings
        .iter()
        .filter(|reading| reading.name.ends_with("_p50"));
    let headline = medians.next().or_else(|| readings.first());
    headline.map(Reading::to_string).unwrap_or_default()
}

/// The cause and the last thing a daemon said, without the log between them.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.as_slice() {
        [] => "no reason given".to_owned(),
        [only] => (*only).to_owned(),
        [first, .., last] => format!("{first} … {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_its_beginning_and_its_end() {
        assert_eq!(one_line("no such file\n"), "no such file");
        assert_eq!(
            one_line("it ended:\n\nstarting\nno etcd\n"),
            "it ended: … no etcd"
        );
        assert_eq!(one_line(""), "no reason given");
    }
}

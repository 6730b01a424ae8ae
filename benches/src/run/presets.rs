//! What is measured when nothing is chosen: everything in a quarter of an hour, or the gist in a minute.

use std::str::FromStr;
use std::time::Duration;

use crate::measure::{Measurement, Metric};
use crate::paths::PathSpec;

use super::{Lane, Plan, Work};

/// The paths the others are compared with.
pub const REFERENCES: [&str; 3] = ["kernel-vxlan", "one-packet", "plain"];

/// The paths that are compared in every respect; the daemon's follow the one they are compared with.
const PATHS: [&str; 6] = [
    "plain",
    "host-gw",
    "kernel-vxlan",
    "udp",
    "vxlan",
    "one-packet",
];
/// What a stock daemon adds.
const STOCK: [&str; 3] = ["stock-host-gw", "stock-udp", "stock-vxlan"];
/// What follows the name of a daemon's path: every way of moving packets, each offload off in turn,
/// workers that stay on their processors, datagrams taken off the device.
const VARIANTS: [&str; 13] = [
    "io=uring-multishot",
    "io=uring-oneshot",
    "io=epoll",
    "io=single-queue",
    "no-offload=tso",
    "no-offload=uso",
    "no-offload=gso",
    "no-offload=gro",
    "no-offload=merge",
    "no-offload=favourite",
    "workers=1+pin",
    "workers=2+pin",
    "shortcut",
];
const FORMS: [&str; 2] = ["udp", "vxlan"];

const FULL: [&str; 17] = [
    "tcp1",
    "tcp1-back",
    "tcp4",
    "tcp4-back",
    "tcp8",
    "tcp8-back",
    "max64",
    "max256",
    "max512",
    "max1400",
    "flood64",
    "flood256",
    "flood512",
    "flood1400",
    "pps64",
    "rr",
    "start",
];
const QUICK: [&str; 5] = ["tcp1", "max64", "max1400", "rr", "start"];
/// Enough to see what a variant is worth.
const GIST: [&str; 3] = ["tcp1", "pps64", "rr"];
/// What says whether the generator is the limit.
const CEILING: [&str; 7] = [
    "tcp1", "tcp4", "tcp8", "max64", "max256", "max512", "max1400",
];
/// How often what is only looked at in passing is repeated.
const FEW: u32 = 3;
const CROSS_CHECK: &str = "iperf1";

/// What was asked for; what was not is as usual.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The gist in a minute.
    pub quick: bool,
    /// There is a stock daemon to compare with.
    pub stock: bool,
    /// The paths.
    pub paths: Option<Vec<PathSpec>>,
    /// What is measured on each.
    pub metrics: Option<Vec<Measurement>>,
    /// How often.
    pub repeats: Option<u32>,
    /// How long traffic flows in one measurement.
    pub duration: Option<Duration>,
    /// What the others are compared with first.
    pub anchor: Option<String>,
}

impl Choice {
    /// Everything that is to be measured in one setting.
    pub fn plan(&self) -> Plan {
        let usual = Duration::from_millis(if self.quick { 200 } else { 500 });
        Plan {
            lanes: self.lanes(),
            duration: self.duration.unwrap_or(usual),
            anchor: self.anchor.clone(),
        }
    }

    /// Everything that is measured between two machines over networks of these names.
    pub fn plan_between(&self, networks: &[&str]) -> Plan {
        let usual: &[&str] = if self.quick { &QUICK } else { &FULL };
        let usual = || {
            let mut usual = all_parsed(usual);
            usual.retain(|measurement| measurement.metric != Metric::Start);
            usual
        };
        let metrics = self.metrics.clone().unwrap_or_else(usual);
        let lane = |name: &&str| Lane::new(name, &metrics, self.repeats());
        Plan {
            lanes: networks.iter().map(lane).collect(),
            ..self.plan()
        }
    }

    fn lanes(&self) -> Vec<Lane> {
        let stock = if self.stock { STOCK.as_slice() } else { &[] };
        let usual = PATHS.iter().chain(stock).map(|name| parsed(name));
        let paths: Vec<PathSpec> = self.paths.clone().unwrap_or_else(|| usual.collect());
        let mut lanes: Vec<_> = paths.iter().map(|path| self.lane(path)).collect();
        if self.paths.is_some() || self.metrics.is_some() {
            return lanes;
        }
        lanes.insert(0, self.ceiling());
        if !self.quick {
            let variant = |form, variant| self.few(&format!("{form}+{variant}"), &GIST);
            lanes.extend(
                FORMS
                    .iter()
                    .flat_map(|form| VARIANTS.map(|with| variant(form, with))),
            );
        }
        lanes
    }

    fn lane(&self, path: &PathSpec) -> Lane {
        let repeats = self.repeats();
        if let Some(metrics) = &self.metrics {
            return Lane::new(&path.name, metrics, repeats);
        }
        let metrics: &[&str] = if self.quick { &QUICK } else { &FULL };
        let mut lane = Lane::new(&path.name, &all_parsed(metrics), repeats);
        if path.has_daemon() {
            lane.works.push(work("memory", repeats));
        }
        if !self.quick {
            lane.works.push(work(CROSS_CHECK, 1));
        }
        lane
    }

    /// What the generator can do by itself, in everything that is measured on the others as well.
    fn ceiling(&self) -> Lane {
        let quick = |name: &&str| !self.quick || QUICK.contains(name);
        let metrics: Vec<_> = CEILING.into_iter().filter(quick).collect();
        self.few("loopback", &metrics)
    }

    /// A path that is measured less often and in fewer respects.
    fn few(&self, name: &str, metrics: &[&str]) -> Lane {
        Lane::new(name, &all_parsed(metrics), self.repeats().min(FEW))
    }

    fn repeats(&self) -> u32 {
        self.repeats.unwrap_or(if self.quick { 2 } else { 5 })
    }
}

fn work(name: &str, repeats: u32) -> Work {
    Work {
        measurement: parsed(name),
        repeats,
    }
}

fn all_parsed(names: &[&str]) -> Vec<Measurement> {
    names.iter().map(|name| parsed(name)).collect()
}

/// The names above are right: a test builds every plan.
fn parsed<T: FromStr>(name: &str) -> T
where
    T::Err: std::fmt::Display,
{
    name.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_run_takes_less_than_a_quarter_of_an_hour_and_a_quick_one_less_than_a_minute() {
        let quick = Choice {
            quick: true,
            ..Choice::default()
        };
        assert!(quick.plan().cost() < Duration::from_secs(55));
        assert!(Choice::default().plan().cost() < Duration::from_secs(14 * 60));
    }

    #[test]
    fn a_full_run_has_every_backend_and_every_offload_in_both_forms() {
        let plan = Choice::default().plan();
        let names: Vec<_> = plan.lanes.iter().map(|lane| lane.name.as_str()).collect();
        for name in [
            "plain",
            "loopback",
            "udp+io=epoll",
            "vxlan+no-offload=merge",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert_eq!(names.len(), 1 + PATHS.len() + FORMS.len() * VARIANTS.len());
    }

    #[test]
    fn what_is_chosen_is_measured_and_nothing_else() {
        let choice = Choice {
            paths: Some(vec![parsed("udp"), parsed("plain")]),
            metrics: Some(all_parsed(&["rr"])),
            repeats: Some(7),
            ..Choice::default()
        };
        let rr = all_parsed(&["rr"]);
        assert_eq!(
            choice.plan().lanes,
            [Lane::new("udp", &rr, 7), Lane::new("plain", &rr, 7)]
        );
    }
}

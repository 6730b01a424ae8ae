//! What a run consists of, and how long that takes.

use std::time::Duration;

use crate::measure::Measurement;

/// So many paths are measured between two times the anchor.
const ANCHOR_EVERY: usize = 3;
/// How long a path takes to come up, about.
const BRING_UP: Duration = Duration::from_millis(600);

/// A measurement and how often it is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// What is measured.
    pub measurement: Measurement,
    /// How often.
    pub repeats: u32,
}

/// One path with everything that is measured on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The path's name.
    pub name: String,
    /// What is measured on it.
    pub works: Vec<Work>,
}

impl Lane {
    /// A path on which everything is repeated equally often.
    pub fn new(name: &str, measurements: &[Measurement], repeats: u32) -> Self {
        let work = |&measurement| Work {
            measurement,
            repeats,
        };
        Self {
            name: name.to_owned(),
            works: measurements.iter().map(work).collect(),
        }
    }

    /// Whether `measurement` is to be taken in this repeat.
    pub fn has(&self, measurement: Measurement, repeat: u32) -> bool {
        let mut works = self.works.iter();
        works.any(|work| work.measurement == measurement && repeat < work.repeats)
    }
}

/// Everything that is measured in one setting.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The paths.
    pub lanes: Vec<Lane>,
    /// How long traffic flows in one measurement.
    pub duration: Duration,
    /// The path the others are compared with first. It is measured again between them: this machine
    /// may be half as fast a few seconds later, and a ratio is worth what its pair has in common.
    pub anchor: Option<String>,
}

impl Plan {
    /// Which of these lanes a measurement is taken on in a repeat, in order, the anchor again and again.
    pub fn round<'l>(
        &self,
        lanes: impl Iterator<Item = &'l Lane> + Clone,
        measurement: Measurement,
        repeat: u32,
    ) -> Vec<&'l Lane> {
        let mut having = lanes.filter(|lane| lane.has(measurement, repeat));
        let is_anchor = |lane: &&Lane| Some(&lane.name) == self.anchor.as_ref();
        let anchor = having.clone().find(is_anchor);
        let mut order = Vec::new();
        let mut since = 0;
        for lane in having.by_ref() {
            if since == ANCHOR_EVERY && !is_anchor(&lane) {
                order.extend(anchor);
                since = 0;
            }
            order.push(lane);
            since = if is_anchor(&lane) { 0 } else { since + 1 };
        }
        order
    }

    /// The most repeats of anything.
    pub fn repeats(&self) -> u32 {
        self.works().map(|work| work.repeats).max().unwrap_or(0)
    }

    /// The different measurements in the order of their first appearance.
    pub fn measurements(&self) -> Vec<Measurement> {
        let mut all = Vec::new();
        for work in self.works() {
            if !all.contains(&work.measurement) {
                all.push(work.measurement);
            }
        }
        all
    }

    /// About how long one setting takes.
    pub fn cost(&self) -> Duration {
        let rounds = (0..self.repeats()).flat_map(|repeat| {
            let all = self.measurements().into_iter();
            all.map(move |measurement| (measurement, repeat))
        });
        let traffic: Duration = rounds
            .map(|(measurement, repeat)| {
                let lanes = self.round(self.lanes.iter(), measurement, repeat).len();
                measurement.cost(self.duration) * lanes as u32
            })
            .sum();
        BRING_UP * self.lanes.len() as u32 + traffic
    }

    /// About how long a lane takes.
    pub fn lane_cost(&self, lane: &Lane) -> Duration {
        let works = lane.works.iter();
        let costs = works.map(|work| work.measurement.cost(self.duration) * work.repeats);
        BRING_UP + costs.sum::<Duration>()
    }

    fn works(&self) -> impl Iterator<Item = &Work> {
        self.lanes.iter().flat_map(|lane| &lane.works)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurements(names: &[&str]) -> Vec<Measurement> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn plan() -> Plan {
        Plan {
            lanes: vec![
                Lane::new("plain", &measurements(&["tcp1", "rr"]), 5),
                Lane::new("udp+io=epoll", &measurements(&["rr", "pps64"]), 3),
            ],
            duration: Duration::from_millis(500),
            anchor: None,
        }
    }

    #[test]
    fn the_anchor_is_never_far_from_what_is_compared_with_it() {
        let rr = measurements(&["rr"]);
        let lanes = ["a", "b", "plain", "c", "d", "e", "f", "g"];
        let plan = Plan {
            lanes: lanes.map(|name| Lane::new(name, &rr, 1)).into(),
            anchor: Some("plain".to_owned()),
            ..plan()
        };
        let order = |plan: &Plan| {
            let round = plan.round(plan.lanes.iter(), rr[0], 0);
            round
                .iter()
                .map(|lane| lane.name.as_str())
                .collect::<String>()
        };
        assert_eq!(order(&plan), "abplaincdeplainfg");
        let without = Plan {
            anchor: None,
            ..plan.clone()
        };
        assert_eq!(order(&without), "abplaincdefg");
        assert!(plan.cost() > without.cost());
    }

    #[test]
    fn every_measurement_is_taken_once_in_each_of_its_repeats() {
        let plan = plan();
        assert_eq!(plan.measurements(), measurements(&["tcp1", "rr", "pps64"]));
        assert_eq!(plan.repeats(), 5);
        let rr = "rr".parse().unwrap();
        let taken = |lane: &Lane| (0..9).filter(|repeat| lane.has(rr, *repeat)).count();
        assert_eq!([taken(&plan.lanes[0]), taken(&plan.lanes[1])], [5, 3]);
    }

    #[test]
    fn the_estimate_grows_with_the_repeats() {
        let (once, mut twice) = (plan(), plan());
        for work in twice.lanes.iter_mut().flat_map(|lane| &mut lane.works) {
            work.repeats *= 2;
        }
        assert!(twice.cost() > once.cost());
    }
}

//! What a run consists of, and how long that takes.

use std::time::Duration;

use crate::measure::Measurement;

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
}

impl Plan {
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
        self.lanes.iter().map(|lane| self.lane_cost(lane)).sum()
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
        }
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

//! What can be measured, by the names commands and reports use.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::lab::Side;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Throughput of so many TCP streams, with the processor time per gigabyte.
    Tcp(usize),
    /// The same by iperf3.
    Iperf(usize),
    /// Packets per second of so many bytes in a closed loop, with the processor time per packet.
    Packets(usize),
    /// Packets per second that survive a sender without a brake.
    Flood(usize),
    /// The highest rate with at most one packet in a hundred lost.
    Highest(usize),
    /// Round trip times of a small packet, one question after the other.
    RoundTrip,
    /// Round trip times with a pause of 200 µs between answer and question.
    RoundTripWithGaps,
    /// Peak of the daemon's resident memory so far.
    Memory,
    /// Time from the start of what carries packets to the first ping.
    Start,
}

/// A metric still without its number.
type Family = fn(usize) -> Metric;

/// Every metric as it is written, with what it says; for lists and help.
pub const METRICS: [(&str, &str); 9] = [
    (
        "tcpN",
        "throughput of N TCP streams, and processor seconds per gigabyte",
    ),
    (
        "iperfN",
        "the same throughput by iperf3, as a second opinion",
    ),
    (
        "maxBYTES",
        "highest rate of packets of that size with at most 1 % lost, searched",
    ),
    (
        "floodBYTES",
        "packets that survive a sender without a brake",
    ),
    (
        "ppsBYTES",
        "packets in a closed loop, four flows with 256 under way each",
    ),
    ("rr", "round trips of a small packet, one after the other"),
    ("rrgap", "round trips with pauses of 200 µs"),
    ("memory", "peak of the daemons' resident memory"),
    ("start", "time from start to first ping"),
];

/// The names of the metrics, those with a number without it.
const FAMILIES: [(&str, Family); 5] = [
    ("tcp", Metric::Tcp),
    ("iperf", Metric::Iperf),
    ("pps", Metric::Packets),
    ("flood", Metric::Flood),
    ("max", Metric::Highest),
];
const SINGLES: [(&str, Metric); 4] = [
    ("rr", Metric::RoundTrip),
    ("rrgap", Metric::RoundTripWithGaps),
    ("memory", Metric::Memory),
    ("start", Metric::Start),
];
/// Ends the name of a measurement in which side B sends.
const BACK: &str = "-back";

impl FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let single = SINGLES
            .iter()
            .find(|(single, _)| *single == name)
            .map(|(_, metric)| *metric);
        let family = FAMILIES.iter().find_map(|(family, make)| {
            let number = name
                .strip_prefix(family)?
                .parse()
                .ok()
                .filter(|number| *number > 0)?;
            Some(make(number))
        });
        single.or(family).ok_or_else(|| {
            let names: Vec<_> = METRICS.iter().map(|(name, _)| *name).collect();
            format!("unknown metric `{name}`: it is one of {}", names.join(", "))
        })
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(streams) => write!(out, "tcp{streams}"),
            Self::Iperf(streams) => write!(out, "iperf{streams}"),
            Self::Packets(bytes) => write!(out, "pps{bytes}"),
            Self::Flood(bytes) => write!(out, "flood{bytes}"),
            Self::Highest(bytes) => write!(out, "max{bytes}"),
            Self::RoundTrip => out.write_str("rr"),
            Self::RoundTripWithGaps => out.write_str("rrgap"),
            Self::Memory => out.write_str("memory"),
            Self::Start => out.write_str("start"),
        }
    }
}

/// A metric and the side that sends: `tcp4`, or the other way `tcp4-back`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// What is measured.
    pub metric: Metric,
    /// Who sends.
    pub from: Side,
}

impl Measurement {
    /// About how long it takes when traffic flows for `duration`.
    pub fn cost(self, duration: Duration) -> Duration {
        let moment = Duration::from_millis(50);
        moment
            + match self.metric {
                Metric::Tcp(_) => duration + Duration::from_millis(300),
                Metric::Iperf(_) => duration.max(Duration::from_secs(1)) + Duration::from_secs(2),
                Metric::Highest(_) => duration * 3,
                Metric::Packets(_)
                | Metric::Flood(_)
                | Metric::RoundTrip
                | Metric::RoundTripWithGaps => duration,
                Metric::Start => Duration::from_millis(800),
                Metric::Memory => Duration::ZERO,
            }
    }
}

impl FromStr for Measurement {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let Some(metric) = name.strip_suffix(BACK) else {
            let from = Side::A;
            return name.parse().map(|metric| Self { metric, from });
        };
        match metric.parse()? {
            Metric::Memory | Metric::Start => {
                Err(format!("`{metric}` has no direction to turn round"))
            }
            metric => Ok(Self {
                metric,
                from: Side::B,
            }),
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let back = if self.from == Side::B { BACK } else { "" };
        write!(out, "{}{back}", self.metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_by_their_names() {
        assert_eq!("tcp4".parse(), Ok(Metric::Tcp(4)));
        assert_eq!("pps64".parse(), Ok(Metric::Packets(64)));
        assert_eq!("rrgap".parse(), Ok(Metric::RoundTripWithGaps));
        for wrong in ["tcp", "tcp0", "tcpx", "speed", ""] {
            assert!(wrong.parse::<Metric>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_measurement_is_called_as_it_was_written() {
        for name in ["tcp4", "tcp8-back", "iperf1", "max1400", "rr", "rrgap-back"] {
            assert_eq!(name.parse::<Measurement>().unwrap().to_string(), name);
        }
        assert!("memory-back".parse::<Measurement>().is_err());
    }
}

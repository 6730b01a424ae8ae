//! One measurement on one path: runs the traffic and says what it cost.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use crate::traffic::{Ends, iperf3, latency, rate, tcp, window};
use crate::{Path, Side, cpu};

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
}

/// A metric still without its number.
type Family = fn(usize) -> Metric;

/// The names of the metrics, those with a number without it.
const FAMILIES: [(&str, Family); 5] = [
    ("tcp", Metric::Tcp),
    ("iperf", Metric::Iperf),
    ("pps", Metric::Packets),
    ("flood", Metric::Flood),
    ("max", Metric::Highest),
];
const SINGLES: [(&str, Metric); 3] = [
    ("rr", Metric::RoundTrip),
    ("rrgap", Metric::RoundTripWithGaps),
    ("memory", Metric::Memory),
];
const THINK: Duration = Duration::from_micros(200);

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
            format!("unknown metric `{name}`: it is tcpN, iperfN, ppsBYTES, floodBYTES, maxBYTES, rr, rrgap or memory")
        })
    }
}

/// One number with its name and unit.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Reading {
    /// As in `tcp1`, `tcp1_cpu`, `rr_p99`.
    pub name: String,
    /// As in `Gbit/s`.
    pub unit: &'static str,
    /// The number.
    pub value: f64,
}

fn reading(name: impl fmt::Display, unit: &'static str, value: f64) -> Reading {
    Reading {
        name: name.to_string(),
        unit,
        value,
    }
}

/// Processor seconds at two moments: of the machine and of the daemons.
struct Meter<'a> {
    path: &'a Path,
    marks: Vec<[f64; 2]>,
}

impl<'a> Meter<'a> {
    fn new(path: &'a Path) -> Self {
        Self {
            path,
            marks: Vec::with_capacity(2),
        }
    }

    fn mark(&mut self) {
        self.marks
            .push([cpu::machine_busy(), self.path.carriers_cpu_seconds()]);
    }

    /// What was used between the first two marks, divided by `amount`.
    fn per(&self, amount: f64) -> [f64; 2] {
        match self.marks.as_slice() {
            [before, after, ..] => [0, 1].map(|part| (after[part] - before[part]) / amount),
            _ => [f64::NAN; 2],
        }
    }
}

/// Measures `metric` on `path` for about `duration`, sending from side `from`.
pub fn measure(
    path: &Path,
    metric: Metric,
    from: Side,
    duration: Duration,
) -> io::Result<Vec<Reading>> {
    let ends = Ends::of(path, from);
    match metric {
        Metric::Tcp(streams) => tcp_readings(path, &ends, streams, duration),
        Metric::Iperf(streams) => {
            let gbps = iperf3::tcp_gbps(&ends, streams, duration)?;
            Ok(vec![reading(
                format_args!("iperf{streams}"),
                "Gbit/s",
                gbps,
            )])
        }
        Metric::Packets(bytes) => packet_readings(path, &ends, bytes, duration),
        Metric::Flood(bytes) => {
            let outcome = rate::run(&ends, bytes, f64::INFINITY, duration)?;
            Ok(vec![
                reading(format_args!("flood{bytes}"), "kpps", outcome.rate() / 1e3),
                reading(
                    format_args!("flood{bytes}_loss"),
                    "%",
                    outcome.loss() * 100.0,
                ),
            ])
        }
        Metric::Highest(bytes) => {
            let guess = window::run(&ends, bytes, duration / 4)?.rate().max(1000.0);
            let highest = rate::highest(&ends, bytes, guess, duration / 4)?;
            Ok(vec![reading(
                format_args!("max{bytes}"),
                "kpps",
                highest / 1e3,
            )])
        }
        Metric::RoundTrip => {
            round_trip_readings("rr", &latency::run(&ends, duration, Duration::ZERO)?)
        }
        Metric::RoundTripWithGaps => {
            round_trip_readings("rrgap", &latency::run(&ends, duration, THINK)?)
        }
        Metric::Memory => {
            let peak = path
                .peak_memory_kib()
                .map_or(f64::NAN, |kib| kib as f64 / 1024.0);
            Ok(vec![reading("memory", "MiB", peak)])
        }
    }
}

fn tcp_readings(
    path: &Path,
    ends: &Ends<'_>,
    streams: usize,
    duration: Duration,
) -> io::Result<Vec<Reading>> {
    let mut meter = Meter::new(path);
    let outcome = tcp::run(ends, streams, duration, || meter.mark())?;
    let [machine, daemons] = meter.per(outcome.bytes as f64 / 1e9);
    Ok(vec![
        reading(format_args!("tcp{streams}"), "Gbit/s", outcome.gbps()),
        reading(format_args!("tcp{streams}_cpu"), "s/GB", machine),
        reading(format_args!("tcp{streams}_daemons"), "s/GB", daemons),
    ])
}

fn packet_readings(
    path: &Path,
    ends: &Ends<'_>,
    bytes: usize,
    duration: Duration,
) -> io::Result<Vec<Reading>> {
    let mut meter = Meter::new(path);
    meter.mark();
    let outcome = window::run(ends, bytes, duration)?;
    meter.mark();
    let [machine, daemons] = meter.per(outcome.received as f64 / 1e6);
    Ok(vec![
        reading(format_args!("pps{bytes}"), "kpps", outcome.rate() / 1e3),
        reading(format_args!("pps{bytes}_loss"), "%", outcome.loss() * 100.0),
        reading(format_args!("pps{bytes}_cpu"), "µs/packet", machine),
        reading(format_args!("pps{bytes}_daemons"), "µs/packet", daemons),
    ])
}

fn round_trip_readings(name: &str, outcome: &latency::Outcome) -> io::Result<Vec<Reading>> {
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];
    let readings = quantiles.map(|(label, part)| {
        reading(
            format_args!("{name}_{label}"),
            "µs",
            outcome.quantile_us(part),
        )
    });
    Ok(readings.into())
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
}

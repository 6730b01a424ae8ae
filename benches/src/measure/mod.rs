//! One measurement on one path: runs the traffic and says what it cost.

mod metric;
mod subject;

pub use metric::{METRICS, Measurement, Metric};
pub use subject::Subject;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::Side;
use crate::report::short;
use crate::traffic::rate;

const THINK: Duration = Duration::from_micros(200);
/// The part of a measurement's time one try of a searched rate takes.
const TRIES: u32 = 4;
/// The points of the distribution of round trip times that are kept.
const QUANTILES: [(&str, f64); 9] = [
    ("p10", 0.1),
    ("p25", 0.25),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p995", 0.995),
    ("p999", 0.999),
];

/// One number with its name and unit.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Reading {
    /// As in `tcp1`, `tcp1_cpu`, `rr_p99`.
    pub name: String,
    /// As in `Gbit/s`.
    pub unit: Cow<'static, str>,
    /// The number.
    pub value: f64,
}

impl fmt::Display for Reading {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", short(self.value), self.unit)
    }
}

fn reading(name: impl fmt::Display, unit: &'static str, value: f64) -> Reading {
    Reading {
        name: name.to_string(),
        unit: unit.into(),
        value,
    }
}

/// Measures `metric` on `subject` for about `duration`, sending from side `from`.
pub fn measure(
    subject: &dyn Subject,
    metric: Metric,
    from: Side,
    duration: Duration,
) -> io::Result<Vec<Reading>> {
    let name = Measurement { metric, from };
    let one = |unit, value| vec![reading(name, unit, value)];
    Ok(match metric {
        Metric::Tcp(streams) => tcp_readings(subject, name, streams, duration)?,
        Metric::Iperf(streams) => one("Gbit/s", subject.iperf3(from, streams, duration)?),
        Metric::Packets(bytes) => packet_readings(subject, name, bytes, duration)?,
        Metric::Flood(bytes) => {
            let outcome = subject.rate(from, bytes, f64::INFINITY, duration)?;
            rate_readings(name, outcome.rate(), outcome.loss())
        }
        Metric::Highest(bytes) => one("kpps", highest(subject, from, bytes, duration)? / 1e3),
        Metric::RoundTrip => round_trip_readings(subject, name, duration, Duration::ZERO)?,
        Metric::RoundTripWithGaps => round_trip_readings(subject, name, duration, THINK)?,
        Metric::Memory => one("MiB", memory_mib(subject)?),
        Metric::Start => one("ms", subject.time_to_first_ping()?.as_secs_f64() * 1e3),
    })
}

/// Processor seconds used since it was made, divided by an amount of work.
struct Meter {
    marks: Vec<[f64; 2]>,
}

impl Meter {
    fn new() -> Self {
        Self {
            marks: Vec::with_capacity(2),
        }
    }

    fn mark(&mut self, subject: &dyn Subject) {
        self.marks.push(subject.processor_seconds());
    }

    /// What was used between the first two marks, divided by `amount`.
    fn per(&self, amount: f64) -> [f64; 2] {
        match self.marks.as_slice() {
            [before, after, ..] => [0, 1].map(|part| (after[part] - before[part]) / amount),
            _ => [f64::NAN; 2],
        }
    }
}

fn tcp_readings(
    subject: &dyn Subject,
    name: Measurement,
    streams: usize,
    duration: Duration,
) -> io::Result<Vec<Reading>> {
    let mut meter = Meter::new();
    let outcome = subject.tcp(name.from, streams, duration, &mut || meter.mark(subject))?;
    something_arrived(outcome.bytes)?;
    let [machine, daemons] = meter.per(outcome.bytes as f64 / 1e9);
    let mut readings = vec![reading(name, "Gbit/s", outcome.gbps())];
    readings.extend(processor_readings(name, "s/GB", [machine, daemons]));
    Ok(readings)
}

fn packet_readings(
    subject: &dyn Subject,
    name: Measurement,
    bytes: usize,
    duration: Duration,
) -> io::Result<Vec<Reading>> {
    let mut meter = Meter::new();
    meter.mark(subject);
    let outcome = subject.window(name.from, bytes, duration)?;
    meter.mark(subject);
    something_arrived(outcome.received)?;
    let [machine, daemons] = meter.per(outcome.received as f64 / 1e6);
    let mut readings = rate_readings(name, outcome.rate(), outcome.loss());
    readings.extend(processor_readings(name, "µs/packet", [machine, daemons]));
    Ok(readings)
}

/// Processor time, where it is known whose it is.
fn processor_readings(
    name: Measurement,
    unit: &'static str,
    [machine, daemons]: [f64; 2],
) -> impl Iterator<Item = Reading> {
    let readings = [
        reading(format_args!("{name}_cpu"), unit, machine),
        reading(format_args!("{name}_daemons"), unit, daemons),
    ];
    readings
        .into_iter()
        .filter(|reading| !reading.value.is_nan())
}

fn rate_readings(name: Measurement, rate: f64, loss: f64) -> Vec<Reading> {
    vec![
        reading(name, "kpps", rate / 1e3),
        reading(format_args!("{name}_loss"), "%", loss * 100.0),
    ]
}

/// Begins the search where the closed loop, which loses next to nothing, ends.
fn highest(subject: &dyn Subject, from: Side, bytes: usize, duration: Duration) -> io::Result<f64> {
    let probe = duration / TRIES;
    let guess = subject.window(from, bytes, probe)?.rate().max(1000.0);
    rate::highest(guess, |rate| subject.rate(from, bytes, rate, probe))
}

fn round_trip_readings(
    subject: &dyn Subject,
    name: Measurement,
    duration: Duration,
    think: Duration,
) -> io::Result<Vec<Reading>> {
    let outcome = subject.round_trips(name.from, duration, think)?;
    something_arrived(outcome.round_trips_ns.len() as u64)?;
    let readings = QUANTILES.map(|(label, part)| {
        let value = outcome.quantile_us(part);
        reading(format_args!("{name}_{label}"), "µs", value)
    });
    Ok(readings.into())
}

/// Nothing at all is no number, but a fault of the path.
fn something_arrived(amount: u64) -> io::Result<()> {
    match amount {
        0 => Err(io::Error::other("nothing has arrived")),
        _ => Ok(()),
    }
}

fn memory_mib(subject: &dyn Subject) -> io::Result<f64> {
    let peak = subject.peak_memory_kib();
    let peak =
        peak.ok_or_else(|| io::Error::other("there is no daemon whose memory it could be"))?;
    Ok(peak as f64 / 1024.0)
}

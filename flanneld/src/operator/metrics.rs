//! The same facts as numbers for a monitoring system, in the OpenMetrics text format. `docs/metrics.md` lists them; a
//! test holds it to what is written here.

use super::Sources;
use console::answers::Status;
use engine::{Counter, Counters, Distribution, DropReason, Measure};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use sandbox::denied;
use std::fmt;
use std::time::SystemTime;

/// What the text is, for those who ask over HTTP.
pub(super) const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels with their values.
type Labels = Vec<(&'static str, String)>;
/// Samples of one metric.
type Samples<N> = Vec<(Labels, N)>;

impl Sources {
    /// All metrics at this moment.
    pub(super) fn metrics(&self) -> Result<String, fmt::Error> {
        let engine = self.account.engine();
        render(Scrape {
            status: self.status(),
            total: self.account.counted(),
            denied: denied::so_far().0,
            workers: engine.map_or_else(Vec::new, |engine| engine.worker_counters()),
        })
    }
}

fn render(scrape: Scrape) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("flannel");
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// What a scrape is made of.
#[derive(Debug)]
struct Scrape {
    status: Status,
    total: Counters,
    /// System calls that workers were denied.
    denied: u64,
    workers: Vec<Counters>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.daemon(&mut out)?;
        self.network(&mut out)?;
        self.engine(&mut out)?;
        self.packets(&mut out)?;
        self.distributions(&mut out)
    }
}

impl Scrape {
    fn daemon(&self, out: &mut Out<'_>) -> fmt::Result {
        let status = &self.status;
        let version = vec![("version", status.version.clone())];
        out.gauges("build_info", "Which version runs", vec![(version, 1.0)])?;
        let start = now() - status.uptime_seconds as f64;
        out.gauge("start_time_seconds", "When the daemon was started", start)?;
        out.gauge(
            "healthy",
            "1 while flannelctl status finds nothing wrong",
            flag(status.healthy),
        )?;
        out.gauge(
            "control_silent_seconds",
            "Since the control loop turned; above 30 it is stuck",
            status.silent_seconds as f64,
        )?;
        out.gauge(
            "store_up",
            "1 while the store of leases answers",
            flag(status.store.answers),
        )?;
        out.counters(
            "denied_calls",
            "System calls that workers were denied; above 0 is a bug or a break-in",
            vec![(Labels::new(), self.denied)],
        )
    }

    fn network(&self, out: &mut Out<'_>) -> fmt::Result {
        let status = &self.status;
        let lease = status.lease.as_ref();
        let held = lease.is_some_and(|lease| lease.standing == "held");
        out.gauge(
            "lease_held",
            "1 while the store has this node's lease",
            flag(held),
        )?;
        if let Some(seconds) = lease.and_then(|lease| lease.expires_in_seconds) {
            let help = "When the lease would end without being renewed";
            out.gauge(
                "lease_expiry_timestamp_seconds",
                help,
                now() + seconds as f64,
            )?;
        }
        let others = status.others.unwrap_or_default();
        let records = [
            ("readable", others.records),
            ("unreadable", others.unreadable),
            ("refused", others.refused),
        ];
        let records =
            records.map(|(state, count)| (vec![("state", state.to_owned())], count as f64));
        out.gauges("records", "Lease records in the store", records.into())?;
        out.gauge(
            "routes",
            "Subnets of other nodes that packets go to",
            others.routes as f64,
        )?;
        match &status.network {
            Some(network) => out.gauge(
                "mtu_bytes",
                "Largest packet containers may send",
                f64::from(network.mtu),
            ),
            None => Ok(()),
        }
    }

    fn engine(&self, out: &mut Out<'_>) -> fmt::Result {
        let Some(engine) = &self.status.engine else {
            return Ok(());
        };
        let io = vec![("io", engine.io.clone())];
        out.gauges("engine_io_info", "How packets are moved", vec![(io, 1.0)])?;
        out.gauge(
            "engine_workers",
            "Threads that move packets",
            engine.workers as f64,
        )?;
        out.gauge(
            "engine_up",
            "1 while every worker answers",
            flag(engine.answers),
        )?;
        let offloads = [
            ("virtio_header", engine.virtio_header),
            ("tso", engine.tso),
            ("uso", engine.uso),
            ("gso", engine.gso_segments > 1),
            ("gro", engine.gro),
            ("merge", engine.merge),
            ("shortcut", engine.shortcut.is_some()),
        ];
        let offloads = offloads.map(|(name, on)| (vec![("offload", name.to_owned())], flag(on)));
        out.gauges(
            "engine_offload",
            "1 where the offload was in use at start",
            offloads.into(),
        )
    }

    fn packets(&self, out: &mut Out<'_>) -> fmt::Result {
        let forwarded = [
            (
                "forward_packets",
                "Inner packets carried",
                [Counter::ToUnderlay, Counter::ToTun],
            ),
            (
                "forward_bytes",
                "Bytes carried: UDP payload outward, inner packets inward",
                [Counter::ToUnderlayBytes, Counter::ToTunBytes],
            ),
        ];
        for (name, help, [outward, inward]) in forwarded {
            let mut samples = self.by_worker(outward, Some("out"));
            samples.extend(self.by_worker(inward, Some("in")));
            out.counters(name, help, samples)?;
        }
        let told = forwarded.map(|(_, _, counters)| counters).concat();
        for counter in Counter::ALL
            .iter()
            .filter(|counter| !told.contains(counter))
        {
            let name = format!("engine_{}", counter.name());
            out.counters(&name, counter.about(), self.by_worker(*counter, None))?;
        }
        let drops = DropReason::ALL.iter().map(|reason| {
            let labels = vec![("reason", reason.name().to_owned())];
            (labels, self.total.dropped(*reason))
        });
        out.counters(
            "drop_packets",
            "Inner packets not carried, by reason",
            drops.collect(),
        )
    }

    fn by_worker(&self, counter: Counter, direction: Option<&str>) -> Samples<u64> {
        let sample = |(worker, counters): (usize, &Counters)| {
            let mut labels = vec![("worker", worker.to_string())];
            labels.extend(direction.map(|direction| ("direction", direction.to_owned())));
            (labels, counters.get(counter))
        };
        self.workers.iter().enumerate().map(sample).collect()
    }

    fn distributions(&self, out: &mut Out<'_>) -> fmt::Result {
        let measures = [
            ("out_batch_packets", Measure::OutBatch, 1.0),
            ("in_batch_messages", Measure::InBatch, 1.0),
            ("turn_seconds", Measure::Turn, 1e-6),
        ];
        for (name, measure, unit) in measures {
            let help = match measure {
                Measure::Turn => "Time of a worker's turn; one in 64 is timed",
                counted => counted.about(),
            };
            out.histogram(name, help, self.total.distribution(measure), unit)?;
        }
        Ok(())
    }
}

/// Where metrics go.
struct Out<'e>(DescriptorEncoder<'e>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, vec![(Labels::new(), value)])
    }

    fn gauges(&mut self, name: &str, help: &str, samples: Samples<f64>) -> fmt::Result {
        let samples = samples.into_iter();
        let samples = samples.map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, samples)
    }

    fn counters(&mut self, name: &str, help: &str, samples: Samples<u64>) -> fmt::Result {
        let samples = samples.into_iter();
        let samples = samples.map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, MetricType::Counter, samples)
    }

    fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl Iterator<Item = (Labels, impl EncodeMetric)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, sentence(help), None, kind)?;
        for (labels, value) in samples {
            value.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        values: &Distribution,
        unit: f64,
    ) -> fmt::Result {
        let bound = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64 * unit);
        let buckets: Vec<(f64, u64)> = values
            .buckets()
            .map(|(most, count)| (bound(most), count))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let kind = MetricType::Histogram;
        let mut metric = self.0.encode_descriptor(name, sentence(help), None, kind)?;
        metric.encode_histogram::<NoLabelSet>(values.sum as f64 * unit, count, &buckets, None)
    }
}

/// The format ends each help text with a full stop of its own.
fn sentence(help: &str) -> &str {
    help.trim_end_matches('.')
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;

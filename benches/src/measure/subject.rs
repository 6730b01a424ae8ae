//! What traffic goes through: a path in a lab, or the network between two machines.

use std::io;
use std::time::Duration;

use crate::lab::Side;
use crate::paths::Path;
use crate::traffic::{Ends, iperf3, latency, rate, tcp, window};

/// Something that carries traffic between two ends and costs processor time.
pub trait Subject {
    /// TCP streams; calls `edge` when counting starts and ends.
    fn tcp(
        &self,
        from: Side,
        streams: usize,
        duration: Duration,
        edge: &mut dyn FnMut(),
    ) -> io::Result<tcp::Outcome>;

    /// TCP streams of iperf3, in Gbit/s.
    fn iperf3(&self, from: Side, streams: usize, duration: Duration) -> io::Result<f64>;

    /// Packets in a closed loop.
    fn window(&self, from: Side, packet: usize, duration: Duration) -> io::Result<window::Outcome>;

    /// Packets at a rate, which may be infinite.
    fn rate(
        &self,
        from: Side,
        packet: usize,
        per_second: f64,
        duration: Duration,
    ) -> io::Result<rate::Outcome>;

    /// Small packets there and back.
    fn round_trips(
        &self,
        from: Side,
        duration: Duration,
        think: Duration,
    ) -> io::Result<latency::Outcome>;

    /// Processor seconds so far: of all machines, and of the daemons or what stands for them.
    fn processor_seconds(&self) -> [f64; 2];

    /// The largest peak of resident memory of a daemon, if there is one.
    fn peak_memory_kib(&self) -> Option<u64>;

    /// How long everything takes from its start to the first ping.
    fn time_to_first_ping(&self) -> io::Result<Duration>;

    /// What the daemons have said, for error messages.
    fn logs(&self) -> String;
}

impl Subject for Path {
    fn tcp(
        &self,
        from: Side,
        streams: usize,
        duration: Duration,
        edge: &mut dyn FnMut(),
    ) -> io::Result<tcp::Outcome> {
        let _watch = self.watch()?;
        tcp::run(&Ends::of(self, from), streams, duration, edge)
    }

    fn iperf3(&self, from: Side, streams: usize, duration: Duration) -> io::Result<f64> {
        let _watch = self.watch()?;
        iperf3::tcp_gbps(&Ends::of(self, from), streams, duration)
    }

    fn window(&self, from: Side, packet: usize, duration: Duration) -> io::Result<window::Outcome> {
        let _watch = self.watch()?;
        window::run(&Ends::of(self, from), packet, duration)
    }

    fn rate(
        &self,
        from: Side,
        packet: usize,
        per_second: f64,
        duration: Duration,
    ) -> io::Result<rate::Outcome> {
        let _watch = self.watch()?;
        rate::run(&Ends::of(self, from), packet, per_second, duration)
    }

    fn round_trips(
        &self,
        from: Side,
        duration: Duration,
        think: Duration,
    ) -> io::Result<latency::Outcome> {
        let _watch = self.watch()?;
        latency::run(&Ends::of(self, from), duration, think)
    }

    fn processor_seconds(&self) -> [f64; 2] {
        [crate::cpu::machine_busy(), self.carriers_cpu_seconds()]
    }

    fn peak_memory_kib(&self) -> Option<u64> {
        Self::peak_memory_kib(self)
    }

    fn time_to_first_ping(&self) -> io::Result<Duration> {
        Self::time_to_first_ping(self)
    }

    fn logs(&self) -> String {
        Self::logs(self)
    }
}

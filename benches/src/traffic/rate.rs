//! Open-loop UDP: a given rate, or as fast as one core can, and the highest rate with little loss.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{BATCH, Ends, drain, payload_of};
use crate::sys::{self, MessageBatch};

/// A sender that is ahead of its rate sleeps this long, so bursts stay short.
const PACE: Duration = Duration::from_micros(50);
/// How long the receiver waits for packets that are still under way.
const SETTLE_MS: i32 = 30;
const LOSS_ALLOWED: f64 = 0.01;
const STEP: f64 = 1.2;
const REFINEMENTS: usize = 3;

/// What an open-loop run offered and what arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Packets sent.
    pub sent: u64,
    /// Packets that arrived.
    pub received: u64,
    /// From the first packet sent to the last one received: what waits in a queue is not there yet.
    pub seconds: f64,
}

impl Outcome {
    /// Delivered packets per second.
    pub fn rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }

    /// The part that was lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        1.0 - self.received as f64 / (self.sent as f64).max(1.0)
    }
}

/// Sends inner packets of `packet` bytes at `per_second`, or without a brake at infinity.
pub fn run(
    ends: &Ends<'_>,
    packet: usize,
    per_second: f64,
    duration: Duration,
) -> io::Result<Outcome> {
    let ((near, far), payload) = (ends.flows()?, payload_of(packet, ends.far.1));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            ends.keep_if_pinned(true);
            count(&far, payload, &stop)
        });
        let started = Instant::now();
        let sent = ends.at_near(|| send(&near, payload, per_second, duration));
        let ended = Instant::now();
        stop.store(true, Ordering::Relaxed);
        let (received, last) = receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let ended = last.map_or(ended, |last| last.max(ended));
        Ok(Outcome {
            sent: sent?,
            received,
            seconds: (ended - started).as_secs_f64(),
        })
    })
}

/// Searches the highest offered rate that loses at most one packet in a hundred.
///
/// Starts at `guess`, walks up or down in steps of a fifth until the answer changes, then halves
/// the gap a few times. A rate counts as good when one of two tries is good.
pub fn highest(guess: f64, mut offer: impl FnMut(f64) -> io::Result<Outcome>) -> io::Result<f64> {
    search(guess, |rate| {
        for _ in 0..2 {
            let outcome = offer(rate)?;
            // A sender that could not offer the rate has not shown that the path carries it, and
            // packets that came long after the last one was sent have only shown a long queue.
            if outcome.loss() <= LOSS_ALLOWED
                && outcome.sent as f64 >= rate * outcome.seconds * 0.95
            {
                return Ok(Some(outcome.rate()));
            }
        }
        Ok(None)
    })
}

fn search(guess: f64, mut good: impl FnMut(f64) -> io::Result<Option<f64>>) -> io::Result<f64> {
    let (mut low, mut high) = (guess, guess);
    let mut best = 0.0;
    if let Some(rate) = good(guess)? {
        best = rate;
        while let Some(rate) = good(high * STEP)? {
            (low, high, best) = (high * STEP, high * STEP, rate);
        }
        high *= STEP;
    } else {
        while best == 0.0 && low > 1.0 {
            high = low;
            low /= STEP;
            best = good(low)?.unwrap_or(0.0);
        }
    }
    for _ in 0..REFINEMENTS {
        let middle = f64::midpoint(low, high);
        match good(middle)? {
            Some(rate) => (low, best) = (middle, rate),
            None => high = middle,
        }
    }
    Ok(best)
}

/// Sends for `duration`, in turn over all sockets; says how many packets that were.
pub(crate) fn send(
    flows: &[UdpSocket],
    payload: usize,
    per_second: f64,
    duration: Duration,
) -> io::Result<u64> {
    sys::fine_timers();
    let mut batch = MessageBatch::new(BATCH, payload);
    let (started, mut sent) = (Instant::now(), 0_u64);
    for flow in flows.iter().cycle() {
        let elapsed = started.elapsed();
        if elapsed >= duration {
            break;
        }
        let due = (elapsed.as_secs_f64() * per_second - sent as f64).min(BATCH as f64);
        if due < 1.0 {
            thread::sleep(PACE);
            continue;
        }
        match batch.send(flow.as_fd(), due as usize) {
            Ok(count) => sent += count as u64,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Counts until told to stop and nothing has come for a while; also says when the last packet came.
pub(crate) fn count(
    flows: &[UdpSocket],
    payload: usize,
    stop: &AtomicBool,
) -> io::Result<(u64, Option<Instant>)> {
    let mut batch = MessageBatch::new(BATCH, payload);
    let mut polls: Vec<_> = flows
        .iter()
        .map(|flow| sys::readable(flow.as_fd()))
        .collect();
    let (mut received, mut last) = (0, None);
    loop {
        if sys::wait_readable(&mut polls, SETTLE_MS)? == 0 {
            if stop.load(Ordering::Relaxed) {
                return Ok((received, last));
            }
            continue;
        }
        for (flow, _) in flows
            .iter()
            .zip(&polls)
            .filter(|(_, poll)| poll.revents != 0)
        {
            received += drain(flow, &mut batch, |_| ())?;
        }
        last = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: f64, guess: f64) -> f64 {
        search(guess, |rate| Ok((rate <= limit).then_some(rate))).unwrap()
    }

    #[test]
    fn the_search_ends_just_below_the_limit_from_either_side() {
        for guess in [20_000.0, 95_000.0, 100_000.0, 130_000.0, 900_000.0] {
            let best = found(100_000.0, guess);
            assert!((96_000.0..=100_000.0).contains(&best), "{guess}: {best}");
        }
    }

    #[test]
    fn a_path_that_carries_nothing_has_no_rate() {
        assert!(found(0.0, 1000.0) < 1.0);
    }
}

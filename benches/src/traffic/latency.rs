//! UDP ping-pong: one small packet there and back, one at a time.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Ends, Flow};

const PAYLOAD: usize = 36;
const LOST_AFTER: Duration = Duration::from_millis(50);
/// How long the first answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const WARM_UP: usize = 100;

/// Round trip times of one run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// In nanoseconds, ascending.
    pub round_trips_ns: Vec<u64>,
    /// Questions that got no answer.
    pub lost: u64,
}

impl Outcome {
    /// The round trip time, in microseconds, that `part` of all stay below.
    pub fn quantile_us(&self, part: f64) -> f64 {
        let last = self.round_trips_ns.len().saturating_sub(1);
        let place = (last as f64 * part).round() as usize;
        self.round_trips_ns
            .get(place)
            .map_or(f64::NAN, |nanoseconds| *nanoseconds as f64 / 1000.0)
    }
}

/// Plays ping-pong for `duration`, with a pause of `think` between answers and questions.
pub fn run(ends: &Ends<'_>, duration: Duration, think: Duration) -> io::Result<Outcome> {
    let flow = Flow::between(ends)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            ends.keep_apart(true);
            answer(&flow.far, &stop);
        });
        let asking = scope.spawn(|| {
            ends.keep_apart(false);
            ask(&flow.near, duration, think)
        });
        let outcome = asking
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// Answers until told to stop.
pub(crate) fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; PAYLOAD];
    if socket.set_read_timeout(Some(LOST_AFTER)).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut buffer) {
            // A lost answer is counted by the side that asks.
            let _ = socket.send(&buffer[..length]);
        }
    }
}

/// Asks for `duration`, with a pause of `think` after each answer.
pub(crate) fn ask(socket: &UdpSocket, duration: Duration, think: Duration) -> io::Result<Outcome> {
    socket.set_read_timeout(Some(LOST_AFTER))?;
    let mut outcome = Outcome::default();
    let deadline = Instant::now() + duration;
    for number in 0_u64.. {
        let asked = Instant::now();
        let patience = if outcome.round_trips_ns.is_empty() {
            PATIENCE
        } else {
            Duration::ZERO
        };
        if asked >= deadline + patience {
            break;
        }
        if round_trip(socket, number)? {
            outcome
                .round_trips_ns
                .push(asked.elapsed().as_nanos() as u64);
        } else {
            outcome.lost += 1;
        }
        if !think.is_zero() {
            thread::sleep(think);
        }
    }
    outcome
        .round_trips_ns
        .drain(..WARM_UP.min(outcome.round_trips_ns.len() / 2));
    outcome.round_trips_ns.sort_unstable();
    Ok(outcome)
}

/// Asks once; an answer to an earlier question that came late is passed over.
fn round_trip(socket: &UdpSocket, number: u64) -> io::Result<bool> {
    let mut buffer = [0; PAYLOAD];
    buffer[..8].copy_from_slice(&number.to_ne_bytes());
    socket.send(&buffer)?;
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) if super::sequence(&buffer) == number => return Ok(true),
            Ok(_) => {}
            Err(error) if super::would_block(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_from_the_sorted_times() {
        let outcome = Outcome {
            round_trips_ns: (0..=1000).map(|n| n * 1000).collect(),
            lost: 0,
        };
        assert_eq!(outcome.quantile_us(0.5).to_bits(), 500.0_f64.to_bits());
        assert_eq!(outcome.quantile_us(0.999).to_bits(), 999.0_f64.to_bits());
        assert!(Outcome::default().quantile_us(0.5).is_nan());
    }
}

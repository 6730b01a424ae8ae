//! How far a run is, on the error output.
//!
//! On a terminal one line is written over and over, with the time left; elsewhere every measurement
//! leaves a line.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Begins a line that replaces the one before.
const OVERWRITE: &str = "\r\x1b[K";

/// Where progress goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Terminal,
    Log,
    Nowhere,
}

/// Counts planned time against real time.
#[derive(Debug)]
pub struct Progress {
    place: Place,
    planned: Duration,
    done: Duration,
    started: Instant,
}

impl Progress {
    /// For a run that should take `planned`.
    pub fn new(planned: Duration, quiet: bool) -> Self {
        let place = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Place::Nowhere,
            (false, true) => Place::Terminal,
            (false, false) => Place::Log,
        };
        Self {
            place,
            planned,
            done: Duration::ZERO,
            started: Instant::now(),
        }
    }

    /// Something that stays on the screen.
    pub fn say(&self, text: &str) {
        match self.place {
            Place::Terminal => eprintln!("{OVERWRITE}{text}"),
            Place::Log => eprintln!("{text}"),
            Place::Nowhere => {}
        }
    }

    /// Shows what happens now, and the time left, on a terminal.
    pub(super) fn show(&self, label: &str) {
        if self.place == Place::Terminal {
            let left = time_left(self.planned, self.done, self.started.elapsed());
            eprint!("{OVERWRITE}{} left · {label}", human(left));
            // Progress that cannot be shown changes nothing about the run.
            let _ = std::io::stderr().flush();
        }
    }

    /// Leaves a line about a measurement where there is no terminal.
    pub(super) fn done(&mut self, label: &str, said: &str, cost: Duration) {
        self.done += cost;
        if self.place == Place::Log {
            eprintln!("{label}: {said}");
        }
    }

    /// Something that was planned is not done after all.
    pub(super) fn skip(&mut self, cost: Duration) {
        self.planned = self.planned.saturating_sub(cost);
    }

    /// Leaves an empty line on the terminal.
    pub fn finish(&self) {
        if self.place == Place::Terminal {
            eprint!("{OVERWRITE}");
        }
    }
}

/// What is left of the plan at the pace so far, once there is a pace.
fn time_left(planned: Duration, done: Duration, elapsed: Duration) -> Duration {
    let left = planned.saturating_sub(done);
    if done < planned / 20 || done.is_zero() {
        return left;
    }
    left.mul_f64(elapsed.as_secs_f64() / done.as_secs_f64())
}

/// A length of time for people: `45 s`, `9 min 20 s`.
pub fn human(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_time_left_follows_the_pace_so_far() {
        assert_eq!(
            time_left(SECOND * 100, SECOND * 50, SECOND * 100),
            SECOND * 100
        );
        assert_eq!(time_left(SECOND * 100, SECOND, SECOND * 90), SECOND * 99);
        assert_eq!(time_left(SECOND * 10, SECOND * 20, SECOND), Duration::ZERO);
    }

    #[test]
    fn lengths_of_time_are_readable() {
        assert_eq!(human(SECOND * 45), "45 s");
        assert_eq!(human(SECOND * 120), "2 min");
        assert_eq!(human(SECOND * 560), "9 min 20 s");
    }
}

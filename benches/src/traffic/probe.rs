//! A steady beat: a small packet there and back every millisecond, for as long as something else goes on.
//!
//! What is lost, and when, is the measure of a fault. A packet that comes back late is not lost: on a
//! busy machine everybody waits at times. Three threads sleep nearly always, so the probe costs little.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Ends, Flow, sequence};
use crate::sys;

/// One packet per millisecond.
pub const BEAT: Duration = Duration::from_millis(1);
const PAYLOAD: usize = 36;
/// What has not come back this long after the last question is lost.
const LATE: Duration = Duration::from_millis(1000);
/// How often a thread that hears nothing looks whether it is still needed.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A probe under way; ends when [stopped](Probe::stop) or dropped.
#[derive(Debug)]
pub struct Probe {
    ending: Arc<Ending>,
    begun: Instant,
    /// When each packet was sent, from the beginning on.
    sender: Option<JoinHandle<Vec<Duration>>>,
    /// When each answer came, by number.
    collector: Option<JoinHandle<Vec<Option<Duration>>>>,
    echo: Option<JoinHandle<()>>,
}

/// The two steps of the end: no more questions, then no more answers.
#[derive(Debug, Default)]
struct Ending {
    asking: AtomicBool,
    answering: AtomicBool,
    /// How many have come back so far.
    returned: AtomicUsize,
}

/// What a probe saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Packets sent.
    pub sent: u64,
    /// Packets that did not come back.
    pub lost: u64,
    /// Every run of lost packets, in order.
    pub gaps: Vec<Gap>,
    /// The longest any packet that came back was away.
    pub slowest: Duration,
}

/// Packets lost one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the first of them was sent, from the probe's beginning on.
    pub start: Duration,
    /// From there to the next packet that came back, or to the end.
    pub length: Duration,
    /// How many there were.
    pub lost: u64,
}

impl Probe {
    /// Begins to send from the near end, one packet per [`BEAT`].
    pub fn start(ends: &Ends<'_>) -> io::Result<Self> {
        let Flow { near, far } = Flow::between(ends)?;
        let asker = near.try_clone()?;
        near.set_read_timeout(Some(LOOK_UP))?;
        far.set_read_timeout(Some(LOOK_UP))?;
        let (ending, begun) = (Arc::new(Ending::default()), Instant::now());
        let [asking, hearing, echoing] = [(); 3].map(|()| Arc::clone(&ending));
        Ok(Self {
            ending,
            begun,
            sender: Some(thread::spawn(move || ask(&asker, begun, &asking))),
            collector: Some(thread::spawn(move || collect(&near, begun, &hearing))),
            echo: Some(thread::spawn(move || echo(&far, &echoing))),
        })
    }

    /// Time since the beginning, as in [`Gap::start`].
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Sends no more, waits for what is under way, and says what was lost.
    pub fn stop(mut self) -> Outcome {
        self.ending.asking.store(true, Ordering::Relaxed);
        let sent = joined(self.sender.take());
        let deadline = Instant::now() + LATE;
        while self.ending.returned.load(Ordering::Relaxed) < sent.len() && Instant::now() < deadline
        {
            thread::sleep(BEAT);
        }
        self.ending.answering.store(true, Ordering::Relaxed);
        Outcome::of(&sent, &joined(self.collector.take()))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.ending.asking.store(true, Ordering::Relaxed);
        self.ending.answering.store(true, Ordering::Relaxed);
        joined(self.sender.take());
        joined(self.collector.take());
        joined(self.echo.take());
    }
}

fn joined<T: Default>(thread: Option<JoinHandle<T>>) -> T {
    let result = thread.map(JoinHandle::join);
    match result {
        None => T::default(),
        Some(Ok(value)) => value,
        Some(Err(panic)) => std::panic::resume_unwind(panic),
    }
}

fn ask(socket: &UdpSocket, begun: Instant, ending: &Ending) -> Vec<Duration> {
    sys::fine_timers();
    let mut sent = Vec::new();
    let mut packet = [0; PAYLOAD];
    while !ending.asking.load(Ordering::Relaxed) {
        packet[..8].copy_from_slice(&(sent.len() as u64).to_ne_bytes());
        sent.push(begun.elapsed());
        // What the kernel refuses to send is as lost as what the network drops.
        let _ = socket.send(&packet);
        thread::sleep(until_next_beat(begun.elapsed()));
    }
    sent
}

/// Beats that were slept through are left out, not sent in a burst.
fn until_next_beat(now: Duration) -> Duration {
    let into = now.as_nanos() % BEAT.as_nanos();
    BEAT - Duration::from_nanos(into as u64)
}

fn echo(socket: &UdpSocket, ending: &Ending) {
    let mut buffer = [0; PAYLOAD];
    while !ending.answering.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut buffer) {
            let _ = socket.send(&buffer[..length]);
        }
    }
}

fn collect(socket: &UdpSocket, begun: Instant, ending: &Ending) -> Vec<Option<Duration>> {
    let mut returned = Vec::new();
    let mut buffer = [0; PAYLOAD];
    while !ending.answering.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut buffer) {
            note(&mut returned, sequence(&buffer[..length]), begun.elapsed());
            ending.returned.fetch_add(1, Ordering::Relaxed);
        }
    }
    returned
}

fn note(returned: &mut Vec<Option<Duration>>, number: u64, now: Duration) {
    let place = number as usize;
    if returned.len() <= place {
        returned.resize(place + 1, None);
    }
    returned[place].get_or_insert(now);
}

impl Outcome {
    fn of(sent: &[Duration], returned: &[Option<Duration>]) -> Self {
        let mut outcome = Self::default();
        let mut open = None;
        for (place, start) in sent.iter().enumerate() {
            match returned.get(place).copied().flatten() {
                Some(back) => {
                    outcome.slowest = outcome.slowest.max(back.saturating_sub(*start));
                    outcome.close(open.take(), *start);
                }
                None => open.get_or_insert((*start, 0)).1 += 1,
            }
        }
        outcome.close(open, sent.last().copied().unwrap_or_default() + BEAT);
        outcome.sent = sent.len() as u64;
        outcome.lost = outcome.gaps.iter().map(|gap| gap.lost).sum();
        outcome
    }

    fn close(&mut self, open: Option<(Duration, u64)>, end: Duration) {
        self.gaps.extend(open.map(|(start, lost)| Gap {
            start,
            length: end.saturating_sub(start),
            lost,
        }));
    }

    /// The longest time without a packet that came back.
    pub fn longest_gap(&self) -> Duration {
        self.gaps
            .iter()
            .map(|gap| gap.length)
            .max()
            .unwrap_or_default()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {} lost", self.lost, self.sent)?;
        for gap in &self.gaps {
            write!(
                out,
                "; {} from {:?} on for {:?}",
                gap.lost, gap.start, gap.length
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_run_of_lost_packets_is_one_gap() {
        let sent: Vec<_> = (0..8).map(ms).collect();
        let back = |number: u64| Some(ms(number + 3));
        let returned = [back(0), None, None, back(3), back(4), None, back(9)];
        let outcome = Outcome::of(&sent, &returned);
        let gap = |start, length, lost| Gap {
            start: ms(start),
            length: ms(length),
            lost,
        };
        assert_eq!(outcome.gaps, [gap(1, 2, 2), gap(5, 1, 1), gap(7, 1, 1)]);
        assert_eq!((outcome.sent, outcome.lost), (8, 4));
        assert_eq!((outcome.longest_gap(), outcome.slowest), (ms(2), ms(6)));
    }

    #[test]
    fn beats_keep_to_their_times() {
        assert_eq!(until_next_beat(ms(7)), ms(1));
        assert_eq!(
            until_next_beat(Duration::from_micros(7250)),
            Duration::from_micros(750)
        );
    }
}

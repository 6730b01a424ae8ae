//! Closed-loop UDP: a fixed number of packets in flight per flow, acknowledged by the receiver.
//!
//! An open-loop sender on few cores starves the very path it measures; this one sends no faster
//! than the receiver gets. Lost packets leave the window when a later one is acknowledged, or when
//! nothing moves for a while.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{BATCH, Ends, drain, payload_of, sequence};
use crate::sys::{self, MessageBatch};

const IN_FLIGHT: u64 = 256;
const ACKNOWLEDGE_EVERY: u64 = 32;
const STALL_MS: i32 = 5;

/// What a closed-loop run moved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Packets the receiver got.
    pub received: u64,
    /// Packets that a later one overtook because they were lost.
    pub lost: u64,
    /// How long it ran.
    pub seconds: f64,
}

impl Outcome {
    /// Delivered packets per second.
    pub fn rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }

    /// The part that was lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.lost as f64 / ((self.lost + self.received) as f64).max(1.0)
    }
}

/// Sends inner packets of `packet` bytes for `duration`.
pub fn run(ends: &Ends<'_>, packet: usize, duration: Duration) -> io::Result<Outcome> {
    let ((near, far), payload) = (ends.flows()?, payload_of(packet, ends.far.1));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            ends.keep_if_pinned(true);
            receive(&far, payload, &stop)
        });
        let started = Instant::now();
        let lost = ends.at_near(|| send(&near, payload, started + duration));
        let seconds = started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let received = receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Outcome {
            received,
            lost: lost?,
            seconds,
        })
    })
}

/// One flow's window: packets up to `acknowledged` have left it.
#[derive(Default)]
struct Window {
    sent: u64,
    acknowledged: u64,
    received: u64,
}

impl Window {
    fn room(&self) -> usize {
        (IN_FLIGHT - (self.sent - self.acknowledged)) as usize
    }

    /// Takes in an acknowledgement: the highest number seen and how many were received in all.
    fn acknowledge(&mut self, answer: &[u8]) {
        self.acknowledged = self.acknowledged.max(sequence(answer));
        self.received = self.received.max(sequence(&answer[8..]));
    }

    fn give_up(&mut self) {
        self.acknowledged = self.sent;
    }

    fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.received)
    }
}

/// Keeps every window full until `deadline`; says how many packets were lost.
pub(crate) fn send(flows: &[UdpSocket], payload: usize, deadline: Instant) -> io::Result<u64> {
    let mut data = MessageBatch::new(BATCH, payload);
    let mut answers = MessageBatch::new(BATCH, 16);
    let mut windows: Vec<_> = flows.iter().map(|_| Window::default()).collect();
    let mut polls: Vec<_> = flows
        .iter()
        .map(|flow| sys::readable(flow.as_fd()))
        .collect();
    while Instant::now() < deadline {
        let mut moved = 0;
        for (flow, window) in flows.iter().zip(&mut windows) {
            moved += drain(flow, &mut answers, |answer| window.acknowledge(answer))?;
            moved += fill(flow, window, &mut data)?;
        }
        if moved == 0 && sys::wait_readable(&mut polls, STALL_MS)? == 0 {
            windows.iter_mut().for_each(Window::give_up);
        }
    }
    Ok(windows.iter().map(Window::lost).sum())
}

/// Sends what the window allows, at most one batch.
fn fill(flow: &UdpSocket, window: &mut Window, data: &mut MessageBatch) -> io::Result<u64> {
    let count = window.room().min(data.capacity());
    if count == 0 {
        return Ok(0);
    }
    for index in 0..count {
        let number = window.sent + index as u64 + 1;
        data.buffer_mut(index)[..8].copy_from_slice(&number.to_ne_bytes());
    }
    match data.send(flow.as_fd(), count) {
        Ok(sent) => window.sent += sent as u64,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Err(error) => return Err(error),
    }
    Ok(count as u64)
}

/// Counts and acknowledges until told to stop.
pub(crate) fn receive(flows: &[UdpSocket], payload: usize, stop: &AtomicBool) -> io::Result<u64> {
    let mut batch = MessageBatch::new(BATCH, payload);
    let mut polls: Vec<_> = flows
        .iter()
        .map(|flow| sys::readable(flow.as_fd()))
        .collect();
    let mut seen: Vec<_> = flows.iter().map(|_| Seen::default()).collect();
    while !stop.load(Ordering::Relaxed) {
        if sys::wait_readable(&mut polls, STALL_MS)? == 0 {
            continue;
        }
        for ((flow, seen), _) in flows
            .iter()
            .zip(&mut seen)
            .zip(&polls)
            .filter(|(_, poll)| poll.revents != 0)
        {
            drain(flow, &mut batch, |datagram| seen.note(flow, datagram))?;
        }
    }
    Ok(seen.iter().map(|seen| seen.received).sum())
}

/// What the receiver knows of one flow.
#[derive(Default)]
struct Seen {
    highest: u64,
    received: u64,
}

impl Seen {
    fn note(&mut self, flow: &UdpSocket, datagram: &[u8]) {
        self.highest = self.highest.max(sequence(datagram));
        self.received += 1;
        if self.received.is_multiple_of(ACKNOWLEDGE_EVERY) {
            let mut answer = [0; 16];
            answer[..8].copy_from_slice(&self.highest.to_ne_bytes());
            answer[8..].copy_from_slice(&self.received.to_ne_bytes());
            // A lost answer is made good by the next one.
            let _ = flow.send(&answer);
        }
    }
}

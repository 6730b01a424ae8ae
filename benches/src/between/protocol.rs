//! What the two machines say to each other: one line of JSON, answered by one line of JSON.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// No line is longer; what is comes from somebody else.
const LINE_MAX: u64 = 16 << 10;
/// The most streams or flows of one job.
pub(super) const FLOWS_MAX: usize = 64;
/// The longest a job may take.
pub(super) const TIME_MAX: Duration = Duration::from_secs(30);
/// Who is silent for longer is gone.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What the client asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Who are you?
    Hello,
    /// Play the far end of some traffic, at one of your addresses.
    Begin { at: IpAddr, job: Job },
    /// How far are you?
    Mark,
    /// Stop, and say what came of it.
    End,
}

/// The far half of a kind of traffic.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Job {
    /// Take what comes over TCP streams.
    TakeStreams { streams: usize },
    /// Send over TCP streams.
    SendStreams { streams: usize },
    /// Answer each datagram with itself.
    Echo { flows: usize },
    /// Count datagrams.
    Count { flows: usize, payload: usize },
    /// Count datagrams and acknowledge them.
    Acknowledge { flows: usize, payload: usize },
    /// Send datagrams, at a rate or as fast as possible.
    Offer {
        flows: usize,
        payload: usize,
        per_second: Option<f64>,
        time: Duration,
    },
    /// Send datagrams in a closed loop.
    Window {
        flows: usize,
        payload: usize,
        time: Duration,
    },
}

impl Job {
    /// How many streams or flows it has.
    pub(super) fn flows(self) -> usize {
        match self {
            Self::TakeStreams { streams } | Self::SendStreams { streams } => streams,
            Self::Echo { flows }
            | Self::Count { flows, .. }
            | Self::Acknowledge { flows, .. }
            | Self::Offer { flows, .. }
            | Self::Window { flows, .. } => flows,
        }
    }

    /// Whether it is more than a measurement needs.
    pub(super) fn is_absurd(self) -> bool {
        let (payload, time) = match self {
            Self::Count { payload, .. } | Self::Acknowledge { payload, .. } => {
                (payload, Duration::ZERO)
            }
            Self::Offer { payload, time, .. } | Self::Window { payload, time, .. } => {
                (payload, time)
            }
            _ => (8, Duration::ZERO),
        };
        let flows = 1..=FLOWS_MAX;
        !flows.contains(&self.flows()) || !(8..=65_000).contains(&payload) || time > TIME_MAX
    }
}

/// What the server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// Who it is.
    Hello { version: String, kernel: String },
    /// Where it waits: one port for all streams, or one a flow.
    Begun { ports: Vec<u16> },
    /// How far it is.
    Mark(Mark),
    /// What came of it.
    Ended(Ended),
    /// Why not.
    Refused(String),
}

/// A moment at the far end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Bytes that have arrived over the streams.
    pub(super) received: u64,
    /// Since the job began.
    pub(super) seconds: f64,
    /// Processor seconds of the machine.
    pub(super) busy: f64,
}

/// What the far half of a job has to say.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ended {
    /// Datagrams it sent.
    pub(super) sent: u64,
    /// Datagrams it received.
    pub(super) received: u64,
    /// Datagrams it knows to be lost.
    pub(super) lost: u64,
    /// From the first datagram to the last.
    pub(super) seconds: f64,
}

/// One end of the control connection.
#[derive(Debug)]
pub(super) struct Conversation {
    lines: BufReader<TcpStream>,
}

impl Conversation {
    pub(super) fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        let lines = BufReader::new(stream);
        Ok(Self { lines })
    }

    pub(super) fn say(&mut self, what: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(what)? + "\n";
        self.lines.get_mut().write_all(line.as_bytes())
    }

    /// The next line; nothing when the other side has closed.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = String::new();
        let mut bounded = self.lines.by_ref().take(LINE_MAX);
        if bounded.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_measurement_needs_is_absurd() {
        let count = |flows, payload| Job::Count { flows, payload };
        assert!(!count(4, 36).is_absurd());
        for job in [
            count(0, 36),
            count(FLOWS_MAX + 1, 36),
            count(4, 1 << 20),
            count(4, 0),
        ] {
            assert!(job.is_absurd(), "{job:?}");
        }
        let time = TIME_MAX * 2;
        assert!(
            Job::Window {
                flows: 4,
                payload: 36,
                time
            }
            .is_absurd()
        );
    }
}

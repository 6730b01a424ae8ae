//! What a daemon holds over time: memory, descriptors, threads.

use std::fmt;
use std::fs;
use std::time::Duration;

/// Share of the time after which what is held is taken for usual.
const WARM_UP: u32 = 5;
/// Memory a daemon may hold more in the end, over an hour and in any case.
const KIB_PER_HOUR: f64 = 1024.0;
const KIB_ANYWAY: f64 = 2048.0;

/// What a process holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    at: Duration,
    memory_kib: u64,
    descriptors: usize,
    threads: usize,
}

/// Looks at a process from time to time.
#[derive(Debug)]
pub(super) struct Watch {
    process: u32,
    first: Option<Held>,
    last: Held,
}

/// What a process held at first and in the end.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    first: Held,
    last: Held,
}

impl Watch {
    pub(super) fn of(process: u32) -> Self {
        Self {
            process,
            first: None,
            last: Held::default(),
        }
    }

    /// Looks now; what was held before the warm-up is over does not count.
    pub(super) fn look(&mut self, now: Duration, whole: Duration) {
        self.last = held(self.process, now);
        if now > whole / WARM_UP {
            self.first.get_or_insert(self.last);
        }
    }

    pub(super) fn change(&self) -> Change {
        Change {
            first: self.first.unwrap_or(self.last),
            last: self.last,
        }
    }
}

impl Change {
    /// What is held more than may be.
    pub(super) fn failure(&self) -> Option<String> {
        let hours = (self.last.at - self.first.at).as_secs_f64() / 3600.0;
        let more = self.last.memory_kib as f64 - self.first.memory_kib as f64;
        let grows = more > KIB_ANYWAY.max(KIB_PER_HOUR * hours);
        let leaks = self.last.descriptors > self.first.descriptors
            || self.last.threads > self.first.threads;
        (grows || leaks).then(|| format!("something is never let go of: {self}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first, self.last);
        write!(
            out,
            "memory {:.1} to {:.1} MiB, descriptors {} to {}, threads {} to {}",
            first.memory_kib as f64 / 1024.0,
            last.memory_kib as f64 / 1024.0,
            first.descriptors,
            last.descriptors,
            first.threads,
            last.threads,
        )
    }
}

fn held(process: u32, at: Duration) -> Held {
    let count = |what: &str| {
        let entries = fs::read_dir(format!("/proc/{process}/{what}"));
        entries.map_or(0, Iterator::count)
    };
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = memory.and_then(|line| line.split_whitespace().next());
    Held {
        at,
        memory_kib: memory.and_then(|kib| kib.parse().ok()).unwrap_or(0),
        descriptors: count("fd"),
        threads: count("task"),
    }
}

//! Waiting for input on a few descriptors.
#![allow(unsafe_code, reason = "poll")]

use std::io;
use std::os::fd::RawFd;

/// Descriptors watched together; the kernel remembers them only while somebody waits.
#[derive(Debug)]
pub(crate) struct PollSet {
    entries: Vec<libc::pollfd>,
}

impl PollSet {
    /// Watches these descriptors for input.
    pub(crate) fn new(fds: impl Iterator<Item = RawFd>) -> Self {
        let watch = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        Self {
            entries: fds.map(watch).collect(),
        }
    }

    /// Looks which have input; if none has and `block`, sleeps until one does.
    pub(crate) fn wait(&mut self, block: bool) -> io::Result<()> {
        let timeout = if block { -1 } else { 0 };
        let count = self.entries.len() as libc::nfds_t;
        // SAFETY: `entries` is `count` live entries, borrowed exclusively for the call.
        let found = unsafe { libc::poll(self.entries.as_mut_ptr(), count, timeout) };
        if found >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        self.entries.iter_mut().for_each(|entry| entry.revents = 0);
        Err(error)
    }

    /// Whether any descriptor has input, or an error to report.
    pub(crate) fn any_ready(&self) -> bool {
        self.entries.iter().any(|entry| entry.revents != 0)
    }

    /// Whether the descriptor at this place has input, or an error to report.
    pub(crate) fn is_ready(&self, index: usize) -> bool {
        self.entries[index].revents != 0
    }
}

//! Calling a worker from another thread: to see whether it listens, or to end it.
#![allow(unsafe_code, reason = "eventfd")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An eventfd: readable from a call until the worker has heeded it.
#[derive(Debug)]
pub(crate) struct Wake {
    file: File,
    stop: AtomicBool,
    calls: AtomicU64,
    heeded: AtomicU64,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes two numbers and touches no memory of ours.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self {
            file: fd.into(),
            stop: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            heeded: AtomicU64::new(0),
        })
    }

    /// The descriptor, for polling.
    pub(crate) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Asks the worker to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.call();
    }

    /// Asks the worker for a sign of life.
    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        // Full means it is readable already, which is all that is wanted.
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }

    /// The worker's answer to a readable descriptor; tells whether it shall end.
    pub(crate) fn heed(&self) -> bool {
        // Empty means that a call was heeded already.
        let _ = (&self.file).read(&mut [0; 8]);
        // After the read: a call that comes in between is heeded here or makes the descriptor readable again.
        let calls = self.calls.load(Ordering::Relaxed);
        self.heeded.store(calls, Ordering::Relaxed);
        self.stop.load(Ordering::Acquire)
    }

    /// Whether every call so far was heeded.
    pub(crate) fn is_heeded(&self) -> bool {
        self.heeded.load(Ordering::Relaxed) == self.calls.load(Ordering::Relaxed)
    }
}

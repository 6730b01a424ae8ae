//! Ending a worker's sleep from another thread.
#![allow(unsafe_code, reason = "eventfd")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// An eventfd: readable once somebody called [`wake`](Self::wake).
#[derive(Debug)]
pub(crate) struct Wake {
    file: File,
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
        Ok(Self { file: fd.into() })
    }

    /// The descriptor, for polling.
    pub(crate) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Wakes whoever polls the descriptor.
    pub(crate) fn wake(&self) {
        // Full means it is readable already, which is all that is wanted.
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }
}

//! Filters on the system calls of a process, and answers in the kernel's place.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};

use super::check;

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    id: u64,
    process: u32,
    pub(crate) call: i64,
    pub(crate) arguments: [u64; 6],
}

/// Where the calls of one process come in that wait for an answer.
#[derive(Debug)]
pub(crate) struct Questions(OwnedFd);

/// Makes `command` start with a filter. Where its questions can be had is written to `tell`.
pub(crate) fn start_filtered(
    command: &mut Command,
    filter: Vec<sock_filter>,
    mut tell: PipeWriter,
) {
    let prepare = move || {
        let listener = install(&filter)?;
        tell.write_all(&std::process::id().to_ne_bytes())?;
        tell.write_all(&listener.to_ne_bytes())
    };
    // SAFETY: `prepare` runs between fork and exec and so may only make async-signal-safe calls:
    // it makes plain system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

/// Filters this process from now on; returns the descriptor questions come in by.
fn install(filter: &[sock_filter]) -> io::Result<i32> {
    let program = sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers alone.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    let (mode, flags) = (
        libc::SECCOMP_SET_MODE_FILTER,
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    );
    // SAFETY: seccomp(2) reads a sock_fprog and the instructions it points to; both are alive.
    let listener = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    let listener = check(listener)? as i32;
    // It has to outlive exec, until the other side has taken its copy.
    // SAFETY: fcntl(2) with F_SETFD takes numbers alone.
    check(unsafe { libc::fcntl(listener, libc::F_SETFD, 0) }.into())?;
    Ok(listener)
}

impl Questions {
    /// Those of the next process that writes to the other end of `told`; none when there is no other end.
    pub(crate) fn next(told: &mut PipeReader) -> io::Result<Option<Self>> {
        let (mut process, mut listener) = ([0; 4], [0; 4]);
        match told.read_exact(&mut process) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        told.read_exact(&mut listener)?;
        let process = u32::from_ne_bytes(process);
        // SAFETY: pidfd_open(2) takes numbers alone.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
        let process = owned(check(opened)?);
        let (from, number) = (process.as_raw_fd(), i32::from_ne_bytes(listener));
        // SAFETY: pidfd_getfd(2) takes numbers alone; the first one stays open meanwhile.
        let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, from, number, 0) };
        Ok(Some(Self(owned(check(taken)?))))
    }

    /// Waits for a question; none when the process and all its children are gone.
    pub(crate) fn ask(&self) -> io::Result<Option<Question>> {
        loop {
            let mut poll = [libc::pollfd {
                fd: self.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            }];
            super::wait_readable(&mut poll, -1)?;
            if poll[0].revents & libc::POLLIN == 0 {
                return Ok(None);
            }
            match self.receive() {
                // Whoever asked has been killed meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                other => return other.map(Some),
            }
        }
    }

    fn receive(&self) -> io::Result<Question> {
        // SAFETY: the structure is made of integers, and has to be zero when it is handed over.
        let mut told: seccomp_notif = unsafe { std::mem::zeroed() };
        let (fd, request) = (self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV);
        // SAFETY: the kernel writes one seccomp_notif, which `told` is.
        check(unsafe { libc::ioctl(fd, request, &raw mut told) }.into())?;
        Ok(Question {
            id: told.id,
            process: told.pid,
            call: told.data.nr.into(),
            arguments: told.data.args,
        })
    }

    /// Lets the call fail with this error, or go its way.
    pub(crate) fn answer(&self, question: &Question, errno: Option<i32>) -> io::Result<()> {
        let goes_on = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let answer = seccomp_notif_resp {
            id: question.id,
            val: 0,
            error: errno.map_or(0, |errno| -errno),
            flags: if errno.is_none() { goes_on } else { 0 },
        };
        let (fd, request) = (self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND);
        // SAFETY: the kernel reads one seccomp_notif_resp, which `answer` is.
        match check(unsafe { libc::ioctl(fd, request, &raw const answer) }.into()) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Question {
    /// The word of the caller's memory `offset` bytes behind where an argument points.
    pub(crate) fn word_at(&self, argument: usize, offset: u64) -> io::Result<u32> {
        let memory = File::open(format!("/proc/{}/mem", self.process))?;
        let mut word = [0; 4];
        memory.read_exact_at(&mut word, self.arguments[argument] + offset)?;
        Ok(u32::from_ne_bytes(word))
    }
}

fn owned(descriptor: usize) -> OwnedFd {
    // SAFETY: every caller hands over a descriptor that the kernel has just made for it alone.
    unsafe { OwnedFd::from_raw_fd(descriptor as i32) }
}

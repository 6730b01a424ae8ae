//! A program that runs in a node's namespace while a path is up.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu;
use crate::sys;

/// Every child that has not been waited for, for `kill_all`.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon whose output goes to a file.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let output = File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("cannot start {program}: {error}")))?;
        running().push(child.id());
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Processor time it has used so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        cpu::used_by(Path::new(&format!("/proc/{}/stat", self.id())))
    }

    /// The memory it has resident, in KiB.
    pub fn memory_kib(&self) -> Option<u64> {
        self.status_kib("VmRSS:")
    }

    /// The most memory it has had resident, in KiB.
    pub fn peak_memory_kib(&self) -> Option<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// An error if it has ended by itself, with the end of its log.
    pub fn still_running(&mut self) -> io::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!(
                "the daemon ended with {status}:\n{}",
                self.log()
            ))),
        }
    }

    /// Asks it to end and waits; kills it when it does not listen.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        self.stop_with(libc::SIGTERM)
    }

    /// As `stop`, by another signal.
    pub fn stop_with(&mut self, signal: i32) -> io::Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        sys::send_signal(self.id(), signal)?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(1));
        }
        sys::send_signal(self.id(), libc::SIGKILL)?;
        let message = format!(
            "the daemon did not end in {STOP_PATIENCE:?}:\n{}",
            self.log()
        );
        Err(io::Error::other(message))
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(io::Error::other(format!(
            "the daemon did not end by itself:\n{}",
            self.log()
        )))
    }

    /// How it has ended, if it has. Its process id is free for others from then on.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut running = running();
        let status = self.child.try_wait()?;
        if status.is_some() {
            running.retain(|id| *id != self.child.id());
        }
        Ok(status)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The process is gone or killed after this, whatever the answer.
        let _ = self.stop();
    }
}

/// Ends every daemon of this process, which cannot start another from then on: for signal handlers,
/// which run no destructors.
pub fn kill_all() {
    let mut running = running();
    for id in running.drain(..) {
        // One that has ended by itself needs no signal.
        let _ = sys::send_signal(id, libc::SIGKILL);
    }
    std::mem::forget(running);
}

fn running() -> MutexGuard<'static, Vec<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

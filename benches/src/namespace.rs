//! A network namespace without a name, held by a descriptor alone.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::{preflight, sys};

/// A network namespace that lives as long as this value and the processes started in it.
#[derive(Debug)]
pub struct Namespace {
    handle: File,
}

impl Namespace {
    /// Makes a namespace with its loopback up.
    pub fn new() -> io::Result<Self> {
        let handle = on_own_thread(|| {
            sys::leave_for_new_namespace()?;
            File::open("/proc/thread-self/ns/net")
        })?;
        let namespace = Self { handle };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The namespace behind a file that holds one, as container runtimes make them.
    pub fn at(path: &Path) -> io::Result<Self> {
        let opened = File::open(path).map_err(|error| explain(&path.display().to_string(), &error));
        opened.map(|handle| Self { handle })
    }

    /// The same namespace once more; it lives until both values are gone.
    pub fn share(&self) -> io::Result<Self> {
        let handle = self.handle.try_clone()?;
        Ok(Self { handle })
    }

    /// A file name by which other processes can reach the namespace while this one lives.
    pub fn path(&self) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.handle.as_raw_fd()
        )
    }

    /// Does `work` inside: sockets opened by it belong to the namespace wherever they are used later.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_own_thread(|| {
            sys::enter_namespace(self.handle.as_fd())?;
            work()
        })
    }

    /// A command that will run inside and die with the thread that starts it.
    pub fn command(&self, program: &str) -> io::Result<Command> {
        let mut command = Command::new(program);
        command.env("PATH", preflight::search_path());
        sys::start_inside(&mut command, self.handle.try_clone()?);
        Ok(command)
    }

    /// Runs a command line inside; what it said becomes the error when it fails.
    pub fn run(&self, line: &str) -> io::Result<String> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or("true"))?;
        let output = command
            .args(words)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| explain(line, &error))?;
        answer(line, &output)
    }

    /// Runs `ip` commands inside, one per line, in one process.
    pub fn ip(&self, lines: &str) -> io::Result<String> {
        let mut command = self.command("ip")?;
        command
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| explain("ip", &error))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(lines.as_bytes())?;
            input.write_all(b"\n")?;
        }
        answer(&format!("ip {lines}"), &child.wait_with_output()?)
    }

    /// Writes a kernel setting below /proc/sys, as this namespace sees it.
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        let file = format!("/proc/sys/{key}");
        self.enter(|| std::fs::write(&file, value).map_err(|error| explain(&file, &error)))
    }
}

/// Runs `work` on a thread of its own, because a thread's namespace and processors are its own.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn answer(line: &str, output: &Output) -> io::Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "`{line}`: {}: {}",
        output.status,
        said.trim()
    )))
}

fn explain(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

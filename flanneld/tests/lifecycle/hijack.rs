//! A thread of a running daemon made to do what an attacker who has taken it over would: by a tracer that puts system
//! calls of its own in the place of the thread's.
#![allow(unsafe_code, reason = "ptrace")]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

/// Below what the thread has on its stack, where nothing of it can be hurt.
const SCRATCH: u64 = 4096;
/// The length of the instruction that makes a system call.
const INSTRUCTION: u64 = 2;

/// A thread that waits in a system call, and goes on waiting when this is dropped.
pub(crate) struct Hijacked {
    thread: libc::pid_t,
    registers: libc::user_regs_struct,
}

/// What a thread is made to hand over to the kernel.
#[derive(Clone, Copy)]
pub(crate) enum Argument {
    Number(i64),
    /// The address of these bytes.
    Bytes(&'static [u8]),
    /// The number of the thread itself.
    Own,
}

impl Hijacked {
    /// Takes over a thread that is idle.
    pub(crate) fn take(thread: u32) -> Self {
        let thread = thread as libc::pid_t;
        trace(libc::PTRACE_SEIZE, thread, 0);
        trace(libc::PTRACE_INTERRUPT, thread, 0);
        assert!(stopped(thread).is_some(), "the thread stops when asked to");
        let mut hijacked = Self {
            thread,
            // SAFETY: the structure is integers, for which all zeroes is a valid value.
            registers: unsafe { std::mem::zeroed() },
        };
        trace(
            libc::PTRACE_GETREGS,
            thread,
            (&raw mut hijacked.registers) as usize,
        );
        hijacked
    }

    /// Makes the thread call the kernel and tells what it got; `None` when that was its end.
    pub(crate) fn call(&self, number: libc::c_long, arguments: &[Argument]) -> Option<i64> {
        self.put(&self.calling(number, arguments));
        trace(libc::PTRACE_SINGLESTEP, self.thread, 0);
        if stopped(self.thread)? == libc::SIGSYS {
            // So the thread is told that it was denied the call; here nothing is let through to it. The step follows.
            trace(libc::PTRACE_SINGLESTEP, self.thread, 0);
            stopped(self.thread)?;
            return Some(-i64::from(libc::EPERM));
        }
        let mut registers = self.registers;
        trace(
            libc::PTRACE_GETREGS,
            self.thread,
            (&raw mut registers) as usize,
        );
        Some(registers.rax as i64)
    }

    /// Lets go of the thread with this call as the next thing it does.
    pub(crate) fn let_go_calling(self, number: libc::c_long, arguments: &[Argument]) {
        self.put(&self.calling(number, arguments));
        trace(libc::PTRACE_DETACH, self.thread, 0);
        std::mem::forget(self);
    }

    /// What its registers are right before a call.
    fn calling(&self, number: libc::c_long, arguments: &[Argument]) -> libc::user_regs_struct {
        let mut registers = self.registers;
        registers.rip -= INSTRUCTION;
        registers.rax = number as u64;
        // Nothing is to be called again in its place.
        registers.orig_rax = u64::MAX;
        let mut values = [0; 6];
        for (index, argument) in arguments.iter().enumerate() {
            values[index] = self.place(index, *argument);
        }
        [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ] = values;
        registers
    }

    /// The value of an argument; bytes are put where the thread can read and write them.
    fn place(&self, index: usize, argument: Argument) -> u64 {
        let bytes = match argument {
            Argument::Number(number) => return number as u64,
            Argument::Own => return self.thread as u64,
            Argument::Bytes(bytes) => bytes,
        };
        let address = self.registers.rsp - SCRATCH * (index as u64 + 1);
        let memory = format!("/proc/{}/mem", self.thread);
        let memory = OpenOptions::new().write(true).open(memory).unwrap();
        memory.write_all_at(bytes, address).unwrap();
        address
    }

    fn put(&self, registers: &libc::user_regs_struct) {
        trace(
            libc::PTRACE_SETREGS,
            self.thread,
            std::ptr::from_ref(registers) as usize,
        );
    }
}

impl Drop for Hijacked {
    fn drop(&mut self) {
        // One that has met its end has nothing to go on with.
        if std::path::Path::new(&format!("/proc/{}/mem", self.thread)).exists() {
            self.put(&self.registers);
            trace(libc::PTRACE_DETACH, self.thread, 0);
        }
    }
}

fn trace(request: libc::c_uint, thread: libc::pid_t, data: usize) {
    // SAFETY: the requests of this file take no address in the thread, and as data a number or the address of a live
    // register structure.
    let done = unsafe { libc::ptrace(request, thread, 0usize, data) };
    let error = std::io::Error::last_os_error();
    assert!(done >= 0, "request {request} to a tracer failed: {error}");
}

/// Waits until the thread stops, and tells by which signal; `None` if it has ended instead.
fn stopped(thread: libc::pid_t) -> Option<libc::c_int> {
    let mut status = 0;
    // SAFETY: `status` is a live integer.
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    (waited == thread && libc::WIFSTOPPED(status)).then(|| libc::WSTOPSIG(status))
}

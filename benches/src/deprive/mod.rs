//! A kernel with something missing: system calls of one program fail as they would fail there.
//!
//! A filter in the kernel (seccomp) refuses calls by their number and their arguments. Where what matters lies in
//! the caller's memory, as the flags of a TUN device do, or where only later calls are to fail, the kernel asks a
//! thread of this process, which looks and decides. The program runs unchanged and knows of nothing.

mod features;
mod kernel;
pub mod uring;

pub use features::TunOffload;
pub use kernel::Kernel;
/// Errors to refuse with.
pub use libc::{EINVAL, ENOMEM, ENOSYS, EPERM};

use std::io::{self, PipeReader};
use std::process::Command;
use std::thread;

use libc::sock_filter;

use crate::sys::{Question, Questions, start_filtered};

/// Where the number and the arguments of a call are in what a filter sees.
const CALL_AT: u32 = 0;
const ARGUMENTS_AT: u32 = 16;

/// A kind of call that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    call: i64,
    arguments: Vec<Test>,
    memory: Option<Memory>,
    spared: u32,
    errno: i32,
}

/// What the lower half of an argument has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Is(u8, u32),
    HasAnyOf(u8, u32),
}

/// Bits, one of which has to be set in a word that lies behind where an argument points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    argument: usize,
    offset: u64,
    bits: u32,
}

impl Refusal {
    /// Every call of this number fails with this error, unless more is said.
    pub fn of(call: i64, errno: i32) -> Self {
        Self {
            call,
            arguments: Vec::new(),
            memory: None,
            spared: 0,
            errno,
        }
    }

    /// Only with this value as an argument.
    pub fn with(mut self, argument: u8, value: u32) -> Self {
        self.arguments.push(Test::Is(argument, value));
        self
    }

    /// Only with one of these bits in an argument.
    pub fn with_any_of(mut self, argument: u8, bits: u32) -> Self {
        self.arguments.push(Test::HasAnyOf(argument, bits));
        self
    }

    /// Only with one of these bits in the word `offset` bytes behind where an argument points.
    pub fn where_memory_has(mut self, argument: usize, offset: u64, bits: u32) -> Self {
        self.memory = Some(Memory {
            argument,
            offset,
            bits,
        });
        self
    }

    /// Only after so many such calls.
    pub fn after(mut self, spared: u32) -> Self {
        self.spared = spared;
        self
    }

    fn needs_a_look(&self) -> bool {
        self.memory.is_some() || self.spared > 0
    }

    /// Loads of what matters, each followed by a jump to the end when it is not so, and the verdict.
    fn compile(&self, into: &mut Vec<sock_filter>) {
        let tests = self.arguments.len() as u8;
        into.push(load(CALL_AT));
        into.push(go_on_if(libc::BPF_JEQ, self.call as u32, 2 * tests + 1));
        for (left, test) in (0..tests).rev().zip(&self.arguments) {
            let (argument, kind, value) = match *test {
                Test::Is(argument, value) => (argument, libc::BPF_JEQ, value),
                Test::HasAnyOf(argument, bits) => (argument, libc::BPF_JSET, bits),
            };
            into.push(load(ARGUMENTS_AT + 8 * u32::from(argument)));
            into.push(go_on_if(kind, value, 2 * left + 1));
        }
        into.push(end(match self.needs_a_look() {
            true => libc::SECCOMP_RET_USER_NOTIF,
            false => libc::SECCOMP_RET_ERRNO | self.errno as u32,
        }));
    }

    /// Whether a question is about such a call, as far as arguments tell.
    fn concerns(&self, question: &Question) -> bool {
        let low = |argument: u8| question.arguments[usize::from(argument)] as u32;
        let holds = |test: &Test| match *test {
            Test::Is(argument, value) => low(argument) == value,
            Test::HasAnyOf(argument, bits) => low(argument) & bits != 0,
        };
        question.call == self.call && self.arguments.iter().all(holds)
    }

    /// The error for a call, if it is one that fails; counts those that are spared.
    fn verdict(&mut self, question: &Question) -> Option<i32> {
        let has_bits = |memory: Memory| {
            let word = question.word_at(memory.argument, memory.offset);
            word.is_ok_and(|word| word & memory.bits != 0)
        };
        if !self.memory.is_none_or(has_bits) {
            return None;
        }
        let refused = self.spared == 0;
        self.spared = self.spared.saturating_sub(1);
        refused.then_some(self.errno)
    }
}

/// Lets `command`, and all it starts, run on a kernel that refuses these calls.
fn deprive(command: &mut Command, refusals: &[Refusal]) -> io::Result<()> {
    if refusals.is_empty() {
        return Ok(());
    }
    let mut filter = Vec::new();
    refusals.iter().for_each(|one| one.compile(&mut filter));
    filter.push(end(libc::SECCOMP_RET_ALLOW));
    let (told, tell) = io::pipe()?;
    start_filtered(command, filter, tell);
    let asked = refusals.iter().filter(|one| one.needs_a_look());
    let asked: Vec<_> = asked.cloned().collect();
    thread::spawn(move || attend(told, &asked));
    Ok(())
}

/// Answers every process the command is started as.
fn attend(mut told: PipeReader, refusals: &[Refusal]) {
    // A process that cannot be asked is gone; a command that cannot be started again ends this.
    while let Ok(Some(questions)) = Questions::next(&mut told) {
        let refusals = refusals.to_vec();
        thread::spawn(move || answer_all(&questions, refusals));
    }
}

fn answer_all(questions: &Questions, mut refusals: Vec<Refusal>) {
    while let Ok(Some(question)) = questions.ask() {
        let mut concerned = refusals.iter_mut().filter(|one| one.concerns(&question));
        let errno = concerned.find_map(|one| one.verdict(&question));
        if questions.answer(&question, errno).is_err() {
            return;
        }
    }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn end(verdict: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, verdict)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

/// Goes on with the next instruction if the test holds, else skips so many.
fn go_on_if(kind: u32, value: u32, skip: u8) -> sock_filter {
    sock_filter {
        jf: skip,
        ..statement(libc::BPF_JMP | kind | libc::BPF_K, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(line: &str, refusals: &[Refusal]) -> String {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        deprive(&mut command, refusals).unwrap();
        let output = command.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn refused_write() -> Refusal {
        Refusal::of(libc::SYS_write, libc::EIO).with(0, 1)
    }

    #[test]
    fn a_refused_call_fails_and_others_do_not() {
        let refusals = [
            Refusal::of(libc::SYS_sethostname, ENOSYS),
            Refusal::of(libc::SYS_mkdir, libc::EROFS),
        ];
        let said = says("mkdir /tmp/never-made; echo on", &refusals);
        assert!(
            said.contains("Read-only") && said.contains("on\n"),
            "{said}"
        );
    }

    #[test]
    fn an_argument_decides() {
        let of_five_bytes = refused_write().with(2, 5);
        let said = says("echo lost 2>/dev/null; echo is kept", &[of_five_bytes]);
        assert_eq!(said, "is kept\n");
    }

    #[test]
    fn a_bit_of_an_argument_decides() {
        let of_uneven_length = refused_write().with_any_of(2, 1);
        let said = says("echo lost 2>/dev/null; echo is kept", &[of_uneven_length]);
        assert_eq!(said, "is kept\n");
    }

    #[test]
    fn memory_decides() {
        // 'a' is odd and 'b' is even.
        let odd = refused_write().where_memory_has(1, 0, 1);
        let said = says("echo a 2>/dev/null; echo b; echo c 2>/dev/null", &[odd]);
        assert_eq!(said, "b\n");
    }

    #[test]
    fn the_first_calls_are_spared() {
        let later = refused_write().after(2);
        let said = says("echo one; echo two; echo three 2>/dev/null", &[later]);
        assert_eq!(said, "one\ntwo\n");
    }
}

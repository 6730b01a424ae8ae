//! How the program ends, in numbers that scripts can go by. 2 is a command line that makes no sense, from clap.

use std::process::ExitCode;

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, and all is well.
    Well,
    /// Something is wrong: with the daemon as asked for, or with the asking.
    Failed,
    /// No daemon is there.
    Absent,
    /// A daemon is there and does not answer.
    Silent,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Well => 0,
            Exit::Failed => 1,
            Exit::Absent => 3,
            Exit::Silent => 4,
        })
    }
}

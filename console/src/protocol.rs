//! What is said over the socket: one question a connection.
//!
//! ```text
//!   question   flannel 1 status\n
//!   answer     flannel 1 ok 1234\n      and 1234 bytes of JSON, or
//!              flannel 1 no 27\n        and 27 bytes of text: why not
//! ```
//! The number after `flannel` is the version of these lines; that of the documents is in them.

use std::fmt;

/// The version of the lines.
pub const VERSION: u32 = 1;
/// A question is never longer.
pub const QUESTION_MAX: usize = 64;
/// Nor is the first line of an answer.
pub const HEAD_MAX: usize = 64;
/// Answers above this are refused unread: 100,000 peers fit many times over.
pub const ANSWER_MAX: usize = 256 << 20;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// How the daemon fares.
    Status,
    /// This node's lease.
    Lease,
    /// The nodes packets go to.
    Peers,
    /// The subnets packets go to.
    Routes,
    /// Every counter.
    Stats,
    /// What was not carried, and why.
    Drops,
    /// The packets not carried since this was asked last, one by one.
    Dropped,
}

impl Question {
    /// Every question.
    pub const ALL: [Self; 7] = [
        Self::Status,
        Self::Lease,
        Self::Peers,
        Self::Routes,
        Self::Stats,
        Self::Drops,
        Self::Dropped,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Lease => "lease",
            Self::Peers => "peers",
            Self::Routes => "routes",
            Self::Stats => "stats",
            Self::Drops => "drops",
            Self::Dropped => "dropped",
        }
    }

    /// The line that asks it.
    pub fn line(self) -> String {
        format!("flannel {VERSION} {}\n", self.word())
    }

    /// Reads the line, its end included.
    pub fn read(line: &[u8]) -> Result<Self, Malformed> {
        let [word] = words(line)?;
        let known = Self::ALL.into_iter().find(|one| one.word() == word);
        known.ok_or_else(|| Malformed(format!("nobody here knows what {word:?} means")))
    }
}

/// The first line of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether JSON follows, and not the reason why there is none.
    pub ok: bool,
    /// How many bytes follow.
    pub length: usize,
}

impl Head {
    /// The line.
    pub fn line(self) -> String {
        let verdict = if self.ok { "ok" } else { "no" };
        format!("flannel {VERSION} {verdict} {}\n", self.length)
    }

    /// Reads the line, its end included.
    pub fn read(line: &[u8]) -> Result<Self, Malformed> {
        let [verdict, length] = words(line)?;
        let ok = match verdict {
            "ok" => true,
            "no" => false,
            other => return Err(Malformed(format!("{other:?} is neither ok nor no"))),
        };
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        let length = length.parse().ok().filter(|length| *length <= ANSWER_MAX);
        match length.filter(|_| digits) {
            Some(length) => Ok(Self { ok, length }),
            None => Err(Malformed("the length makes no sense".to_owned())),
        }
    }
}

/// Why a line cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What follows name and version, which must be ours.
fn words<const N: usize>(line: &[u8]) -> Result<[&str; N], Malformed> {
    let malformed = |why: &str| Malformed(why.to_owned());
    let line = line.strip_suffix(b"\n");
    let line = line.ok_or_else(|| malformed("the line has no end"))?;
    let line = str::from_utf8(line).map_err(|_| malformed("the line is not text"))?;
    let mut words = line.split(' ');
    if words.next() != Some("flannel") {
        return Err(malformed("the line does not begin with flannel"));
    }
    if words.next() != Some(VERSION.to_string().as_str()) {
        return Err(Malformed(format!("only version {VERSION} is spoken here")));
    }
    let rest: Vec<&str> = words.collect();
    rest.try_into()
        .map_err(|_| malformed("the line has too many words or too few"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_comes_back_from_its_line() {
        for question in Question::ALL {
            assert_eq!(Question::read(question.line().as_bytes()), Ok(question));
        }
    }

    #[test]
    fn every_head_comes_back_from_its_line() {
        for (ok, length) in [(true, 0), (false, 1234), (true, ANSWER_MAX)] {
            let head = Head { ok, length };
            let line = head.line();
            assert!(line.len() <= HEAD_MAX);
            assert_eq!(Head::read(line.as_bytes()), Ok(head));
        }
    }

    #[test]
    fn lines_that_make_no_sense_are_refused() {
        for line in [
            "",
            "\n",
            "flannel 1 status",
            "flannel 1 status \n",
            "flannel 2 status\n",
            "flannel 01 status\n",
            "flannel 1 passwords\n",
            "FLANNEL 1 status\n",
            "flannel  1 status\n",
        ] {
            assert!(Question::read(line.as_bytes()).is_err(), "{line:?}");
        }
        for line in [
            "flannel 1 ok\n",
            "flannel 1 ok -1\n",
            "flannel 1 ok +1\n",
            "flannel 1 ok 99999999999\n",
            "flannel 1 yes 1\n",
        ] {
            assert!(Head::read(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(Question::read(b"flannel 1 \xff\n").is_err());
    }

    #[test]
    fn another_version_is_told_which_one_is_spoken() {
        let refused = Question::read(b"flannel 7 status\n").unwrap_err();
        assert_eq!(refused.to_string(), "only version 1 is spoken here");
    }
}

//! The operator's end of the socket.

use crate::protocol::{HEAD_MAX, Head, Question};
use crate::server::line;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon that takes longer is stuck: it answers within milliseconds, and gives up on its own parts within a second.
const PATIENCE: Duration = Duration::from_secs(4);

/// Why there is no answer, divided by what an operator does next.
#[derive(Debug)]
pub enum Unanswered {
    /// No daemon listens there.
    Absent(PathBuf),
    /// Somebody else's socket.
    Forbidden(PathBuf),
    /// A daemon is there and says nothing.
    Silent(PathBuf),
    /// The daemon says why not.
    Refused(String),
    /// What came back makes no sense, as of another version.
    Garbled(String),
}

/// Asks the daemon that listens on a socket; the answer is JSON.
pub fn ask(socket: &Path, question: Question) -> Result<String, Unanswered> {
    let failed = |error: io::Error| unanswered(socket, &error);
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    stream
        .write_all(question.line().as_bytes())
        .map_err(failed)?;
    let head = line(&mut stream, HEAD_MAX, PATIENCE).map_err(failed)?;
    let head = Head::read(&head).map_err(|why| Unanswered::Garbled(why.to_string()))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut text = String::new();
    let most = u64::try_from(head.length).unwrap_or(u64::MAX);
    stream
        .take(most)
        .read_to_string(&mut text)
        .map_err(failed)?;
    match head.ok {
        _ if text.len() < head.length => {
            Err(Unanswered::Garbled("the answer is cut short".to_owned()))
        }
        true => Ok(text),
        false => Err(Unanswered::Refused(text)),
    }
}

fn unanswered(socket: &Path, error: &io::Error) -> Unanswered {
    let socket = socket.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Unanswered::Absent(socket),
        io::ErrorKind::PermissionDenied => Unanswered::Forbidden(socket),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Unanswered::Silent(socket),
        _ => Unanswered::Garbled(error.to_string()),
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(socket) => write!(
                out,
                "no flanneld listens on {}: it is not running, or was started with another --subnet-file or --control-socket",
                socket.display()
            ),
            Self::Forbidden(socket) => {
                write!(out, "{} is root's: use sudo", socket.display())
            }
            Self::Silent(socket) => write!(
                out,
                "the flanneld on {} does not answer: it is stuck, or was stopped; its log tells more, and a restart helps",
                socket.display()
            ),
            Self::Refused(why) => write!(out, "flanneld says: {why}"),
            Self::Garbled(why) => write!(
                out,
                "cannot read what flanneld says: {why}; are flannelctl and flanneld of one version?"
            ),
        }
    }
}

impl std::error::Error for Unanswered {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::serve;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::net::UnixListener;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/subnet.env.sock");
        (directory, path)
    }

    fn echo(question: Question) -> Result<String, String> {
        match question {
            Question::Lease => Err("no lease yet".to_owned()),
            other => Ok(other.word().repeat(100_000)),
        }
    }

    #[test]
    fn questions_are_answered_over_a_socket_that_is_the_owners_alone() {
        let (_directory, path) = place();
        let socket = serve(&path, echo).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            ask(&path, Question::Peers).unwrap(),
            "peers".repeat(100_000)
        );
        let refused = ask(&path, Question::Lease).unwrap_err();
        assert_eq!(refused.to_string(), "flanneld says: no lease yet");
        drop(socket);
        assert!(matches!(
            ask(&path, Question::Peers),
            Err(Unanswered::Absent(_))
        ));
    }

    #[test]
    fn a_later_daemon_takes_the_place_and_keeps_it() {
        let (_directory, path) = place();
        let first = serve(&path, echo).unwrap();
        let _second = serve(&path, |_| Ok("second".to_owned())).unwrap();
        drop(first);
        assert_eq!(ask(&path, Question::Status).unwrap(), "second");
    }

    #[test]
    fn somebody_who_says_nothing_or_nonsense_does_not_keep_others_waiting() {
        let (_directory, path) = place();
        let _socket = serve(&path, echo).unwrap();
        let _silent = UnixStream::connect(&path).unwrap();
        let mut loud = UnixStream::connect(&path).unwrap();
        loud.write_all(&[b'x'; 1000]).unwrap();
        assert!(ask(&path, Question::Status).is_ok());
    }

    #[test]
    fn a_daemon_that_is_gone_is_told_from_one_that_is_stuck() {
        let (_directory, path) = place();
        fs::create_dir(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let stuck = ask(&path, Question::Status).unwrap_err();
        assert!(matches!(stuck, Unanswered::Silent(_)), "{stuck}");
        drop(listener);
        assert!(fs::metadata(&path).is_ok_and(|left| left.ino() > 0));
        let gone = ask(&path, Question::Status).unwrap_err();
        assert!(matches!(gone, Unanswered::Absent(_)), "{gone}");
    }
}

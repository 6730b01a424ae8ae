//! One daemon hands its work over to another: what they say to each other, and descriptors, over a socket that only
//! root and the daemon's own user may use.
//!
//! ```text
//! new                                old
//!  │ ─── Hello ────────────────────>  │  goes on moving packets
//!  │ <─────────── Offer, descriptors  │
//!  │  prepares everything             │
//!  │ ─── Ready ────────────────────>  │  its workers come to rest
//!  │ <───────────────────────── Go ── │
//!  │  its workers begin               │
//!  │ ─── Running ──────────────────>  │
//!  │ <──────────────────────── Over ─ │  ends
//! ```
//!
//! Whoever cannot go on says why (`Refused`), and silence means that the other is dead. So the old one goes on by
//! itself unless it has heard `Running`, and the new one, once it has the descriptors, when the old one dies.

use crate::atomic_file;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::geteuid;
use sandbox::peer;
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// What [`Word::Hello`] says; a daemon that says another number means other things.
pub const VERSION: u32 = 1;
/// More than the largest network needs.
const TEXT_MAX: usize = 64 << 20;
/// More than the largest host needs.
const DESCRIPTORS_MAX: usize = 4096;
/// The kernel carries up to 253 in one message.
const CHUNK: usize = 64;
/// What goes with each chunk of descriptors.
const MARK: u8 = b'+';

/// What one daemon says to the other. Of what a newer version adds an older one takes no notice.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Word {
    /// Who waits here?
    Who,
    /// This process; along comes where it writes its log.
    Here {
        /// Its number.
        process: u32,
    },
    /// May I take over?
    Hello {
        /// How the new one speaks.
        version: u32,
        /// Who it is.
        process: u32,
    },
    /// All that is needed for it, but the descriptors that come along: for each queue the device's and those of its
    /// sockets, then the one successors are waited for at, then one for each address listened on.
    Offer {
        /// What is known of config, lease and peers: the text of a [`Memory`](crate::memory::Memory).
        memory: String,
        /// For each queue the ports of the forms its sockets speak.
        queues: Vec<Vec<u16>>,
        /// Addresses on which probes are answered.
        listeners: Vec<SocketAddr>,
        /// After how many microseconds without a sign of life the service manager ends the daemon.
        watchdog: Option<u64>,
        /// Who the old one is.
        process: u32,
    },
    /// All is prepared.
    Ready,
    /// Nobody moves packets any more: begin.
    Go,
    /// Packets move.
    Running,
    /// The old daemon ends.
    Over,
    /// It has come to nothing.
    Refused {
        /// The reason.
        why: String,
    },
}

/// A way to talk to another daemon.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// Why another daemon's answer is not what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// It has ended, or was ended.
    #[error("it has died")]
    Dead,
    /// It will not.
    #[error("{0}")]
    Refused(String),
    /// It says nothing, or nonsense.
    #[error("{0}")]
    Unclear(io::Error),
}

/// Begins to wait for other daemons at a path, in place of whoever did before.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    atomic_file::refuse_exposed(path)?;
    let draft = atomic_file::draft_path(path)?;
    let listener = UnixListener::bind(&draft)?;
    let placed = fs::set_permissions(&draft, Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&draft, path));
    if placed.is_err() {
        // The first error is the one worth telling.
        let _ = fs::remove_file(&draft);
    }
    placed.map(|()| listener)
}

/// Calls the daemon that waits at a path; `None` where nobody does.
pub fn call(path: &Path) -> io::Result<Option<Channel>> {
    match UnixStream::connect(path) {
        Ok(stream) => Channel::with(stream).map(Some),
        Err(error) if is_nobody(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

impl Channel {
    /// Talks to whoever is at the other end, unless it is another user.
    pub fn with(stream: UnixStream) -> io::Result<Self> {
        let user = peer::user(&stream)?;
        let trusted = user.is_root() || user == geteuid();
        if !trusted {
            let why = format!("user {} may not talk to this daemon", user.as_raw());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Self(stream))
    }

    /// Says something, and gives descriptors along with it.
    pub fn say(&self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        let lengths = [text.len() as u32, descriptors.len() as u32].map(u32::to_le_bytes);
        let mut stream = &self.0;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(&lengths.concat())?;
        stream.write_all(&text)?;
        descriptors
            .chunks(CHUNK)
            .try_for_each(|chunk| self.send_chunk(chunk))
    }

    /// Waits for what the other says next.
    pub fn hear(&self, patience: Duration) -> Result<(Word, Vec<OwnedFd>), Silence> {
        let heard = self.receive(patience).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Silence::Dead,
            io::ErrorKind::WouldBlock => {
                let why = format!("it says nothing within {} ms", patience.as_millis());
                Silence::Unclear(io::Error::new(io::ErrorKind::TimedOut, why))
            }
            _ => Silence::Unclear(error),
        });
        match heard? {
            (Word::Refused { why }, _) => Err(Silence::Refused(why)),
            heard => Ok(heard),
        }
    }

    /// Waits for one certain word.
    pub fn wait_for(&self, word: &Word, patience: Duration) -> Result<(), Silence> {
        match self.hear(patience)? {
            (heard, _) if heard == *word => Ok(()),
            (heard, _) => Err(Silence::Unclear(unexpected(&heard))),
        }
    }

    fn receive(&self, patience: Duration) -> io::Result<(Word, Vec<OwnedFd>)> {
        let mut stream = &self.0;
        stream.set_read_timeout(Some(patience))?;
        let mut lengths = [0; 8];
        stream.read_exact(&mut lengths)?;
        let [text, descriptors] = [0, 4].map(|at| {
            let bytes = [0, 1, 2, 3].map(|byte| lengths[at + byte]);
            u32::from_le_bytes(bytes) as usize
        });
        if text > TEXT_MAX || descriptors > DESCRIPTORS_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it says too much at once",
            ));
        }
        let mut bytes = Vec::new();
        if stream.take(text as u64).read_to_end(&mut bytes)? < text {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Said whole, and yet cut short: nonsense, which the error would report as an early end.
        let word = serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut received = Vec::new();
        while received.len() < descriptors {
            self.receive_chunk(&mut received)?;
        }
        Ok((word, received))
    }

    fn send_chunk(&self, chunk: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CHUNK))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(chunk));
        let mark = [IoSlice::new(&[MARK])];
        sendmsg(&self.0, &mark, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Any number of descriptors but none.
    fn receive_chunk(&self, received: &mut Vec<OwnedFd>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(CHUNK))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut mark = [0];
        let into = &mut [IoSliceMut::new(&mut mark)];
        let message = recvmsg(&self.0, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let before = received.len();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                received.extend(descriptors);
            }
        }
        match received.len() > before {
            true => Ok(()),
            false if message.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "descriptors are missing: see the limit on open files (RLIMIT_NOFILE)",
            )),
        }
    }
}

fn unexpected(word: &Word) -> io::Error {
    let why = format!("it says {word:?} out of turn");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests;

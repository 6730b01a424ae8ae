//! The daemon's end of the socket. Connections are served one after another and briefly, so that nobody can make the
//! daemon keep many; only root and the daemon's own user are answered, whoever else gets hold of the file.

use crate::protocol::{Head, QUESTION_MAX, Question};
use rustix::process::geteuid;
use sandbox::peer;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long somebody may take to ask.
const ASKING: Duration = Duration::from_millis(500);
/// How long a write of the answer may be stuck.
const LISTENING: Duration = Duration::from_secs(2);

/// A socket in use; its file goes when this is dropped, unless another daemon has put its own there.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    inode: u64,
}

/// Answers questions on a socket from now on, on a thread of its own. What an earlier daemon left there is replaced.
pub fn serve<A>(path: &Path, answer: A) -> io::Result<Socket>
where
    A: Fn(Question) -> Result<String, String> + Send + 'static,
{
    let listener = listen(path)?;
    let socket = Socket {
        path: path.to_owned(),
        inode: fs::symlink_metadata(path)?.ino(),
    };
    let run = move || {
        // Without a descriptor to spare the next try would fail as fast.
        let pause = |stream: &io::Result<UnixStream>| {
            if stream.is_err() {
                thread::sleep(ASKING);
            }
        };
        for stream in listener.incoming().inspect(pause).flatten() {
            // Somebody who hangs up early is the only one to miss the answer.
            let _ = converse(stream, &answer);
        }
    };
    thread::Builder::new()
        .name("console".to_owned())
        .spawn(run)?;
    Ok(socket)
}

impl Drop for Socket {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| found.ino() == self.inode) {
            // The next daemon replaces what cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket for its owner only, in place at once and with its permissions.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&draft)?;
    fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
    fs::rename(&draft, path)?;
    Ok(listener)
}

fn converse<A>(mut stream: UnixStream, answer: &A) -> io::Result<()>
where
    A: Fn(Question) -> Result<String, String>,
{
    stream.set_write_timeout(Some(LISTENING))?;
    let line = line(&mut stream, QUESTION_MAX, ASKING)?;
    let asker = peer::user(&stream)?;
    if !asker.is_root() && asker != geteuid() {
        return say(&mut stream, Err("only root is answered".to_owned()));
    }
    let question = Question::read(&line).map_err(|why| why.to_string());
    say(&mut stream, question.and_then(answer))
}

fn say(stream: &mut UnixStream, said: Result<String, String>) -> io::Result<()> {
    let head = Head {
        ok: said.is_ok(),
        length: said.as_ref().map_or_else(String::len, String::len),
    };
    let text = said.unwrap_or_else(|why| why);
    stream.write_all(head.line().as_bytes())?;
    stream.write_all(text.as_bytes())
}

/// Up to the first line end, in at most so many bytes and so long.
pub(crate) fn line(
    stream: &mut UnixStream,
    most: usize,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < most && line.last() != Some(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => line.extend(byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(line)
}

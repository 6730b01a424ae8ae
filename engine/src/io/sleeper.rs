//! Sleeping beside a sender that goes on, where plain calls move the packets.
//!
//! Input for a thread that sleeps on a socket or a TUN itself wakes it "synchronously": the kernel
//! takes it that whoever brought the input is about to sleep, and puts the woken thread on that
//! very processor. A sender in the middle of a stream goes on, and the worker would wait for it
//! beside a processor with less to do. An epoll set that is itself polled passes the call on
//! without that hint. Descriptors are in the set only during the sleep: else each arrival would
//! run a callback although the worker is awake.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};

use crate::sys::poll::PollSet;

/// Every descriptor has the same: which one had input is looked up after the sleep.
const ANY: Token = Token(0);

/// A set of descriptors and a way to sleep on it.
#[derive(Debug)]
pub(crate) struct Sleeper {
    set: Poll,
    fds: Vec<RawFd>,
    outside: PollSet,
}

impl Sleeper {
    /// Prepares to sleep until one of these has input.
    pub(crate) fn new(fds: Vec<RawFd>) -> io::Result<Self> {
        let set = Poll::new()?;
        let outside = PollSet::new(std::iter::once(set.as_raw_fd()));
        Ok(Self { set, fds, outside })
    }

    /// Sleeps until one has input; an error if that cannot be waited for in this way.
    pub(crate) fn sleep(&mut self) -> io::Result<()> {
        let registry = self.set.registry();
        let enter = |fd| registry.register(&mut SourceFd(fd), ANY, Interest::READABLE);
        let slept = self
            .fds
            .iter()
            .try_for_each(enter)
            .and_then(|()| self.outside.wait(true));
        for fd in &self.fds {
            // One that did not get in need not get out.
            let _ = registry.deregister(&mut SourceFd(fd));
        }
        slept
    }

    /// The set's own descriptor.
    pub(crate) fn raw(&self) -> RawFd {
        self.set.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn input_on_any_descriptor_ends_every_sleep() {
        let pairs = [pair(), pair()];
        let fds = pairs.iter().map(|(near, _)| near.as_raw_fd()).collect();
        let mut sleeper = Sleeper::new(fds).unwrap();
        for (_, far) in &pairs {
            thread::scope(|scope| {
                scope.spawn(|| (&*far).write_all(b"x"));
                sleeper.sleep().unwrap();
            });
            // What was not read is still there.
            sleeper.sleep().unwrap();
        }
    }

    #[test]
    fn a_descriptor_that_cannot_be_watched_is_an_error_and_leaves_the_set_empty() {
        let (near, _far) = pair();
        let file = std::fs::File::open("/dev/null").unwrap();
        let kept = vec![near.as_raw_fd(), file.as_raw_fd()];
        let mut sleeper = Sleeper::new(kept).unwrap();
        for _ in 0..2 {
            let refused = sleeper.sleep().unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        }
    }
}

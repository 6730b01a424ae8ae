//! Raw Ethernet frames in and out of one interface, for comparing packets byte by byte.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::namespace::Namespace;
use crate::{sys, traffic};

/// Room for the largest super-packet with its headers.
const LARGEST: usize = 66_000;
const BUFFER: i32 = 32 << 20;

/// A socket that sees every frame another party puts on an interface, and can send any.
#[derive(Debug)]
pub struct FramePort {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl FramePort {
    /// Opens `interface` in `namespace`.
    pub fn open(namespace: &Namespace, interface: &str) -> io::Result<Self> {
        let socket = namespace.enter(|| sys::packet_socket(interface))?;
        sys::force_buffers(socket.as_fd(), BUFFER)?;
        Ok(Self {
            socket,
            buffer: vec![0; LARGEST],
        })
    }

    /// As `open`, but every frame has the ten bytes of a virtio network header in front, so that
    /// super-packets and unfinished checksums can be sent and seen.
    pub fn open_with_virtio_header(namespace: &Namespace, interface: &str) -> io::Result<Self> {
        let port = Self::open(namespace, interface)?;
        sys::set_vnet_header(port.socket.as_fd())?;
        Ok(port)
    }

    /// Sends one frame.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        sys::send_framed(self.socket.as_fd(), frame)
    }

    /// The next frame that comes in before `deadline`.
    pub fn receive(&mut self, deadline: Instant) -> io::Result<Option<&[u8]>> {
        loop {
            match sys::receive_framed(self.socket.as_fd(), &mut self.buffer) {
                Ok(Some(length)) => return Ok(Some(&self.buffer[..length])),
                Ok(None) => {}
                Err(error) if traffic::would_block(&error) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    self.wait(left)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn wait(&self, at_most: Duration) -> io::Result<()> {
        let milliseconds = at_most.as_millis().clamp(1, 1000) as i32;
        sys::wait_readable(&mut [sys::readable(self.socket.as_fd())], milliseconds).map(drop)
    }
}

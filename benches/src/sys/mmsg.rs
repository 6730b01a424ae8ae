//! Many datagrams per system call, over connected sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// Equal-size buffers with the message headers that sendmmsg and recvmmsg need around them.
///
/// ```text
/// messages[i].msg_hdr ─> vectors[i] ─> buffers[i * size ..][.. size]
/// ```
///
/// The three vectors never change length, so the addresses between them stay true.
pub(crate) struct MessageBatch {
    buffers: Vec<u8>,
    size: usize,
    _vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl MessageBatch {
    /// Makes `count` buffers of `size` bytes.
    pub(crate) fn new(count: usize, size: usize) -> Self {
        let mut buffers = vec![0_u8; count * size];
        let mut vectors: Vec<_> = buffers
            .chunks_exact_mut(size)
            .map(|chunk| libc::iovec {
                iov_base: chunk.as_mut_ptr().cast(),
                iov_len: size,
            })
            .collect();
        let messages = vectors.iter_mut().map(message_of).collect();
        Self {
            buffers,
            size,
            _vectors: vectors,
            messages,
        }
    }

    /// The number of messages one call can carry.
    pub(crate) fn capacity(&self) -> usize {
        self.messages.len()
    }

    /// The whole buffer of one message.
    pub(crate) fn buffer_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffers[index * self.size..][..self.size]
    }

    /// What the last receive put into one message.
    pub(crate) fn received(&self, index: usize) -> &[u8] {
        let length = (self.messages[index].msg_len as usize).min(self.size);
        &self.buffers[index * self.size..][..length]
    }

    /// Sends the first `count` buffers; says how many the kernel took.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        let messages = &mut self.messages[..count];
        // SAFETY: sendmmsg(2) reads `messages.len()` headers and what they point to: one iovec each
        // with one buffer each, both owned by self and of fixed address; no name, no control data.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                0,
            )
        };
        check(sent.into())
    }

    /// Takes what is there without waiting for more; says how many datagrams that was.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let count = self.messages.len() as libc::c_uint;
        let (first, none) = (self.messages.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: recvmmsg(2) writes `count` headers and at most `iov_len` bytes into each buffer, all
        // owned by self, borrowed mutably and of fixed address; a null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                first,
                count,
                libc::MSG_DONTWAIT as _,
                none,
            )
        };
        check(received.into())
    }
}

/// A header for one datagram without name and control data.
fn message_of(vector: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: msghdr is a C structure of integers and pointers, for which all zero is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    libc::mmsghdr {
        msg_hdr: header,
        msg_len: 0,
    }
}

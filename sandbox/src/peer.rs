//! Who is at the other end of a socket.
#![allow(
    unsafe_code,
    reason = "a question that rustix asks for more than is known"
)]

use rustix::process::Uid;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// The user at the other end. Its process may be one that this one cannot see, as between two containers: the kernel
/// then gives no number for it, and numbers that cannot be are no answer to `rustix`.
pub fn user(stream: &UnixStream) -> io::Result<Uid> {
    let nobody = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let (mut found, mut length) = (nobody, size_of_val(&nobody) as libc::socklen_t);
    // SAFETY: the descriptor is open while the stream is borrowed, and no more is written to `found` than `length` says.
    let asked = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    match asked {
        0 => Ok(Uid::from_raw(found.uid)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::geteuid;

    #[test]
    fn the_user_at_the_other_end_is_known() {
        let (near, _far) = UnixStream::pair().unwrap();
        assert_eq!(user(&near).unwrap(), geteuid());
    }
}

//! Notices changes of the host's interfaces, addresses and routes as they happen.

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use std::io;
use std::thread;

/// The kernel's numbers for news of links, IPv4 addresses and routes, IPv6 addresses and routes.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];

/// Calls back after each change, from a thread of its own that lasts as long as the process. What changed is not
/// said: whoever cares looks at what stands now, which also covers news that were lost in a burst.
pub fn watch(changed: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    let listen = move || {
        loop {
            match socket.recv_from_full() {
                // Too many at once: some are lost, but that there were any is all that counts.
                Err(error)
                    if error.kind() != io::ErrorKind::Interrupted
                        && error.raw_os_error() != Some(ENOBUFS) =>
                {
                    return;
                }
                _ => changed(),
            }
        }
    };
    thread::Builder::new()
        .name("host-monitor".to_owned())
        .spawn(listen)
        .map(drop)
}

/// "No buffer space available" on Linux.
const ENOBUFS: i32 = 105;

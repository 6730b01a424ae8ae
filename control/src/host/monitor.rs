//! Notices changes of the host's interfaces, addresses, routes and lasting neighbours as they happen.

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use std::io;
use std::thread;

/// The kernel's numbers for news of links, neighbours, IPv4 addresses and routes, IPv6 addresses and routes.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
/// Message type of a neighbour that came or changed.
const NEW_NEIGHBOUR: u16 = 28;
/// State of a neighbour that stays until it is removed.
const PERMANENT: u16 = 0x80;

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
                Ok((bytes, _)) if is_daily_business(&bytes) => {}
                _ => changed(),
            }
        }
    };
    thread::Builder::new()
        .name("host-monitor".to_owned())
        .spawn(listen)
        .map(drop)
}

/// Whether a message is about a neighbour the kernel found out about by itself, as it does all the time.
fn is_daily_business(bytes: &[u8]) -> bool {
    let number = |at: usize| {
        bytes
            .get(at..at + 2)
            .map(|two| u16::from_ne_bytes([two[0], two[1]]))
    };
    // Type in the header of 16 bytes, state behind a family and an interface.
    number(4) == Some(NEW_NEIGHBOUR) && number(24).is_some_and(|state| state & PERMANENT == 0)
}

/// "No buffer space available" on Linux.
const ENOBUFS: i32 = 105;

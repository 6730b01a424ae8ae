//! Notices changes of the host's interfaces, addresses, routes, lasting neighbours and firewall rules as they happen.

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use std::io;
use std::thread;

/// The kernel's numbers for news of links, neighbours, IPv4 addresses and routes, IPv6 addresses and routes.
const INTERFACES: [u32; 6] = [1, 3, 5, 7, 9, 11];
/// Message type of a neighbour that came or changed.
const NEW_NEIGHBOUR: u16 = 28;
/// State of a neighbour that stays until it is removed.
const PERMANENT: u16 = 0x80;

/// The kernel's number for news of nftables, which is also where most iptables keep their rules.
const RULES: [u32; 1] = [7];
/// Message types of a table, a chain and a rule that was removed.
const REMOVED: [u16; 3] = [0x0a02, 0x0a05, 0x0a08];
const MESSAGE_HEADER: usize = 16;

/// "No buffer space available" on Linux.
const ENOBUFS: i32 = 105;

/// Calls back after each change, from a thread of its own that lasts as long as the process. What changed is not
/// said: whoever cares looks at what stands now, which also covers news that were lost in a burst.
pub fn watch(changed: impl Fn() + Send + 'static) -> io::Result<()> {
    let matters = |bytes: &[u8]| !is_daily_business(bytes);
    listen("host-monitor", NETLINK_ROUTE, &INTERFACES, matters, changed)
}

/// Calls back after firewall rules were removed, whosever they were. Rules that the old iptables keeps outside
/// nftables make no news.
pub fn watch_rules(removed: impl Fn() + Send + 'static) -> io::Result<()> {
    listen(
        "rule-monitor",
        NETLINK_NETFILTER,
        &RULES,
        tells_of_removal,
        removed,
    )
}

fn listen(
    name: &str,
    protocol: isize,
    groups: &[u32],
    matters: impl Fn(&[u8]) -> bool + Send + 'static,
    tell: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
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
                Ok((bytes, _)) if !matters(&bytes) => {}
                _ => tell(),
            }
        }
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(listen)
        .map(drop)
}

/// Whether one of the messages is about something that was removed.
fn tells_of_removal(mut bytes: &[u8]) -> bool {
    while let Some(header) = bytes.first_chunk::<MESSAGE_HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if REMOVED.contains(&u16::from_ne_bytes([header[4], header[5]])) {
            return true;
        }
        // Messages begin at multiples of four.
        let next = length.max(MESSAGE_HEADER).next_multiple_of(4);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, length: u32) -> Vec<u8> {
        let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes()].concat();
        bytes.resize(length.next_multiple_of(4) as usize, 0);
        bytes
    }

    #[test]
    fn a_removal_is_found_behind_other_messages() {
        let (new, removed) = (message(0x0a06, 21), message(0x0a08, 40));
        assert!(tells_of_removal(&[&new[..], &new, &removed, &new].concat()));
        assert!(!tells_of_removal(&[&new[..], &new].concat()));
    }

    #[test]
    fn bytes_that_are_no_messages_end() {
        for length in [0, 3, 15, 16, 17, u32::MAX] {
            let mut bytes = message(0x0a06, 40);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(!tells_of_removal(&bytes));
        }
        assert!(!tells_of_removal(&[0; 7]));
    }
}

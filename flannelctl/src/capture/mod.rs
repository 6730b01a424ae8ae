//! `flannelctl capture`: packets inside the tunnel, the datagrams that carry them, and those that are dropped, each with
//! its reason, in one pcapng file. Packets that pass are copied by the kernel, not by the engine; how long and how many is
//! bounded.

mod dropped;
mod pcapng;
mod tap;

use crate::args::{Capture, What};
use crate::ask::{document, failed};
use crate::exit::Exit;
use console::answers::Status;
use console::protocol::Question;
use control::host::Netlink;
use pcapng::{Link, Packet, Writer};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tap::Tap;

/// Largest packet on a device that takes super-packets.
const LARGEST: usize = 1 << 16;
/// Packets under way from the taps to the file.
const QUEUE: usize = 1024;

/// A packet from one of the sources.
struct Seen {
    interface: u32,
    at: Duration,
    length: usize,
    bytes: Vec<u8>,
    comment: Option<String>,
}

/// Captures until enough has been seen.
pub(crate) fn run(arguments: &Capture) -> Exit {
    let status = match document(&arguments.asking.socket, Question::Status) {
        Ok(status) => status,
        Err(why) => return failed(&why, &arguments.asking),
    };
    match capture(arguments, &status) {
        Ok(count) => {
            eprintln!("flannelctl: {count} packets");
            Exit::Well
        }
        Err(error) => {
            eprintln!("flannelctl: cannot capture: {error}");
            Exit::Failed
        }
    }
}

fn capture(arguments: &Capture, status: &Status) -> io::Result<usize> {
    let sources = sources(arguments, status)?;
    let out: Box<dyn Write> = match arguments.output.as_os_str() == "-" {
        true => Box::new(io::stdout()),
        false => Box::new(File::create(&arguments.output)?),
    };
    let mut writer = Writer::new(BufWriter::new(out))?;
    let (sender, seen) = sync_channel(QUEUE);
    for (number, source) in (0..).zip(sources) {
        writer.interface(&source.name, source.link)?;
        let (sender, settings) = (sender.clone(), arguments.clone());
        // They end with the program, or when nobody listens any more.
        thread::spawn(move || source.watch(number, &settings, &sender));
    }
    drop(sender);
    let deadline = Instant::now() + arguments.seconds;
    let mut count = 0;
    while count < arguments.packets {
        let left = deadline.saturating_duration_since(Instant::now());
        let packet = match seen.recv_timeout(left) {
            Ok(packet) => packet,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        };
        writer.packet(&Packet {
            interface: packet.interface,
            at: packet.at,
            length: packet.length,
            bytes: &packet.bytes,
            comment: packet.comment.as_deref(),
        })?;
        count += 1;
    }
    writer.finish()?;
    Ok(count)
}

/// Where packets are seen.
struct Source {
    name: String,
    link: Link,
    from: From,
}

enum From {
    Inner(Tap),
    /// Datagrams to and from this port.
    Outer(Tap, u16),
    /// What the daemon tells of packets it dropped.
    Dropped,
}

fn sources(arguments: &Capture, status: &Status) -> io::Result<Vec<Source>> {
    let what = |one| arguments.what.contains(&one);
    let mut sources = Vec::new();
    if let Some(engine) = status.engine.as_ref().filter(|_| what(What::Inner)) {
        sources.push(Source {
            link: Link::Raw,
            from: From::Inner(Tap::open(number(&engine.device)?)?),
            name: engine.device.clone(),
        });
    }
    let node = status.node.as_ref().filter(|_| what(What::Outer));
    let ports = status.network.iter().flat_map(|network| network.ports());
    for (node, port) in node.into_iter().cycle().zip(ports) {
        sources.push(Source {
            link: Link::Ethernet,
            from: From::Outer(Tap::open(number(&node.interface)?)?, port),
            name: node.interface.clone(),
        });
    }
    if what(What::Dropped) {
        sources.push(Source {
            name: "dropped".to_owned(),
            link: Link::Bytes,
            from: From::Dropped,
        });
    }
    match sources.is_empty() {
        true => Err(io::Error::other(
            "the daemon carries no such packets itself",
        )),
        false => Ok(sources),
    }
}

fn number(interface: &str) -> io::Result<u32> {
    Netlink::open()?.index_of(interface)
}

impl Source {
    /// Hands packets over until nobody listens any more.
    fn watch(&self, interface: u32, settings: &Capture, seen: &SyncSender<Seen>) {
        let outcome = match &self.from {
            From::Inner(tap) => watch_tap(tap, interface, settings, seen, |bytes| {
                about(bytes, settings.host)
            }),
            From::Outer(tap, port) => watch_tap(tap, interface, settings, seen, |bytes| {
                let packet = bytes.get(14..).unwrap_or_default();
                uses_port(packet, *port) && about(packet, settings.host)
            }),
            From::Dropped => dropped::watch(interface, settings, seen),
        };
        if let Err(error) = outcome {
            eprintln!("flannelctl: no more packets of {}: {error}", self.name);
        }
    }
}

fn watch_tap(
    tap: &Tap,
    interface: u32,
    settings: &Capture,
    seen: &SyncSender<Seen>,
    wanted: impl Fn(&[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; LARGEST];
    loop {
        let Some(length) = tap.read(&mut buffer)? else {
            continue;
        };
        if !wanted(&buffer[..length]) {
            continue;
        }
        let packet = Seen {
            interface,
            at: now(),
            length,
            bytes: buffer[..length.min(settings.snap)].to_vec(),
            comment: None,
        };
        if seen.send(packet).is_err() {
            return Ok(());
        }
    }
}

/// Whether an IP packet is of a host, if one is asked for.
fn about(packet: &[u8], host: Option<IpAddr>) -> bool {
    let Some(host) = host else {
        return true;
    };
    let octets = match host {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (first, six) = if host.is_ipv6() { (8, 6) } else { (12, 4) };
    let is = |at: usize| packet.get(at..at + octets.len()) == Some(&octets[..]);
    packet.first().map(|byte| byte >> 4) == Some(six) && (is(first) || is(first + octets.len()))
}

/// Whether an IP packet is UDP of a port, in either direction.
fn uses_port(packet: &[u8], port: u16) -> bool {
    const UDP: u8 = 17;
    let (protocol, ports) = match packet.first().map(|byte| (byte >> 4, byte & 15)) {
        Some((4, words)) => (packet.get(9), usize::from(words) * 4),
        Some((6, _)) => (packet.get(6), 40),
        _ => return false,
    };
    let at = |at: usize| packet.get(at..at + 2) == Some(&port.to_be_bytes()[..]);
    protocol == Some(&UDP) && (at(ports) || at(ports + 2))
}

fn now() -> Duration {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp() -> Vec<u8> {
        let mut packet = vec![0; 28];
        (packet[0], packet[9]) = (0x45, 17);
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
        packet[22..24].copy_from_slice(&8472u16.to_be_bytes());
        packet
    }

    #[test]
    fn packets_are_chosen_by_host_and_port() {
        let host = |text: &str| Some(text.parse().unwrap());
        assert!(about(&udp(), None));
        assert!(about(&udp(), host("10.0.0.2")) && about(&udp(), host("10.0.0.1")));
        assert!(!about(&udp(), host("10.0.0.3")) && !about(&udp(), host("fd00::1")));
        assert!(uses_port(&udp(), 8472) && !uses_port(&udp(), 8285));
        for length in 0..28 {
            let _ = about(&udp()[..length], host("10.0.0.2"));
            let _ = uses_port(&udp()[..length], 8472);
        }
    }
}

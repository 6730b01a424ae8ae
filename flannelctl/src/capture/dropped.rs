//! Packets the daemon did not carry: it keeps the beginnings of the next few hundred for whoever asks, so it is asked
//! again and again. Those that were too many in between are told as a number.

use super::{Seen, about, now};
use crate::args::Capture;
use crate::ask::document;
use console::answers::{Dropped, DroppedPacket};
use console::protocol::Question;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

/// How often the daemon is asked.
const ASKING: Duration = Duration::from_millis(50);
/// VXLAN and Ethernet headers in front of an inner packet.
const VXLAN: usize = 8 + 14;

/// Hands packets over until nobody listens any more.
pub(super) fn watch(interface: u32, settings: &Capture, seen: &SyncSender<Seen>) -> io::Result<()> {
    // What somebody else had kept earlier is not of this capture.
    let mut known = Known::default();
    known.news(ask(settings)?);
    loop {
        thread::sleep(ASKING);
        let (news, missed) = known.news(ask(settings)?);
        if missed > 0 {
            eprintln!("flannelctl: {missed} dropped packets came too fast to be kept");
        }
        for packet in news.iter().filter(|packet| wanted(packet, settings)) {
            if seen.send(shown(packet, interface, settings.snap)).is_err() {
                return Ok(());
            }
        }
    }
}

fn ask(settings: &Capture) -> io::Result<Dropped> {
    document(&settings.asking.socket, Question::Dropped).map_err(io::Error::other)
}

/// How far each worker's packets are known.
#[derive(Debug, Default)]
struct Known(BTreeMap<usize, u64>);

impl Known {
    /// The packets that are new, and how many before them are missing.
    fn news(&mut self, told: Dropped) -> (Vec<DroppedPacket>, u64) {
        let (mut news, mut missed) = (Vec::new(), 0);
        for packet in told.packets {
            let next = self.0.get(&packet.worker).copied();
            if next.is_some_and(|next| packet.number < next) {
                continue;
            }
            missed += next.map_or(0, |next| packet.number - next);
            self.0.insert(packet.worker, packet.number + 1);
            news.push(packet);
        }
        (news, missed)
    }
}

/// Whether a packet is of the host and for the reason asked for.
fn wanted(packet: &DroppedPacket, settings: &Capture) -> bool {
    let reason = settings.reason.as_ref();
    let bytes = bytes(&packet.packet.bytes);
    let inside = bytes.get(VXLAN..).unwrap_or_default();
    let of_host = |host: IpAddr| {
        packet.packet.from == Some(host) || about(&bytes, Some(host)) || about(inside, Some(host))
    };
    settings.host.is_none_or(of_host) && reason.is_none_or(|reason| *reason == packet.reason)
}

fn shown(dropped: &DroppedPacket, interface: u32, snap: usize) -> Seen {
    let packet = &dropped.packet;
    let from = match packet.from {
        Some(from) => format!("from {from}"),
        None => "from this host".to_owned(),
    };
    let mut bytes = bytes(&packet.bytes);
    bytes.truncate(snap);
    Seen {
        interface,
        at: now(),
        length: packet.length,
        bytes,
        comment: Some(format!(
            "dropped: {}, {from}. {}",
            dropped.reason, dropped.about
        )),
    }
}

/// From hexadecimal.
fn bytes(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    pairs.map_while(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use console::answers::{Example, SCHEMA};

    fn told(numbers: &[u64]) -> Dropped {
        let packet = |&number: &u64| DroppedPacket {
            worker: 0,
            number,
            reason: "in_not_a_peer".to_owned(),
            about: String::new(),
            packet: Example {
                from: None,
                summary: None,
                length: 2,
                bytes: "00ff".to_owned(),
            },
        };
        Dropped {
            schema: SCHEMA,
            packets: numbers.iter().map(packet).collect(),
        }
    }

    #[test]
    fn each_packet_is_news_once_and_gaps_are_counted() {
        let mut known = Known::default();
        let mut news = |numbers: &[u64]| {
            let (news, missed) = known.news(told(numbers));
            let numbers: Vec<u64> = news.iter().map(|packet| packet.number).collect();
            (numbers, missed)
        };
        assert_eq!(news(&[7, 8]), (vec![7, 8], 0));
        assert_eq!(news(&[7, 8, 9, 12]), (vec![9, 12], 2));
        assert_eq!(news(&[]), (vec![], 0));
    }

    #[test]
    fn bytes_come_back_from_their_digits() {
        assert_eq!(bytes("00ff7a"), [0, 255, 122]);
        assert_eq!(bytes("0"), [] as [u8; 0]);
    }
}

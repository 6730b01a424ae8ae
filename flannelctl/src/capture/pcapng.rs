//! The file format of captures: a header, then blocks, each with its length at both ends and filled up to four bytes.

use std::io::{self, Write};
use std::time::Duration;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
/// Tells readers the order of bytes.
const MAGIC: u32 = 0x1a2b_3c4d;

/// What packets of an interface begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet = 1,
    /// An IP header.
    Raw = 101,
    /// Anything, for humans to look at.
    Bytes = 147,
}

/// A packet with what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet<'p> {
    /// Number of the interface, in the order they were announced.
    pub(super) interface: u32,
    /// Since 1970.
    pub(super) at: Duration,
    /// Its whole length; of `bytes` there may be fewer.
    pub(super) length: usize,
    pub(super) bytes: &'p [u8],
    pub(super) comment: Option<&'p str>,
}

/// A file under way.
#[derive(Debug)]
pub(super) struct Writer<W>(W);

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(super) fn new(out: W) -> io::Result<Self> {
        let mut writer = Self(out);
        let mut body = MAGIC.to_ne_bytes().to_vec();
        body.extend(1u16.to_ne_bytes());
        body.extend(0u16.to_ne_bytes());
        // How long the section is nobody knows yet.
        body.extend((-1i64).to_ne_bytes());
        writer.block(SECTION, &body)?;
        Ok(writer)
    }

    /// Announces the next interface.
    pub(super) fn interface(&mut self, name: &str, link: Link) -> io::Result<()> {
        const NAME: u16 = 2;
        let mut body = (link as u16).to_ne_bytes().to_vec();
        body.extend(0u16.to_ne_bytes());
        // No limit to what is kept of a packet.
        body.extend(0u32.to_ne_bytes());
        body.extend(options(&[(NAME, name.as_bytes())]));
        self.block(INTERFACE, &body)
    }

    /// Adds a packet.
    pub(super) fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        const COMMENT: u16 = 1;
        let micros = packet.at.as_micros() as u64;
        let mut body = packet.interface.to_ne_bytes().to_vec();
        body.extend(((micros >> 32) as u32).to_ne_bytes());
        body.extend((micros as u32).to_ne_bytes());
        body.extend((packet.bytes.len() as u32).to_ne_bytes());
        body.extend((packet.length as u32).to_ne_bytes());
        body.extend(packet.bytes);
        fill(&mut body);
        if let Some(comment) = packet.comment {
            body.extend(options(&[(COMMENT, comment.as_bytes())]));
        }
        self.block(PACKET, &body)
    }

    /// Everything is where it belongs.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (body.len() as u32 + 12).to_ne_bytes();
        self.0.write_all(&kind.to_ne_bytes())?;
        self.0.write_all(&length)?;
        self.0.write_all(body)?;
        self.0.write_all(&length)
    }
}

fn options(options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (code, value) in options {
        body.extend(code.to_ne_bytes());
        body.extend((value.len() as u16).to_ne_bytes());
        body.extend(*value);
        fill(&mut body);
    }
    body.extend([0; 4]);
    body
}

fn fill(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kinds of the blocks, which must be joined without a gap.
    fn blocks(file: &[u8]) -> Vec<u32> {
        let word = |at: usize| u32::from_ne_bytes(*file[at..].first_chunk().unwrap());
        let (mut at, mut kinds) = (0, Vec::new());
        while at < file.len() {
            let length = word(at + 4) as usize;
            assert!(length.is_multiple_of(4));
            assert_eq!(word(at + length - 4) as usize, length);
            kinds.push(word(at));
            at += length;
        }
        kinds
    }

    #[test]
    fn blocks_follow_each_other_and_have_their_length_at_both_ends() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file).unwrap();
        writer.interface("flannel0", Link::Raw).unwrap();
        for length in 0..9 {
            let packet = Packet {
                interface: 0,
                at: Duration::from_micros(0x0123_4567_89ab_cdef),
                length: 1500,
                bytes: &[7; 9][..length],
                comment: (length > 4).then_some("why"),
            };
            writer.packet(&packet).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(
            blocks(&file),
            [&[SECTION, INTERFACE][..], &[PACKET; 9]].concat()
        );
        assert!(file.windows(8).any(|bytes| bytes == b"flannel0"));
        assert!(file.windows(3).any(|bytes| bytes == b"why"));
    }
}

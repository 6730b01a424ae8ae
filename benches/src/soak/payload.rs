//! Traffic of which every byte is known: streams and datagrams, both ways, each piece with its number and digest.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Namespace;
use crate::traffic::{Ends, would_block};

/// Of a stream; of a datagram as much as its length says.
const PIECE: usize = 64 << 10;
const DATAGRAM_MAX: usize = 1400;
/// Number and digest.
const HEAD: usize = 16;
/// Longer than any fault lasts, and than TCP waits before it tries again.
const PATIENCE: Duration = Duration::from_secs(120);
/// A datagram later than that is lost.
const LATE: Duration = Duration::from_secs(2);
const DATAGRAM_PACE: Duration = Duration::from_micros(500);

/// What has arrived so far.
#[derive(Debug, Default)]
struct Sums {
    bytes: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    wrong: AtomicU64,
}

/// What arrived in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) wrong: u64,
}

/// Senders and receivers at work.
pub(super) struct Load {
    end: Arc<AtomicBool>,
    sums: Arc<Sums>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Load {
    /// Starts a stream and a flow of datagrams each way.
    pub(super) fn start(there: &Ends<'_>, back: &Ends<'_>) -> io::Result<Self> {
        let mut load = Self {
            end: Arc::default(),
            sums: Arc::default(),
            threads: Vec::new(),
        };
        for ends in [there, back] {
            load.stream(ends)?;
            load.flow(ends)?;
        }
        Ok(load)
    }

    /// Whether a sender or receiver has given up.
    pub(super) fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends it once all that is under way has arrived.
    pub(super) fn stop(self) -> io::Result<Sum> {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let ended = thread.join();
            ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Sum {
            bytes: read(&self.sums.bytes),
            sent: read(&self.sums.sent),
            received: read(&self.sums.received),
            wrong: read(&self.sums.wrong),
        })
    }

    fn stream(&mut self, ends: &Ends<'_>) -> io::Result<()> {
        let (far, address) = ends.far;
        let listener = far.enter(|| TcpListener::bind((address, 0)))?;
        let target = listener.local_addr()?;
        let near = ends.near.0.enter(|| TcpStream::connect(target))?;
        let (far, _) = listener.accept()?;
        near.set_write_timeout(Some(PATIENCE))?;
        far.set_read_timeout(Some(PATIENCE))?;
        let (end, sums) = (Arc::clone(&self.end), Arc::clone(&self.sums));
        let sender = ends.near.0.share()?;
        // The reader first: where a stream breaks, it knows best why.
        self.threads.push(thread::spawn(move || {
            read_pieces(far, &sums).map_err(|error| stood_still(error, &sender))
        }));
        self.threads
            .push(thread::spawn(move || write_pieces(near, &end)));
        Ok(())
    }

    fn flow(&mut self, ends: &Ends<'_>) -> io::Result<()> {
        let bound = |(container, address): (&Namespace, std::net::IpAddr)| {
            container.enter(|| UdpSocket::bind((address, 0)))
        };
        let (near, far) = (bound(ends.near)?, bound(ends.far)?);
        near.connect(far.local_addr()?)?;
        far.set_read_timeout(Some(LATE))?;
        let (end, sums) = (Arc::clone(&self.end), Arc::clone(&self.sums));
        self.threads
            .push(thread::spawn(move || send_datagrams(&near, &end, &sums)));
        let (end, sums) = (Arc::clone(&self.end), Arc::clone(&self.sums));
        self.threads
            .push(thread::spawn(move || receive_datagrams(&far, &end, &sums)));
        Ok(())
    }
}

fn write_pieces(mut stream: TcpStream, end: &AtomicBool) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    for number in 0.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        fill(&mut piece, number);
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)
}

/// What ended a stream, and how its sender's kernel sees it where nothing came any more.
fn stood_still(error: io::Error, sender: &Namespace) -> io::Error {
    if !would_block(&error) {
        return error;
    }
    let seen = sender.run("ss --tcp --info --options --numeric");
    let seen = seen.unwrap_or_else(|why| why.to_string());
    io::Error::other(format!("nothing came for {PATIENCE:?}:\n{seen}"))
}

fn read_pieces(mut stream: TcpStream, sums: &Sums) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    for number in 0.. {
        match stream.read_exact(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            other => other?,
        }
        if !is_right(&piece) || number_of(&piece) != number {
            sums.wrong.fetch_add(1, Ordering::Relaxed);
        }
        sums.bytes.fetch_add(PIECE as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn send_datagrams(socket: &UdpSocket, end: &AtomicBool, sums: &Sums) -> io::Result<()> {
    let mut datagram = [0; DATAGRAM_MAX];
    for number in 0_u64.. {
        if end.load(Ordering::Relaxed) {
            break;
        }
        let length = HEAD + (number as usize * 53) % (DATAGRAM_MAX - HEAD);
        fill(&mut datagram[..length], number);
        // What is refused while a node is away is as lost as what is dropped.
        let _ = socket.send(&datagram[..length]);
        sums.sent.fetch_add(1, Ordering::Relaxed);
        thread::sleep(DATAGRAM_PACE);
    }
    Ok(())
}

fn receive_datagrams(socket: &UdpSocket, end: &AtomicBool, sums: &Sums) -> io::Result<()> {
    let mut datagram = [0; 2 * DATAGRAM_MAX];
    loop {
        match socket.recv(&mut datagram) {
            Ok(length) if is_right(&datagram[..length]) => {
                sums.received.fetch_add(1, Ordering::Relaxed);
                sums.bytes.fetch_add(length as u64, Ordering::Relaxed);
            }
            Ok(_) => {
                sums.wrong.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if would_block(&error) => {
                if end.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Number, digest, and bytes that differ from piece to piece and from place to place.
fn fill(piece: &mut [u8], number: u64) {
    let mut word = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in piece[HEAD..].chunks_mut(8) {
        word = word.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    piece[..8].copy_from_slice(&number.to_le_bytes());
    let digest = digest(piece);
    piece[8..HEAD].copy_from_slice(&digest.to_le_bytes());
}

fn number_of(piece: &[u8]) -> u64 {
    piece
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn is_right(piece: &[u8]) -> bool {
    piece.len() >= HEAD && piece[8..HEAD] == digest(piece).to_le_bytes()
}

/// Of the length, the number and the bytes, in their order.
fn digest(piece: &[u8]) -> u64 {
    let start = number_of(piece) ^ (piece.len() as u64) << 40;
    piece[HEAD..].chunks(8).fold(start, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mixed = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x9fb2_1c65_1e98_df25);
        mixed ^ mixed >> 29
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_piece_is_seen() {
        let mut piece = vec![0; 100];
        fill(&mut piece, 7);
        assert!(is_right(&piece) && number_of(&piece) == 7);
        assert!(!is_right(&piece[..99]), "cut");
        for at in 0..piece.len() {
            piece[at] ^= 0x10;
            assert!(!is_right(&piece), "byte {at}");
            piece[at] ^= 0x10;
        }
        piece.swap(20, 40);
        assert!(!is_right(&piece), "swapped");
    }
}

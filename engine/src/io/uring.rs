//! The io_uring backend, in two tiers.
//!
//! - **multishot** (Linux 6.7): one read of the TUN keeps delivering packets into frames lent
//!   through a buffer ring;
//! - **one-shot**: when the TUN is readable, a batch of single reads goes down in one call, each
//!   told not to wait, so that an empty queue answers instead of keeping the read armed. (Many
//!   armed reads on one TUN queue are a trap: each packet wakes them all.)
//!
//! Both wait in the ring, and both write a batch of packets to the TUN in one call. The underlay
//! stays with `sendmmsg` and `recvmmsg`; its sockets are watched through the ring.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use ringbuf::{BufRing, Frame, Pool};

use super::tun_writer::{Outgoing, PARTS_MAX, Refusals, TunWriter, Written};
use super::underlay::Underlay;
use super::{
    BATCH_PACKETS, HEADROOM, PacketIo, Parts, Patience, Ready, TunBatch, Wait, WaitsIn, is_dry,
};
use crate::stats::WorkerStats;
use crate::sys::gather::GatherArrays;
use crate::sys::tun::TunQueue;
use crate::sys::uring::{Arrival, COMPLETIONS, Completion, LentReads, ReadTarget, Ring};
use crate::sys::wake::Wake;
use crate::wire::Slot;
use crate::wire::virtio::VirtioNetHdr;

/// Places among the ring's files, and so the tokens of what is seen there. Of a daemon that is killed the kernel closes
/// them in this order, a moment after it is gone: whoever is started in its place needs the sockets first, and taking the
/// device down takes long.
const TUN: u32 = LISTENERS_MAX + 1;
const STOP: u32 = LISTENERS_MAX;
/// Listeners at most: two forms at addresses of two families, each with a socket for its favourite.
const LISTENERS_MAX: u32 = 8;
/// Where there is no file.
const NONE: RawFd = -1;
/// Packets written in one call at most: they must fit into the ring with room for the rest.
const WRITES_MAX: usize = 64;
/// Single reads tried at once when packets come slowly.
const READS_MIN: usize = 2;

/// io_uring for the TUN, and for waiting.
#[derive(Debug)]
pub(crate) struct UringIo<'a> {
    reader: Reader<'a>,
    tun: TunQueue,
    vnet: bool,
    underlay: Underlay,
    wake: Arc<Wake>,
    ready: Ready,
    patience: Patience,
    /// Completions that came while a call waited for its own.
    stash: Vec<Completion>,
    writes: WriteBatch,
}

#[derive(Debug)]
enum Reader<'a> {
    Multishot {
        reads: LentReads<'a>,
        arrived: VecDeque<Frame<'a>>,
    },
    Oneshot {
        ring: Ring,
        reads: SingleReads<'a>,
    },
}

/// Frames for single reads, and how many to try at once.
#[derive(Debug)]
struct SingleReads<'a> {
    pool: Pool<'a>,
    frames: Vec<Frame<'a>>,
    lengths: Vec<i32>,
    registered: bool,
    count: usize,
}

/// Arrays for one batch of writes.
#[derive(Debug)]
struct WriteBatch {
    single: TunWriter,
    packets: GatherArrays,
    headers: Vec<[u8; VirtioNetHdr::LEN]>,
    refused: Vec<(usize, i32)>,
}

impl<'a> UringIo<'a> {
    /// The tier with a multishot read.
    pub(crate) fn multishot(mut parts: Parts<'a>) -> io::Result<Self> {
        let frames = BufRing::new(BATCH_PACKETS as u16, read_start(parts.vnet))?;
        let mut reads = LentReads::new(open(&parts)?, frames, TUN)?;
        reads.ring.begin()?;
        watch(&mut reads.ring, &parts)?;
        reads.lend(std::iter::from_fn(|| parts.pool.take()).take(BATCH_PACKETS));
        let arrived = VecDeque::with_capacity(BATCH_PACKETS);
        Ok(Self::assemble(parts, |_| Reader::Multishot {
            reads,
            arrived,
        }))
    }

    /// The tier with batches of single reads; `frames` is the memory the pool's frames lie in.
    pub(crate) fn oneshot(parts: Parts<'a>, frames: (*const u8, usize)) -> io::Result<Self> {
        let mut ring = open(&parts)?;
        // Refused where locked memory is short: the reads then name plain memory.
        let registered = ring.register_frames(frames).is_ok();
        ring.begin()?;
        watch(&mut ring, &parts)?;
        ring.poll(TUN)?;
        Ok(Self::assemble(parts, |pool| {
            let (frames, lengths) = (
                Vec::with_capacity(BATCH_PACKETS),
                Vec::with_capacity(BATCH_PACKETS),
            );
            let reads = SingleReads {
                pool,
                frames,
                lengths,
                registered,
                count: READS_MIN,
            };
            Reader::Oneshot { ring, reads }
        }))
    }

    fn assemble(parts: Parts<'a>, reader: impl FnOnce(Pool<'a>) -> Reader<'a>) -> Self {
        let Parts {
            tun,
            vnet,
            pool,
            underlay,
            wake,
        } = parts;
        let writes = WriteBatch {
            single: TunWriter::new(vnet),
            packets: GatherArrays::with_room(WRITES_MAX, WRITES_MAX * PARTS_MAX),
            headers: Vec::with_capacity(WRITES_MAX),
            refused: Vec::with_capacity(WRITES_MAX),
        };
        let (ready, stash) = (Ready::default(), Vec::with_capacity(COMPLETIONS as usize));
        Self {
            reader: reader(pool),
            tun,
            vnet,
            underlay,
            wake,
            ready,
            patience: Patience::default(),
            stash,
            writes,
        }
    }

    /// Notes everything the kernel has posted.
    fn collect(&mut self) -> io::Result<()> {
        while let Some(completion) = self.reader.ring().next() {
            self.note(completion)?;
        }
        Ok(())
    }

    fn note(&mut self, completion: Completion) -> io::Result<()> {
        match completion.token as u32 {
            TUN => self.note_tun(completion),
            STOP => self.note_call(completion),
            listener => self.note_underlay(listener, completion),
        }
    }

    fn note_call(&mut self, completion: Completion) -> io::Result<()> {
        self.ready.stop |= self.wake.heed();
        if completion.more {
            return Ok(());
        }
        self.reader.ring().poll(STOP)
    }

    fn note_tun(&mut self, completion: Completion) -> io::Result<()> {
        self.ready.tun = true;
        match &mut self.reader {
            Reader::Multishot { reads, arrived } => match reads.take(completion) {
                Arrival::Packet(frame) => {
                    self.patience.restore();
                    arrived.push_back(frame);
                }
                Arrival::Nothing => {}
                Arrival::Failed(error) => drop(self.patience.bear(error)?),
            },
            Reader::Oneshot { ring, .. } if !completion.more => ring.poll(TUN)?,
            Reader::Oneshot { .. } => {}
        }
        Ok(())
    }

    /// A watch ends when completions overflow.
    fn note_underlay(&mut self, listener: u32, completion: Completion) -> io::Result<()> {
        self.ready.underlay = true;
        if completion.more {
            return Ok(());
        }
        self.reader.ring().poll(listener)
    }

    fn note_stash(&mut self) -> io::Result<()> {
        let mut stash = std::mem::take(&mut self.stash);
        let noted = stash
            .drain(..)
            .try_for_each(|completion| self.note(completion));
        self.stash = stash;
        noted
    }
}

fn open(parts: &Parts<'_>) -> io::Result<Ring> {
    let mut files: Vec<_> = parts.underlay.input_fds().collect();
    if files.len() > LISTENERS_MAX as usize {
        return Err(io::Error::other("more listeners than a ring has room for"));
    }
    files.resize(LISTENERS_MAX as usize, NONE);
    files.extend([parts.wake.raw(), parts.tun.raw()]);
    Ring::new(&files)
}

fn watch(ring: &mut Ring, parts: &Parts<'_>) -> io::Result<()> {
    let inputs = 0..parts.underlay.inputs() as u32;
    inputs.chain([STOP]).try_for_each(|file| ring.poll(file))
}

/// Where in a slot the kernel writes, so that the packet lies behind the headroom.
fn read_start(vnet: bool) -> usize {
    if vnet {
        HEADROOM - VirtioNetHdr::LEN
    } else {
        HEADROOM
    }
}

impl<'a> PacketIo<'a> for UringIo<'a> {
    fn wait(&mut self, how: Wait) -> io::Result<Ready> {
        self.reader.arm()?;
        self.collect()?;
        if how != Wait::Not && !self.ready.any() {
            self.reader.ring().submit(1)?;
        } else if self.reader.ring().has_work() {
            self.reader.ring().submit(0)?;
        }
        self.collect()?;
        Ok(std::mem::take(&mut self.ready))
    }

    fn read_tun(&mut self, batch: &mut TunBatch<'a>) -> io::Result<bool> {
        match &mut self.reader {
            Reader::Oneshot { ring, reads } => {
                let read = reads.read(ring, self.vnet, &mut self.stash, batch);
                self.note_stash()?;
                match read {
                    Ok(dry) => {
                        self.patience.restore();
                        Ok(dry)
                    }
                    Err(error) => self.patience.bear(error),
                }
            }
            Reader::Multishot { .. } => {
                self.reader.arm()?;
                if self.reader.ring().has_work() {
                    self.reader.ring().submit(0)?;
                    self.collect()?;
                }
                Ok(self.reader.deliver(self.vnet, batch))
            }
        }
    }

    fn finish_reading(&mut self) -> bool {
        let Reader::Multishot { reads, arrived } = &mut self.reader else {
            return false;
        };
        reads.end(|frame| arrived.push_back(frame));
        !arrived.is_empty()
    }

    fn release(&mut self, batch: &mut TunBatch<'a>) {
        match &mut self.reader {
            Reader::Multishot { reads, .. } => reads.lend(batch.take_frames()),
            Reader::Oneshot { reads, .. } => {
                batch.take_frames().for_each(|frame| reads.pool.put(frame))
            }
        }
    }

    fn write_tun<S: Slot>(&mut self, outgoing: &Outgoing<'_, S>, stats: &WorkerStats) {
        for writes in outgoing.writes.chunks(WRITES_MAX) {
            let chunk = Outgoing {
                writes,
                pieces: outgoing.pieces,
                headers: outgoing.headers,
                frames: outgoing.frames,
            };
            // One write is cheaper as a plain call.
            if writes.len() == 1 {
                self.writes.single.write_all(&self.tun, &chunk, stats);
                continue;
            }
            let ring = self.reader.ring();
            self.writes
                .write(ring, &self.tun, &chunk, &mut self.stash, stats);
        }
        if let Err(error) = self.note_stash() {
            // The read will say so again when it is armed the next time, and end the worker.
            tracing::debug!("the TUN failed while it was written: {error}");
        }
    }

    fn refusals(&self) -> Refusals {
        self.writes.single.refusals
    }

    fn underlay(&mut self) -> &mut Underlay {
        &mut self.underlay
    }

    fn waits_in(&self) -> WaitsIn {
        let ring = match &self.reader {
            Reader::Multishot { reads, .. } => &reads.ring,
            Reader::Oneshot { ring, .. } => ring,
        };
        WaitsIn::Ring(ring.raw())
    }
}

impl<'a> Reader<'a> {
    fn ring(&mut self) -> &mut Ring {
        match self {
            Self::Multishot { reads, .. } => &mut reads.ring,
            Self::Oneshot { ring, .. } => ring,
        }
    }

    /// Sees that packets keep coming; polls do by themselves.
    fn arm(&mut self) -> io::Result<()> {
        match self {
            Self::Multishot { reads, .. } => reads.arm(),
            Self::Oneshot { .. } => Ok(()),
        }
    }

    /// Moves packets that arrived into the batch; true when no more are there.
    fn deliver(&mut self, vnet: bool, batch: &mut TunBatch<'a>) -> bool {
        let Self::Multishot { arrived, .. } = self else {
            return true;
        };
        while !batch.is_full() {
            let Some(frame) = arrived.pop_front() else {
                return true;
            };
            batch.push(frame, vnet);
        }
        false
    }
}

impl<'a> SingleReads<'a> {
    /// Reads a batch; the number of reads tried doubles while all succeed.
    fn read(
        &mut self,
        ring: &mut Ring,
        vnet: bool,
        stash: &mut Vec<Completion>,
        batch: &mut TunBatch<'a>,
    ) -> io::Result<bool> {
        let room = BATCH_PACKETS - batch.frames.len();
        let pool = &mut self.pool;
        self.frames
            .extend(std::iter::from_fn(|| pool.take()).take(self.count.min(room)));
        let (tried, start) = (self.frames.len(), read_start(vnet));
        self.lengths.clear();
        self.lengths.resize(tried, 0);
        let lengths = &mut self.lengths;
        let target = ReadTarget {
            file: TUN,
            start,
            registered: self.registered,
        };
        ring.read_batch(target, &mut self.frames, stash, &mut |index, len| {
            lengths[index] = len;
        });
        let (mut got, mut outcome) = (0, Ok(()));
        for (mut frame, &len) in self.frames.drain(..).zip(&self.lengths) {
            if let Ok(len) = usize::try_from(len) {
                frame.set(start, len);
                batch.push(frame, vnet);
                got += 1;
                continue;
            }
            self.pool.put(frame);
            let error = io::Error::from_raw_os_error(-len);
            if !is_dry(&error) {
                outcome = Err(error);
            }
        }
        let dry = got < tried;
        self.count = next_count(tried, got, batch.is_full());
        outcome.map(|()| dry)
    }
}

/// How many reads to try next: as many as there were packets and one to find the end; twice as many
/// if the end was not in sight, half if the packets were large.
fn next_count(tried: usize, got: usize, full: bool) -> usize {
    let next = match (got < tried, full) {
        (true, _) => got + 1,
        (false, false) => tried * 2,
        (false, true) => tried / 2,
    };
    next.clamp(READS_MIN, BATCH_PACKETS)
}

impl WriteBatch {
    fn write<S: Slot>(
        &mut self,
        ring: &mut Ring,
        tun: &TunQueue,
        chunk: &Outgoing<'_, S>,
        stash: &mut Vec<Completion>,
        stats: &WorkerStats,
    ) {
        let Self {
            single,
            packets,
            headers,
            refused,
        } = self;
        headers.clear();
        headers.extend(chunk.writes.iter().map(|write| write.header.to_bytes()));
        let mut packets = packets.start();
        for (write, header) in chunk.writes.iter().zip(headers.iter()) {
            packets.packet();
            if single.vnet {
                packets.part(header);
            }
            chunk
                .pieces_of(write)
                .iter()
                .for_each(|piece| packets.part(chunk.bytes(piece)));
        }
        let mut written = Written::default();
        refused.clear();
        ring.write_batch(TUN, &packets, stash, &mut |index, result| {
            if result < 0 {
                refused.push((index, -result));
            } else {
                single.refusals.note(&chunk.writes[index], false);
                written.count(&chunk.writes[index]);
            }
        });
        written.record(stats);
        for &(index, error) in refused.iter() {
            let error = io::Error::from_raw_os_error(error);
            single.refused(tun, chunk, &chunk.writes[index], &error, stats);
        }
    }
}

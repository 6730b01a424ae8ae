//! Underlay -> TUN. In packet order:
//!
//! 1. receive a batch of messages, each one datagram or a joined run of them, or of frames that the
//!    kernel's stack has not seen;
//! 2. for each message: its outer source must be a peer;
//! 3. for each datagram in it: unwrap, check, see that it is for us and from somebody who may send
//!    it, merge the ECN mark;
//! 4. join consecutive packets of a flow into super-packets;
//! 5. write them to the TUN.
//!
//! Which sockets are read, and in what order, is here; steps 2 to 5 are in `intake.rs`.
//!
//! The inner hop limit is left alone: it was lowered where the packet entered the tunnel, and the
//! host that forwards it next lowers it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringbuf::Frame;

use crate::intake::{Intake, Turn};
use crate::io::{PacketIo, is_dry};
use crate::outbound::Pass;
use crate::stats::{Counter, Measure};
use crate::sys::mmsg::{RECEIVE_MAX, RecvBatch};
use crate::sys::xsk::FrameSocket;
use crate::table::SubnetTable;

/// Batches that are taken from one socket in a row at most, more than a socket's buffer holds.
const DRAIN_MAX: usize = 256;
/// How long the kernel may take to put a run of datagrams where it was about to.
const STRAGGLE: Duration = Duration::from_micros(50);

/// The inward half of a worker.
#[derive(Debug)]
pub(crate) struct Inbound<'a> {
    batch: RecvBatch<'a>,
    /// Where frames come in that the kernel's stack has not seen.
    shortcuts: Vec<FrameSocket>,
    /// What came before the shortcuts were opened may still be with the listeners.
    begun: bool,
    intake: Intake,
    /// Counts batches, to look at another message of each.
    batches: usize,
    /// Somebody else is about to go on with the listeners.
    lent: Arc<AtomicBool>,
    is_lent: bool,
}

impl<'a> Inbound<'a> {
    /// Receives into `frames`, one message each.
    pub(crate) fn new(
        frames: Vec<Frame<'a>>,
        shortcuts: Vec<FrameSocket>,
        intake: Intake,
        lent: Arc<AtomicBool>,
    ) -> Self {
        Self {
            batch: RecvBatch::new(frames),
            begun: false,
            shortcuts,
            intake,
            batches: 0,
            lent,
            is_lent: false,
        }
    }

    /// One batch from each listener to the TUN.
    pub(crate) fn pass<I: PacketIo<'a>>(&mut self, io: &mut I, turn: Turn<'_>) -> Pass {
        match (self.is_lent, self.lent.load(Ordering::Relaxed)) {
            (false, true) => self.lend(io, turn),
            (true, false) => self.keep(io),
            _ => {}
        }
        let mut pass = Pass {
            packets: 0,
            dry: true,
        };
        for listener in 0..io.underlay().listeners() {
            if !io.underlay().hears(listener) {
                continue;
            }
            let took = self.take(io, listener, turn);
            pass.packets += took.packets;
            pass.dry &= took.dry;
            if let Some((favourite, sender)) = self.weigh(io, listener, took.packets, turn.table) {
                self.favour(io, (listener, favourite, sender), turn);
            }
        }
        for index in 0..self.shortcuts.len() {
            let frames = self.take_frames(io, index, turn);
            pass.packets += frames;
            pass.dry &= frames < RECEIVE_MAX;
        }
        pass
    }

    /// Before the first frame from a shortcut goes on, takes what is with the listeners: it came earlier.
    /// While somebody else is about to go on, a shortcut may be opened anew at any time.
    fn begin<I: PacketIo<'a>>(&mut self, io: &mut I, turn: Turn<'_>) {
        self.begun = !self.is_lent;
        for listener in 0..io.underlay().listeners() {
            self.drain(io, listener, turn);
        }
    }

    /// One batch from one shortcut to the TUN; returns how many frames.
    fn take_frames<I: PacketIo<'a>>(&mut self, io: &mut I, index: usize, turn: Turn<'_>) -> usize {
        let count = self.shortcuts[index].receive();
        if count == 0 {
            return 0;
        }
        if !self.begun {
            self.begin(io, turn);
        }
        let shortcut = &mut self.shortcuts[index];
        turn.stats.add(Counter::Receives, count as u64);
        turn.stats.measure(Measure::InBatch, count as u64);
        for slot in 0..count {
            self.intake
                .frame(shortcut.frames(), slot, io.underlay(), turn);
        }
        self.intake.write(shortcut.frames(), io, turn.stats);
        shortcut.give_back();
        count
    }

    /// One batch from one listener to the TUN.
    fn take<I: PacketIo<'a>>(&mut self, io: &mut I, listener: usize, turn: Turn<'_>) -> Pass {
        // A receive error is one that an earlier send earned; the next receive is clean.
        let messages = match io.underlay().receive(listener, &mut self.batch) {
            Ok(messages) => messages,
            Err(error) => {
                return Pass {
                    packets: 0,
                    dry: is_dry(&error),
                };
            }
        };
        turn.stats.add(Counter::Receives, messages as u64);
        turn.stats.measure(Measure::InBatch, messages as u64);
        let form = io.underlay().socket(listener).form;
        for slot in 0..messages {
            let received = self.batch.received(slot);
            let frames = self.batch.frames_mut();
            self.intake.message(frames, (slot, form), received, turn);
        }
        self.intake.write(self.batch.frames_mut(), io, turn.stats);
        Pass {
            packets: messages,
            dry: messages < self.batch.capacity(),
        }
    }

    /// After a batch: which socket shall hear one sender alone from now on, and whom. Strangers are
    /// no one's favourite.
    fn weigh<I: PacketIo<'a>>(
        &mut self,
        io: &mut I,
        listener: usize,
        messages: usize,
        table: &SubnetTable,
    ) -> Option<(usize, SocketAddr)> {
        self.batches = self.batches.wrapping_add(1);
        let sender = self.batch.sender(self.batches.checked_rem(messages)?)?;
        table.sender(sender.ip())?;
        let favourite = io.underlay().weigh(listener, sender, messages)?;
        Some((favourite, sender))
    }

    /// Gives a sender of a listener the socket of its favourite. Flows keep their order: what is left of the favourite before is taken
    /// before the listener has more of it, and what the listener has of the new one before more of that.
    fn favour<I: PacketIo<'a>>(
        &mut self,
        io: &mut I,
        (listener, favourite, sender): (usize, usize, SocketAddr),
        turn: Turn<'_>,
    ) {
        self.let_go(io, favourite, turn);
        if io.underlay().favour(favourite, Some(sender)) {
            turn.stats.add(Counter::Favourites, 1);
            self.drain(io, listener, turn);
        }
    }

    /// Has a favourite's socket hear nobody, and takes what it has.
    fn let_go<I: PacketIo<'a>>(&mut self, io: &mut I, favourite: usize, turn: Turn<'_>) {
        if io.underlay().hears(favourite) && io.underlay().favour(favourite, None) {
            self.drain(io, favourite, turn);
        }
    }

    /// Has nothing arrive any more with this worker alone: whoever receives after it has the
    /// listeners, but not the favourites.
    pub(crate) fn lend<I: PacketIo<'a>>(&mut self, io: &mut I, turn: Turn<'_>) {
        (self.is_lent, self.begun) = (true, false);
        io.underlay().lend(true);
        for favourite in io.underlay().favourites() {
            self.let_go(io, favourite, turn);
        }
        for shortcut in 0..self.shortcuts.len() {
            let mut batches = 0..DRAIN_MAX;
            while batches.next().is_some() && self.take_frames(io, shortcut, turn) > 0 {}
        }
    }

    /// Nobody receives after this worker after all.
    fn keep<I: PacketIo<'a>>(&mut self, io: &mut I) {
        self.is_lent = false;
        io.underlay().lend(false);
    }

    /// Takes all a socket has that hears somebody else from now on. What the kernel was about to
    /// put there when it was told so comes a moment later.
    fn drain<I: PacketIo<'a>>(&mut self, io: &mut I, listener: usize, turn: Turn<'_>) {
        let mut last = Instant::now();
        for _ in 0..DRAIN_MAX {
            while self.take(io, listener, turn).packets == 0 {
                if last.elapsed() > STRAGGLE {
                    return;
                }
            }
            last = Instant::now();
        }
    }
}

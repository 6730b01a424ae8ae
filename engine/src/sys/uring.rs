//! An io_uring with the few operations the engine uses, each safe to call.
//!
//! What makes a ring unsafe is memory the kernel uses after the call that named it. Only two
//! things here are such memory, and each has an owner that outlives the kernel's interest:
//!
//! - frames lent for multishot reads belong to [`LentReads`], which cancels the read and waits for
//!   its last completion before it lets go of them;
//! - the pieces of writes and the frames of single reads are borrowed by the call that submits
//!   them, and that call does not return before every one of them has completed.
//!
//! A ring is opened with the only files it will ever touch, prepared, and then begun. From then on
//! the kernel takes nothing but the operations below on those files, whoever writes the entries:
//! a worker that somebody has taken over cannot open, connect or read anything by way of its ring.
#![allow(unsafe_code, reason = "submission entries point to memory")]

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::register::Restriction;
use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, Probe, cqueue, opcode, types};
use ringbuf::{BufRing, Frame};

use super::gather::Gathered;

/// Operations that may wait to be submitted.
const ENTRIES: u32 = 128;
/// Completions that may wait to be read: more than frames and writes together.
pub(crate) const COMPLETIONS: u32 = 1024;
/// How often a refused submission is tried again: shortages of memory pass.
const SUBMIT_TRIES: u32 = 1000;
/// The only group of lent buffers.
const GROUP: u16 = 0;
/// Where the whole arena is registered.
const FRAMES_BUFFER: u16 = 0;
/// What may be submitted to a ring that has begun, and `ReadMulti` where the kernel knows it.
const OPERATIONS: [u8; 5] = [
    opcode::AsyncCancel2::CODE,
    opcode::PollAdd::CODE,
    opcode::Read::CODE,
    opcode::ReadFixed::CODE,
    opcode::Writev::CODE,
];
/// What may still be registered: IORING_UNREGISTER_FILES and IORING_REGISTER_SYNC_CANCEL, to end it.
const REGISTRATIONS: [u8; 2] = [3, 24];

/// The end of an operation, or one of many results of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) token: u64,
    pub(crate) result: i32,
    /// The operation goes on and will give more results.
    pub(crate) more: bool,
    buffer: Option<u16>,
}

/// What single reads read, and where in a slot they put it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadTarget {
    pub(crate) file: u32,
    pub(crate) start: usize,
    /// The frames lie in the registered arena.
    pub(crate) registered: bool,
}

/// The ring of one thread. Its files are named by their place among those it was opened with.
pub(crate) struct Ring {
    ring: IoUring,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl Ring {
    /// Opens a ring for these files, in the cheapest mode of operation this kernel has. It can be
    /// prepared, and submits nothing before it has begun.
    pub(crate) fn new(files: &[RawFd]) -> io::Result<Self> {
        let ring = Self::open()?;
        ring.ring.submitter().register_files(files)?;
        Ok(ring)
    }

    fn open() -> io::Result<Self> {
        let deferred = |builder: &mut io_uring::Builder| {
            builder
                .setup_single_issuer()
                .setup_defer_taskrun()
                .setup_taskrun_flag();
        };
        let cooperative = |builder: &mut io_uring::Builder| {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        };
        let plain = |_: &mut io_uring::Builder| {};
        let modes: [&dyn Fn(&mut io_uring::Builder); 3] = [&deferred, &cooperative, &plain];
        let mut last = io::Error::from_raw_os_error(libc::ENOSYS);
        for mode in modes {
            let mut builder = IoUring::builder();
            builder
                .setup_cqsize(COMPLETIONS)
                .setup_r_disabled()
                .dontfork();
            mode(&mut builder);
            match builder.build(ENTRIES) {
                Ok(ring) => return Ok(Self { ring }),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Whether this kernel knows multishot reads.
    pub(crate) fn knows_multishot_reads(&self) -> bool {
        let mut probe = Probe::new();
        let asked = self.ring.submitter().register_probe(&mut probe);
        asked.is_ok() && probe.is_supported(opcode::ReadMulti::CODE)
    }

    /// Lets the ring work, and do nothing else from now on; called by the thread that submits.
    pub(crate) fn begin(&self) -> io::Result<()> {
        let multishot = self
            .knows_multishot_reads()
            .then_some(opcode::ReadMulti::CODE);
        let operations = OPERATIONS.into_iter().chain(multishot);
        let flags = [
            Restriction::sqe_flags_allowed(Flags::BUFFER_SELECT.bits()),
            Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
        ];
        let mut all: Vec<_> = operations
            .map(Restriction::sqe_op)
            .chain(REGISTRATIONS.map(Restriction::register_op))
            .chain(flags)
            .collect();
        let submitter = self.ring.submitter();
        submitter.register_restrictions(&mut all)?;
        submitter.register_enable_rings()
    }

    /// The descriptor of the ring itself.
    pub(crate) fn raw(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Ends everything under way, so that closing the ring closes its descriptors at once: the
    /// kernel takes a ring apart later, and a port or a device would stay taken until then.
    fn cancel_all(&mut self) {
        let everything = types::CancelBuilder::any;
        let submitter = self.ring.submitter();
        // Before Linux 6.0, and in some sandboxes, it can only be asked for like a read.
        if submitter.register_sync_cancel(None, everything()).is_err() {
            let cancel = opcode::AsyncCancel2::new(everything())
                .build()
                .flags(Flags::FIXED_FILE);
            // SAFETY: a cancellation names no memory.
            let _ = unsafe { self.push(cancel.user_data(CANCELLED)) };
        }
        let _ = self.submit(0);
    }

    /// Watches a file for input until the ring is closed; its place is the token of what is seen.
    pub(crate) fn poll(&mut self, file: u32) -> io::Result<()> {
        let entry = opcode::PollAdd::new(types::Fixed(file), libc::POLLIN as u32)
            .multi(true)
            .build();
        // SAFETY: a poll names a file and no memory.
        unsafe { self.push(entry.user_data(file.into())) }
    }

    /// Submits what is queued, waits for `want` completions, and lets the kernel post what it has.
    /// A call that fails has taken nothing from the queue, so it can be made again.
    pub(crate) fn submit(&mut self, want: usize) -> io::Result<()> {
        let mut tries = 0;
        loop {
            match self.ring.submit_and_wait(want) {
                Ok(_) => return Ok(()),
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) if tries == SUBMIT_TRIES => return Err(error),
                Err(_) => std::thread::yield_now(),
            }
            tries += 1;
        }
    }

    /// Whether the kernel has results that only a submit would post.
    pub(crate) fn has_work(&mut self) -> bool {
        self.ring.submission().taskrun() || !self.ring.completion().is_empty()
    }

    /// Takes the next completion, if one is there.
    pub(crate) fn next(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        Some(Completion {
            token: entry.user_data(),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
            buffer: cqueue::buffer_select(entry.flags()),
        })
    }

    /// Registers the memory of frames so that single reads need not look it up each time.
    pub(crate) fn register_frames(&self, region: (*const u8, usize)) -> io::Result<()> {
        let buffer = libc::iovec {
            iov_base: region.0.cast_mut().cast(),
            iov_len: region.1,
        };
        // SAFETY: registering pins the pages; the kernel writes to them only where a read submitted
        // by `read_batch` says so, and those reads borrow frames.
        unsafe { self.ring.submitter().register_buffers(&[buffer]) }
    }

    /// Reads one packet into each frame, without waiting for packets; `done` is
    /// told each one's length or negative error.
    pub(crate) fn read_batch(
        &mut self,
        target: ReadTarget,
        frames: &mut [Frame<'_>],
        others: &mut Vec<Completion>,
        done: &mut dyn FnMut(usize, i32),
    ) {
        let ReadTarget {
            file,
            start,
            registered,
        } = target;
        let file = types::Fixed(file);
        for (index, frame) in frames.iter_mut().enumerate() {
            let room = &mut frame.whole_mut()[start..];
            let (base, len) = (room.as_mut_ptr(), room.len() as u32);
            let entry = if registered {
                let read = opcode::ReadFixed::new(file, base, len, FRAMES_BUFFER);
                read.rw_flags(libc::RWF_NOWAIT).build()
            } else {
                opcode::Read::new(file, base, len)
                    .rw_flags(libc::RWF_NOWAIT)
                    .build()
            };
            // SAFETY: the frame is borrowed exclusively until `complete_all` has seen the end of
            // this read.
            unsafe { self.push_now(entry.user_data(MINE | index as u64)) };
        }
        self.complete_all(frames.len(), others, done);
    }

    /// Writes every packet, in order; `done` is told each one's result.
    pub(crate) fn write_batch(
        &mut self,
        file: u32,
        packets: &Gathered<'_, '_>,
        others: &mut Vec<Completion>,
        done: &mut dyn FnMut(usize, i32),
    ) {
        let packets = packets.packets();
        let count = packets.len();
        for (index, parts) in packets.enumerate() {
            let entry = opcode::Writev::new(types::Fixed(file), parts.as_ptr(), parts.len() as u32);
            // SAFETY: `packets` borrows the array and every byte it points to until this call
            // returns, which is after `complete_all` has seen the end of this write.
            unsafe { self.push_now(entry.build().user_data(MINE | index as u64)) };
        }
        self.complete_all(count, others, done);
    }

    /// Waits until `count` operations pushed with `MINE` have ended; anything else goes to
    /// `others`. There is no way out before that: their memory is borrowed.
    fn complete_all(
        &mut self,
        count: usize,
        others: &mut Vec<Completion>,
        done: &mut dyn FnMut(usize, i32),
    ) {
        let mut left = count;
        while left > 0 {
            if let Err(error) = self.submit(1) {
                panic!("io_uring refuses to finish operations it accepted: {error}");
            }
            while let Some(completion) = self.next() {
                if completion.token & MINE == 0 {
                    others.push(completion);
                } else {
                    left -= 1;
                    done((completion.token & !MINE) as usize, completion.result);
                }
            }
        }
    }

    /// Queues an entry, submitting what is queued when there is no room.
    ///
    /// # Safety
    ///
    /// Memory the entry names must stay valid and unaliased until its last completion.
    unsafe fn push(&mut self, entry: Entry) -> io::Result<()> {
        loop {
            // SAFETY: passed on to the caller.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.submit(0)?;
        }
    }

    /// As [`push`](Self::push), where failure cannot be survived: entries queued before this one
    /// name borrowed memory.
    ///
    /// # Safety
    ///
    /// As for `push`.
    unsafe fn push_now(&mut self, entry: Entry) {
        // SAFETY: passed on to the caller.
        if let Err(error) = unsafe { self.push(entry) } {
            panic!("io_uring refuses operations: {error}");
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.cancel_all();
        let _ = self.ring.submitter().unregister_files();
    }
}

/// Marks the tokens of operations that end within the call that submitted them.
const MINE: u64 = 1 << 63;
/// The token of a cancellation, which nobody waits for.
const CANCELLED: u64 = MINE - 1;

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

/// A multishot read that fills lent frames, one packet each, for as long as there are any.
///
/// Field order is teardown order: `drop` ends the read, then the ring, then the frames may go.
#[derive(Debug)]
pub(crate) struct LentReads<'a> {
    pub(crate) ring: Ring,
    frames: BufRing<'a>,
    file: u32,
    armed: bool,
    ended: bool,
}

impl<'a> LentReads<'a> {
    /// Prepares reads of one of the ring's files, whose place is their token; nothing is read before
    /// the ring has begun, frames are lent and the read is armed.
    pub(crate) fn new(ring: Ring, frames: BufRing<'a>, file: u32) -> io::Result<Self> {
        // SAFETY: the ring of frames is owned by the value returned here, which ends all reads
        // and closes the io_uring before it lets go of it.
        unsafe {
            let submitter = ring.ring.submitter();
            submitter.register_buf_ring_with_flags(frames.address(), frames.entries(), GROUP, 0)?;
        }
        Ok(Self {
            ring,
            frames,
            file,
            armed: false,
            ended: false,
        })
    }

    /// Lends frames to the kernel.
    pub(crate) fn lend(&mut self, frames: impl Iterator<Item = Frame<'a>>) {
        for frame in frames {
            if self.frames.offer(frame).is_err() {
                debug_assert!(false, "there are never more frames than entries");
            }
        }
        self.frames.publish();
    }

    /// Starts the read, if it is not running and has not been ended.
    pub(crate) fn arm(&mut self) -> io::Result<()> {
        if self.armed || self.ended {
            return Ok(());
        }
        // The library forgets the flag for files by place when it sets the one for lent buffers.
        let entry = opcode::ReadMulti::new(types::Fixed(self.file), 0, GROUP)
            .build()
            .flags(Flags::FIXED_FILE);
        // SAFETY: the memory it writes to is that of lent frames, which stay lent until their
        // completion or until `drop` has ended the read.
        unsafe { self.ring.push(entry.user_data(self.file.into()))? };
        self.armed = true;
        Ok(())
    }

    /// Ends the read for good; what it has brought by then goes to `arrived`.
    pub(crate) fn end(&mut self, mut arrived: impl FnMut(Frame<'a>)) {
        self.ended = true;
        self.ring.cancel_all();
        loop {
            while let Some(completion) = self.ring.next() {
                if completion.token == u64::from(self.file)
                    && let Arrival::Packet(frame) = self.take(completion)
                {
                    arrived(frame);
                }
            }
            // Not before the kernel has said that it is done.
            if !self.armed || self.ring.submit(1).is_err() {
                return;
            }
        }
    }

    /// What a completion of the read brought.
    pub(crate) fn take(&mut self, completion: Completion) -> Arrival<'a> {
        self.armed &= completion.more;
        let len = usize::try_from(completion.result).unwrap_or(0);
        let frame = completion.buffer.and_then(|id| self.frames.take(id, len));
        match frame {
            Some(frame) if completion.result >= 0 => Arrival::Packet(frame),
            other => {
                self.lend(other.into_iter());
                Arrival::of_error(completion.result)
            }
        }
    }
}

/// What a completion of a multishot read can be.
#[derive(Debug)]
pub(crate) enum Arrival<'a> {
    /// A packet, in the frame it was read into.
    Packet(Frame<'a>),
    /// Nothing; the read may have ended for want of frames, and can be armed again.
    Nothing,
    /// The device is gone.
    Failed(io::Error),
}

impl Arrival<'_> {
    fn of_error(result: i32) -> Self {
        match -result {
            error if error <= 0 => Self::Nothing,
            libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::ECANCELED => Self::Nothing,
            error => Self::Failed(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Drop for LentReads<'_> {
    fn drop(&mut self) {
        // The frames go when this returns.
        self.end(drop);
    }
}

#[cfg(test)]
mod tests;

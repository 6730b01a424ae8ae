//! One worker's sockets: batched sends with and without segmentation offload, batched receives.
//!
//! Sending is three nested loops: a plan's runs are cut where the socket changes, each such chunk
//! is one `sendmmsg`, and where the kernel stops in the middle the verdict on its error says how
//! to go on. An offload the kernel refuses costs speed, never packets: the run goes out again at
//! once, one datagram a message, before anything behind it. A socket that stays full is waited for
//! once a batch, however many peers the rest of the batch is for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::RawFd;

use ringbuf::Frame;

use crate::config::Form;
use crate::io::favourite::Favourite;
use crate::plan::{DATAGRAMS_MAX, Run, SendPlan};
use crate::stats::{Counter, DropReason, WorkerStats};
use crate::sys::mmsg::{RecvBatch, SendArrays, Sending};
use crate::sys::udp::UdpSocket;
use crate::table::{Peer, PeerForm, SubnetTable};
use crate::wire::Piece;

/// How often a send that finds the socket full is tried again before its packets are dropped.
const FULL_RETRIES: u32 = 64;

/// No path is believed to be narrower than this: every host must accept as much.
const PATH_MTU_MIN: usize = 576;

/// Datagrams of a run at most, on any kernel.
const RUN_DATAGRAMS_MAX: usize = 128;

/// A socket and what is known about it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) udp: UdpSocket,
    pub(crate) form: Form,
    /// Datagrams one message may carry; 1 where the kernel cannot segment, or refused to.
    pub(crate) segments_max: u16,
    /// One receive may give many datagrams.
    pub(crate) gro: bool,
}

/// The sockets that may send one form over one address family.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    first: u16,
    count: u16,
}

/// All sockets of one worker: those that listen come first, then one for the favourite of each of
/// them or none at all, then those that only send.
#[derive(Debug)]
pub(crate) struct Underlay {
    sockets: Vec<Socket>,
    listeners: usize,
    favourites: Vec<Favourite>,
    groups: [Group; 4],
    /// Where frames come in beside the listeners.
    shortcuts: Vec<RawFd>,
    /// One of each address family, for questions about paths.
    scouts: Vec<UdpSocket>,
    arrays: SendArrays,
    single: SendArrays,
}

/// What a batch is sent from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'p, 'a> {
    pub(crate) plan: &'p SendPlan,
    pub(crate) frames: &'p [Frame<'a>],
    pub(crate) table: &'p SubnetTable,
    pub(crate) stats: &'p WorkerStats,
}

/// How to go on after a send failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendVerdict {
    /// Nothing is wrong with the message: try it again.
    Again,
    /// The socket is full: let others run, then try again.
    Full,
    /// Perhaps the offload is what the kernel does not like.
    WithoutOffload,
    /// The message cannot be sent.
    Drop(DropReason),
}

impl Underlay {
    /// Takes over a worker's sockets; each group of senders has one form and family.
    pub(crate) fn new(
        listeners: Vec<Socket>,
        favourites: Vec<(Socket, SocketAddr)>,
        senders: Vec<Socket>,
        scouts: Vec<UdpSocket>,
    ) -> Self {
        let first_sender = listeners.len() + favourites.len();
        let groups =
            std::array::from_fn(|group| group_of(&listeners, &senders, first_sender, group));
        let (favourites, places): (Vec<_>, Vec<_>) = favourites.into_iter().unzip();
        Self {
            listeners: listeners.len(),
            favourites: places.into_iter().map(Favourite::new).collect(),
            sockets: [listeners, favourites, senders]
                .into_iter()
                .flatten()
                .collect(),
            groups,
            shortcuts: Vec::new(),
            scouts,
            arrays: SendArrays::with_room(DATAGRAMS_MAX),
            single: SendArrays::with_room(RUN_DATAGRAMS_MAX),
        }
    }

    /// Has other descriptors watched for input, too.
    pub(crate) fn watch(&mut self, shortcuts: Vec<RawFd>) {
        self.shortcuts = shortcuts;
    }

    /// The descriptors to watch for input.
    pub(crate) fn input_fds(&self) -> impl Iterator<Item = RawFd> {
        let listeners = &self.sockets[..self.listeners()];
        let listeners = listeners.iter().map(|socket| socket.udp.raw());
        listeners.chain(self.shortcuts.iter().copied())
    }

    /// How many those are.
    pub(crate) fn inputs(&self) -> usize {
        self.listeners() + self.shortcuts.len()
    }

    /// The form spoken at a port.
    pub(crate) fn form_at(&self, port: u16) -> Option<Form> {
        let listeners = self.sockets[..self.listeners].iter();
        let mut forms = listeners.map(|socket| socket.form);
        forms.find(|form| form.port() == port)
    }

    /// The descriptors of those that hear one sender each.
    pub(crate) fn favourite_fds(&self) -> Vec<RawFd> {
        let favourites = &self.sockets[self.listeners..self.listeners()];
        favourites.iter().map(|socket| socket.udp.raw()).collect()
    }

    /// The descriptors of all sockets that packets pass.
    pub(crate) fn fds(&self) -> Vec<RawFd> {
        self.sockets.iter().map(|socket| socket.udp.raw()).collect()
    }

    /// The descriptors of those that only ask about paths.
    pub(crate) fn scout_fds(&self) -> Vec<RawFd> {
        self.scouts.iter().map(UdpSocket::raw).collect()
    }

    /// How many sockets hear something, favourites included.
    pub(crate) fn listeners(&self) -> usize {
        self.listeners + self.favourites.len()
    }

    /// The socket for the favourite of each listener, in the order of these.
    pub(crate) fn favourites(&self) -> Range<usize> {
        self.listeners..self.listeners()
    }

    /// Whether anything can come through a listener now.
    pub(crate) fn hears(&self, listener: usize) -> bool {
        let favourite = listener.checked_sub(self.listeners);
        favourite.is_none_or(|index| self.favourites[index].taken)
    }

    /// Takes note of a batch, a message of it from `sender`; tells the socket that this sender shall have to itself from now on.
    pub(crate) fn weigh(
        &mut self,
        listener: usize,
        sender: SocketAddr,
        messages: usize,
    ) -> Option<usize> {
        if let Some(index) = listener.checked_sub(self.listeners) {
            self.favourites[index].hear(messages);
            return None;
        }
        let favourite = self.favourites.get_mut(listener)?;
        favourite
            .weigh(sender, messages)
            .then_some(self.listeners + listener)
    }

    /// Has a favourite's socket hear this sender, or nobody; tells whether it does.
    pub(crate) fn favour(&mut self, socket: usize, sender: Option<SocketAddr>) -> bool {
        let udp = &self.sockets[socket].udp;
        let favourite = &mut self.favourites[socket - self.listeners];
        let done = match sender {
            Some(sender) => udp.hear_only(sender),
            None => udp.hear_nobody(favourite.local),
        };
        if done.is_ok() {
            favourite.taken = sender.is_some() || favourite.lent;
        }
        done.is_ok()
    }

    /// Has no sender become a favourite any more, or as before again.
    pub(crate) fn lend(&mut self, lent: bool) {
        self.favourites.iter_mut().for_each(|one| one.lent = lent);
    }

    /// Every socket with a part in what nodes say to each other, those that listen first: all but favourites, which whoever goes on with
    /// the others has for himself.
    pub(crate) fn lasting(&self) -> impl Iterator<Item = &Socket> {
        let (listeners, rest) = self.sockets.split_at(self.listeners);
        listeners.iter().chain(&rest[self.favourites.len()..])
    }

    pub(crate) fn socket(&self, index: usize) -> &Socket {
        &self.sockets[index]
    }

    /// The socket that carries a flow to a peer, if there is one for its form and family.
    pub(crate) fn socket_for(&self, form: &PeerForm, peer: IpAddr, flow: u32) -> Option<u16> {
        let group =
            self.groups[group_index(matches!(form, PeerForm::Vxlan { .. }), peer.is_ipv6())];
        // Multiplying spreads the hash over any count without a division.
        let offset = (u64::from(flow) * u64::from(group.count)) >> 32;
        (group.count > 0).then_some(group.first + offset as u16)
    }

    /// The largest UDP payload that the way to a peer takes whole, as far as the kernel knows.
    pub(crate) fn path_payload(&self, peer: &Peer) -> Option<usize> {
        path_payload(&self.scouts, peer)
    }

    /// Receives from one listener into `batch`; returns how many messages.
    pub(crate) fn receive(&self, listener: usize, batch: &mut RecvBatch<'_>) -> io::Result<usize> {
        batch.receive(self.sockets[listener].udp.raw())
    }

    /// Sends every run of the plan, in order; what cannot be sent is counted. Tells whether a path
    /// turned out narrower than was thought.
    pub(crate) fn send(&mut self, batch: &Batch<'_, '_>) -> bool {
        let mut tries = Tries::new();
        let mut rest = batch.plan.runs();
        while let Some(first) = rest.first() {
            let same = rest
                .iter()
                .take_while(|run| run.key.socket == first.key.socket)
                .count();
            let (chunk, after) = rest.split_at(same);
            self.send_chunk(first.key.socket, chunk, batch, &mut tries);
            rest = after;
        }
        tries.narrow
    }

    fn send_chunk(&mut self, socket: u16, runs: &[Run], batch: &Batch<'_, '_>, tries: &mut Tries) {
        let Self {
            sockets,
            arrays,
            single,
            scouts,
            ..
        } = self;
        let socket = &mut sockets[usize::from(socket)];
        let mut sending = arrays.start();
        for run in runs {
            add_run(&mut sending, run, batch);
        }
        let (mut next, mut sent) = (0, Sent::default());
        while next < sending.len() {
            match sending.send(socket.udp.raw(), next) {
                Ok(count) => {
                    for run in &runs[next..next + count] {
                        sent.count(run);
                        let traffic = &batch.table.hop(run.key.hop).traffic;
                        let (packets, bytes) = (run.packets.into(), run.bytes.into());
                        traffic.sent(batch.stats.worker, packets, bytes);
                    }
                    next += count;
                    tries.succeeded();
                }
                Err(error) => {
                    let run = &runs[next];
                    match tries.verdict(&error, run.packets > 1) {
                        SendVerdict::Again => continue,
                        SendVerdict::Full => {
                            std::thread::yield_now();
                            continue;
                        }
                        SendVerdict::WithoutOffload => {
                            let through = send_singly(socket, single, run, batch, tries);
                            let narrow = is_of_path(&error, scouts, run, batch);
                            tries.narrow |= narrow;
                            if through && !narrow {
                                lower_segments(socket, run, &error);
                            }
                        }
                        SendVerdict::Drop(reason) => unsent(run, reason, run.packets.into(), batch),
                    }
                    next += 1;
                }
            }
        }
        sent.record(batch.stats);
    }
}

/// Sends a refused run one datagram a message. If that works, as it answers, the offload was to
/// blame.
fn send_singly(
    socket: &Socket,
    arrays: &mut SendArrays,
    run: &Run,
    batch: &Batch<'_, '_>,
    tries: &mut Tries,
) -> bool {
    batch.stats.add(Counter::OffloadRetries, 1);
    let mut sending = arrays.start();
    for datagram in batch.plan.datagrams(run) {
        open_message(&mut sending, run, 0, batch);
        add_pieces(&mut sending, [&datagram.head, &datagram.tail], batch);
    }
    let (mut next, mut sent) = (0, 0);
    while next < sending.len() {
        match sending.send(socket.udp.raw(), next) {
            Ok(count) => {
                (next, sent) = (next + count, sent + count);
                tries.succeeded();
            }
            Err(error) => match tries.verdict(&error, false) {
                SendVerdict::Again => {}
                SendVerdict::Full => std::thread::yield_now(),
                SendVerdict::WithoutOffload => next += 1,
                SendVerdict::Drop(reason) => {
                    unsent(run, reason, 1, batch);
                    next += 1;
                }
            },
        }
    }
    Sent {
        messages: sent as u64,
        packets: sent as u64,
        bytes: average(run) * sent as u64,
    }
    .record(batch.stats);
    let traffic = &batch.table.hop(run.key.hop).traffic;
    let bytes = average(run) * sent as u64;
    traffic.sent(batch.stats.worker, sent as u64, bytes);
    sent > 0
}

/// Whether a run was refused because its datagrams are too long for one peer's path, which says
/// nothing about the others. Kernels before 6.14 have no word of their own for that.
fn is_of_path(refusal: &io::Error, scouts: &[UdpSocket], run: &Run, batch: &Batch<'_, '_>) -> bool {
    let too_long = || {
        path_payload(scouts, &batch.table.hop(run.key.hop).peer)
            .is_some_and(|payload| payload < run.segment as usize)
    };
    refusal.raw_os_error() == Some(libc::EMSGSIZE) || too_long()
}

fn path_payload(scouts: &[UdpSocket], peer: &Peer) -> Option<usize> {
    let v6 = peer.address.is_ipv6();
    let scout = scouts.iter().find(|scout| scout.v6 == v6)?;
    let mtu = scout
        .path_mtu(SocketAddr::new(peer.address, peer.port))
        .ok()?;
    // What is said to be narrower than every host must accept is a mistake or a lie.
    let headers = if v6 { 48 } else { 28 };
    Some(mtu.max(PATH_MTU_MIN) - headers)
}

/// Remembers what the kernel refused.
fn lower_segments(socket: &mut Socket, run: &Run, refusal: &io::Error) {
    socket.segments_max = if run.packets > 64 { 64 } else { 1 };
    tracing::warn!(
        "the kernel refused {} datagrams in one send ({refusal}); from now on at most {}",
        run.packets,
        socket.segments_max,
    );
}

/// Packets of a run that are lost here.
fn unsent(run: &Run, reason: DropReason, packets: u64, batch: &Batch<'_, '_>) {
    batch.stats.drop(reason, packets);
    let traffic = &batch.table.hop(run.key.hop).traffic;
    traffic.unsent(batch.stats.worker, packets);
}

fn average(run: &Run) -> u64 {
    u64::from(run.bytes) / u64::from(run.packets)
}

fn add_run<'p>(sending: &mut Sending<'_, 'p>, run: &Run, batch: &Batch<'p, '_>) {
    open_message(sending, run, run.gso_size(), batch);
    for datagram in batch.plan.datagrams(run) {
        add_pieces(sending, [&datagram.head, &datagram.tail], batch);
    }
}

fn open_message<'p>(sending: &mut Sending<'_, 'p>, run: &Run, segment: u16, batch: &Batch<'p, '_>) {
    sending.message(
        Some(&batch.table.hop(run.key.hop).address),
        segment,
        run.key.tos,
    );
}

fn add_pieces<'p>(sending: &mut Sending<'_, 'p>, pieces: [&Piece; 2], batch: &Batch<'p, '_>) {
    for piece in pieces {
        if piece.len > 0 {
            sending.part(piece_bytes(piece, batch));
        }
    }
}

fn piece_bytes<'p>(piece: &Piece, batch: &Batch<'p, '_>) -> &'p [u8] {
    let range = piece.start as usize..(piece.start + piece.len) as usize;
    match piece.slot {
        Piece::HEADERS => &batch.plan.headers()[range],
        slot => &batch.frames[usize::from(slot)].whole()[range],
    }
}

/// What is left of the patience with a batch, and what it met with.
#[derive(Clone, Copy, Debug)]
struct Tries {
    /// How often a full socket may still be tried again.
    full: u32,
    /// The message at hand was refused before.
    again: bool,
    /// A run was too long for its path.
    narrow: bool,
}

impl Tries {
    fn new() -> Self {
        Self {
            full: FULL_RETRIES,
            again: false,
            narrow: false,
        }
    }

    fn succeeded(&mut self) {
        self.again = false;
        // One that stayed full once stays given up until the batch ends.
        if self.full > 0 {
            self.full = FULL_RETRIES;
        }
    }

    fn verdict(&mut self, error: &io::Error, segmented: bool) -> SendVerdict {
        let first = !std::mem::take(&mut self.again);
        match error.raw_os_error().unwrap_or(0) {
            libc::EINTR => SendVerdict::Again,
            libc::EAGAIN if self.full > 0 => {
                self.full -= 1;
                SendVerdict::Full
            }
            libc::EAGAIN => SendVerdict::Drop(DropReason::OutBufferFull),
            libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP if segmented => {
                SendVerdict::WithoutOffload
            }
            // An error an earlier datagram earned is reported on the next send: that one is innocent.
            _ if first => {
                self.again = true;
                SendVerdict::Again
            }
            libc::EMSGSIZE => SendVerdict::Drop(DropReason::OutTooBig),
            libc::ENOBUFS | libc::ENOMEM => SendVerdict::Drop(DropReason::OutBufferFull),
            _ => SendVerdict::Drop(DropReason::OutRefused),
        }
    }
}

fn group_index(vxlan: bool, v6: bool) -> usize {
    usize::from(vxlan) * 2 + usize::from(v6)
}

/// Senders of their own where there are any, else the listener of that form and family.
fn group_of(listen: &[Socket], send: &[Socket], first_sender: usize, group: usize) -> Group {
    let belongs = |socket: &&Socket| {
        group_index(matches!(socket.form, Form::Vxlan { .. }), socket.udp.v6) == group
    };
    let find = |part: &[Socket], offset: usize| {
        let first = part.iter().position(|socket| belongs(&socket))?;
        let count = part[first..].iter().take_while(belongs).count();
        Some(Group {
            first: (offset + first) as u16,
            count: count as u16,
        })
    };
    find(send, first_sender)
        .or_else(|| find(listen, 0))
        .unwrap_or_default()
}

/// What got through, added to the counters once per chunk.
#[derive(Debug, Default)]
struct Sent {
    messages: u64,
    packets: u64,
    bytes: u64,
}

impl Sent {
    fn count(&mut self, run: &Run) {
        self.messages += 1;
        self.packets += u64::from(run.packets);
        self.bytes += u64::from(run.bytes);
    }

    fn record(&self, stats: &WorkerStats) {
        stats.add(Counter::Sends, self.messages);
        stats.add(Counter::ToUnderlay, self.packets);
        stats.add(Counter::ToUnderlayBytes, self.bytes);
    }
}

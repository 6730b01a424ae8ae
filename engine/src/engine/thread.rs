//! A worker's thread from its first breath: its memory, its way of moving packets, what it gives up.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};
use ringbuf::{Arena, Frame, FrameLayout};

use crate::answers::Answers;
use crate::capabilities::{Capabilities, IoKind};
use crate::config::EngineConfig;
use crate::confine::{Own, confine};
use crate::error::StartError;
use crate::idle::Idle;
use crate::inbound::Inbound;
use crate::intake::Intake;
use crate::io::poll::PollIo;
use crate::io::underlay::Underlay;
use crate::io::uring::UringIo;
use crate::io::{BATCH_PACKETS, FRAME_BYTES, HEADROOM, PacketIo, Parts, WaitsIn};
use crate::outbound::{Outbound, VxlanIdentity};
use crate::stats::SharedStats;
use crate::sys::mmsg::RECEIVE_MAX;
use crate::sys::tun::TunQueue;
use crate::sys::wake::Wake;
use crate::sys::xsk::FrameSocket;
use crate::sys::{cpu, signals};
use crate::table::TableReader;
use crate::wire::merge::MergeConfig;
use crate::worker::Worker;

/// Priority of workers, where it may be raised. The kernel forwards packets before any process
/// runs; a worker that had to share alike with all of them would be what everybody waits for. See
/// `docs/adr/0007-priority.md`.
const WORKER_NICE: i32 = -10;

/// A worker at work.
pub(super) struct Thread {
    pub(super) handle: JoinHandle<()>,
    pub(super) wake: Arc<Wake>,
}

/// All that one worker thread is given.
pub(super) struct WorkerParts {
    pub(super) tun: TunQueue,
    pub(super) underlay: Underlay,
    pub(super) shortcuts: Vec<FrameSocket>,
    pub(super) table: TableReader,
    pub(super) stats: SharedStats,
    pub(super) cpu: Option<usize>,
    pub(super) setup: Arc<Setup>,
    /// When the engine did.
    pub(super) started: Instant,
    pub(super) lent: Arc<AtomicBool>,
    pub(super) gate: Receiver<()>,
    /// Held while packets are moved.
    pub(super) busy: Sender<()>,
}

/// What all workers share and none changes.
pub(super) struct Setup {
    pub(super) config: EngineConfig,
    pub(super) capabilities: Capabilities,
    pub(super) vxlan: VxlanIdentity,
}

/// Starts a worker's thread; once this returns it has all it needs, and waits at its gate.
pub(super) fn spawn(
    index: usize,
    parts: WorkerParts,
    failed: Sender<String>,
) -> Result<Thread, StartError> {
    let wake = Arc::new(Wake::new().map_err(StartError::Thread)?);
    let (report, started) = bounded(1);
    let waker = Arc::clone(&wake);
    let body = move || {
        if let Err(error) = work(parts, waker, &report) {
            let _ = failed.send(format!("worker {index} ended: {error}"));
        }
    };
    let builder = std::thread::Builder::new().name(format!("worker-{index}"));
    let handle = builder.spawn(body).map_err(StartError::Thread)?;
    let gone = |_| {
        Err(StartError::Thread(io::Error::other(
            "the worker ended at once",
        )))
    };
    started.recv().unwrap_or_else(gone)?;
    Ok(Thread { handle, wake })
}

type Report = Sender<Result<(), StartError>>;

/// The life of a worker thread: its memory is mapped here and outlives all that borrows it.
fn work(mut parts: WorkerParts, wake: Arc<Wake>, report: &Report) -> io::Result<()> {
    if let Err(error) = signals::leave_to_others() {
        tracing::warn!("a worker cannot leave signals to other threads: {error}");
    }
    if let Some(cpu) = parts.cpu
        && let Err(error) = cpu::pin(cpu)
    {
        tracing::warn!("cannot bind a worker to processor {cpu}: {error}");
    }
    if let Err(error) = cpu::raise_priority(WORKER_NICE) {
        tracing::debug!("workers keep the ordinary priority: {error}");
    }
    let count = (BATCH_PACKETS + RECEIVE_MAX) as u32;
    let layout = FrameLayout {
        count,
        headroom: HEADROOM,
        capacity: FRAME_BYTES,
    };
    let mut arena = match Arena::new(layout) {
        Ok(arena) => arena,
        Err(error) => return start_failed(report, StartError::Memory(error)),
    };
    // The first frames are for receiving, the others for reads of the TUN.
    let reads = arena.region_of(RECEIVE_MAX as u32..count);
    let mut pool = arena.frames();
    let receive = std::iter::from_fn(|| pool.take())
        .take(RECEIVE_MAX)
        .collect();
    let own = own(&mut parts, &wake);
    let WorkerParts {
        tun,
        underlay,
        shortcuts,
        table,
        stats,
        setup,
        started,
        lent,
        gate,
        busy,
        ..
    } = parts;
    let vnet = setup.capabilities.vnet_header;
    let io = Parts {
        tun,
        vnet,
        pool,
        underlay,
        wake,
    };
    let assemble = Assemble {
        setup: &setup,
        own,
        table,
        stats,
        receive,
        shortcuts,
        started,
        lent,
        gate,
        busy,
    };
    // The one place where a way of moving packets becomes a type.
    match setup.capabilities.io {
        IoKind::Poll | IoKind::SingleQueue => assemble.run(PollIo::new(io), report),
        IoKind::UringMultishot => assemble.run(UringIo::multishot(io), report),
        IoKind::UringOneshot => assemble.run(UringIo::oneshot(io, reads), report),
    }
}

/// The descriptors this worker works with; those beside its sockets are watched like them from here on.
fn own(parts: &mut WorkerParts, wake: &Wake) -> Own {
    let shortcuts: Vec<_> = parts.shortcuts.iter().map(FrameSocket::raw).collect();
    parts.underlay.watch(shortcuts.clone());
    Own {
        tun: parts.tun.raw(),
        wake: wake.raw(),
        sockets: parts.underlay.fds(),
        favourites: parts.underlay.favourite_fds(),
        scouts: parts.underlay.scout_fds(),
        shortcuts,
    }
}

fn start_failed(report: &Report, error: StartError) -> io::Result<()> {
    let _ = report.send(Err(error));
    Ok(())
}

struct Assemble<'s, 'a> {
    setup: &'s Setup,
    own: Own,
    table: TableReader,
    stats: SharedStats,
    receive: Vec<Frame<'a>>,
    shortcuts: Vec<FrameSocket>,
    started: Instant,
    lent: Arc<AtomicBool>,
    gate: Receiver<()>,
    busy: Sender<()>,
}

impl<'a> Assemble<'_, 'a> {
    fn run<I: PacketIo<'a>>(self, io: io::Result<I>, report: &Report) -> io::Result<()> {
        let Setup {
            config,
            capabilities,
            vxlan,
        } = self.setup;
        let io = match io {
            Ok(made) => made,
            Err(cause) => {
                let choice = capabilities.io.to_string();
                return start_failed(report, StartError::Io { choice, cause });
            }
        };
        give_up(&self.own, io.waits_in(), config);
        let merge = MergeConfig {
            vnet_header: capabilities.vnet_header,
            tcp: capabilities.merge && capabilities.tso,
            udp: capabilities.merge && capabilities.uso,
            max_udp_segments: capabilities.gso_segments.max(64),
            mtu: config.segment.into(),
            constant_ids: !config.offloads.exact_ids,
        };
        let answers = Answers::new(config.tun_addresses.clone());
        let mut worker = Worker {
            io,
            outbound: Outbound::new(answers, *vxlan, config.mtu),
            inbound: Inbound::new(
                self.receive,
                self.shortcuts,
                Intake::new(merge, *vxlan, config.source_check),
                self.lent,
            ),
            table: self.table,
            stats: self.stats,
            idle: Idle::new(config.spin, self.started),
        };
        let _ = report.send(Ok(()));
        let moved = match self.gate.recv() {
            Ok(()) => worker.run(),
            // The engine ended before it began.
            Err(_) => Ok(()),
        };
        drop(self.busy);
        moved
    }
}

/// Leaves this worker nothing it does not need.
fn give_up(own: &Own, waits_in: WaitsIn, config: &EngineConfig) {
    let Some(refusal) = config.confine else {
        return;
    };
    let kept = confine(own, waits_in, refusal);
    if !kept.is_empty() {
        tracing::warn!(
            "a worker keeps access to {}: whoever took it over could use it; a newer kernel or a \
             less strict container helps",
            kept.join(", "),
        );
    }
}

//! Starting and stopping: everything is chosen here, once, so that the loops need not ask.

pub(crate) mod adopt;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use ringbuf::{Arena, Frame, FrameLayout};

use crate::answers::Answers;
use crate::capabilities::{Capabilities, IoKind, OpenTun, open_tun};
use crate::config::{EngineConfig, Form};
use crate::confine::{Own, confine};
use crate::error::StartError;
use crate::examples::Example;
use crate::idle::Idle;
use crate::inbound::Inbound;
use crate::io::poll::PollIo;
use crate::io::underlay::Underlay;
use crate::io::uring::UringIo;
use crate::io::{BATCH_PACKETS, FRAME_BYTES, HEADROOM, PacketIo, Parts, WaitsIn};
use crate::outbound::{Outbound, VxlanIdentity};
use crate::recent::Recent;
use crate::sockets;
use crate::stats::{Counters, DropReason, SharedStats, WorkerStats};
use crate::sys::mmsg::RECEIVE_MAX;
use crate::sys::tun::TunQueue;
use crate::sys::wake::Wake;
use crate::sys::{cpu, signals};
use crate::table::{SubnetTable, TableReader, TableWriter};
use crate::wire::merge::MergeConfig;
use crate::worker::Worker;
use adopt::QueueHandle;

/// Workers at most, unless asked for more: past that the underlay is the limit.
const WORKERS_MAX: usize = 8;
/// Priority of workers, where it may be raised. The kernel forwards packets before any process
/// runs; a worker that had to share alike with all of them would be what everybody waits for. See
/// `docs/adr/0007-priority.md`.
const WORKER_NICE: i32 = -10;

/// A running engine. Dropping it stops it and removes the TUN device, unless somebody else goes on with its queues.
pub struct Engine {
    name: String,
    capabilities: Capabilities,
    table: TableWriter,
    stats: Vec<SharedStats>,
    threads: Vec<Thread>,
    /// What the workers have, for another engine to go on with.
    queues: Vec<QueueHandle>,
    /// Somebody is about to go on with what the workers have.
    lent: Arc<AtomicBool>,
    /// Lets workers begin; closed, those that have not begun end.
    gate: Option<Sender<()>>,
    failures: Receiver<String>,
    /// Closed once no worker moves packets any more.
    busy: Receiver<()>,
    started: Instant,
}

struct Thread {
    handle: JoinHandle<()>,
    wake: Arc<Wake>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All that one worker thread is given.
struct WorkerParts {
    tun: TunQueue,
    underlay: Underlay,
    table: TableReader,
    stats: SharedStats,
    cpu: Option<usize>,
    setup: Arc<Setup>,
    /// When the engine did.
    started: Instant,
    lent: Arc<AtomicBool>,
    gate: Receiver<()>,
    /// Held while packets are moved.
    busy: Sender<()>,
}

/// What all workers share and none changes.
struct Setup {
    config: EngineConfig,
    capabilities: Capabilities,
    vxlan: VxlanIdentity,
}

impl Engine {
    /// Creates the TUN device, binds the sockets and starts the workers. The device still needs
    /// its address and to be set up before packets flow.
    pub fn start(config: EngineConfig, table: SubnetTable) -> Result<Self, StartError> {
        let wanted = config
            .workers
            .unwrap_or_else(|| default_workers(allowed_cpus().len()))
            .max(1);
        // A port that is still somebody's is found out before a device is made and taken down for nothing, which takes
        // the kernel longest of all.
        let underlays = (0..wanted).map(|_| sockets::open(&config, wanted > 1));
        let mut underlays = underlays.collect::<Result<Vec<_>, _>>()?;
        let tun =
            open_tun(&config.tun_name, wanted, config.io, &config.offloads).map_err(|cause| {
                StartError::Tun {
                    name: config.tun_name.clone(),
                    cause,
                }
            })?;
        underlays.truncate(tun.queues.len());
        let engine = Self::assemble(config, table, tun, underlays)?;
        engine.go();
        Ok(engine)
    }

    /// Starts workers that are ready for everything, and wait.
    fn assemble(
        config: EngineConfig,
        mut table: SubnetTable,
        mut tun: OpenTun,
        underlays: Vec<Underlay>,
    ) -> Result<Self, StartError> {
        let started = Instant::now();
        let cpus = allowed_cpus();
        let queues = std::mem::take(&mut tun.queues);
        let handles = adopt::handles(&queues, &underlays).map_err(StartError::Socket)?;
        let capabilities = capabilities(&config, &tun, &underlays)?;
        let pins = pins(&config, &cpus, queues.len());
        let writer = TableWriter::default();
        table.count_on(&SubnetTable::default(), queues.len());
        writer.publish(table);
        let setup = Arc::new(Setup {
            vxlan: identity(&config.forms),
            config,
            capabilities,
        });
        let stats: Vec<_> = (0..queues.len()).map(WorkerStats::shared).collect();
        let (failed, failures) = unbounded();
        let (working, busy) = bounded(0);
        let (gate, begin) = unbounded();
        let mut engine = Self {
            name: tun.name,
            capabilities: setup.capabilities.clone(),
            table: writer,
            stats,
            threads: Vec::new(),
            queues: handles,
            lent: Arc::default(),
            gate: Some(gate),
            failures,
            busy,
            started,
        };
        let parts = queues.into_iter().zip(underlays).zip(pins);
        for (index, ((tun, underlay), cpu)) in parts.enumerate() {
            let table = engine.table.reader();
            let stats = Arc::clone(&engine.stats[index]);
            let parts = WorkerParts {
                tun,
                underlay,
                table,
                stats,
                cpu,
                setup: Arc::clone(&setup),
                started,
                lent: Arc::clone(&engine.lent),
                gate: begin.clone(),
                busy: working.clone(),
            };
            engine.threads.push(spawn(index, parts, failed.clone())?);
        }
        Ok(engine)
    }

    /// The name the TUN device got.
    pub fn tun_name(&self) -> &str {
        &self.name
    }

    /// What is in use and why; one line when printed.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Replaces the next-hop table; each worker uses the new one from its next turn on.
    pub fn publish(&self, mut table: SubnetTable) {
        table.count_on(&self.table.current(), self.stats.len());
        self.table.publish(table);
    }

    /// One packet that was dropped for a reason, if there was one.
    pub fn example(&self, reason: DropReason) -> Option<Example> {
        self.stats.iter().find_map(|worker| worker.example(reason))
    }

    /// Packets that were dropped since somebody asked last, worker by worker; who asks again is told of the next ones,
    /// at most a few hundred a worker.
    pub fn recent(&self) -> Vec<Recent> {
        self.stats
            .iter()
            .flat_map(|worker| worker.recent())
            .collect()
    }

    /// How long the engine has been at work, on the clock of [`Traffic::seen`](crate::Traffic::seen).
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The table in use.
    pub fn table(&self) -> Arc<SubnetTable> {
        self.table.current()
    }

    /// The sum of all workers' counters.
    pub fn counters(&self) -> Counters {
        Counters::sum(self.stats.iter())
    }

    /// Each worker's counters.
    pub fn worker_counters(&self) -> Vec<Counters> {
        let each = self.stats.iter().map(std::slice::from_ref);
        each.map(|one| Counters::sum(one.iter())).collect()
    }

    /// Gives a message when a worker had to end, as when its device was deleted.
    pub fn failures(&self) -> &Receiver<String> {
        &self.failures
    }

    /// Asks every worker for a sign of life; see [`Engine::heeds`].
    pub fn call(&self) {
        self.threads.iter().for_each(|thread| thread.wake.call());
    }

    /// Whether every worker has given a sign of life since it was last called.
    pub fn heeds(&self) -> bool {
        self.threads.iter().all(|thread| thread.wake.is_heeded())
    }

    /// Has the workers move no more packets, waiting for them up to `limit`, and says what was
    /// counted. What is left of them, and the device, goes away when the engine is dropped.
    pub fn halt(&self, limit: Duration) -> Counters {
        self.threads.iter().for_each(|thread| thread.wake.stop());
        // Nothing is ever sent: either all have let go of their ends, or the limit has passed.
        let _ = self.busy.recv_timeout(limit);
        self.counters()
    }

    /// Ends the workers, removes the device, and says what was counted.
    pub fn stop(mut self) -> Counters {
        self.end_workers();
        self.counters()
    }

    fn end_workers(&mut self) {
        for thread in &self.threads {
            thread.wake.stop();
        }
        self.gate = None;
        for thread in self.threads.drain(..) {
            let _ = thread.handle.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end_workers();
    }
}

fn allowed_cpus() -> Vec<usize> {
    cpu::allowed().unwrap_or_else(|_| vec![0])
}

/// Two queues on two busy processors measure slower than one; from three on each worker pays.
fn default_workers(cpus: usize) -> usize {
    if cpus <= 2 { 1 } else { cpus.min(WORKERS_MAX) }
}

/// Where each worker is bound: by default only when each has a processor to itself.
fn pins(config: &EngineConfig, cpus: &[usize], workers: usize) -> Vec<Option<usize>> {
    let alone = workers > 1 && workers <= cpus.len();
    let pinned = config.pin.unwrap_or(alone);
    (0..workers)
        .map(|index| pinned.then(|| cpus[index % cpus.len()]))
        .collect()
}

fn identity(forms: &[Form]) -> VxlanIdentity {
    let vxlan = forms.iter().find_map(|form| match *form {
        Form::Vxlan { vni, mac, .. } => Some(VxlanIdentity { vni, mac }),
        Form::Udp { .. } => None,
    });
    vxlan.unwrap_or_default()
}

fn capabilities(
    config: &EngineConfig,
    tun: &OpenTun,
    underlays: &[Underlay],
) -> Result<Capabilities, StartError> {
    let (io, io_reason) = crate::probe::choose_io(config, tun)?;
    Ok(Capabilities {
        io,
        io_reason,
        workers: underlays.len(),
        vnet_header: tun.vnet_header,
        tso: tun.tso,
        uso: tun.uso,
        gso_segments: underlays
            .iter()
            .map(|one| one.socket(0).segments_max)
            .min()
            .unwrap_or(1),
        gro: underlays.iter().all(|one| one.socket(0).gro),
        merge: config.offloads.merge && tun.vnet_header,
    })
}

fn spawn(index: usize, parts: WorkerParts, failed: Sender<String>) -> Result<Thread, StartError> {
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
fn work(parts: WorkerParts, wake: Arc<Wake>, report: &Report) -> io::Result<()> {
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
    let WorkerParts {
        tun,
        underlay,
        table,
        stats,
        setup,
        started,
        lent,
        gate,
        busy,
        ..
    } = parts;
    let own = Own {
        tun: tun.raw(),
        wake: wake.raw(),
        sockets: underlay.fds(),
        favourites: underlay.favourite_fds(),
        scouts: underlay.scout_fds(),
    };
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
            inbound: Inbound::new(self.receive, merge, *vxlan, config.source_check, self.lent),
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

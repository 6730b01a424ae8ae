//! Starting and stopping: everything is chosen here, once, so that the loops need not ask.

pub(crate) mod adopt;
mod thread;

use std::fmt;
use std::iter::repeat_with;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::capabilities::{Capabilities, OpenTun, open_tun};
use crate::config::{EngineConfig, Form};
use crate::error::StartError;
use crate::examples::Example;
use crate::io::underlay::Underlay;
use crate::outbound::VxlanIdentity;
use crate::recent::Recent;
use crate::shortcut::{self, Shortcut};
use crate::sockets;
use crate::stats::{Counters, DropReason, SharedStats, WorkerStats};
use crate::sys::cpu;
use crate::table::{SubnetTable, TableWriter};
use adopt::QueueHandle;
use thread::{Setup, Thread, WorkerParts, spawn};

/// Workers at most, unless asked for more: past that the underlay is the limit.
const WORKERS_MAX: usize = 8;

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
    /// What leads datagrams from the device past the kernel's stack.
    shortcut: Mutex<Option<Shortcut>>,
    /// Lets workers begin; closed, those that have not begun end.
    gate: Option<Sender<()>>,
    failures: Receiver<String>,
    /// Closed once no worker moves packets any more.
    busy: Receiver<()>,
    started: Instant,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
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
        let (shortcut, frames) = shortcut::prepare(&config, queues.len()).unzip();
        let frames = frames.into_iter().flatten().chain(repeat_with(Vec::new));
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
            shortcut: Mutex::new(shortcut),
            gate: Some(gate),
            failures,
            busy,
            started,
        };
        let parts = queues.into_iter().zip(underlays).zip(frames).zip(pins);
        for (index, (((tun, underlay), shortcuts), cpu)) in parts.enumerate() {
            let table = engine.table.reader();
            let stats = Arc::clone(&engine.stats[index]);
            let parts = WorkerParts {
                tun,
                underlay,
                shortcuts,
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
        let mut sum = Counters::sum(self.stats.iter());
        if let Some(shortcut) = &*self.shortcut() {
            sum.lose(DropReason::InShortcutFull, shortcut.lost());
        }
        sum
    }

    /// The device that datagrams are taken off before the kernel's stack sees them, if they are.
    pub fn shortcut_at(&self) -> Option<String> {
        let shortcut = self.shortcut();
        shortcut
            .as_ref()
            .and_then(Shortcut::device)
            .map(str::to_owned)
    }

    fn shortcut(&self) -> MutexGuard<'_, Option<Shortcut>> {
        // Nobody panics with it in hand, and if so it would be as whole as before.
        self.shortcut.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Some(shortcut) = &mut *self.shortcut() {
            shortcut.close();
        }
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

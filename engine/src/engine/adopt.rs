//! Going on with what another engine worked with, in this process or the one before: its queues and sockets, and with
//! them every packet the kernel keeps there.
//!
//! Two engines may share them for as long as only one is at work.

use super::Engine;
use crate::capabilities::adopt_tun;
use crate::config::EngineConfig;
use crate::error::StartError;
use crate::io::underlay::Underlay;
use crate::sockets;
use crate::sys::tun::TunQueue;
use crate::table::SubnetTable;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

/// What one worker moves packets between.
#[derive(Debug)]
pub struct QueueHandle {
    /// A queue of the TUN device, which exists for as long as one of its queues is open somewhere.
    pub tun: OwnedFd,
    /// Sockets, those that listen first.
    pub sockets: Vec<SocketHandle>,
}

/// A socket to other nodes.
#[derive(Debug)]
pub struct SocketHandle {
    /// The port of the form it speaks; where it has that port itself, it listens.
    pub port: u16,
    /// The socket.
    pub fd: OwnedFd,
}

impl QueueHandle {
    fn try_clone(&self) -> io::Result<Self> {
        let clone = |socket: &SocketHandle| {
            let fd = socket.fd.try_clone()?;
            let port = socket.port;
            Ok(SocketHandle { port, fd })
        };
        Ok(Self {
            tun: self.tun.try_clone()?,
            sockets: self.sockets.iter().map(clone).collect::<io::Result<_>>()?,
        })
    }
}

impl Engine {
    /// Prepares to go on with the queues of another engine, whose number of workers it has then. It moves no packet
    /// before it is told to [`go`](Engine::go).
    ///
    /// A shortcut is not handed over: a receive queue has one socket for frames at a time.
    pub fn adopt(
        mut config: EngineConfig,
        table: SubnetTable,
        queues: Vec<QueueHandle>,
    ) -> Result<Self, StartError> {
        if let Some(device) = config.shortcut.take() {
            tracing::info!(
                "datagrams are not taken off {} by a daemon that takes over, but by one that is restarted; they come \
                 through sockets until then",
                device.name
            );
        }
        let (tuns, handles): (Vec<_>, Vec<_>) = queues
            .into_iter()
            .map(|queue| (queue.tun, queue.sockets))
            .unzip();
        let tun = adopt_tun(tuns, &config.offloads).map_err(|cause| StartError::Tun {
            name: config.tun_name.clone(),
            cause,
        })?;
        let shared = handles.len() > 1;
        let underlays = handles.into_iter();
        let underlays = underlays.map(|sockets| sockets::adopt(&config, sockets, shared));
        let underlays = underlays.collect::<Result<_, _>>()?;
        Self::assemble(config, table, tun, underlays)
    }

    /// Lets the workers begin.
    pub fn go(&self) {
        for gate in self.threads.iter().filter_map(|_| self.gate.as_ref()) {
            // A worker that has ended already needs no leave.
            let _ = gate.send(());
        }
        // The kernel takes its time to put a program at a device; packets are moved meanwhile.
        if let Some(shortcut) = &mut *self.shortcut() {
            shortcut.open();
        }
    }

    /// What the workers work with, for another engine. While this one is at work that one must wait. No sender gets a
    /// socket to itself from now on, so that long before the other one begins everything arrives where it will look.
    pub fn queues(&self) -> io::Result<Vec<QueueHandle>> {
        if let Some(shortcut) = &mut *self.shortcut() {
            shortcut.close();
        }
        self.lent.store(true, Ordering::Relaxed);
        self.queues.iter().map(QueueHandle::try_clone).collect()
    }

    /// Nobody goes on with them after all: senders get sockets to themselves again.
    pub fn keep(&self) {
        if let Some(shortcut) = &mut *self.shortcut() {
            shortcut.open();
        }
        self.lent.store(false, Ordering::Relaxed);
    }
}

/// Second descriptors of all that is about to be given to workers.
pub(super) fn handles(queues: &[TunQueue], underlays: &[Underlay]) -> io::Result<Vec<QueueHandle>> {
    let handle = |(queue, underlay): (&TunQueue, &Underlay)| {
        let sockets = underlay.lasting().map(|socket| {
            let port = socket.form.port();
            socket.udp.share().map(|fd| SocketHandle { port, fd })
        });
        Ok(QueueHandle {
            tun: queue.share()?,
            sockets: sockets.collect::<io::Result<_>>()?,
        })
    };
    queues.iter().zip(underlays).map(handle).collect()
}

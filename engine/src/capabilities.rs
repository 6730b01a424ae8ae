//! What the kernel granted: asked once, said once, and readable afterwards.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use crate::config::{IoChoice, Offloads};
use crate::sys::tun::{QueueFlags, TUN_F_CSUM, TUN_F_TSO, TUN_F_USO, TunQueue};
use crate::sys::udp::{self, UdpSocket};

/// A way of moving packets that was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// io_uring with one read that keeps delivering.
    UringMultishot,
    /// io_uring with batches of single reads.
    UringOneshot,
    /// `poll` with `read` and `writev`.
    Poll,
    /// The same on a plain device.
    SingleQueue,
}

impl fmt::Display for IoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UringMultishot => "io_uring, multishot reads",
            Self::UringOneshot => "io_uring, batched reads",
            Self::Poll => "plain system calls",
            Self::SingleQueue => "plain system calls, single plain queue",
        })
    }
}

/// What this engine uses, and what the kernel would not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How packets are moved.
    pub io: IoKind,
    /// Why that way.
    pub io_reason: String,
    /// Worker threads, each with a queue of its own.
    pub workers: usize,
    /// The TUN takes and gives half-finished packets and super-packets.
    pub vnet_header: bool,
    /// TCP super-packets on the TUN.
    pub tso: bool,
    /// UDP super-packets on the TUN.
    pub uso: bool,
    /// Datagrams one send may carry; 1 without the offload.
    pub gso_segments: u16,
    /// One receive may give many datagrams.
    pub gro: bool,
    /// Inner packets are joined before they are written.
    pub merge: bool,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on: bool| if on { "on" } else { "off" };
        write!(
            f,
            "{} worker(s); {} ({}); virtio header {}, tso {}, uso {}, gso {}, gro {}, merge {}",
            self.workers,
            self.io,
            self.io_reason,
            switch(self.vnet_header),
            switch(self.tso),
            switch(self.uso),
            self.gso_segments,
            switch(self.gro),
            switch(self.merge),
        )
    }
}

/// The queues of a device, and what it takes.
#[derive(Debug)]
pub(crate) struct OpenTun {
    pub(crate) name: String,
    pub(crate) queues: Vec<TunQueue>,
    pub(crate) vnet_header: bool,
    pub(crate) tso: bool,
    pub(crate) uso: bool,
}

/// Opens a device with up to `queues` queues: as many of them, and as much of the rest, as the kernel has.
pub(crate) fn open_tun(
    name: &str,
    queues: usize,
    io: IoChoice,
    wanted: &Offloads,
) -> io::Result<OpenTun> {
    if io == IoChoice::SingleQueue {
        return open_plain(name);
    }
    let full = QueueFlags {
        multi_queue: queues > 1,
        vnet_header: true,
    };
    let attempts = [
        full,
        QueueFlags {
            multi_queue: false,
            vnet_header: true,
        },
    ];
    for flags in attempts {
        match open_queues(name, queues, flags) {
            Ok(open) => return Ok(with_offloads(open, wanted)),
            // EINVAL is how a kernel says that it does not know a flag.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    open_plain(name)
}

/// Goes on with the queues of a device that is there.
pub(crate) fn adopt_tun(queues: Vec<OwnedFd>, wanted: &Offloads) -> io::Result<OpenTun> {
    let mut open = OpenTun {
        name: String::new(),
        queues: Vec::new(),
        vnet_header: true,
        tso: false,
        uso: false,
    };
    for queue in queues {
        let (queue, name, vnet_header) = TunQueue::adopt(queue)?;
        open.queues.push(queue);
        open.name = name;
        open.vnet_header &= vnet_header;
    }
    Ok(match open.vnet_header {
        true => with_offloads(open, wanted),
        false => open,
    })
}

fn open_plain(name: &str) -> io::Result<OpenTun> {
    let (queue, name) = TunQueue::open_single(name)?;
    Ok(OpenTun {
        name,
        queues: vec![queue],
        vnet_header: false,
        tso: false,
        uso: false,
    })
}

fn open_queues(name: &str, count: usize, flags: QueueFlags) -> io::Result<OpenTun> {
    let (first, name) = TunQueue::open(name, flags)?;
    let more = (1..count).take_while(|_| flags.multi_queue);
    // A device that takes no further queue works with those it has.
    let more = more.map_while(|_| TunQueue::open(&name, flags).ok());
    let queues = std::iter::once(first).chain(more.map(|(queue, _)| queue));
    let queues = queues.collect();
    Ok(OpenTun {
        name,
        queues,
        vnet_header: true,
        tso: false,
        uso: false,
    })
}

/// Announces the most the kernel accepts of what is wanted.
fn with_offloads(mut open: OpenTun, wanted: &Offloads) -> OpenTun {
    let tso = if wanted.tso { TUN_F_TSO } else { 0 };
    let uso = if wanted.uso { TUN_F_USO } else { 0 };
    let sets = [TUN_F_CSUM | tso | uso, TUN_F_CSUM | tso, TUN_F_CSUM];
    for bits in sets {
        if open
            .queues
            .iter()
            .all(|queue| queue.set_offloads(bits).is_ok())
        {
            open.tso = bits & TUN_F_TSO != 0;
            open.uso = bits & TUN_F_USO != 0;
            break;
        }
    }
    open
}

/// Datagrams one send may carry over this socket.
pub(crate) fn gso_segments(socket: &UdpSocket, wanted: &Offloads) -> u16 {
    if !wanted.gso || !socket.knows_gso() || *SPOILS_SEGMENTS {
        return 1;
    }
    match udp::accepts_128_segments() {
        true => 128,
        false => 64,
    }
}

/// A kernel that takes the offload and spoils what it cuts would never tell.
static SPOILS_SEGMENTS: LazyLock<bool> = LazyLock::new(|| {
    let spoils = udp::spoils_segments().unwrap_or(false);
    if spoils {
        tracing::warn!(
            "this kernel spoils datagrams that it cuts out of one send (UDP_SEGMENT): they are sent one by one; another \
             kernel helps"
        );
    }
    spoils
});

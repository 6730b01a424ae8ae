//! Datagrams taken off the device before the kernel's stack sees them.
//!
//! Where a device hands on datagrams of MTU size one by one, most of the work is the way of each through
//! IP and UDP to its socket. A program at the device (`program.rs`) puts those for us into memory
//! we share with the kernel instead; fragments, options and everybody else's go on as ever. See
//! `docs/adr/0018-shortcut.md` for what it gains, and what it costs.

mod program;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use xdp::nic::NicIndex;

use crate::config::{Device, EngineConfig, Form};
use crate::sys::bpf;
use crate::sys::xsk::{self, FRAME_MAX, FrameSocket};
use crate::wire::outer::ETHERNET;

/// Receive queues of a device at most: each takes 4 MiB.
const QUEUES_MAX: u32 = 64;

/// What leads from a device to our sockets, open or closed.
#[derive(Debug)]
pub(crate) struct Shortcut {
    device: Device,
    index: NicIndex,
    program: OwnedFd,
    /// For as long as it is there the program runs.
    link: Option<OwnedFd>,
    /// Second descriptors of the sockets.
    sockets: Vec<OwnedFd>,
}

/// Prepares a shortcut where one is wanted, still closed, and what each worker shall read from. One that
/// cannot be had costs speed alone.
pub(crate) fn prepare(
    config: &EngineConfig,
    workers: usize,
) -> Option<(Shortcut, Vec<Vec<FrameSocket>>)> {
    let device = config.shortcut.as_ref()?;
    match try_prepare(device, config) {
        Ok((shortcut, sockets)) => Some((shortcut, dealt(sockets, workers))),
        Err(error) => {
            without(device, &error);
            None
        }
    }
}

fn without(device: &Device, error: &io::Error) {
    tracing::warn!(
        "datagrams are not taken off {} ahead of the kernel's stack ({error}); they come through sockets as without \
         --shortcut. It takes CAP_BPF, CAP_NET_RAW, a driver with native XDP, an MTU of at most {}, and no other \
         program at the device",
        device.name,
        FRAME_MAX - ETHERNET,
    );
}

fn try_prepare(device: &Device, config: &EngineConfig) -> io::Result<(Shortcut, Vec<FrameSocket>)> {
    if device.mtu as usize > FRAME_MAX - ETHERNET {
        let why = format!("its MTU is {}", device.mtu);
        return Err(io::Error::other(why));
    }
    let index = device_index(&device.name)?;
    let table = bpf::socket_table(QUEUES_MAX)?;
    let sockets = sockets(index)?;
    for (queue, socket) in (0..).zip(&sockets) {
        bpf::enter(&table, queue, socket.raw())?;
    }
    let ports: Vec<_> = config.forms.iter().map(Form::port).collect();
    let program = bpf::load(&program::assemble(table.as_raw_fd(), &config.bind, &ports))?;
    let shared = sockets.iter().map(FrameSocket::share);
    let shortcut = Shortcut {
        device: device.clone(),
        index,
        program,
        link: None,
        sockets: shared.collect::<io::Result<_>>()?,
    };
    Ok((shortcut, sockets))
}

fn device_index(name: &str) -> io::Result<NicIndex> {
    let gone = || io::Error::from_raw_os_error(libc::ENODEV);
    NicIndex::lookup_by_name(&CString::new(name)?)?.ok_or_else(gone)
}

/// A socket for each queue: how many there are is known by the first that is none.
fn sockets(device: NicIndex) -> io::Result<Vec<FrameSocket>> {
    let mut sockets = vec![FrameSocket::open(device, 0)?];
    for queue in 1..QUEUES_MAX {
        match FrameSocket::open(device, queue) {
            Ok(socket) => sockets.push(socket),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

fn dealt(sockets: Vec<FrameSocket>, workers: usize) -> Vec<Vec<FrameSocket>> {
    let mut hands: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
    for (index, socket) in sockets.into_iter().enumerate() {
        hands[index % workers].push(socket);
    }
    hands
}

impl Shortcut {
    /// From now on datagrams arrive at the sockets of their queues.
    pub(crate) fn open(&mut self) {
        if self.link.is_some() {
            return;
        }
        match bpf::attach(&self.program, self.index.0) {
            Ok(link) => {
                let name = &self.device.name;
                tracing::info!("datagrams for us are taken off {name} ahead of the kernel's stack");
                self.link = Some(link);
            }
            Err(error) => without(&self.device, &error),
        }
    }

    /// From now on they arrive as everybody's do.
    pub(crate) fn close(&mut self) {
        self.link = None;
    }

    /// The name of the device, while datagrams are taken off it.
    pub(crate) fn device(&self) -> Option<&str> {
        self.link.as_ref().map(|_| self.device.name.as_str())
    }

    /// Datagrams that came faster than they were taken.
    pub(crate) fn lost(&self) -> u64 {
        let lost = |socket| xsk::lost(socket).unwrap_or(0);
        self.sockets.iter().map(lost).sum()
    }
}

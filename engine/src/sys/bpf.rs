//! Programs of the kernel's own machine: loading one, a table for it, and putting it at a device.
#![allow(unsafe_code, reason = "bpf")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// The driver runs the program itself, before it makes a packet of the frame.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// For the kernel, which lets some functions be called by some licences alone; none of ours is.
const LICENSE: &std::ffi::CStr = c"Apache-2.0";

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    device: u32,
    attach: u32,
    flags: u32,
}

/// A table from receive queues to sockets.
pub(crate) fn socket_table(queues: u32) -> io::Result<OwnedFd> {
    let attributes = MapCreate {
        map_type: MAP_TYPE_XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: queues,
        flags: 0,
    };
    made(bpf(MAP_CREATE, &attributes)?)
}

/// Has a table lead to a socket from one queue.
pub(crate) fn enter(table: &OwnedFd, queue: u32, socket: RawFd) -> io::Result<()> {
    let value = socket as u32;
    let attributes = MapUpdate {
        map: table.as_raw_fd() as u32,
        padding: 0,
        key: &raw const queue as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &attributes).map(drop)
}

/// Loads a program that looks at frames.
pub(crate) fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..8].copy_from_slice(b"flanneld");
    let attributes = ProgLoad {
        kind: PROG_TYPE_XDP,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        name,
        expected_attach: ATTACH_XDP,
        ..ProgLoad::default()
    };
    made(bpf(PROG_LOAD, &attributes)?)
}

/// Has a device's driver run a program for as long as what comes back is open.
pub(crate) fn attach(program: &OwnedFd, device: u32) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        device,
        attach: ATTACH_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    made(bpf(LINK_CREATE, &attributes)?)
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: `attributes` is live and of the size given; the caller made every address in it from
    // something that lives until the call has returned, which is how long the kernel looks at it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as RawFd)
}

fn made(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

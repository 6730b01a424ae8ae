//! Why an engine did not start: what failed, why it usually does, what to do.

use std::io;
use std::net::SocketAddr;

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The TUN device could not be opened.
    #[error("cannot open TUN device {name:?}: {cause}{}", tun_cure(cause))]
    Tun {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A listening socket could not be bound.
    #[error("cannot listen on {address}: {cause}{}", bind_cure(cause, address))]
    Bind {
        /// Where it should listen.
        address: SocketAddr,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A socket lacks something that every supported kernel has.
    #[error("cannot prepare the underlay sockets: {0}")]
    Socket(io::Error),
    /// Nothing to listen for.
    #[error("no form and no address to listen on: the engine would have nothing to do")]
    NoForm,
    /// A thread could not be started.
    #[error("cannot start worker threads: {}{}", .0, thread_cure(.0))]
    Thread(io::Error),
    /// Packet memory could not be mapped.
    #[error(
        "cannot map packet memory: {0}; about 9 MiB for each worker are needed, lower --workers"
    )]
    Memory(io::Error),
    /// What another engine worked with is not what this one needs.
    #[error(
        "what the other daemon works with is not what this one is told to use: {0}; restart instead"
    )]
    Adopted(String),
    /// The chosen way of moving packets is not to be had.
    #[error("moving packets by {choice} is not possible here: {cause}; --io=auto takes what is")]
    Io {
        /// The way asked for.
        choice: String,
        /// What the kernel said.
        cause: io::Error,
    },
}

fn tun_cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV) => {
            "; load the module (modprobe tun) or give the container the device /dev/net/tun"
        }
        Some(libc::EPERM) => "; run as root or with CAP_NET_ADMIN",
        Some(libc::EACCES) => "; run as root, or let this user open it (chmod a+rw /dev/net/tun)",
        Some(libc::EBUSY) => "; another process holds it: stop that one, or choose another name",
        Some(libc::EINVAL) => {
            "; a device of that name exists with other properties: delete it (ip link del)"
        }
        _ => "",
    }
}

fn thread_cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => "; raise the limit on processes (RLIMIT_NPROC, pids.max)",
        Some(libc::EMFILE | libc::ENFILE) => "; raise the limit on open files (RLIMIT_NOFILE)",
        _ => "",
    }
}

fn bind_cure(error: &io::Error, address: &SocketAddr) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => format!(
            "; another daemon or a kernel VXLAN device has UDP port {0} \
             (ss -lunp sport = {0}; ip -d link show type vxlan): stop or delete it",
            address.port(),
        ),
        Some(libc::EACCES) => {
            "; ports below 1024 need a privilege the daemon gives up: --sandbox=off keeps it"
                .to_owned()
        }
        Some(libc::EADDRNOTAVAIL) => {
            "; this host does not own that address: choose another interface".to_owned()
        }
        _ => String::new(),
    }
}

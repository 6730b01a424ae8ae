//! `flannelctl doctor` where the kernel, or a sandbox, lacks something that flannel can use.

use std::path::Path as FsPath;

use benches::deprive::{ENOSYS, Kernel, TunOffload};
use benches::{Path, Side};

use super::cures::{finds, up};
use super::scene::{Answer, tool};

/// Runs doctor on node A as on such a kernel.
fn doctor(path: &Path, socket: &FsPath, kernel: &Kernel) -> Answer {
    let words = tool(socket, "doctor");
    let program = FsPath::new(words.get_program());
    let mut command = kernel.command(path.lab().node(Side::A), program).unwrap();
    command.args(words.get_args()).output().unwrap().into()
}

#[test]
fn doctor_tells_what_the_kernel_lacks_with_the_cure() {
    let (path, socket) = up("udp");
    let nothing = path.lab().scratch().join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    let whole = Kernel::whole;
    let cases = [
        (
            whole().without_io_uring(ENOSYS),
            "?   io_uring: no batched reads (Function not implemented (os error 38))",
            "cure: nothing, where that is wanted; otherwise sysctl -w kernel.io_uring_disabled=0",
        ),
        (
            whole().without_tun_offload(TunOffload::Uso),
            "?   device: TUN without UDP super-packets: correct, and slower",
            "cure: a newer kernel (UDP super-packets: Linux 6.2)",
        ),
        (
            whole().without_udp_segment().without_udp_gro(),
            "?   datagrams: no UDP_SEGMENT, UDP_GRO: each datagram",
            "cure: a newer kernel (Linux 5.0)",
        ),
        (
            whole().with_directory(&nothing, FsPath::new("/dev/net")),
            "BAD device: no TUN device can be made",
            "cure: modprobe tun; in a container: pass /dev/net/tun in",
        ),
    ];
    for (kernel, found, cure) in cases {
        let told = doctor(&path, &socket, &kernel);
        finds(&told, &[found, cure, "is reached through the tunnel"]);
        let bad = found.starts_with("BAD");
        assert_eq!(told.code, i32::from(bad), "a doubt is no fault: {told:?}");
    }
}

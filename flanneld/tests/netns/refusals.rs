//! The kernel goes back on an offload in the middle of traffic, now and again: the same packets go
//! out again without it, and none is lost. The refusals are injected into the daemon's system calls.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use benches::deprive::Kernel;
use benches::{Lab, Path, Profile, Side};

use super::exit::account;
use super::setup::{flanneld, up, versions};
use super::traffic::{datagrams, stream};

/// A tracer that makes calls of a running daemon's worker fail.
pub(crate) struct Injection {
    tracer: Child,
}

impl Injection {
    /// Lets such calls fail with this error from now on: `which` is a number, or a number and how
    /// many further on the next one is, as in `1+999`.
    pub(crate) fn into(path: &mut Path, side: Side, call: &str, error: &str, which: &str) -> Self {
        let worker = worker(path.daemon(side).unwrap().id());
        let tracer = Command::new("strace")
            .args(["-qq", "-o", "/dev/null"])
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error={error}:when={which}")])
            .args(["-p", &worker.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace is installed");
        let injection = Self { tracer };
        while !traced(worker) {
            thread::sleep(Duration::from_millis(5));
        }
        injection
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // It ends by itself when the daemon does; both outcomes are fine.
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}

/// The thread of a process that moves packets.
fn worker(process: u32) -> u32 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let is_worker = |thread: &fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm"));
        name.is_ok_and(|name| name.starts_with("worker-"))
    };
    let worker = threads.flatten().find(is_worker).unwrap();
    worker.file_name().to_str().unwrap().parse().unwrap()
}

/// Whether a thread is being traced.
fn traced(thread: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
    !status.contains("TracerPid:\t0\n")
}

fn a_refused_call_loses_nothing(name: &str, side: Side, call: &str, error: &str) {
    let mut path = up(name, Profile::Offload);
    stream(&path, Side::A);
    let injection = Injection::into(&mut path, side, call, error, "5+90");
    stream(&path, Side::A);
    datagrams(&path, Side::A);
    drop(injection);
    let daemon = path.daemon(side).unwrap();
    daemon.stop().unwrap();
    let counts = account(&daemon.log());
    let lost = |name: &&String| name.starts_with("in_") || name.starts_with("out_");
    let drops: Vec<_> = counts
        .keys()
        .filter(lost)
        .filter(|name| *name != "out_not_unicast")
        .collect();
    assert!(
        counts
            .get("offload_retries")
            .is_some_and(|&count| count > 0),
        "{counts:?}"
    );
    assert!(drops.is_empty(), "{counts:?}");
}

versions! { a_refused_call_loses_nothing:
    eio_on_a_run_turns_gso_off_and_resends_it("udp+io=epoll", Side::A, "sendmmsg", "EIO");
    eopnotsupp_on_a_run_turns_gso_off_and_resends_it("vxlan+io=epoll", Side::A, "sendmmsg", "EOPNOTSUPP");
    einval_on_a_run_turns_gso_off_and_resends_it("vxlan+io=epoll", Side::A, "sendmmsg", "EINVAL");
    emsgsize_on_a_run_resends_it("udp+io=epoll", Side::A, "sendmmsg", "EMSGSIZE");
    a_super_packet_the_tun_refuses_is_written_packet_by_packet("udp+io=epoll", Side::B, "writev", "EINVAL");
    a_super_packet_there_is_no_memory_for_is_written_packet_by_packet("vxlan+io=epoll", Side::B, "writev", "ENOMEM");
}

/// The device takes joined packets at the start, and none of more than two afterwards: joining is
/// given up, so that it does not fail for ever, and told once.
#[test]
fn joining_is_given_up_where_the_device_refuses_what_was_joined() {
    let mut lab = Lab::new(Profile::Offload).unwrap();
    lab.set_kernel(Side::B, Kernel::whole().without_joined_packets());
    let spec = "udp+io=epoll".parse().unwrap();
    let mut path = Path::connect(lab, &spec, flanneld()).unwrap();
    path.wait_until_connected().unwrap();
    stream(&path, Side::A);
    datagrams(&path, Side::A);
    stream(&path, Side::A);
    let daemon = path.daemon(Side::B).unwrap();
    daemon.stop().unwrap();
    let log = daemon.log();
    let counts = account(&log);
    let told = log
        .lines()
        .filter(|line| line.contains("refuses joined packets (Tcp)"));
    assert_eq!(told.count(), 1, "{log}");
    let retries = counts["offload_retries"];
    assert!((16..1000).contains(&retries), "{counts:?}");
    assert!(!counts.contains_key("in_tun_refused"), "{counts:?}");
}

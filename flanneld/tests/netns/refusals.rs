//! The kernel goes back on an offload in the middle of traffic: the same packets go out again
//! without it, and none is lost. The refusals are injected into the daemon's system calls.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use benches::{Path, Profile, Side};

use super::exit::account;
use super::setup::{up, versions};
use super::traffic::{datagrams, stream};

/// A tracer that makes one call of a running daemon fail.
struct Injection {
    tracer: Child,
}

impl Injection {
    /// Lets the `which`th such call from now on fail with this error.
    fn into(path: &mut Path, side: Side, call: &str, error: &str, which: u32) -> Self {
        let pid = path.daemon(side).unwrap().id();
        let tracer = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(["-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:error={error}:when={which}")])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace is installed");
        let injection = Self { tracer };
        while !traced(pid) {
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

/// Whether every thread of a process is being traced.
fn traced(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    })
}

fn a_refused_call_loses_nothing(name: &str, side: Side, call: &str, error: &str) {
    let mut path = up(name, Profile::Offload);
    stream(&path, Side::A);
    let injection = Injection::into(&mut path, side, call, error, 5);
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
    einval_on_a_run_turns_gso_off_and_resends_it("vxlan+io=epoll", Side::A, "sendmmsg", "EINVAL");
    emsgsize_on_a_run_resends_it("udp+io=epoll", Side::A, "sendmmsg", "EMSGSIZE");
    a_super_packet_the_tun_refuses_is_written_packet_by_packet("udp+io=epoll", Side::B, "writev", "EINVAL");
}

//! What the running daemon has kept of root's power, and what somebody who takes a worker over can do with it: nothing.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::Duration;

use benches::Side;
use console::client::ask;
use console::protocol::Question;

use super::hijack::Argument::{self, Bytes, Number, Own};
use super::hijack::Hijacked;
use super::stage::{Stage, UDP, VXLAN, wait};

const A: Side = Side::A;
/// CAP_NET_ADMIN, as the kernel shows sets of capabilities.
const NET_ADMIN: u64 = 1 << 12;
/// CAP_IPC_LOCK.
const IPC_LOCK: u64 = 1 << 14;
const WAYS: [&str; 4] = ["epoll", "single-queue", "uring-oneshot", "uring-multishot"];

/// A thread as the kernel describes it.
struct Task {
    id: u32,
    name: String,
    status: String,
}

impl Task {
    fn field(&self, name: &str) -> &str {
        let mut lines = self.status.lines();
        lines
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
    }

    fn capabilities(&self, set: &str) -> u64 {
        u64::from_str_radix(self.field(set), 16).unwrap()
    }
}

fn tasks(process: u32) -> Vec<Task> {
    let task = |entry: fs::DirEntry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let id = entry.file_name().to_string_lossy().parse().ok()?;
        Some(Task {
            id,
            name: name.trim().to_owned(),
            status,
        })
    };
    let found = fs::read_dir(format!("/proc/{process}/task"))
        .unwrap()
        .flatten();
    found.filter_map(task).collect()
}

fn workers(process: u32) -> Vec<Task> {
    let found = tasks(process).into_iter();
    found
        .filter(|task| task.name.starts_with("worker"))
        .collect()
}

/// Two nodes in touch, A with these flags.
fn up(config: &str, flags: &[&str]) -> Stage {
    let mut stage = Stage::new(config);
    stage.start(A, &[&["--iface=eth0"], flags].concat());
    stage.start(Side::B, &["--iface=eth0"]);
    stage.settle();
    stage
}

#[test]
fn workers_have_no_capability_and_the_rest_of_the_daemon_one() {
    let flags = [
        "--workers=2",
        "--ip-masq",
        "--healthz-port=8471",
        "--io=epoll",
    ];
    let stage = up(UDP, &flags);
    let all = tasks(stage.id(A));
    assert_eq!(workers(stage.id(A)).len(), 2);
    assert!(all.len() > 4, "there are threads besides");
    for task in &all {
        assert_has_at_most(NET_ADMIN, task);
        if task.name.starts_with("worker") {
            // A handler in a worker could not tell the daemon of it.
            let (blocked, term) = (task.capabilities("SigBlk:"), 1 << (libc::SIGTERM - 1));
            assert_ne!(blocked & term, 0, "{}: {blocked:x}", task.name);
        }
        assert_eq!(task.field("NoNewPrivs:"), "1", "{}", task.name);
        assert_eq!(task.field("Seccomp:"), "2", "{}", task.name);
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", stage.id(A))).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let numbers: Vec<_> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(
        numbers,
        ["0", "0"],
        "a core file would hold keys and passwords"
    );
}

/// The whole daemon has these capabilities, and workers none.
fn assert_has_at_most(allowed: u64, task: &Task) {
    let own = if task.name.starts_with("worker") {
        0
    } else {
        allowed
    };
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        let held = task.capabilities(set);
        assert_eq!(held & !own, 0, "{}: {set} {held:x}", task.name);
    }
    assert_eq!(task.capabilities("CapBnd:"), allowed, "{}", task.name);
}

/// An engine that is started anew needs a ring again, when nobody can raise the limit for it any more.
#[test]
fn a_low_limit_of_locked_memory_costs_one_more_capability_and_a_line_of_log() {
    for (io, allowed) in [
        ("uring-oneshot", NET_ADMIN | IPC_LOCK),
        ("epoll", NET_ADMIN),
    ] {
        let mut stage = Stage::new(UDP);
        let plain = stage.command(A);
        let mut command = stage.lab.node(A).command("prlimit").unwrap();
        command.args(["--memlock=65536:65536", "setpriv"]);
        command.args(["--bounding-set=-sys_resource", "--inh-caps=-all"]);
        command.arg(plain.get_program()).args(plain.get_args());
        command.args(["--iface=eth0", &format!("--io={io}")]);
        stage.start_as(A, &mut command);
        stage.start(Side::B, &["--iface=eth0"]);
        stage.settle();
        for task in tasks(stage.id(A)) {
            assert_has_at_most(allowed, &task);
        }
        let told = usize::from(allowed != NET_ADMIN);
        assert_eq!(stage.times(A, "CAP_IPC_LOCK is kept"), told, "{io}");
        stage.ip(A, "link del flannel0");
        stage.wait_for(A, "starting the engine anew");
        stage.wait_until_connected();
        assert_eq!(stage.times(A, "] engine: "), 2, "{}", stage.log(A));
    }
}

#[test]
fn a_daemon_told_to_keeps_what_it_was_started_with() {
    let stage = up(UDP, &["--sandbox=off"]);
    for task in tasks(stage.id(A)) {
        assert_eq!(task.field("NoNewPrivs:"), "0", "{}", task.name);
        assert_ne!(
            task.capabilities("CapEff:") & !NET_ADMIN,
            0,
            "{}",
            task.name
        );
    }
}

#[test]
fn workers_do_all_their_work_with_the_calls_left_to_them() {
    // The first call that is missing ends the daemon, while there are packets, while there are none, and when it ends.
    for config in [UDP, VXLAN] {
        for way in WAYS {
            let mut stage = up(config, &["--sandbox=kill", &format!("--io={way}")]);
            sleep(Duration::from_millis(100));
            assert!((0..5).any(|_| stage.echoes()), "{way}");
            assert!(stage.stop(A).success(), "{way}: {}", stage.log(A));
            assert_eq!(stage.times(A, "sandbox: not"), 0);
        }
    }
}

#[test]
fn a_deleted_device_is_replaced_within_the_sandbox() {
    let stage = up(
        UDP,
        &["--sandbox=kill", "--io=uring-multishot", "--workers=2"],
    );
    stage.ip(A, "link del flannel0");
    stage.wait_for(A, "starting the engine anew");
    stage.wait_until_connected();
    assert_eq!(workers(stage.id(A)).len(), 2);
    assert!(
        workers(stage.id(A))
            .iter()
            .all(|worker| worker.capabilities("CapPrm:") == 0)
    );
}

/// An IPv4 socket address of 127.0.0.1, and a flag word; both only have to be readable.
const ZEROES: &[u8] = &[0; 128];
const PATH: &[u8] = b"/etc/shadow\0";

const HERE: Argument = Number(libc::AT_FDCWD as i64);
const EXECUTABLE: Argument = Number((libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as i64);
const ANONYMOUS: Argument = Number((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as i64);
const NONE: Argument = Number(0);
const SHELL: Argument = Bytes(b"/bin/sh\0");

/// What somebody who runs in a worker might try to get out.
const ATTEMPTS: [(&str, libc::c_long, &[Argument]); 34] = [
    ("open", libc::SYS_open, &[Bytes(PATH), NONE]),
    ("openat", libc::SYS_openat, &[HERE, Bytes(PATH), NONE]),
    (
        "openat2",
        libc::SYS_openat2,
        &[HERE, Bytes(PATH), Bytes(ZEROES), Number(24)],
    ),
    ("unlink", libc::SYS_unlink, &[Bytes(PATH)]),
    ("chmod", libc::SYS_chmod, &[Bytes(PATH), Number(0o777)]),
    ("execve", libc::SYS_execve, &[SHELL, NONE, NONE]),
    (
        "execveat",
        libc::SYS_execveat,
        &[HERE, SHELL, NONE, NONE, NONE],
    ),
    ("fork", libc::SYS_fork, &[]),
    (
        "clone",
        libc::SYS_clone,
        &[Number(libc::SIGCHLD as i64), NONE],
    ),
    ("clone3", libc::SYS_clone3, &[Bytes(ZEROES), Number(88)]),
    (
        "a stream socket",
        libc::SYS_socket,
        &[Number(2), Number(1), NONE],
    ),
    (
        "a raw socket",
        libc::SYS_socket,
        &[Number(2), Number(3), Number(255)],
    ),
    ("netlink", libc::SYS_socket, &[Number(16), Number(3), NONE]),
    (
        "a pair of sockets",
        libc::SYS_socketpair,
        &[Number(1), Number(1), NONE, Bytes(ZEROES)],
    ),
    (
        "connect",
        libc::SYS_connect,
        &[Number(3), Bytes(ZEROES), Number(16)],
    ),
    ("ptrace", libc::SYS_ptrace, &[Number(16), Own, NONE, NONE]),
    (
        "another's memory",
        libc::SYS_process_vm_readv,
        &[
            Own,
            Bytes(ZEROES),
            Number(1),
            Bytes(ZEROES),
            Number(1),
            NONE,
        ],
    ),
    (
        "a ring",
        libc::SYS_io_uring_setup,
        &[Number(8), Bytes(ZEROES)],
    ),
    (
        "mount",
        libc::SYS_mount,
        &[
            Bytes(b"none\0"),
            Bytes(b"/mnt\0"),
            Bytes(b"tmpfs\0"),
            NONE,
            NONE,
        ],
    ),
    ("unshare", libc::SYS_unshare, &[Number(0x1000_0000)]),
    ("setns", libc::SYS_setns, &[Number(3), NONE]),
    ("kill", libc::SYS_kill, &[Own, NONE]),
    ("tgkill", libc::SYS_tgkill, &[Own, Own, NONE]),
    ("capset", libc::SYS_capset, &[Bytes(ZEROES), Bytes(ZEROES)]),
    (
        "prctl",
        libc::SYS_prctl,
        &[Number(libc::PR_SET_DUMPABLE as i64), Number(1)],
    ),
    ("setuid", libc::SYS_setuid, &[NONE]),
    ("bpf", libc::SYS_bpf, &[NONE, Bytes(ZEROES), Number(64)]),
    (
        "a filter",
        libc::SYS_seccomp,
        &[Number(1), NONE, Bytes(ZEROES)],
    ),
    (
        "ioctl",
        libc::SYS_ioctl,
        &[NONE, Number(0x5401), Bytes(ZEROES)],
    ),
    ("duplicates", libc::SYS_dup, &[Number(2)]),
    (
        "a file of memory",
        libc::SYS_memfd_create,
        &[Bytes(b"m\0"), NONE],
    ),
    (
        "memory that is run",
        libc::SYS_mmap,
        &[NONE, Number(4096), EXECUTABLE, ANONYMOUS, Number(-1), NONE],
    ),
    (
        "memory of a descriptor",
        libc::SYS_mmap,
        &[NONE, Number(4096), Number(1), Number(2), Number(3), NONE],
    ),
    ("the end of all", libc::SYS_exit_group, &[NONE]),
];

#[test]
fn whoever_takes_a_worker_over_is_denied_every_way_out() {
    for way in ["epoll", "uring-multishot"] {
        let mut stage = up(UDP, &[&format!("--io={way}")]);
        let process = stage.id(A);
        {
            let worker = Hijacked::take(workers(process)[0].id);
            for (what, call, arguments) in ATTEMPTS {
                let got = worker.call(call, arguments);
                assert_eq!(got, Some(-i64::from(libc::EPERM)), "{way}: {what}");
            }
        }
        stage.assert_running(A);
        stage.wait_until_connected();
    }
}

/// The descriptors of a process that lead to this kind of file.
fn descriptors(process: u32, kind: &str) -> Vec<i64> {
    let found = fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .flatten();
    let leads = |entry: &fs::DirEntry| {
        let target = fs::read_link(entry.path());
        target.is_ok_and(|target| target.to_string_lossy().contains(kind))
    };
    let number = |entry: fs::DirEntry| entry.file_name().to_string_lossy().parse().ok();
    found.filter(leads).filter_map(number).collect()
}

#[test]
fn whoever_takes_a_worker_over_cannot_use_the_connections_of_others() {
    let stage = up(UDP, &["--io=epoll", "--workers=2", "--healthz-port=8471"]);
    let process = stage.id(A);
    let sockets = descriptors(process, "socket:");
    let device = descriptors(process, "/dev/net/tun");
    let worker = Hijacked::take(workers(process)[0].id);
    let denied = |call, fd: i64| {
        let got = worker.call(call, &[Number(fd), Bytes(ZEROES), Number(0), Number(0)]);
        got == Some(-i64::from(libc::EPERM))
    };
    // Its own socket and queue are two of them; connections to etcd, to the kernel and other workers' are the rest.
    for (call, fds) in [
        (libc::SYS_sendmmsg, &sockets),
        (libc::SYS_recvmmsg, &sockets),
        (libc::SYS_close, &sockets),
        (libc::SYS_writev, &device),
        (libc::SYS_read, &device),
    ] {
        let open = fds
            .iter()
            .filter(|fd| call != libc::SYS_close && !denied(call, **fd))
            .count();
        assert!(open <= 1, "call {call}: {open} of {fds:?}");
    }
    for fd in sockets {
        for call in [
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_sendto,
            libc::SYS_recvmsg,
            libc::SYS_sendmsg,
        ] {
            assert!(denied(call, fd), "call {call} on {fd}");
        }
    }
}

#[test]
fn a_worker_that_tries_for_more_ends_the_daemon_where_that_was_asked_for() {
    let mut stage = up(UDP, &["--sandbox=kill"]);
    let worker = Hijacked::take(workers(stage.id(A))[0].id);
    assert_eq!(worker.call(libc::SYS_open, &[Bytes(PATH), Number(0)]), None);
    drop(worker);
    assert_eq!(stage.stop(A).signal(), Some(libc::SIGSYS));
}

#[test]
fn what_a_worker_is_denied_is_counted_and_told() {
    let mut stage = up(UDP, &["--io=epoll"]);
    let socket = stage.subnet_file(A).with_extension("env.sock");
    for _ in 0..3 {
        let worker = Hijacked::take(workers(stage.id(A))[0].id);
        worker.let_go_calling(libc::SYS_socket, &[Number(2), Number(1), NONE]);
        stage.wait_until_connected();
    }
    let number = format!("number {}", libc::SYS_socket);
    // Told when the control loop turns, for which any change of the host is a reason.
    wait("a word of it", || {
        stage.ip(
            A,
            "addr add 10.77.0.1/32 dev lo\naddr del 10.77.0.1/32 dev lo",
        );
        stage.times(A, &number) > 0
    });
    wait("a word of all of it", || {
        let status = ask(&socket, Question::Status);
        status.is_ok_and(|status| status.contains("workers were denied 3 system calls"))
    });
    stage.assert_running(A);
}

#[test]
fn rules_are_set_and_mended_within_the_sandbox() {
    let stage = up(UDP, &["--ip-masq"]);
    let rules = || {
        stage
            .lab
            .node(A)
            .run("iptables-save -t nat")
            .unwrap_or_default()
    };
    assert!(rules().contains("FLANNEL-POSTRTG"));
    stage.lab.node(A).run("iptables -t nat -F").unwrap();
    wait("the rules again", || rules().contains("-j FLANNEL-POSTRTG"));
    assert_eq!(stage.times(A, "cannot look after"), 0, "{}", stage.log(A));
}

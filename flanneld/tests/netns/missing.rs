//! Kernels and sandboxes that lack something: the daemon finds another way, says so, and loses nothing.

use std::env;
use std::process::Command;

use benches::deprive::{EINVAL, ENOMEM, ENOSYS, EPERM, Kernel, TunOffload, uring};
use benches::{Lab, Path, PathSpec, Profile, Side};

use super::exit::account;
use super::setup::{flanneld, versions};
use super::traffic::{datagrams, stream};

const A: Side = Side::A;
const NOT_UNICAST: &str = "out_not_unicast";
/// Somebody who is nobody in particular.
const USER: u32 = 65_534;

fn lab_with(kernel: Kernel) -> Lab {
    let mut lab = Lab::new(Profile::Offload).unwrap();
    lab.set_kernel(A, kernel);
    lab
}

/// Every byte of much traffic both ways arrives, and the daemon says once how; all it said.
pub(crate) fn carries(name: &str, kernel: Kernel, says: &str) -> String {
    carries_in(lab_with(kernel), name, says)
}

fn carries_in(lab: Lab, name: &str, says: &str) -> String {
    let mut path = connect(lab, name).unwrap_or_else(|error| panic!("{error}"));
    for from in Side::BOTH {
        datagrams(&path, from);
        stream(&path, from);
    }
    let log = stopped(&mut path);
    let is_answer = |line: &&str| line.contains("] engine: ");
    let answers: Vec<_> = log.lines().filter(is_answer).collect();
    assert_eq!(answers.len(), 1, "said once: {log}");
    assert!(answers[0].contains(says), "{says:?} is not in\n{log}");
    let counts = account(&log);
    let is_loss = |name: &&String| name.starts_with("in_") || name.starts_with("out_");
    let losses = counts.keys().filter(is_loss);
    let lost: Vec<_> = losses.filter(|name| *name != NOT_UNICAST).collect();
    assert!(lost.is_empty(), "{counts:?}");
    log
}

pub(crate) fn connect(lab: Lab, name: &str) -> std::io::Result<Path> {
    let spec: PathSpec = name.parse().unwrap();
    let path = Path::connect(lab, &spec, flanneld())?;
    path.wait_until_connected()?;
    Ok(path)
}

/// What the daemon at A has said once it has ended well.
pub(crate) fn stopped(path: &mut Path) -> String {
    let daemon = path.daemon(A).unwrap();
    let status = daemon.stop().unwrap();
    let log = daemon.log();
    assert!(status.success(), "{status}\n{log}");
    log
}

fn no_uring(errno: i32) -> Kernel {
    Kernel::whole().without_io_uring(errno)
}

fn no_flag(flags: u32) -> Kernel {
    Kernel::whole().without_io_uring_flags(flags)
}

fn no_register(operation: u32, errno: i32) -> Kernel {
    Kernel::whole().without_io_uring_register(operation, errno)
}

fn no_offload(offload: TunOffload) -> Kernel {
    Kernel::whole().without_tun_offload(offload)
}

fn a_plain_tun() -> Kernel {
    Kernel::whole()
        .without_virtio_header()
        .without_multi_queue()
}

fn nothing_but_sockets_and_a_tun() -> Kernel {
    let kernel = a_plain_tun().without_io_uring(ENOSYS);
    kernel
        .without_udp_segment()
        .without_udp_gro()
        .without_ipv6()
}

const PLAIN: &str = "; plain system calls (";
const PLAIN_QUEUE: &str = "plain system calls, single plain queue";
const BATCHED: &str = "io_uring, batched reads";

versions! { carries:
    carries_where_io_uring_is_forbidden("udp", no_uring(EPERM), PLAIN);
    carries_where_io_uring_is_unknown("vxlan", no_uring(ENOSYS), PLAIN);
    carries_where_there_is_no_memory_for_an_io_uring("vxlan", no_uring(ENOMEM), PLAIN);
    carries_where_rings_have_no_size_of_their_own("udp", no_flag(uring::SETUP_CQSIZE), PLAIN);
    carries_where_rings_know_no_single_issuer("udp+io=uring", no_flag(uring::SETUP_SINGLE_ISSUER), "; io_uring");
    carries_where_rings_cannot_defer("vxlan+io=uring", no_flag(uring::SETUP_DEFER_TASKRUN), "; io_uring");
    carries_where_rings_know_no_modes("udp+io=uring", no_flag(uring::SETUP_DEFER_TASKRUN | uring::SETUP_COOP_TASKRUN), "; io_uring");
    carries_where_rings_cannot_be_asked("udp+io=uring", no_register(uring::REGISTER_PROBE, EINVAL), BATCHED);
    carries_where_rings_lend_no_frames("vxlan+io=uring", no_register(uring::REGISTER_PBUF_RING, EINVAL), BATCHED);
    carries_where_no_memory_may_be_locked("vxlan+io=uring-oneshot", no_register(uring::REGISTER_BUFFERS, ENOMEM), BATCHED);
    carries_where_multishot_reads_cannot_be_cancelled("udp+io=uring-multishot", no_register(uring::REGISTER_SYNC_CANCEL, EINVAL), "multishot");
    carries_without_multi_queue("udp+workers=2", Kernel::whole().without_multi_queue(), "1 worker(s)");
    carries_with_one_queue_of_two("vxlan+workers=2", Kernel::whole().with_queues_at_most(1), "1 worker(s)");
    carries_without_virtio_headers("udp", Kernel::whole().without_virtio_header(), PLAIN_QUEUE);
    carries_over_a_plain_tun("vxlan+workers=2", a_plain_tun(), PLAIN_QUEUE);
    carries_where_the_tun_has_no_udp_offload("vxlan", no_offload(TunOffload::Uso), "tso on, uso off");
    carries_where_the_tun_has_no_tcp_offload("udp", no_offload(TunOffload::Tso), "tso off, uso off");
    carries_where_the_tun_takes_no_unfinished_checksums("vxlan", no_offload(TunOffload::Checksum), "tso off, uso off");
    carries_without_udp_segment("udp", Kernel::whole().without_udp_segment(), "gso 1,");
    carries_without_udp_gro("vxlan", Kernel::whole().without_udp_gro(), "gro off");
    carries_with_64_segments("vxlan", Kernel::whole().without_128_segments(), "gso 64,");
    carries_without_ipv6("udp", Kernel::whole().without_ipv6(), "");
    carries_with_nothing_but_sockets_and_a_tun("vxlan", nothing_but_sockets_and_a_tun(), PLAIN_QUEUE);
    carries_in_a_container("vxlan", Kernel::whole().in_a_container(), PLAIN);
    carries_in_a_container_in_udp_form("udp", Kernel::whole().in_a_container(), PLAIN);
    carries_with_one_capability("vxlan", Kernel::whole().with_capabilities(&["net_admin"]), "");
}

/// Asked for by name, what is not there is an error that names cause and cure.
#[test]
fn a_way_that_is_asked_for_and_not_there_is_told() {
    let error = connect(lab_with(no_uring(EPERM)), "udp+io=uring").unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("io_uring") && told.contains("--io=auto"),
        "{told}"
    );
}

#[test]
fn carries_where_ipv6_is_switched_off() {
    let lab = lab_with(Kernel::whole());
    for devices in ["all", "default"] {
        let key = format!("net/ipv6/conf/{devices}/disable_ipv6");
        lab.node(A).set(&key, "1").unwrap();
    }
    carries_in(lab, "vxlan", "");
}

/// What a kernel can do must not be tried on a link that is down, and given up for good.
#[test]
fn a_loopback_that_is_down_costs_no_offload() {
    let lab = lab_with(Kernel::whole());
    lab.node(A).ip("link set lo down").unwrap();
    carries_in(lab, "udp", "uso on, gso 128, gro on");
}

/// The offload is there and works wrong: longer sends are changed on their way through loopback, where it is tried.
#[test]
fn carries_where_the_kernel_spoils_what_it_cuts() {
    let lab = lab_with(Kernel::whole());
    for line in [
        "add table ip spoil",
        "add chain ip spoil out { type filter hook output priority 0; }",
        "add rule ip spoil out oifname lo udp length gt 300 @th,128,8 set 0xff",
    ] {
        lab.node(A).run(&format!("nft {line}")).unwrap();
    }
    carries_in(lab, "udp", "gso 1,");
}

/// The second capability stands for permissions that differ between hosts: of directories, and of /dev/net/tun.
#[test]
fn carries_as_another_user_than_root() {
    let kernel = Kernel::whole().as_user(USER, &["net_admin", "dac_override"]);
    carries("vxlan", kernel, "");
}

#[test]
fn without_any_power_here_the_reason_is_told() {
    let lab = lab_with(Kernel::whole().with_capabilities(&[]));
    let told = connect(lab, "udp").unwrap_err().to_string();
    assert!(told.contains("CAP_NET_ADMIN"), "{told}");
}

/// Root of a user namespace rules the network namespaces made in it, and nothing else.
#[test]
fn containers_talk_in_a_user_namespace() {
    let tests = [
        "traffic::containers_talk_in_udp_form",
        "traffic::containers_talk_in_vxlan_form",
        "traffic::containers_talk_over_io_uring_multishot",
    ];
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]);
    command.arg(env::current_exe().unwrap()).arg("--exact");
    let output = command.args(tests).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("3 passed; 0 failed"), "{said}");
}

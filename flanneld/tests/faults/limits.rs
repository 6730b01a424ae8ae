//! Little of everything: descriptors, locked memory, address space, processor time. A daemon starts
//! with it, or says in one line why not; it does not fall over later.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use benches::daemon::Daemon;
use benches::traffic::Ends;
use benches::traffic::probe::Probe;
use benches::{Lab, Path, PathSpec, Profile, Side};

use super::scene::{await_until, flanneld};
use super::table::{assert_none_lost, report};

/// The daemon behind a command that limits it.
fn limited(lab: &Lab, by: &str) -> PathBuf {
    let script = lab.scratch().join("limited");
    let text = format!("#!/bin/sh\nexec {by} {} \"$@\"\n", flanneld().display());
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn up(spec: &str, by: &str) -> Result<Path, std::io::Error> {
    let spec: PathSpec = spec.parse().unwrap();
    let lab = Lab::new(Profile::Offload)?;
    let program = limited(&lab, by);
    let path = Path::connect(lab, &spec, &program)?;
    path.wait_until_connected()?;
    Ok(path)
}

fn packets_flow_with(spec: &str, by: &str) {
    let mut path = up(spec, by).unwrap_or_else(|why| panic!("{by}: {why}"));
    let probe = Probe::start(&Ends::of(&path, Side::A)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_none_lost(&probe.stop());
    for side in Side::BOTH {
        path.daemon(side).unwrap().still_running().unwrap();
    }
}

#[test]
fn sixty_four_descriptors_are_enough() {
    packets_flow_with("udp", "prlimit --nofile=64:64");
    packets_flow_with("vxlan+workers=2", "prlimit --nofile=64:64");
}

#[test]
fn no_locked_memory_is_needed() {
    for spec in ["udp", "udp+io=uring-oneshot", "vxlan+io=epoll"] {
        packets_flow_with(spec, "prlimit --memlock=0:0");
    }
}

#[test]
fn an_address_space_of_a_quarter_gigabyte_is_enough() {
    packets_flow_with("vxlan", "prlimit --as=268435456:268435456");
}

/// With ever fewer descriptors the daemon says which it lacks, and goes without, waits or ends with
/// 1; whatever it does, it does not fall over.
#[test]
fn too_few_descriptors_are_told() {
    let lab = Lab::new(Profile::Offload).unwrap();
    let store = lab.scratch().join("store");
    fs::create_dir_all(store.join("subnets")).unwrap();
    let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}"#;
    fs::write(store.join("config"), config).unwrap();
    for count in [8, 10, 12, 14, 16] {
        let program = limited(&lab, &format!("prlimit --nofile={count}:{count}"));
        let mut command = lab
            .node(Side::A)
            .command(program.to_str().unwrap())
            .unwrap();
        command.args([
            format!("--store=file:{}", store.display()),
            format!("--subnet-file={}/subnet.env", lab.scratch().display()),
            "--iface=eth0".to_owned(),
        ]);
        let log = lab.scratch().join(format!("{count}.log"));
        let mut daemon = Daemon::start(&mut command, &log).unwrap();
        let told = || daemon.log().contains("open files");
        await_until(told, || format!("{count} descriptors: {}", daemon.log()));
        let status = daemon.stop().unwrap();
        let said = daemon.log();
        assert!(
            matches!(status.code(), Some(0 | 1)),
            "{count}: {status}: {said}"
        );
        assert!(!said.contains("panicked"), "{count}: {said}");
    }
}

/// Two busy loops on the daemon's only processor, and the daemon behind them in every queue.
struct Busy(Vec<Child>);

impl Busy {
    fn start() -> Self {
        let spin = || {
            Command::new("taskset")
                .args(["-c", "0", "sh", "-c", "while :; do :; done"])
                .spawn()
        };
        Self((0..2).map(|_| spin().unwrap()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Packets may be late, or not come at all; the daemon lives, and its packets with it afterwards.
#[test]
fn a_daemon_that_hardly_gets_the_processor_works_on() {
    let mut path = up("udp", "nice -n 19 taskset -c 0").unwrap();
    let busy = Busy::start();
    let probe = Probe::start(&Ends::of(&path, Side::A)).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let outcome = probe.stop();
    drop(busy);
    report(
        "daemons at nice 19 on a processor with two busy loops",
        Some(&outcome),
        &[],
    );
    // How much passes is up to the processor: all of it when there is one.
    path.wait_until_connected().unwrap();
    for side in Side::BOTH {
        path.daemon(side).unwrap().still_running().unwrap();
    }
}

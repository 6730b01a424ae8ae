//! Fences that others put around the daemon: service managers, container runtimes, another user than root.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use benches::Side;
use benches::daemon::Daemon;
use sandbox::capabilities::{Capabilities, keep};
use seccompiler::{BpfProgram, apply_filter, compile_from_json};
use serde_json::{Value, json};

use super::stage::{Stage, UDP, wait};

const A: Side = Side::A;

fn deployed(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("deploy").join(name)
}

#[test]
fn the_units_are_rated_below_three() {
    for unit in ["flanneld.service", "flannel-bridge.service"] {
        let rating = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager", "--threshold=30"])
            .arg(deployed(unit))
            .output()
            .expect("systemd-analyze is installed");
        let told = String::from_utf8_lossy(&rating.stdout);
        assert!(told.contains("Overall exposure level"), "{unit}: {told}");
        assert!(rating.status.success(), "{unit}: {told}");
    }
}

/// One rule of a container's profile in the words of the library that makes filters.
fn rules(entry: &Value) -> Vec<Value> {
    let argument = |told: &Value| match told["op"].as_str().unwrap() {
        "SCMP_CMP_EQ" => {
            json!({"index": told["index"], "type": "dword", "op": "eq", "val": told["value"]})
        }
        "SCMP_CMP_MASKED_EQ" => {
            let op = json!({"masked_eq": told["value"]});
            json!({"index": told["index"], "type": "qword", "op": op, "val": told["valueTwo"]})
        }
        other => panic!("{other}"),
    };
    let rule = |name: &Value| match entry["args"].as_array() {
        Some(told) => {
            let args: Vec<_> = told.iter().map(argument).collect();
            json!({"syscall": name, "args": args})
        }
        None => json!({"syscall": name}),
    };
    entry["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(rule)
        .collect()
}

/// The profile as filters: what is allowed, and what meets an error of its own.
fn filters() -> Vec<BpfProgram> {
    let text = fs::read_to_string(deployed("seccomp.json")).unwrap();
    let profile: Value = serde_json::from_str(&text).unwrap();
    let (mut allowed, mut all) = (Vec::new(), Vec::new());
    let filter = |matched: Value, others: Value, rules: &[Value]| {
        let one =
            json!({"one": {"match_action": matched, "mismatch_action": others, "filter": rules}});
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let made = compile_from_json(one.to_string().as_bytes(), arch);
        made.unwrap().remove("one").unwrap()
    };
    for entry in profile["syscalls"].as_array().unwrap() {
        allowed.extend(rules(entry));
        if entry["action"] == "SCMP_ACT_ERRNO" {
            let refused = json!({"errno": entry["errnoRet"]});
            all.push(filter(refused, json!("allow"), &rules(entry)));
        }
    }
    let refused = json!({"errno": profile["defaultErrnoRet"]});
    all.push(filter(json!("allow"), refused, &allowed));
    all
}

#[test]
#[allow(
    unsafe_code,
    reason = "what a container runtime does before it runs a program"
)]
fn the_profile_for_containers_lets_the_daemon_work() {
    let mut stage = Stage::new(UDP);
    let mut command = stage.command(A);
    command.args(["--iface=eth0", "--ip-masq", "--io=uring"]);
    let filters = filters();
    let contain = move || {
        keep(Capabilities::NET_ADMIN)?;
        let applied = filters.iter().try_for_each(|filter| apply_filter(filter));
        applied.map_err(|_| std::io::ErrorKind::Other.into())
    };
    // SAFETY: between fork and exec this makes plain system calls, allocates nothing and takes no lock.
    unsafe { command.pre_exec(contain) };
    let log = stage.directory(A).join("log");
    let _contained = Daemon::start(&mut command, &log).unwrap();
    stage.start(Side::B, &["--iface=eth0"]);
    stage.settle();
    let rules = || stage.lab.node(A).run("iptables-save -t nat");
    wait("masquerading", || {
        rules().unwrap().contains("FLANNEL-POSTRTG")
    });
    stage.ip(A, "link del flannel0");
    stage.wait_for(A, "starting the engine anew");
    stage.wait_until_connected();
    let complaints: Vec<_> = ["sandbox: only", "sandbox: no ", "keeps access", "cannot"]
        .into_iter()
        .filter(|words| stage.times(A, words) > 0)
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}: {}", stage.log(A));
}

#[test]
fn a_daemon_that_is_not_root_works_with_one_capability() {
    let mut stage = Stage::new(UDP);
    let directory = stage.directory(A);
    std::os::unix::fs::chown(&directory, Some(65_534), Some(65_534)).unwrap();
    let device = directory.join("tun");
    let made = Command::new("mknod")
        .args(["--mode=666", device.to_str().unwrap(), "c", "10", "200"])
        .status();
    assert!(made.unwrap().success());
    // Most hosts let everybody open the device; this one need not.
    let start = format!(
        "mount --bind {} /dev/net/tun && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
         --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin \"$0\" \"$@\"",
        device.display()
    );
    let plain = stage.command(A);
    let mut command = stage.lab.node(A).command("unshare").unwrap();
    command.args(["--mount", "sh", "-c", &start]);
    command.arg(plain.get_program()).args(plain.get_args());
    command.args(["--iface=eth0", "--ip-masq"]);
    let _daemon = Daemon::start(&mut command, &directory.join("log")).unwrap();
    stage.start(Side::B, &["--iface=eth0"]);
    stage.settle();
    let rules = stage.lab.node(A).run("iptables-save -t nat").unwrap();
    assert!(rules.contains("FLANNEL-POSTRTG"), "{}", stage.log(A));
}

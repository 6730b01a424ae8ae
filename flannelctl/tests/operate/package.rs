//! The Debian package, as an operator meets it: installed on two machines that know nothing of it, from the first
//! command to the last.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use benches::daemon::Daemon;
use benches::etcd::Etcd;
use benches::{Lab, Profile, Side};

use super::root::Root;
use super::scene::Answer;

const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
/// How the unit starts the daemon.
const START: &str = "set -a; FLANNELD_STATE_FILE=/var/lib/flannel/state; . /etc/default/flanneld; exec /usr/bin/flanneld";
/// Stands for the service manager: says what it was asked, and does what the unit has it do.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>/run/systemctl.log
case "$*" in
*is-active*) exec flannelctl lease >/dev/null ;;
reload*) set -a; . /etc/default/flanneld; FLANNELD_STATE_FILE=/var/lib/flannel/state; exec flanneld upgrade >/run/upgrade.log 2>&1 ;;
stop*) kill "$(flannelctl status --json | sed -n 's/^  "pid": \(.*\),/\1/p')"; sleep 1 ;;
esac
"#;

/// Some of what belongs there.
const FILES: [&str; 11] = [
    "/usr/bin/flanneld",
    "/usr/lib/cni/flannel",
    "/usr/lib/systemd/system/flanneld.service",
    "/usr/lib/systemd/system/flannel-bridge.service",
    "/etc/default/flannel-bridge",
    "/usr/libexec/flannel/mk-docker-opts.sh",
    "/usr/share/man/man8/flanneld.8.gz",
    "/usr/share/man/man5/subnet.env.5.gz",
    "/usr/share/bash-completion/completions/flannelctl",
    "/usr/share/doc/flannel/troubleshooting.md",
    "/usr/share/doc/flannel/examples/alerts.yml",
];

/// Packs what was built with this test.
fn package(directory: &Path, version: &str) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let programs = Path::new(env!("CARGO_BIN_EXE_flannelctl"))
        .parent()
        .unwrap();
    let mut script = Command::new(project.join("scripts/package"));
    script.args(["--fast", "--version", version]);
    script.arg("--binaries").arg(programs);
    script.arg("--output").arg(directory);
    let packed: Answer = script.output().unwrap().into();
    assert_eq!(packed.code, 0, "{packed:?}");
    let file = packed.out.trim().strip_prefix("package: ").unwrap();
    PathBuf::from(file)
}

#[test]
fn a_package_is_as_debian_wants_it() {
    let lab = Lab::new(Profile::Offload).unwrap();
    let file = package(lab.scratch(), "0.1.0");
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on=error,warning,info,pedantic", "--pedantic"]);
    lintian.args(["--info", "--display-info", "--allow-root"]);
    let judged: Answer = lintian.arg(file).output().unwrap().into();
    assert_eq!(judged.code, 0, "{judged:?}");
}

/// Two machines with the package, and an etcd on the first. Fields end in this order.
struct Site {
    daemons: Vec<Daemon>,
    roots: [Root; 2],
    etcd: Etcd,
    lab: Lab,
}

impl Site {
    /// Nothing is configured yet.
    fn new() -> Self {
        let lab = Lab::new(Profile::Offload).unwrap();
        let plan = Etcd::plan().member(lab.node(Side::A), Side::A.underlay().into());
        let etcd = plan.unwrap().launch().unwrap();
        let root = |side| Root::new(lab.node(side), lab.scratch().join(format!("root-{side:?}")));
        let site = Self {
            daemons: Vec::new(),
            roots: Side::BOTH.map(root),
            etcd,
            lab,
        };
        let file = package(site.lab.scratch(), "0.1.0");
        for root in &site.roots {
            root.install(&file);
        }
        site
    }

    fn root(&self, side: Side) -> &Root {
        &self.roots[side as usize]
    }

    /// What getting started says: a config, a store in the settings, the daemon.
    fn configure(&mut self) {
        self.etcd.put("/coreos.com/network/config", CONFIG).unwrap();
        let settings = format!(
            "FLANNELD_ETCD_ENDPOINTS={}\nFLANNELD_IFACE=eth0\n",
            self.etcd.url()
        );
        for side in Side::BOTH {
            let root = self.root(side);
            root.write("/etc/default/flanneld", &settings);
            let log = self.lab.scratch().join(format!("log-{side:?}"));
            let daemon = Daemon::start(&mut root.command(START), &log).unwrap();
            self.daemons.push(daemon);
        }
        for root in &self.roots {
            root.wait_for("flannelctl status", |answer| answer.code == 0);
        }
        let known = |answer: &Answer| answer.out.contains("192.168.77.2");
        self.root(Side::A).wait_for("flannelctl peers", known);
    }
}

#[test]
fn from_the_package_to_two_nodes_and_what_goes_wrong_between_them() {
    let mut site = Site::new();
    let bare = site.root(Side::A).ask("flannelctl status");
    assert_eq!(bare.code, 3, "installed, not started: {bare:?}");
    site.configure();
    let here = &site.roots[Side::A as usize];
    let doctor = here.ask("flannelctl doctor");
    assert_eq!(doctor.code, 0, "{doctor:?}");
    let reached = "192.168.77.2 is reached through the tunnel, also by packets of 1450 bytes";
    for words in [
        reached,
        "ok  clock: agrees with 1 other node",
        "ok  permissions: flanneld has",
    ] {
        assert!(doctor.out.contains(words), "no {words:?} in {doctor:?}");
    }
    println!(
        "{}",
        here.run("flannelctl status; flannelctl doctor; flannelctl peers")
    );

    let far = site.lab.node(Side::B);
    let narrow = "iptables -w -t raw -A PREROUTING -i eth0 -m length --length 1401:65535 -j DROP";
    far.run(narrow).unwrap();
    let doctor = here.ask("flannelctl doctor");
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(
        doctor
            .out
            .contains("BAD mtu: 192.168.77.2 is reached by packets of 1350 bytes"),
        "{doctor:?}"
    );
    println!("{}", doctor.out);

    far.ip("addr add 192.168.77.66/24 dev eth0").unwrap();
    let socket = far.enter(|| UdpSocket::bind("192.168.77.66:0")).unwrap();
    socket.send_to(&[8; 60], "192.168.77.1:8472").unwrap();
    let stranger = |answer: &Answer| answer.out.contains("192.168.77.66");
    let drops = here.wait_for("flannelctl drops --interval 0.1", stranger);
    assert!(drops.out.contains("in_not_a_peer"), "{drops:?}");
    println!("{}", drops.out);

    site.etcd.kill();
    let dead = here.wait_for("flannelctl status", |answer| answer.code == 1);
    assert!(dead.out.contains("has not answered for"), "{dead:?}");
    println!("{}", dead.out);
}

/// Names of files that the package could have made.
fn files(root: &Root) -> String {
    root.run("find /usr /etc /run /var/lib -name '*flannel*' -not -path '*/doc/*' | sort")
}

#[test]
fn a_package_is_installed_upgraded_and_purged_without_a_trace() {
    let lab = Lab::new(Profile::Offload).unwrap();
    let root = Root::new(lab.node(Side::A), lab.scratch().join("root"));
    let before = files(&root);
    let install = |version: &str| root.install(&package(lab.scratch(), version));
    assert!(install("0.1.0").contains("name a store in /etc/default/flanneld"));
    assert_eq!(root.run("dpkg --verify flannel"), "");
    for file in FILES {
        root.run(&format!("test -s {file}"));
    }
    let store = "mkdir -p /srv/flannel; echo '{\"Network\":\"10.5.0.0/16\"}' > /srv/flannel/config";
    root.run(store);
    let settings = "FLANNELD_STORE=file:/srv/flannel\nFLANNELD_IFACE=eth0\n";
    root.write("/etc/default/flanneld", settings);
    let log = lab.scratch().join("log");
    let _daemon = Daemon::start(&mut root.command(START), &log).unwrap();
    root.wait_for("flannelctl status", |answer| answer.code == 0);
    let process = || root.ask("flannelctl status --json").json()["pid"].clone();
    let first = process();
    root.write("/usr/bin/systemctl", SYSTEMCTL);
    // What keeps services from being touched on this machine has nothing to say on that one.
    root.run(
        "chmod 755 /usr/bin/systemctl; rm -f /usr/sbin/policy-rc.d; mkdir -p /run/systemd/system",
    );

    install("0.1.1");
    assert_ne!(process(), first, "the new version has taken over");
    root.wait_for("flannelctl status", |answer| answer.code == 0);
    let asked = root.run("cat /run/systemctl.log");
    assert!(asked.contains("reload flanneld.service"), "{asked}");
    assert!(
        !asked.contains("stop") && !asked.contains("restart flanneld"),
        "{asked}"
    );
    let kept = root.run("cat /etc/default/flanneld");
    assert_eq!(kept, settings, "an upgrade keeps what was configured");

    root.run("dpkg --remove flannel");
    assert_eq!(root.ask("ip link show flannel0").code, 1);
    let rules = root.run("iptables-save");
    assert!(!rules.to_lowercase().contains("flannel"), "{rules}");
    root.run("test -e /etc/default/flanneld");
    root.run("dpkg --purge flannel");
    assert_eq!(files(&root), before);
    assert_eq!(root.ask("dpkg --status flannel").code, 1);
}

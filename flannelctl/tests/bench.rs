//! `flannelctl bench` through the real kernel: what it writes is complete, and nothing of it stays.
//!
//! Needs root. Nothing here depends on how fast anything is.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use benches::{Lab, Profile, Side};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_flannelctl");
/// Every process of a run carries this in its environment, with a value of its own.
const MARK: &str = "FLANNELCTL_TEST_RUN";
/// As little traffic as still counts.
const SHORT: [&str; 4] = ["--seconds", "0.1", "--repeats", "1"];

/// A command of which every process can be found again, whoever else runs these tests.
fn marked(mut command: Command, mark: &str) -> Command {
    command.env(MARK, unique(mark)).stdin(Stdio::null());
    command
}

fn unique(mark: &str) -> String {
    format!("{mark}-{}", std::process::id())
}

fn bench(mark: &str, output: &Path, words: &[&str]) -> Command {
    let mut command = marked(Command::new(PROGRAM), mark);
    command.arg("bench").args(SHORT).args(words);
    command.arg("--output").arg(output);
    command
}

/// What is left of a run: its processes, and its directories by their number in the name.
fn remains(mark: &str, id: u32) -> Vec<String> {
    let entry = format!("{MARK}={}", unique(mark));
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|word| word == entry.as_bytes())
    });
    let own = format!("flannel-lab-{id}-");
    let directories = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let directories =
        directories.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own));
    processes
        .chain(directories)
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// Nothing of a run stays; the kernel may take a moment to bury the dead.
fn assert_gone(mark: &str, id: u32) {
    for _ in 0..500 {
        if remains(mark, id).is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("left behind: {:?}", remains(mark, id));
}

fn finished(mut command: Command, mark: &str) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_gone(mark, id);
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// The report, after a look at whether all its files are there and agree.
fn report(directory: &Path) -> Value {
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let json: Value = serde_json::from_str(&read("raw.json")).unwrap();
    let numbers = json["records"].as_array().unwrap().len();
    assert_eq!(read("raw.csv").lines().count(), numbers + 1);
    let page = read("README.md");
    let plots = page
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    for plot in plots.filter(|file| file.contains(".svg")) {
        assert!(read(plot).ends_with("</svg>\n"), "{plot}");
    }
    json
}

/// The paths on which `metric` was measured, in order.
fn measured(report: &Value, metric: &str) -> Vec<String> {
    let records = report["records"].as_array().unwrap().iter();
    let records = records.filter(|record| record["metric"] == metric || record["name"] == metric);
    records
        .map(|record| record["path"].as_str().unwrap().to_owned())
        .collect()
}

fn flanneld() -> String {
    let beside = Path::new(PROGRAM).with_file_name("flanneld");
    assert!(
        beside.exists(),
        "build it first: cargo build --package flanneld"
    );
    beside.display().to_string()
}

#[test]
fn a_run_writes_everything_and_leaves_nothing_behind() {
    let (mark, directory) = ("whole", TempDir::new().unwrap());
    let output = directory.path().join("report");
    let words = ["--paths", "plain,kernel-vxlan,one-packet,udp", "--metrics"];
    let metrics = "tcp1,tcp4-back,max64,max1400,flood64,rr,start,memory";
    let command = bench(mark, &output, &[&words[..], &[metrics]].concat());
    let finished = finished(command, mark);
    assert!(finished.status.success(), "{}", said(&finished));
    let report = report(&output);
    let all = ["plain", "kernel-vxlan", "one-packet", "udp"];
    for metric in [
        "tcp1",
        "tcp1_cpu",
        "tcp4-back",
        "max64",
        "flood64",
        "rr_p999",
        "start",
    ] {
        assert_eq!(
            measured(&report, metric),
            all,
            "{metric}: {}",
            report["refused"]
        );
    }
    assert_eq!(measured(&report, "memory"), ["udp"]);
    for plot in ["throughput", "packets", "latency", "cpu"] {
        assert!(output.join(format!("{plot}-wire.svg")).exists(), "{plot}");
    }
    assert_eq!(
        report["refused"].as_array().unwrap().len(),
        3,
        "memory without a daemon"
    );
}

#[test]
fn a_stock_daemon_is_driven_with_an_etcd_of_its_own() {
    let (mark, directory) = ("stock", TempDir::new().unwrap());
    let stock = flanneld();
    let words = [
        "--paths",
        "stock-udp,stock-host-gw",
        "--metrics",
        "tcp1,start",
        "--stock",
        &stock,
    ];
    let finished = finished(bench(mark, directory.path(), &words), mark);
    assert!(finished.status.success(), "{}", said(&finished));
    let report = report(directory.path());
    assert_eq!(
        measured(&report, "start"),
        ["stock-udp", "stock-host-gw"],
        "{}",
        said(&finished)
    );
    let versions = report["machine"]["versions"].to_string();
    assert!(versions.contains("stock "), "{versions}");
}

#[test]
fn what_cannot_be_done_is_said_and_the_rest_is_measured() {
    let (mark, directory) = ("refusal", TempDir::new().unwrap());
    let words = [
        "--paths",
        "udp,stock-udp,plain",
        "--metrics",
        "rr",
        "--flanneld",
        "/nowhere",
    ];
    let finished = finished(bench(mark, directory.path(), &words), mark);
    assert!(finished.status.success(), "{}", said(&finished));
    assert_eq!(measured(&report(directory.path()), "rr_p50"), ["plain"]);
    let page = fs::read_to_string(directory.path().join("README.md")).unwrap();
    for reason in [
        "- wire, udp: there is no program /nowhere: --flanneld FILE names another",
        "- wire, stock-udp: --stock FILE says where the stock daemon is",
    ] {
        assert!(page.contains(reason), "{page}");
    }
}

#[test]
fn nothing_measured_is_a_failure() {
    let (mark, directory) = ("nothing", TempDir::new().unwrap());
    let output = directory.path().join("report");
    let words = [
        "--paths",
        "udp",
        "--metrics",
        "rr",
        "--flanneld",
        "/nowhere",
    ];
    let finished = finished(bench(mark, &output, &words), mark);
    assert!(!finished.status.success() && !output.exists());
    assert!(
        said(&finished).contains("there is no program /nowhere"),
        "{}",
        said(&finished)
    );
}

/// A directory with what a lab is built with, and nothing else.
fn bare_tools() -> TempDir {
    let directory = TempDir::new().unwrap();
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    for tool in ["ip", "bridge", "ethtool"] {
        let places = path.split(':').map(|place| Path::new(place).join(tool));
        let found = places.into_iter().find(|file| file.exists()).unwrap();
        std::os::unix::fs::symlink(found, directory.path().join(tool)).unwrap();
    }
    directory
}

#[test]
fn programs_that_are_missing_are_named_with_their_packages() {
    let (mark, directory, tools) = ("bare", TempDir::new().unwrap(), bare_tools());
    let words = [
        "--paths",
        "plain,stock-udp",
        "--metrics",
        "rr,iperf1",
        "--stock",
        PROGRAM,
    ];
    let mut command = bench(mark, directory.path(), &words);
    command.env("PATH", tools.path());
    let finished = finished(command, mark);
    assert!(finished.status.success(), "{}", said(&finished));
    assert_eq!(measured(&report(directory.path()), "rr_p50"), ["plain"]);
    let page = fs::read_to_string(directory.path().join("README.md")).unwrap();
    for reason in [
        "- wire, stock-udp: stock flannel keeps leases in etcd, and there is none here: install it",
        "- wire, plain, iperf1: there is no `iperf3`: install it",
    ] {
        assert!(page.contains(reason), "{page}");
    }
}

#[test]
fn a_machine_that_does_not_serve_is_asked_to() {
    let (mark, directory) = ("silent", TempDir::new().unwrap());
    let command = bench(mark, directory.path(), &["--between", "127.0.0.1:1"]);
    let finished = finished(command, mark);
    assert!(!finished.status.success());
    let cure = "is `flannelctl bench serve --listen 127.0.0.1` running there?";
    assert!(said(&finished).contains(cure), "{}", said(&finished));
}

/// Starts a run that would take long, and ends it by a signal once it is in the middle.
fn interrupted_by(signal: &str, number: i32, after: &str) {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("report");
    let (paths, stock) = ("plain,one-packet,udp,stock-udp", flanneld());
    let words = [
        "--paths",
        paths,
        "--metrics",
        "rr",
        "--repeats",
        "1000",
        "--stock",
        &stock,
    ];
    let mark = format!("{signal} {after}");
    let mut command = bench(&mark, &output, &words);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, after);
    while remains(&mark, child.id()).len() < 4 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it is in the middle of something"
        );
    }
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(128 + number));
    assert_gone(&mark, child.id());
    assert!(!output.exists());
}

/// Reads what a run says until a line contains `text`, and leaves the rest to a thread.
fn wait_for_line(child: &mut Child, text: &str) {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "it ended before `{text}`"
        );
    }
    thread::spawn(move || lines.read_to_string(&mut line));
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing_behind() {
    interrupted_by("INT", 2, "stock-udp rr");
}

#[test]
fn a_run_that_is_terminated_leaves_nothing_behind() {
    interrupted_by("TERM", 15, "stock-udp rr");
}

#[test]
fn a_run_that_is_interrupted_while_paths_come_up_leaves_nothing_behind() {
    interrupted_by("INT", 2, "repeats, about");
}

#[test]
fn two_machines_measure_the_networks_between_them() {
    let (mark, directory) = ("between", TempDir::new().unwrap());
    let lab = Lab::new(Profile::Offload).unwrap();
    let [here, there] = Side::BOTH.map(|side| lab.node(side).command(PROGRAM).unwrap());
    let mut there = marked(there, mark);
    let listen = Side::B.underlay().to_string();
    there.args(["bench", "serve", "--once", "--listen", &listen]);
    let mut serving = there.stderr(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut serving, "listening on");
    let mut here = marked(here, mark);
    here.args([
        "bench",
        "--between",
        &listen,
        "--through",
        "named=192.168.77.2,other=192.168.77.3",
    ]);
    here.args([
        "--metrics",
        "tcp1,tcp4-back,max64,max64-back,flood64,pps64-back,rr,start",
    ]);
    here.args(SHORT).arg("--output").arg(directory.path());
    let finished = here.output().unwrap();
    assert!(finished.status.success(), "{}", said(&finished));
    assert!(serving.wait().unwrap().success());
    let report = report(directory.path());
    for metric in [
        "tcp1",
        "tcp4-back",
        "max64",
        "max64-back",
        "flood64",
        "pps64-back",
        "rr_p50",
    ] {
        assert_eq!(
            measured(&report, metric),
            ["named"],
            "{metric}: {}",
            said(&finished)
        );
    }
    let page = fs::read_to_string(directory.path().join("README.md")).unwrap();
    assert!(
        page.contains("was not told to listen on 192.168.77.3"),
        "{page}"
    );
    assert!(
        page.contains("start: nothing is started between two machines"),
        "{page}"
    );
    assert_gone(mark, serving.id());
}

#[test]
fn a_report_can_be_compared_and_what_is_none_is_named() {
    let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/baselines");
    let saved = saved.read_dir().unwrap().next().unwrap().unwrap().path();
    let compare = |other: &Path| {
        let mut command = Command::new(PROGRAM);
        command.args(["bench", "compare"]).args([&*saved, other]);
        command.output().unwrap()
    };
    let page = String::from_utf8(compare(&saved).stdout).unwrap();
    assert!(page.contains("0 of "), "{page}");
    let refused = compare(Path::new("/nowhere"));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("/nowhere/raw.json"),
        "{said}"
    );
}

#[test]
fn the_list_names_every_path_and_metric() {
    let output = Command::new(PROGRAM)
        .args(["bench", "--list"])
        .output()
        .unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    for word in ["kernel-vxlan", "stock-udp", "wiregro", "maxBYTES", "start"] {
        assert!(list.contains(word), "{list}");
    }
}

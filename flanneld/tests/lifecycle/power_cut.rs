//! The power fails while the daemon writes its files: after the next start each of them is as it was, or as it was to be.
//!
//! The files are on an ext4 of their own. The daemon is stopped at some moment of its start, and what has reached the
//! disk by then is copied, without what the kernel still keeps in memory: that is all there is after a power cut.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use benches::Side;
use control::memory::Memory;

use super::stage::{Stage, UDP, signal};

const A: Side = Side::A;
const DISK: &str = "16M";
/// The state file is written half a second after the first table.
const START: Duration = Duration::from_millis(1000);

fn moments() -> u32 {
    match std::env::var_os("FAULTS_LONG") {
        None => 20,
        Some(_) => 100,
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    // The checker's answer tells what it has mended, which is not what matters here.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A disk, and a directory to mount it at.
fn disk(stage: &Stage) -> (PathBuf, PathBuf) {
    let [disk, place] = ["disk", "mounted"].map(|name| stage.directory(A).join(name));
    fs::create_dir(&place).unwrap();
    run("truncate", &["--size", DISK, disk.to_str().unwrap()]);
    run("mkfs.ext4", &["-q", disk.to_str().unwrap()]);
    (disk, place)
}

/// Starts the daemon with its files on the disk, which nobody else sees.
fn start(stage: &mut Stage, disk: &Path, place: &Path, masquerade: bool) {
    let daemon = stage.command(A);
    let script = "mount -o loop \"$0\" \"$1\" && shift && exec \"$@\"";
    let mut command = stage.lab.node(A).command("unshare").unwrap();
    command
        .args(["--mount", "sh", "-c", script])
        .args([disk, place]);
    command.arg(daemon.get_program()).args(daemon.get_args());
    let file = format!("--subnet-file={}", place.join("subnet.env").display());
    command.args([
        file,
        format!("--ip-masq={masquerade}"),
        "--iface=eth0".to_owned(),
    ]);
    stage.start_as(A, &mut command);
}

/// What a file on a disk holds once the disk's journal has been gone through.
fn read(disk: &str, name: &str) -> String {
    run("debugfs", &["-R", &format!("cat /{name}"), disk])
}

#[test]
fn after_a_power_cut_every_file_is_the_old_one_or_the_new_one() {
    let mut stage = Stage::new(UDP);
    let (disk, place) = disk(&stage);
    let copy = stage.directory(A).join("copy");
    let (mut with_file, mut with_state) = (0, 0);
    for moment in 0..moments() {
        start(&mut stage, &disk, &place, moment % 2 == 0);
        sleep(START * moment / moments());
        signal(stage.id(A), "STOP");
        fs::copy(&disk, &copy).unwrap();
        stage.kill(A);
        let copy = copy.to_str().unwrap();
        run("e2fsck", &["-f", "-y", copy]);
        let (file, state) = (read(copy, "subnet.env"), read(copy, "subnet.env.state"));
        let there = !file.is_empty();
        assert!(there || with_file == 0, "the subnet file is empty or gone");
        if there {
            let whole = file.ends_with("FLANNEL_IPMASQ=true\n") || file.ends_with("=false\n");
            assert!(whole && file.lines().count() == 4, "{file}");
            with_file += 1;
        }
        assert!(
            !state.is_empty() || with_state == 0,
            "the state is empty or gone"
        );
        if !state.is_empty() {
            Memory::from_text(&state, "/coreos.com/network").unwrap();
            with_state += 1;
        }
    }
    assert!(
        with_file > 0 && with_state > 0,
        "{with_file} and {with_state}"
    );
}

//! What somebody may have put in the subnet file's place: refused with a reason, and what it leads to untouched.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use benches::Side;

use super::stage::{Stage, UDP};

const A: Side = Side::A;

/// Nothing is written where `trap` has made one, and whatever else the daemon does goes on.
fn is_refused(why: &str, trap: impl Fn(&Path, &Path)) {
    let mut stage = Stage::new(UDP);
    let (file, precious) = (stage.subnet_file(A), stage.lab.scratch().join("precious"));
    fs::write(&precious, "precious").unwrap();
    trap(&file, &precious);
    stage.start(A, &["--iface=eth0", "--state-file=none"]);
    stage.wait_for(A, "cannot write");
    let line = format!("cannot write {}: ", file.display());
    let log = stage.log(A);
    let told = log.lines().find(|told| told.contains(&line)).unwrap();
    assert!(told.contains(why), "{told}");
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
    stage.assert_running(A);
}

#[test]
fn a_symbolic_link_in_the_subnet_files_place_is_refused() {
    is_refused("is a symbolic link", |file, precious| {
        symlink(precious, file).unwrap();
    });
}

#[test]
fn a_hard_link_in_the_subnet_files_place_is_refused() {
    is_refused("a hard link", |file, precious| {
        fs::hard_link(precious, file).unwrap();
    });
}

#[test]
fn a_pipe_in_the_subnet_files_place_is_refused_and_holds_up_nothing() {
    is_refused("is no ordinary file", |file, _| {
        let made = std::process::Command::new("mkfifo").arg(file).status();
        assert!(made.unwrap().success());
    });
}

#[test]
fn another_users_file_in_the_subnet_files_place_is_refused() {
    is_refused("belongs to another user", |file, _| {
        fs::write(file, "FLANNEL_SUBNET=10.5.66.1/24\n").unwrap();
        chown(file, Some(65_534), None).unwrap();
    });
}

#[test]
fn a_directory_everybody_can_write_to_is_no_place_for_the_subnet_file() {
    is_refused("can be written to by everybody", |file, _| {
        fs::set_permissions(file.parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
    });
}

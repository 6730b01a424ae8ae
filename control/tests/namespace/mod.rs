//! A test runs itself again in a network namespace of its own, which needs root and leaves nothing behind.

use std::process::Command;

/// Set in the run inside the namespace.
const INSIDE: &str = "CONTROL_TEST_INSIDE";

/// Runs the test's body in a fresh namespace that has lo and eth0 with 192.168.77.1/24 and fd77::1/64.
pub(crate) fn in_namespace(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        sh("ip link set lo up; ip link add eth0 type veth peer name far; ip link set far up; ip link set eth0 up
            ip addr add 192.168.77.1/24 dev eth0; ip addr add fd77::1/64 dev eth0 nodad; ip route add default via 192.168.77.254");
        return body();
    }
    let program = std::env::current_exe().expect("our own path");
    let mut again = Command::new("unshare");
    again
        .arg("--net")
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1");
    let output = again.output().expect("unshare");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    println!("{said}");
}

/// Runs shell lines; returns what they print.
pub(crate) fn sh(lines: &str) -> String {
    let output = Command::new("sh").args(["-ec", lines]).output().unwrap();
    assert!(
        output.status.success(),
        "{lines}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("plain text")
}

//! iperf3 as a second opinion on the own TCP generator.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::Ends;
use crate::daemon::Daemon;
use crate::preflight;
use crate::scratch::Scratch;

/// Gigabits per second that iperf3 receives over `streams` connections.
pub fn tcp_gbps(ends: &Ends<'_>, streams: usize, duration: Duration) -> io::Result<f64> {
    if !preflight::is_installed("iperf3") {
        let why = "there is no `iperf3`: install it (Debian: apt install iperf3)";
        return Err(io::Error::other(why));
    }
    let scratch = Scratch::new()?;
    let mut server = ends.far.0.command("iperf3")?;
    let _server = Daemon::start(
        server.args(["--server", "--one-off"]),
        &scratch.path().join("server.log"),
    )?;
    let mut client = ends.near.0.command("iperf3")?;
    let (target, seconds) = (
        ends.far.1.to_string(),
        duration.as_secs().max(1).to_string(),
    );
    client.args([
        "--client",
        &target,
        "--time",
        &seconds,
        "--omit",
        "1",
        "--parallel",
        &streams.to_string(),
    ]);
    client.args([
        "--json",
        "--congestion",
        "cubic",
        "--connect-timeout",
        "3000",
    ]);
    // The server listens a moment after it was started, so the first attempts may be refused.
    for _ in 0..50 {
        let answer: Value = serde_json::from_slice(&client.stdin(Stdio::null()).output()?.stdout)?;
        if let Some(bits) = answer["end"]["sum_received"]["bits_per_second"].as_f64() {
            return Ok(bits / 1e9);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("iperf3 measured nothing"))
}

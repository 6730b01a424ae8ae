//! What goes wrong meanwhile: other nodes come, move and go, records make no sense, strangers send nonsense, a daemon
//! stands still, routes are removed.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::{Path, Side, sys};

/// Other nodes that are there at once.
const NODES: u64 = 50;
/// How long a daemon stands still.
const STANDSTILL: Duration = Duration::from_millis(100);
const PORTS: [u16; 2] = [8285, 8472];
const GARBAGE: [&str; 4] = ["", "{", "{\"PublicIP\":\"10.5.0.1\"}", "\u{0}\u{7f}"];

/// The troubles so far.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    turn: u64,
    pub(super) changes: u64,
    pub(super) faults: u64,
}

impl Trouble {
    /// Does a few changes, and one thing worse.
    pub(super) fn next(&mut self, path: &Path) -> io::Result<()> {
        self.turn += 1;
        for number in 0..NODES / 5 {
            self.change(path, self.turn * 7 + number * 5)?;
        }
        self.faults += 1;
        match self.turn % 8 {
            0 => stand_still(path),
            2 => strangers(path, self.turn),
            4 => write(
                path,
                &format!("10.5.{}.0-24", 200 + self.turn % 50),
                GARBAGE[self.turn as usize / 8 % 4],
            ),
            6 => {
                // It may be gone already; it is back within a second.
                let _ = path.lab().node(Side::A).run("ip route del 10.5.0.0/16");
                Ok(())
            }
            _ => {
                self.faults -= 1;
                Ok(())
            }
        }
    }

    /// Leaves the two nodes alone.
    pub(super) fn end(&self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path.records())?.flatten() {
            let name = entry.file_name();
            let own = Side::BOTH.map(|side| path.record_name(path.subnet(side)));
            if !own.iter().any(|own| *own == *name.to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// A node comes, moves or goes.
    fn change(&mut self, path: &Path, seed: u64) -> io::Result<()> {
        self.changes += 1;
        let (node, host) = (seed % NODES, seed % 200 + 3);
        let name = format!("10.5.{}.0-24", 200 + node);
        if seed.is_multiple_of(3) {
            // One that is not there cannot go.
            let _ = fs::remove_file(path.records().join(name));
            return Ok(());
        }
        let record = format!(
            "{{\"PublicIP\":\"192.168.77.{host}\",\"BackendType\":\"vxlan\",\
             \"BackendData\":{{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:01:{host:02x}\"}}}}"
        );
        write(path, &name, &record)
    }
}

fn write(path: &Path, name: &str, record: &str) -> io::Result<()> {
    let own = Side::BOTH.map(|side| path.record_name(path.subnet(side)));
    if own.iter().any(|own| own == name) {
        return Ok(());
    }
    fs::write(path.records().join(name), record)
}

fn stand_still(path: &Path) -> io::Result<()> {
    let Some(process) = path.process(Side::A) else {
        return Ok(());
    };
    sys::send_signal(process, libc::SIGSTOP)?;
    thread::sleep(STANDSTILL);
    sys::send_signal(process, libc::SIGCONT)
}

/// Nonsense from where a peer is, and from where none is.
fn strangers(path: &Path, seed: u64) -> io::Result<()> {
    let socket = path
        .lab()
        .node(Side::B)
        .enter(|| UdpSocket::bind(("192.168.77.2", 0)))?;
    for number in 0..64 {
        let word = (seed * 64 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bytes = word.to_le_bytes().repeat(1 + number as usize % 20);
        for port in PORTS {
            // Nobody has to listen there.
            let _ = socket.send_to(
                &bytes[..bytes.len() - number as usize % 8],
                ("192.168.77.1", port),
            );
        }
    }
    Ok(())
}

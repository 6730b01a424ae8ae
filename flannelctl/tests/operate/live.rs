//! `flannelctl top` in a real terminal of 80 columns and 24 lines, which tmux plays.

use std::process::Command;
use std::thread;
use std::time::Duration;

use benches::{Path, PathSpec, Profile, Side};

use super::scene::flanneld;

/// A terminal of its own tmux server.
struct Terminal {
    server: String,
}

impl Terminal {
    fn run(name: &str, command: &str) -> Self {
        let server = format!("flannelctl-{name}-{}", std::process::id());
        let terminal = Self { server };
        let words = [
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            command,
        ];
        terminal.tmux(&words);
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        let output = tmux
            .args(["-L", &self.server])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// The screen once it shows all of these.
    fn wait_for(&self, wanted: &[&str]) -> String {
        let mut screen = String::new();
        for _ in 0..200 {
            screen = self.tmux(&["capture-pane", "-p"]);
            if wanted.iter().all(|words| screen.contains(words)) {
                return screen;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("waited in vain for {wanted:?} on\n{screen}")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn top_shows_rates_by_peer_and_worker_in_a_small_terminal() {
    let spec: PathSpec = "udp+workers=2".parse().unwrap();
    let path = Path::up(&spec, Profile::Offload, &flanneld()).unwrap();
    let socket = path.lab().scratch().join("subnet-A.env.sock");
    let program = env!("CARGO_BIN_EXE_flannelctl");
    let command = format!(
        "{program} top --interval 0.2 --socket {}; echo left with $?; sleep 60",
        socket.display()
    );
    let terminal = Terminal::run("top", &command);
    let (container, _) = path.container(Side::A);
    let (_, far) = path.container(Side::B);
    let _ = container.run(&format!("ping -c 100 -i 0.01 {far}"));
    let _ = container.run("ping -c 2 -i 0.01 -W 0.1 10.5.255.9");
    let subnet = path.subnet(Side::A).to_string();
    let screen = terminal.wait_for(&[
        &subnet,
        "well",
        "OUT",
        "worker 1",
        "192.168.77.2",
        "out_no_route",
        "q leave",
    ]);
    assert!(screen.lines().count() <= 24, "{screen}");
    terminal.press("s");
    terminal.wait_for(&["s sort (sent)"]);
    terminal.press("/");
    terminal.press("9");
    terminal.press("9");
    let filtered = terminal.wait_for(&["/99"]);
    assert!(!filtered.contains("192.168.77.2"), "{filtered}");
    terminal.press("Enter");
    terminal.press("?");
    terminal.wait_for(&["sort peers: by address", "per\n message sent"]);
    terminal.press("q");
    terminal.wait_for(&["left with 0"]);
}

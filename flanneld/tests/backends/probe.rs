//! Whether packets are lost while something happens.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use crate::cluster::Cluster;

/// Pings from the first container to the second, one after the other without a pause that would hide a gap.
pub(crate) struct Probe(Child);

impl Probe {
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let mut ping = cluster.node(0).container.command("ping").unwrap();
        ping.args(["-n", "-q", "-i", "0.003", &cluster.container(1).to_string()]);
        Self(ping.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// How many were never answered. The last one may still be on its way.
    pub(crate) fn lost(mut self) -> usize {
        Command::new("kill")
            .args(["-INT", &self.0.id().to_string()])
            .status()
            .unwrap();
        let mut report = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut report)
            .unwrap();
        self.0.wait().unwrap();
        let counted = report
            .lines()
            .find(|line| line.contains("packets transmitted"));
        let counts: Vec<usize> = counted
            .unwrap()
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        assert!(counts[0] > 10, "{report}");
        (counts[0] - counts[1]).saturating_sub(1)
    }
}

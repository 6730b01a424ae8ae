//! The documents the daemon answers with. Programs read them too: a field is never given another meaning or taken
//! away without another [`SCHEMA`]; new ones may come.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The version of the documents.
pub const SCHEMA: u32 = 1;

/// How the daemon fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of this document.
    pub schema: u32,
    /// The daemon's.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it was started.
    pub uptime_seconds: u64,
    /// Whether there is nothing in `problems`.
    pub healthy: bool,
    /// What is wrong, worst first, each with its cure where one is known.
    pub problems: Vec<String>,
    /// What a daemon that is still starting waits for.
    pub waiting_for: Option<String>,
    /// Seconds since its control loop turned last; more than 30 means it is stuck.
    pub silent_seconds: u64,
    /// The store of leases.
    pub store: Store,
    /// Where other nodes reach this one.
    pub node: Option<Node>,
    /// The overlay network.
    pub network: Option<Network>,
    /// This node's lease.
    pub lease: Option<Lease>,
    /// How many others are known.
    pub others: Option<Others>,
    /// The packet engine, where one is at work.
    pub engine: Option<Engine>,
}

/// The store of leases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// `etcd` or `file`.
    pub kind: String,
    /// Its servers, or its directory.
    pub places: Vec<String>,
    /// Whether it answers, as far as is known.
    pub answers: bool,
    /// For how many seconds that has been so.
    pub since_seconds: u64,
    /// Why it does not answer.
    pub why: Option<String>,
}

/// Where other nodes reach this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The interface to them.
    pub interface: String,
    /// The addresses they are told.
    pub public: Vec<IpAddr>,
    /// Largest packet of that interface.
    pub mtu: u32,
}

/// The overlay network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its ranges, one per family.
    pub ranges: Vec<IpNet>,
    /// `udp`, `vxlan`, `host-gw` or `alloc`.
    pub backend: String,
    /// Who carries packets: `engine`, `kernel` or `nobody`.
    pub carried_by: String,
    /// Whether neighbours are reached without the tunnel.
    pub direct_routing: bool,
    /// Largest packet containers may send through it.
    pub mtu: u32,
    /// UDP port of the tunnel, where there is one.
    pub port: Option<u16>,
    /// What is spoken beside the backend, with nodes whose leases say so.
    #[serde(default)]
    pub beside: Option<Form>,
}

impl Network {
    /// The UDP ports of every form spoken.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        let beside = self.beside.as_ref().and_then(|form| form.port);
        self.port.into_iter().chain(beside)
    }
}

/// A way to wrap packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// `udp` or `vxlan`.
    pub name: String,
    /// Its UDP port.
    pub port: Option<u16>,
}

/// This node's lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The version of this document.
    pub schema: u32,
    /// The subnets leased.
    pub subnets: Vec<IpNet>,
    /// `held`, `unconfirmed` (remembered, the store has not been asked), `missing` or `taken` (by another node).
    pub standing: String,
    /// Whether it lasts without being renewed.
    pub reserved: bool,
    /// Seconds since this daemon has it.
    pub age_seconds: u64,
    /// Seconds since it was written last, where that is known.
    pub renewed_seconds_ago: Option<u64>,
    /// Seconds until it is renewed.
    pub renewal_in_seconds: Option<u64>,
    /// Seconds until it would end without that.
    pub expires_in_seconds: Option<u64>,
    /// What the record says about this node, as JSON in the store.
    pub record: String,
}

/// How many others are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    /// Records in the store that can be read, our own included.
    pub records: usize,
    /// Records that cannot be read.
    pub unreadable: usize,
    /// Records that are not used, as they contradict config or other records; the log says why.
    pub refused: usize,
    /// Subnets packets go to.
    pub routes: usize,
    /// Those of them whose nodes have a udp lease.
    #[serde(default)]
    pub udp: usize,
    /// Those of them whose nodes have a vxlan lease.
    #[serde(default)]
    pub vxlan: usize,
}

/// The packet engine and what the kernel granted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// Its device.
    pub device: String,
    /// How packets are moved.
    pub io: String,
    /// Why that way.
    pub io_reason: String,
    /// How many threads move them.
    pub workers: usize,
    /// Whether every one of them answered when last called.
    pub answers: bool,
    /// Whether the device takes super-packets at all.
    pub virtio_header: bool,
    /// TCP super-packets on the device.
    pub tso: bool,
    /// UDP super-packets on the device.
    pub uso: bool,
    /// Datagrams one send may carry.
    pub gso_segments: u16,
    /// Many datagrams in one receive.
    pub gro: bool,
    /// Inner packets joined before they are written.
    pub merge: bool,
    /// The device that datagrams are taken off ahead of the kernel's stack.
    #[serde(default)]
    pub shortcut: Option<String>,
}

/// The nodes packets go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// The version of this document.
    pub schema: u32,
    /// By address.
    pub peers: Vec<Peer>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Where its packets go and come from.
    pub address: IpAddr,
    /// The subnets it holds.
    pub subnets: Vec<IpNet>,
    /// `udp`, `vxlan`, or `plain` for packets that travel unwrapped.
    pub form: String,
    /// The Ethernet address VXLAN packets to it bear.
    pub mac: Option<String>,
    /// Largest inner packet that is sent to it.
    pub mtu: Option<u32>,
    /// What went there and came from there, where the packet engine counts it.
    pub traffic: Option<Traffic>,
}

/// What went to a node and came from it since it was first known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Inner packets sent.
    pub sent_packets: u64,
    /// Bytes sent, VXLAN headers included, UDP and IP headers not.
    pub sent_bytes: u64,
    /// Inner packets that the kernel would not send.
    pub unsent_packets: u64,
    /// Inner packets received, dropped ones included.
    pub received_packets: u64,
    /// Bytes received, counted alike.
    pub received_bytes: u64,
    /// Of the packets received, those that were not carried; why is in [`Drops`].
    #[serde(default)]
    pub dropped_packets: u64,
    /// Largest inner packet that gets there in one piece, as learned; none before one of some size went there.
    #[serde(default)]
    pub path_mtu: Option<u16>,
    /// Seconds since something came from there.
    pub seen_seconds_ago: Option<u64>,
}

/// The subnets packets go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    /// The version of this document.
    pub schema: u32,
    /// By subnet.
    pub routes: Vec<Route>,
}

/// A subnet of another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The addresses.
    pub subnet: IpNet,
    /// The node that holds them.
    pub peer: IpAddr,
    /// As in [`Peer::form`].
    pub form: String,
    /// The device packets go into first.
    pub device: String,
}

/// Every counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The version of this document.
    pub schema: u32,
    /// Seconds the totals cover.
    pub uptime_seconds: u64,
    /// In the order packets meet them.
    pub counters: Vec<Count>,
    /// Sizes of batches and times of turns.
    #[serde(default)]
    pub spreads: Vec<Spread>,
}

/// How often a measure had which size, since the daemon was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// Its name.
    pub name: String,
    /// What it measures.
    pub about: String,
    /// The sum of all values.
    pub sum: u64,
    /// By size, smallest first.
    pub buckets: Vec<Bucket>,
}

/// Values above the bucket before and not above this one's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The bound; none in the last.
    pub most: Option<u64>,
    /// How many there were.
    pub count: u64,
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub about: String,
    /// Since the daemon was started.
    pub total: u64,
    /// By each worker at work now, since the engine was started.
    pub workers: Vec<u64>,
}

/// What was not carried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drops {
    /// The version of this document.
    pub schema: u32,
    /// Seconds the counts cover.
    pub uptime_seconds: u64,
    /// Every reason there is.
    pub reasons: Vec<Drop>,
}

impl Drops {
    /// For those who may know how much was dropped, and not what.
    pub fn without_examples(mut self) -> Self {
        self.reasons
            .iter_mut()
            .for_each(|reason| reason.example = None);
        self
    }
}

/// A reason not to carry a packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// Its name.
    pub reason: String,
    /// What it means.
    pub about: String,
    /// How many packets.
    pub packets: u64,
    /// How many a second at the moment; told by flannelctl, which asks twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// One of them; not always the last.
    pub example: Option<Example>,
}

/// Packets that were not carried, since somebody asked for them last: asking has the next ones kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// The version of this document.
    pub schema: u32,
    /// Worker by worker, oldest first.
    pub packets: Vec<DroppedPacket>,
}

/// A packet that was not carried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DroppedPacket {
    /// The worker that had it.
    pub worker: usize,
    /// The how many-th of that worker; one that is left out was not kept.
    pub number: u64,
    /// As in [`Drop::reason`].
    pub reason: String,
    /// As in [`Drop::about`].
    pub about: String,
    /// The packet.
    pub packet: Example,
}

/// The beginning of a packet that was not carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The outer source it came from; none for packets from this host.
    pub from: Option<IpAddr>,
    /// Addresses, ports and protocol, if it has them.
    pub summary: Option<String>,
    /// Its length.
    pub length: usize,
    /// Its first bytes, hexadecimal.
    pub bytes: String,
}

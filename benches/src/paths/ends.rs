//! Sets up what stands at the two ends: first what needs to know nothing of the other side, then
//! the daemons, which choose their own leases, then the routes of those that run none.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::store::{NETWORK, Store, VNI};
use super::{End, Form, PathSpec};
use crate::baseline::{self, OnePacketPeer};
use crate::daemon::Daemon;
use crate::lab::{Lab, Side, Subnet};

const UDP_PORT: u16 = 8285;
const VXLAN_PORT: u16 = 8472;
/// What `ip` says where a kind of device is not built in.
const NO_VXLAN: &str = "Unknown device type";
const LEASE_PATIENCE: Duration = Duration::from_secs(10);

/// Whatever runs while the path is up.
#[derive(Debug)]
pub(super) enum Carrier {
    Kernel,
    Daemon(Daemon),
    OnePacket(OnePacketPeer),
}

impl Carrier {
    pub(super) fn cpu_seconds(&self) -> f64 {
        match self {
            Self::Kernel => 0.0,
            Self::Daemon(daemon) => daemon.cpu_seconds(),
            Self::OnePacket(peer) => peer.cpu_seconds(),
        }
    }

    pub(super) fn peak_memory_kib(&self) -> Option<u64> {
        match self {
            Self::Daemon(daemon) => daemon.peak_memory_kib(),
            Self::Kernel | Self::OnePacket(_) => None,
        }
    }

    pub(super) fn log(&self) -> String {
        match self {
            Self::Daemon(daemon) => daemon.log(),
            Self::Kernel | Self::OnePacket(_) => String::new(),
        }
    }
}

/// What a node was given, or chose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    pub(super) subnet: Subnet,
    pub(super) mtu: Option<u32>,
}

/// Brings both ends up.
pub(super) fn start(
    lab: &Lab,
    spec: &PathSpec,
    store: &Store,
    program: &Path,
) -> io::Result<([Carrier; 2], [Lease; 2])> {
    for side in Side::BOTH {
        prepare(lab, side, spec, store)?;
    }
    let [a, b] = Side::BOTH.map(|side| launch(lab, side, spec, store, program, &[]));
    let mut carriers = [a?, b?];
    let mut leases = Side::BOTH.map(|side| Lease {
        subnet: side.default_subnet(),
        mtu: None,
    });
    for side in Side::BOTH {
        if let Carrier::Daemon(daemon) = &mut carriers[side as usize] {
            leases[side as usize] = wait_for_lease(&subnet_file(lab, side), daemon)?;
        }
    }
    let subnets = leases.map(|lease| lease.subnet);
    for side in Side::BOTH {
        if let Some(carrier) = route(lab, side, spec, store, subnets)? {
            carriers[side as usize] = carrier;
        }
    }
    Ok((carriers, leases))
}

/// Stops the daemon at a side and starts another, which waits for nothing but its lease.
pub(super) fn restart(
    lab: &Lab,
    side: Side,
    spec: &PathSpec,
    (store, program): (&Store, &Path),
    carrier: &mut Carrier,
) -> io::Result<Lease> {
    if let Carrier::Daemon(daemon) = carrier {
        daemon.stop()?;
    }
    let file = subnet_file(lab, side);
    fs::remove_file(&file)?;
    *carrier = launch(lab, side, spec, store, program, &[])?;
    match carrier {
        Carrier::Daemon(daemon) => wait_for_lease(&file, daemon),
        _ => Err(io::Error::other(format!(
            "there is no daemon at side {side:?}"
        ))),
    }
}

/// Gives a node without a daemon its lease, and its device where peers must know the MAC.
fn prepare(lab: &Lab, side: Side, spec: &PathSpec, store: &Store) -> io::Result<()> {
    match spec.ends[side as usize] {
        End::Flanneld | End::Stock => return Ok(()),
        End::KernelVxlan => add_vxlan_device(lab, side)?,
        End::Plain | End::Loopback | End::OnePacket => {}
    }
    store.record(side, side.default_subnet(), spec.form, &kernel_mac(side))
}

/// Starts the daemon of a side, where there is one, with these flags after the usual ones.
pub(super) fn launch(
    lab: &Lab,
    side: Side,
    spec: &PathSpec,
    store: &Store,
    program: &Path,
    flags: &[&str],
) -> io::Result<Carrier> {
    if !spec.ends[side as usize].is_daemon() {
        return Ok(Carrier::Kernel);
    }
    let mut command = lab.daemon(side, program)?;
    command.args([store.argument(), "--iface=eth0".into()]);
    command.arg(format!(
        "--subnet-file={}",
        subnet_file(lab, side).display()
    ));
    command.args(spec.options.iter().map(|option| format!("--{option}")));
    command.args(flags);
    Daemon::start(&mut command, &log_file(lab, side)).map(Carrier::Daemon)
}

/// Where the daemon of a side writes its log.
pub(super) fn log_file(lab: &Lab, side: Side) -> PathBuf {
    lab.scratch().join(format!("flanneld-{side:?}.log"))
}

/// Directs packets for the other side's containers, where no daemon does it.
fn route(
    lab: &Lab,
    side: Side,
    spec: &PathSpec,
    store: &Store,
    subnets: [Subnet; 2],
) -> io::Result<Option<Carrier>> {
    let peer = subnets[side.other() as usize];
    match spec.ends[side as usize] {
        End::Flanneld | End::Stock | End::Loopback => Ok(None),
        End::Plain => lab.node(side).ip(&plain_route(side, peer)).map(|_| None),
        End::KernelVxlan => {
            let mac = match spec.ends[side.other() as usize] {
                End::Flanneld => store.overlay_mac(peer)?,
                _ => kernel_mac(side.other()),
            };
            route_through_vxlan(lab, side, peer, &mac).map(|()| None)
        }
        End::OnePacket => {
            let config = one_packet_config(side, subnets)?;
            lab.on_processors_of(side, || OnePacketPeer::start(lab.node(side), &config))
                .map(|peer| Some(Carrier::OnePacket(peer)))
        }
    }
}

fn plain_route(side: Side, peer: Subnet) -> String {
    format!("route replace {peer} via {}", side.other().underlay())
}

/// The MAC address of a kernel VXLAN device: local bit set, not multicast.
fn kernel_mac(side: Side) -> String {
    format!("0e:f1:a0:00:00:0{}", 1 + side as u8)
}

fn add_vxlan_device(lab: &Lab, side: Side) -> io::Result<()> {
    let (local, mac, base) = (
        side.underlay(),
        kernel_mac(side),
        side.default_subnet().base,
    );
    let mtu = Form::Vxlan.mtu();
    let lines = format!(
        "link add flannel.{VNI} address {mac} mtu {mtu} type vxlan id {VNI} dev eth0 local {local} \
         dstport {VXLAN_PORT} nolearning\n\
         addr add {base}/32 dev flannel.{VNI}\n\
         link set flannel.{VNI} up"
    );
    match lab.node(side).ip(&lines) {
        Err(error) if error.to_string().contains(NO_VXLAN) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel has no VXLAN of its own; where it is a module: modprobe vxlan",
        )),
        other => other.map(drop),
    }
}

/// What flannel does per peer: a permanent neighbour, a forwarding entry, an on-link route.
fn route_through_vxlan(lab: &Lab, side: Side, peer: Subnet, mac: &str) -> io::Result<()> {
    let (node, base, remote) = (lab.node(side), peer.base, side.other().underlay());
    node.ip(&format!(
        "neigh replace {base} lladdr {mac} dev flannel.{VNI} nud permanent\n\
         route replace {peer} via {base} dev flannel.{VNI} onlink"
    ))?;
    node.run(&format!(
        "bridge fdb append {mac} dev flannel.{VNI} dst {remote} self permanent"
    ))
    .map(drop)
}

fn one_packet_config(side: Side, subnets: [Subnet; 2]) -> io::Result<baseline::Config> {
    let socket = |side: Side| SocketAddrV4::new(side.underlay(), UDP_PORT);
    let peer = (subnets[side.other() as usize], socket(side.other()));
    let network = NETWORK.parse().map_err(io::Error::other)?;
    let subnet = subnets[side as usize];
    Ok(baseline::Config {
        listen: socket(side),
        subnet,
        network,
        mtu: Form::Udp.mtu(),
        peers: vec![peer],
    })
}

fn subnet_file(lab: &Lab, side: Side) -> PathBuf {
    lab.scratch().join(format!("subnet-{side:?}.env"))
}

fn wait_for_lease(file: &Path, daemon: &mut Daemon) -> io::Result<Lease> {
    let deadline = Instant::now() + LEASE_PATIENCE;
    loop {
        daemon.still_running()?;
        if let Some(lease) = fs::read_to_string(file)
            .ok()
            .as_deref()
            .and_then(parse_subnet_file)
        {
            return Ok(lease);
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!(
                "no lease after {LEASE_PATIENCE:?}:\n{}",
                daemon.log()
            )));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn parse_subnet_file(text: &str) -> Option<Lease> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let subnet = value("FLANNEL_SUBNET=")?.parse().ok()?;
    Some(Lease {
        subnet,
        mtu: value("FLANNEL_MTU=")?.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_from_the_subnet_file() {
        let text = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n";
        let lease = parse_subnet_file(text).unwrap();
        assert_eq!(
            (lease.subnet.to_string().as_str(), lease.mtu),
            ("10.5.26.0/24", Some(1472))
        );
    }

    #[test]
    fn half_a_subnet_file_is_no_lease() {
        assert!(parse_subnet_file("FLANNEL_SUBNET=10.5.").is_none());
    }
}

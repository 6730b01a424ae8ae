//! Sets up what stands at the two ends: first what needs to know nothing of the other side, then
//! the daemons, which choose their own leases, then the routes of those that run none.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::store::{NETWORK, Store, VNI};
use super::{End, Form, PathSpec};
use crate::baseline::{self, OnePacketPeer};
use crate::daemon::Daemon;
use crate::lab::{Lab, Side, Subnet, Subnet6};

const UDP_PORT: u16 = 8285;
const VXLAN_PORT: u16 = 8472;
/// What `ip` says where a kind of device is not built in.
const NO_VXLAN: &str = "Unknown device type";
const LEASE_PATIENCE: Duration = Duration::from_secs(60);

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
    pub(super) ipv6: Option<Subnet6>,
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
        ipv6: spec.ipv6.then(|| side.default_subnet_ipv6()),
        mtu: None,
    });
    for side in Side::BOTH {
        if let Carrier::Daemon(daemon) = &mut carriers[side as usize] {
            leases[side as usize] = wait_for_lease(&subnet_file(lab, side), daemon)?;
        }
    }
    for side in Side::BOTH {
        if let Some(carrier) = route(lab, side, spec, store, &leases)? {
            carriers[side as usize] = carrier;
        }
    }
    Ok((carriers, leases))
}

/// Gives the bridge and the container of a node their addresses.
pub(super) fn address(lab: &Lab, side: Side, lease: &Lease, mtu: u32) -> io::Result<()> {
    lab.address(side, lease.subnet, mtu)?;
    match lease.ipv6 {
        Some(subnet) => lab.address_ipv6(side, subnet),
        None => Ok(()),
    }
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
        End::KernelVxlan => {
            for device in tunnels(side, spec.ipv6) {
                add_vxlan_device(lab, side, &device)?;
            }
        }
        End::Plain | End::Loopback | End::OnePacket => {}
    }
    store.record(side, spec, &kernel_mac(side))
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
    leases: &[Lease; 2],
) -> io::Result<Option<Carrier>> {
    let peer = &leases[side.other() as usize];
    match spec.ends[side as usize] {
        End::Flanneld | End::Stock | End::Loopback => Ok(None),
        End::Plain => lab.node(side).ip(&plain_routes(side, peer)).map(|_| None),
        End::KernelVxlan => {
            let mac = match spec.ends[side.other() as usize] {
                End::Flanneld => store.overlay_mac(peer)?,
                _ => kernel_mac(side.other()),
            };
            for device in tunnels(side, spec.ipv6) {
                route_through_vxlan(lab, side, &device, peer, &mac)?;
            }
            Ok(None)
        }
        End::OnePacket => {
            let subnets = leases.map(|lease| lease.subnet);
            let config = one_packet_config(side, subnets)?;
            lab.on_processors_of(side, || OnePacketPeer::start(lab.node(side), &config))
                .map(|peer| Some(Carrier::OnePacket(peer)))
        }
    }
}

fn plain_routes(side: Side, peer: &Lease) -> String {
    let far = side.other();
    let ipv4 = format!("route replace {} via {}", peer.subnet, far.underlay());
    let ipv6 = peer.ipv6.map(|subnet| {
        let gateway = far.underlay_ipv6();
        format!("\nroute replace {subnet} via {gateway}")
    });
    ipv4 + &ipv6.unwrap_or_default()
}

/// The MAC address of a kernel VXLAN device: local bit set, not multicast.
fn kernel_mac(side: Side) -> String {
    format!("0e:f1:a0:00:00:0{}", 1 + side as u8)
}

/// A kernel VXLAN device of one family.
struct Tunnel {
    name: String,
    local: IpAddr,
    remote: IpAddr,
    mtu: u32,
    /// The node's own address there.
    own: String,
}

/// The device, or one for each family.
fn tunnels(side: Side, ipv6: bool) -> impl Iterator<Item = Tunnel> {
    let ipv4 = Tunnel {
        name: format!("flannel.{VNI}"),
        local: side.underlay().into(),
        remote: side.other().underlay().into(),
        mtu: Form::Vxlan.mtu(),
        own: format!("{}/32", side.default_subnet().base),
    };
    let ipv6 = ipv6.then(|| Tunnel {
        name: format!("flannel-v6.{VNI}"),
        local: side.underlay_ipv6().into(),
        remote: side.other().underlay_ipv6().into(),
        mtu: Form::Vxlan.mtu() - 20,
        own: format!("{}/128", side.default_subnet_ipv6().base),
    });
    [ipv4].into_iter().chain(ipv6)
}

fn add_vxlan_device(lab: &Lab, side: Side, device: &Tunnel) -> io::Result<()> {
    let Tunnel {
        name,
        local,
        mtu,
        own,
        ..
    } = device;
    let mac = kernel_mac(side);
    let lines = format!(
        "link add {name} address {mac} mtu {mtu} type vxlan id {VNI} dev eth0 local {local} \
         dstport {VXLAN_PORT} nolearning\n\
         addr add {own} dev {name}\n\
         link set {name} up"
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
fn route_through_vxlan(
    lab: &Lab,
    side: Side,
    device: &Tunnel,
    peer: &Lease,
    mac: &str,
) -> io::Result<()> {
    let (node, Tunnel { name, remote, .. }) = (lab.node(side), device);
    let (base, subnet) = match (remote, peer.ipv6) {
        (IpAddr::V6(_), Some(subnet)) => (subnet.base.to_string(), subnet.to_string()),
        _ => (peer.subnet.base.to_string(), peer.subnet.to_string()),
    };
    node.ip(&format!(
        "neigh replace {base} lladdr {mac} dev {name} nud permanent\n\
         route replace {subnet} via {base} dev {name} onlink"
    ))?;
    node.run(&format!(
        "bridge fdb append {mac} dev {name} dst {remote} self permanent"
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
    let ipv6 = value("FLANNEL_IPV6_SUBNET=");
    Some(Lease {
        subnet,
        ipv6: ipv6.and_then(|subnet| subnet.parse().ok()),
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
    fn a_lease_of_both_families_is_read() {
        let text =
            "FLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_IPV6_SUBNET=fd05:0:0:2::1/64\nFLANNEL_MTU=1450\n";
        let lease = parse_subnet_file(text).unwrap();
        assert_eq!(lease.ipv6.unwrap().to_string(), "fd05:0:0:2::/64");
    }

    #[test]
    fn half_a_subnet_file_is_no_lease() {
        assert!(parse_subnet_file("FLANNEL_SUBNET=10.5.").is_none());
    }
}

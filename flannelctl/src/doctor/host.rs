//! What this host is like: kernel settings, firewall, devices, permissions.

use super::{Finding, features, kernel};
use console::answers::Status;
use control::host::Netlink;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

/// Every look at this host.
pub(super) fn findings(status: Option<&Status>) -> Vec<Finding> {
    let looks = [
        forwarding(status),
        forward_policy(),
        bridge_filter(),
        reverse_path(status),
        kernel::permissions(status),
        kernel::release(),
        offloads(status),
        overlap(status),
    ];
    let mut findings: Vec<Finding> = looks.into_iter().flatten().collect();
    findings.extend(features::findings(status));
    findings.extend(bridges(status));
    findings
}

fn sysctl(name: &str) -> Option<String> {
    let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(value.trim().to_owned())
}

fn forwarding(status: Option<&Status>) -> Option<Finding> {
    const CHECK: &str = "forwarding";
    let network = status.and_then(|status| status.network.as_ref());
    let ranges = network.map_or(&[][..], |network| &network.ranges);
    let ipv6 = ranges.iter().any(|range| range.addr().is_ipv6());
    let ipv4 = ranges.is_empty() || ranges.iter().any(|range| range.addr().is_ipv4());
    let settings = [
        (ipv4, "net/ipv4/ip_forward"),
        (ipv6, "net/ipv6/conf/all/forwarding"),
    ];
    let mut wanted = settings.iter().filter(|(wanted, _)| *wanted);
    let off = wanted.find(|(_, name)| sysctl(name).as_deref() == Some("0"));
    Some(match off {
        None => Finding::good(CHECK, "the kernel forwards packets"),
        Some((_, name)) => {
            let name = name.replace('/', ".");
            Finding::bad(
                CHECK,
                format!("{name} is 0: packets of containers do not leave this host"),
                format!("sysctl -w {name}=1, and the same in /etc/sysctl.d"),
            )
        }
    })
}

/// Container engines set the policy to DROP; the daemon's own rules let its networks pass.
fn forward_policy() -> Option<Finding> {
    const CHECK: &str = "firewall";
    let output = Command::new("iptables")
        .args(["-S", "FORWARD"])
        .output()
        .ok()?;
    let rules = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return None;
    }
    let drops = rules.contains("-P FORWARD DROP");
    let ours = rules.contains("flannel") || rules.contains("FLANNEL");
    Some(match (drops, ours) {
        (true, false) => Finding::bad(
            CHECK,
            "the policy of FORWARD is DROP, and no rule of flanneld lets containers' packets pass",
            "leave --iptables-forward-rules on, or iptables -P FORWARD ACCEPT",
        ),
        (true, true) => Finding::good(
            CHECK,
            "FORWARD drops, but rules of flanneld let its network pass",
        ),
        (false, _) => Finding::good(CHECK, "FORWARD accepts"),
    })
}

fn bridge_filter() -> Option<Finding> {
    let found = match sysctl("net/bridge/bridge-nf-call-iptables").as_deref() {
        Some("1") => {
            "packets between containers of one bridge pass the firewall too (bridge-nf-call-iptables is 1)"
        }
        Some(_) => {
            "packets between containers of one bridge pass no firewall (bridge-nf-call-iptables is 0)"
        }
        None => {
            "packets between containers of one bridge pass no firewall (no br_netfilter, which Kubernetes wants)"
        }
    };
    Some(Finding::good("bridges", found))
}

fn reverse_path(status: Option<&Status>) -> Option<Finding> {
    let device = status?.engine.as_ref()?.device.clone();
    let strict =
        |name: &str| sysctl(&format!("net/ipv4/conf/{name}/rp_filter")).as_deref() == Some("1");
    let direct = status?.network.as_ref()?.direct_routing;
    (direct && (strict(&device) || strict("all"))).then(|| {
        Finding::doubtful(
            "rp_filter",
            format!(
                "strict on {device}: packets of neighbours that come through the tunnel are dropped"
            ),
            format!("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.{device}.rp_filter=2"),
        )
    })
}

fn offloads(status: Option<&Status>) -> Option<Finding> {
    let engine = status?.engine.as_ref()?;
    let slow = !engine.virtio_header || !engine.tso;
    Some(match slow {
        true => Finding::doubtful(
            "offloads",
            format!(
                "{}, without super-packets on the device: correct, and slow",
                engine.io
            ),
            "a newer kernel; or leave out --io=single-queue and --no-offload",
        ),
        false => Finding::good(
            "offloads",
            format!("{}, super-packets on the device", engine.io),
        ),
    })
}

/// Another route inside the overlay network takes packets elsewhere.
fn overlap(status: Option<&Status>) -> Option<Finding> {
    const CHECK: &str = "routes";
    let status = status?;
    let (network, lease) = (status.network.as_ref()?, status.lease.as_ref()?);
    let device = &status.engine.as_ref()?.device;
    let mut netlink = Netlink::open().ok()?;
    let interfaces = netlink.interfaces().ok()?;
    let ours = |number: u32| {
        interfaces
            .iter()
            .any(|one| one.index == number && one.name == *device)
    };
    for range in &network.ranges {
        // The last address belongs to nobody here, so only the tunnel should want it.
        let far = range.broadcast();
        let own = lease.subnets.iter().any(|subnet| subnet.contains(&far));
        let found = netlink.route_to(far).ok().filter(|_| !own);
        if found.is_some_and(|found| !ours(found.interface)) && !is_plain(network) {
            return Some(Finding::bad(
                CHECK,
                format!("packets to {far} do not go into {device}: another route is in the way"),
                format!(
                    "ip route get {far} shows it; give that network or the overlay another range"
                ),
            ));
        }
    }
    Some(Finding::good(
        CHECK,
        format!("the overlay network leads into {device}"),
    ))
}

fn is_plain(network: &console::answers::Network) -> bool {
    network.direct_routing || network.carried_by != "engine"
}

/// Bridges in our subnet whose packets are too long for the tunnel.
fn bridges(status: Option<&Status>) -> Vec<Finding> {
    let described =
        status.and_then(|status| Some((status.network.as_ref()?, status.lease.as_ref()?)));
    let Some((network, lease)) = described else {
        return Vec::new();
    };
    let ours = |address: IpAddr| lease.subnets.iter().any(|subnet| subnet.contains(&address));
    let interfaces = Netlink::open().and_then(|mut netlink| netlink.interfaces());
    let interfaces = interfaces.unwrap_or_default().into_iter();
    let inside = interfaces.filter(|one| !one.name.starts_with("flannel"));
    let inside = inside.filter(|one| one.addresses.iter().any(|address| ours(address.net.addr())));
    let told = inside.map(|one| match one.mtu > network.mtu {
        false => Finding::good("bridge", format!("{} has MTU {}", one.name, one.mtu)),
        true => Finding::bad(
            "bridge",
            format!(
                "{} has MTU {}, the tunnel carries {}: large packets of containers are refused",
                one.name, one.mtu, network.mtu
            ),
            "start the container engine with FLANNEL_MTU of subnet.env, and its containers anew",
        ),
    });
    told.collect()
}

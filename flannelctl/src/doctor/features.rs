//! What the kernel has of what flannel can use, tried out in a network namespace that goes away again.

use super::Finding;
use benches::namespace::Namespace;
use benches::preflight::is_installed;
use console::answers::{Network, Status};
use engine::Kernel;
use std::fs;
use std::path::Path;

/// Every feature.
pub(super) fn findings(status: Option<&Status>) -> Vec<Finding> {
    let network = status.and_then(|status| status.network.as_ref());
    let mut findings = match Namespace::new().and_then(|place| place.enter(|| Ok(Kernel::look()))) {
        Ok(kernel) => vec![rings(&kernel), device(&kernel, network), datagrams(&kernel)],
        Err(why) => vec![Finding::doubtful(
            "features",
            format!("the kernel's could not be tried: {why}"),
            "run this as root",
        )],
    };
    findings.extend([ipv6(network), vxlan(network), tools(), walls()]);
    findings
}

fn rings(kernel: &Kernel) -> Finding {
    const CHECK: &str = "io_uring";
    let told = kernel.rings.iter().map(|(kind, works)| {
        let kind = kind.to_string().replace("io_uring, ", "");
        match works {
            Ok(()) => kind,
            Err(why) => format!("no {kind} ({why})"),
        }
    });
    let told = told.collect::<Vec<_>>().join(", ");
    // What root may do here the daemon, which gives up most of that, may not.
    let switched = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let off = !matches!(switched.trim(), "" | "0");
    if !off && kernel.rings.iter().any(|(_, works)| works.is_ok()) {
        return Finding::good(CHECK, told);
    }
    let why = match off {
        true => format!("kernel.io_uring_disabled is {}", switched.trim()),
        false => told,
    };
    Finding::doubtful(
        CHECK,
        format!("{why}: packets are moved by plain system calls"),
        "nothing, where that is wanted; otherwise sysctl -w kernel.io_uring_disabled=0, or a seccomp profile that \
         allows it, and restart the daemon",
    )
}

/// Names of what is there, and of what is not.
fn sorted(features: &[(bool, &str)]) -> (String, String) {
    let of = |wanted: bool| {
        let names = features.iter().filter(|(there, _)| *there == wanted);
        names.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
    };
    (of(true), of(false))
}

fn device(kernel: &Kernel, network: Option<&Network>) -> Finding {
    const CHECK: &str = "device";
    let tun = match &kernel.tun {
        Ok(tun) => tun,
        Err(_) if network.is_some_and(|network| network.carried_by != "engine") => {
            return Finding::good(
                CHECK,
                "no TUN device can be made; without the engine none is needed",
            );
        }
        Err(why) => {
            return Finding::bad(
                CHECK,
                format!("no TUN device can be made: {why}"),
                "modprobe tun; in a container: pass /dev/net/tun in and grant CAP_NET_ADMIN",
            );
        }
    };
    let (there, missing) = sorted(&[
        (tun.multi_queue, "several queues"),
        (tun.virtio_header, "virtio header"),
        (tun.tso, "TCP super-packets"),
        (tun.uso, "UDP super-packets"),
    ]);
    match missing.is_empty() {
        true => Finding::good(CHECK, format!("TUN with {there}")),
        false => Finding::doubtful(
            CHECK,
            format!("TUN without {missing}: correct, and slower"),
            "a newer kernel (UDP super-packets: Linux 6.2)",
        ),
    }
}

fn datagrams(kernel: &Kernel) -> Finding {
    const CHECK: &str = "datagrams";
    match &kernel.udp {
        Err(why) => Finding::bad(
            CHECK,
            format!("no UDP socket can be opened: {why}"),
            "allow sockets of IPv4 where this runs",
        ),
        Ok(udp) if udp.gso_segments > 1 && udp.gro => Finding::good(
            CHECK,
            format!(
                "UDP_SEGMENT sends {} at once, UDP_GRO receives many",
                udp.gso_segments
            ),
        ),
        Ok(udp) => {
            let (_, missing) =
                sorted(&[(udp.gso_segments > 1, "UDP_SEGMENT"), (udp.gro, "UDP_GRO")]);
            Finding::doubtful(
                CHECK,
                format!("no {missing}: each datagram takes a pass through the kernel of its own"),
                "a newer kernel (Linux 5.0)",
            )
        }
    }
}

fn ipv6(network: Option<&Network>) -> Finding {
    const CHECK: &str = "ipv6";
    let wanted =
        network.is_some_and(|network| network.ranges.iter().any(|range| range.addr().is_ipv6()));
    let off = fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    match (off.as_deref().map(str::trim), wanted) {
        (Ok("0"), _) => Finding::good(CHECK, "it is there"),
        (_, false) => Finding::good(CHECK, "it is not there, and nothing here needs it"),
        (Ok(_), true) => Finding::bad(
            CHECK,
            "it is switched off, and the overlay network has IPv6",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0, and the same in /etc/sysctl.d",
        ),
        (Err(_), true) => Finding::bad(
            CHECK,
            "the kernel has none, and the overlay network has IPv6",
            "start the kernel without ipv6.disable=1, or leave IPv6 out of the config",
        ),
    }
}

/// The kernel's own VXLAN is needed where it, and not the engine, shall carry packets.
fn vxlan(network: Option<&Network>) -> Finding {
    const CHECK: &str = "vxlan";
    let wanted =
        network.is_some_and(|network| network.backend == "vxlan" && network.carried_by == "kernel");
    match (has_module("vxlan"), wanted) {
        (Some(true), _) => {
            Finding::good(CHECK, "the kernel has its own, for --vxlan-datapath=kernel")
        }
        (Some(false), true) => Finding::bad(
            CHECK,
            "the kernel has none of its own",
            "install the kernel's extra modules, or leave out --vxlan-datapath=kernel: the engine needs none",
        ),
        (Some(false), false) => Finding::good(
            CHECK,
            "the kernel has none of its own; the engine needs none",
        ),
        (None, _) => Finding::good(
            CHECK,
            "not loaded; whether the kernel has its own cannot be seen here",
        ),
    }
}

/// Whether a module is there or could be loaded; nobody knows where its directory cannot be seen, as in a container.
fn has_module(name: &str) -> Option<bool> {
    if Path::new("/sys/module").join(name).exists() {
        return Some(true);
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let place = Path::new("/lib/modules").join(release.trim());
    let lists = ["modules.builtin", "modules.dep"].map(|list| fs::read_to_string(place.join(list)));
    let file = format!("/{name}.ko");
    let mut lists = lists.iter().flatten().peekable();
    lists.peek()?;
    Some(lists.any(|list| list.contains(&file)))
}

fn tools() -> Finding {
    const CHECK: &str = "rules";
    match sorted(&[
        (is_installed("iptables-save"), "iptables"),
        (is_installed("nft"), "nft"),
    ]) {
        (none, _) if none.is_empty() => Finding::doubtful(
            CHECK,
            "neither iptables nor nft is installed: no rule lets containers' packets pass a firewall, and none hides \
             them behind this host",
            "install iptables or nftables and restart the daemon",
        ),
        (there, _) => Finding::good(CHECK, format!("set by {}", there.replace(", ", " or "))),
    }
}

/// What the daemon gives itself up to.
fn walls() -> Finding {
    const CHECK: &str = "sandbox";
    let filters = Path::new("/proc/sys/kernel/seccomp").exists();
    match (filters, sandbox::files::known()) {
        (true, Some(version)) if version >= sandbox::files::TRIED => {
            Finding::good(CHECK, format!("seccomp filters, Landlock {version}"))
        }
        (true, Some(version)) => Finding::good(
            CHECK,
            format!(
                "seccomp filters, Landlock {version}; newer kernels limit ports and signals too"
            ),
        ),
        (filters, landlock) => {
            let (_, missing) = sorted(&[
                (filters, "seccomp filters"),
                (landlock.is_some(), "Landlock"),
            ]);
            Finding::doubtful(
                CHECK,
                format!("no {missing}: the daemon keeps more than it needs"),
                "a kernel with CONFIG_SECCOMP_FILTER and lsm=landlock, or leave it",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_told_from_what_is_not() {
        let told = sorted(&[(true, "one"), (false, "two"), (true, "three")]);
        assert_eq!(told, ("one, three".to_owned(), "two".to_owned()));
    }

    #[test]
    fn a_module_nobody_has_is_not_found() {
        assert_ne!(has_module("no_such_module"), Some(true));
    }
}

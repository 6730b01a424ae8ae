//! Paths by name: what stands at their ends, and what crosses the underlay.

use super::watch;
use std::fmt;
use std::str::FromStr;

/// What stands at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A plain route to the other node.
    Plain,
    /// The loopback of one container: what the traffic generator can do by itself.
    Loopback,
    /// The kernel's VXLAN, set up as flannel does.
    KernelVxlan,
    /// A peer that moves one packet at a time in flannel's UDP form.
    OnePacket,
    /// The daemon of this repository.
    Flanneld,
    /// A stock daemon, which keeps its lease in etcd.
    Stock,
}

impl End {
    /// Whether it is a program of its own that takes a lease.
    pub(super) fn is_daemon(self) -> bool {
        matches!(self, Self::Flanneld | Self::Stock)
    }
}

/// The bytes on the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Inner packets as they are.
    Plain,
    /// The bare inner packet in a UDP datagram.
    Udp,
    /// An Ethernet frame in VXLAN.
    Vxlan,
}

impl Form {
    /// The containers' MTU over an underlay of 1500 bytes.
    pub fn mtu(self) -> u32 {
        match self {
            Self::Plain => 1500,
            Self::Udp => 1472,
            Self::Vxlan => 1450,
        }
    }
}

/// A path by name, with options for the daemon: `vxlan+io=epoll+workers=2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathSpec {
    /// As it was written; how reports call it.
    pub name: String,
    /// The form both ends speak.
    pub form: Form,
    /// What stands at side A and side B.
    pub ends: [End; 2],
    /// Options of the daemon, without their leading dashes.
    pub options: Vec<String>,
    /// Leases in the store when the daemons start, of nodes that do not answer: `leases=1000`.
    pub strangers: u32,
    /// Traffic between the containers is IPv6: `inner=6`.
    pub ipv6: bool,
    /// Packets travel between IPv6 addresses of the nodes; unless told otherwise, `outer=6`, as between the containers.
    pub outer_ipv6: bool,
    /// Somebody looks at both nodes while traffic is sent: `watched`.
    pub watched: bool,
}

/// The options that are the lab's and not the daemon's.
const STRANGERS: &str = "leases=";
const INNER: &str = "inner=";
const OUTER: &str = "outer=";
const WATCHED: &str = "watched";
/// The lab's options of paths, and what they mean.
pub const OPTIONS: [(&str, &str); 4] = [
    ("leases=N", "so many leases of nodes that do not exist"),
    (
        "inner=6",
        "IPv6 between the containers, and between the nodes",
    ),
    (
        "outer=6",
        "IPv6 between the nodes; outer=4 with inner=6 for IPv4 there",
    ),
    (
        "watched",
        "metrics, status page and top asked for once a second while traffic is sent",
    ),
];
/// As many as the network has room for.
const STRANGERS_MAX: u32 = 200_000;

/// A path by name, what it is, and how it is built.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// As commands and reports call it.
    pub name: &'static str,
    /// In a few words.
    pub about: &'static str,
    form: Form,
    ends: [End; 2],
}

impl Known {
    /// Stock's UDP form, and what is shaped like it, have no IPv6.
    fn carries_ipv6(&self) -> bool {
        let stock_udp = self.form == Form::Udp && self.ends.contains(&End::Stock);
        !stock_udp && !self.ends.contains(&End::OnePacket)
    }
}

/// Every path that can be built.
pub const KNOWN: [Known; 13] = [
    Known {
        name: "plain",
        about: "a route between the nodes, nothing else",
        form: Form::Plain,
        ends: [End::Plain; 2],
    },
    Known {
        name: "kernel-vxlan",
        about: "the kernel's VXLAN, set up as flannel does",
        form: Form::Vxlan,
        ends: [End::KernelVxlan; 2],
    },
    Known {
        name: "one-packet",
        about: "the shape of flannel's original proxy: one packet read, one packet sent",
        form: Form::Udp,
        ends: [End::OnePacket; 2],
    },
    Known {
        name: "udp",
        about: "flanneld's UDP form",
        form: Form::Udp,
        ends: [End::Flanneld; 2],
    },
    Known {
        name: "vxlan",
        about: "flanneld's VXLAN form",
        form: Form::Vxlan,
        ends: [End::Flanneld; 2],
    },
    Known {
        name: "host-gw",
        about: "flanneld's host-gw backend: routes, no tunnel",
        form: Form::Plain,
        ends: [End::Flanneld; 2],
    },
    Known {
        name: "stock-udp",
        about: "stock flannel's UDP form, with an etcd started for it",
        form: Form::Udp,
        ends: [End::Stock; 2],
    },
    Known {
        name: "stock-vxlan",
        about: "stock flannel's VXLAN, carried by the kernel",
        form: Form::Vxlan,
        ends: [End::Stock; 2],
    },
    Known {
        name: "stock-host-gw",
        about: "stock flannel's host-gw",
        form: Form::Plain,
        ends: [End::Stock; 2],
    },
    Known {
        name: "mixed-udp",
        about: "flanneld's UDP form to the one-packet peer",
        form: Form::Udp,
        ends: [End::Flanneld, End::OnePacket],
    },
    Known {
        name: "mixed-vxlan",
        about: "flanneld's VXLAN form to kernel VXLAN",
        form: Form::Vxlan,
        ends: [End::Flanneld, End::KernelVxlan],
    },
    Known {
        name: "mixed-vxlan-back",
        about: "kernel VXLAN to flanneld's VXLAN form",
        form: Form::Vxlan,
        ends: [End::KernelVxlan, End::Flanneld],
    },
    Known {
        name: "loopback",
        about: "one container with itself: what the traffic generator can do",
        form: Form::Plain,
        ends: [End::Loopback; 2],
    },
];

impl FromStr for PathSpec {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut parts = name.split('+');
        let base = parts.next().unwrap_or_default();
        let known = KNOWN
            .iter()
            .find(|known| known.name == base)
            .ok_or_else(|| {
                let names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
                format!("unknown path `{base}`: it is one of {}", names.join(", "))
            })?;
        let mut options: Vec<String> = parts.map(str::to_owned).collect();
        let leases = take(&mut options, STRANGERS);
        let inner = take(&mut options, INNER).map_or(Ok(false), |word| ipv6(&word))?;
        let outer = take(&mut options, OUTER).map_or(Ok(inner), |word| ipv6(&word))?;
        let watched = take(&mut options, WATCHED).is_some();
        if !options.is_empty() && !known.ends.iter().any(|end| end.is_daemon()) {
            return Err(format!("`{base}` has no daemon that could take options"));
        }
        if (watched || leases.is_some()) && known.ends != [End::Flanneld; 2] {
            return Err(format!(
                "`{base}` has no two daemons of ours to load leases, or to look at"
            ));
        }
        if inner && !known.carries_ipv6() {
            return Err(format!("`{base}` carries IPv4 alone"));
        }
        if inner != outer {
            if known.ends != [End::Flanneld; 2] || known.form == Form::Plain {
                return Err(format!(
                    "`{base}` carries each family between its own addresses"
                ));
            }
            options.push(format!("outer=ipv{}", if outer { 6 } else { 4 }));
        }
        if watched {
            options.push(format!("metrics-port={}", watch::PORT));
        }
        Ok(Self {
            name: name.to_owned(),
            form: known.form,
            ends: known.ends,
            options,
            strangers: leases.map_or(Ok(0), |count| strangers(&count))?,
            ipv6: inner,
            outer_ipv6: outer,
            watched,
        })
    }
}

/// Takes an option of the lab's out of a list; its value.
fn take(options: &mut Vec<String>, name: &str) -> Option<String> {
    let ours = options.extract_if(.., |option| option.starts_with(name));
    let last = ours.last()?;
    Some(last[name.len()..].to_owned())
}

fn ipv6(word: &str) -> Result<bool, String> {
    match word {
        "4" => Ok(false),
        "6" => Ok(true),
        _ => Err(format!(
            "`{INNER}` and `{OUTER}` are followed by 4 or 6, not {word}"
        )),
    }
}

fn strangers(word: &str) -> Result<u32, String> {
    let count = word.parse().ok();
    count
        .filter(|count| *count <= STRANGERS_MAX)
        .ok_or_else(|| {
            format!("`{STRANGERS}` is followed by a number up to {STRANGERS_MAX}, not {word}")
        })
}

impl PathSpec {
    /// Whether a daemon is part of it.
    pub fn has_daemon(&self) -> bool {
        self.ends.iter().any(|end| end.is_daemon())
    }

    /// Whether a stock daemon is part of it.
    pub fn has_stock(&self) -> bool {
        self.ends.contains(&End::Stock)
    }
}

impl fmt::Display for PathSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_follow_the_name_of_a_path() {
        let spec: PathSpec = "udp+io=epoll+spin=0".parse().unwrap();
        assert_eq!(spec.ends, [End::Flanneld, End::Flanneld]);
        assert_eq!(spec.options, ["io=epoll", "spin=0"]);
    }

    #[test]
    fn leases_of_others_are_no_option_of_the_daemon() {
        let spec: PathSpec = "vxlan+leases=1000+spin=0".parse().unwrap();
        assert_eq!(
            (spec.strangers, spec.options),
            (1000, vec!["spin=0".to_owned()])
        );
        assert!("vxlan+leases=many".parse::<PathSpec>().is_err());
        assert!("mixed-vxlan+leases=10".parse::<PathSpec>().is_err());
    }

    #[test]
    fn a_path_that_is_looked_at_has_something_to_look_at() {
        let spec: PathSpec = "udp+watched+leases=3".parse().unwrap();
        assert!(spec.watched);
        assert_eq!((spec.strangers, spec.options.len()), (3, 1));
        assert!("plain+watched".parse::<PathSpec>().is_err());
    }

    #[test]
    fn a_path_may_carry_ipv6() {
        for name in ["udp+inner=6", "kernel-vxlan+inner=6", "plain+inner=6"] {
            assert!(name.parse::<PathSpec>().unwrap().ipv6, "{name}");
        }
        assert!(!"vxlan+inner=4".parse::<PathSpec>().unwrap().ipv6);
        let across: PathSpec = "vxlan+outer=6+spin=0".parse().unwrap();
        assert!(across.outer_ipv6 && !across.ipv6);
        assert_eq!(across.options, ["spin=0", "outer=ipv6"]);
        let across: PathSpec = "udp+inner=6+outer=4".parse().unwrap();
        assert_eq!(
            (across.outer_ipv6, across.options),
            (false, vec!["outer=ipv4".to_owned()])
        );
        for wrong in [
            "kernel-vxlan+outer=6",
            "host-gw+outer=6",
            "plain+inner=6+outer=4",
        ] {
            assert!(wrong.parse::<PathSpec>().is_err(), "{wrong}");
        }
        for wrong in ["udp+inner=5", "one-packet+inner=6", "stock-udp+inner=6"] {
            assert!(wrong.parse::<PathSpec>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_without_a_daemon_takes_no_options() {
        assert!("plain+io=epoll".parse::<PathSpec>().is_err());
        assert!("nothing".parse::<PathSpec>().is_err());
    }
}

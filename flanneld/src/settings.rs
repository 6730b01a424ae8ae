//! The flags made meaningful. All checks are here, so that nothing later needs to doubt.

use crate::args::{self, Args, Io, Offload, VxlanDatapath};
use console::socket_beside;
use control::host::external_interface::Choice;
use control::host::firewall::Wanted;
use control::network::{Backend, Datapath, NetworkConfig};
use control::registry::EtcdOptions;
use engine::{IoChoice, Offloads, SourceCheck};
use regex::Regex;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the daemon was told to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) store: Store,
    pub(crate) margin: Duration,
    pub(crate) subnet_file: PathBuf,
    /// None to remember nothing.
    pub(crate) state_file: Option<PathBuf>,
    /// None to answer no questions.
    pub(crate) control_socket: Option<PathBuf>,
    pub(crate) interface: Choice,
    pub(crate) rules: Wanted,
    pub(crate) resync: Duration,
    pub(crate) blackhole: bool,
    pub(crate) vxlan_datapath: Option<Datapath>,
    pub(crate) probes: Option<SocketAddr>,
    pub(crate) engine: EngineOptions,
    pub(crate) verbosity: i32,
    /// What was typed without effect, to be told when there is a log.
    pub(crate) remarks: Vec<String>,
}

/// Where leases are kept.
#[derive(Debug)]
pub(crate) enum Store {
    /// In a directory.
    File {
        dir: PathBuf,
        config: Option<PathBuf>,
        lease_time: Duration,
    },
    /// In etcd.
    Etcd(EtcdOptions),
}

impl Store {
    /// What tells it from others.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File { dir, .. } => dir.display().to_string(),
            Self::Etcd(options) => options.prefix.clone(),
        }
    }
}

/// What the engine is told beyond what network and lease say.
#[derive(Debug)]
pub(crate) struct EngineOptions {
    pub(crate) io: IoChoice,
    pub(crate) workers: Option<usize>,
    pub(crate) pin: Option<bool>,
    pub(crate) spin: Duration,
    pub(crate) offloads: Offloads,
    pub(crate) flow_ports: bool,
    pub(crate) source_check: SourceCheck,
}

/// What is wrong with the flags, and the cure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong(String);

impl fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

const MARGIN_MINUTES_MAX: u64 = 1439;
const SPIN_MICROSECONDS_MAX: u64 = 1_000_000;

impl TryFrom<Args> for Settings {
    type Error = Wrong;

    fn try_from(args: Args) -> Result<Self, Wrong> {
        if args.kube_subnet_mgr {
            return wrong(
                "--kube-subnet-mgr is not built in yet; keep leases in etcd or a directory: see --etcd-endpoints and --store",
            );
        }
        Ok(Self {
            remarks: remarks(&args),
            store: store(&args)?,
            margin: margin(&args)?,
            engine: EngineOptions::try_from(&args)?,
            rules: Wanted {
                masquerade: args.ip_masq,
                random_ports: !args.ip_masq_fully_random_disable,
                forward: args.iptables_forward_rules,
            },
            resync: resync(&args)?,
            blackhole: args.ip_blackhole_route,
            vxlan_datapath: args.vxlan_datapath.map(datapath),
            probes: (args.healthz_port != 0)
                .then(|| SocketAddr::new(args.healthz_ip, args.healthz_port)),
            interface: Choice {
                interfaces: args.iface,
                patterns: args
                    .iface_regex
                    .iter()
                    .map(|text| pattern(text))
                    .collect::<Result<_, _>>()?,
                can_reach: args.iface_can_reach,
                public_ip: args.public_ip,
                public_ipv6: args.public_ipv6,
            },
            state_file: chosen(args.state_file, || beside(&args.subnet_file, ".state")),
            control_socket: chosen(args.control_socket, || socket_beside(&args.subnet_file)),
            subnet_file: args.subnet_file,
            verbosity: args.v,
        })
    }
}

impl TryFrom<&Args> for EngineOptions {
    type Error = Wrong;

    fn try_from(args: &Args) -> Result<Self, Wrong> {
        if args.workers == Some(0) {
            return wrong("--workers must be at least 1");
        }
        if args.spin > SPIN_MICROSECONDS_MAX {
            return wrong(format!(
                "--spin must be at most {SPIN_MICROSECONDS_MAX} microseconds"
            ));
        }
        Ok(Self {
            io: io(args.io),
            workers: args.workers,
            pin: args.pin,
            spin: Duration::from_micros(args.spin),
            offloads: offloads(args),
            flow_ports: args.udp_flow_ports,
            source_check: source_check(args.source_check),
        })
    }
}

impl Settings {
    /// Who wraps packets in VXLAN on this node: the flag is for one node, and wins over the config for all.
    pub(crate) fn datapath(&self, network: &NetworkConfig) -> Datapath {
        let configured = match &network.backend {
            Backend::Vxlan(options) => options.datapath,
            _ => None,
        };
        self.vxlan_datapath.or(configured).unwrap_or_default()
    }
}

fn datapath(typed: VxlanDatapath) -> Datapath {
    match typed {
        VxlanDatapath::Kernel => Datapath::Kernel,
        VxlanDatapath::Userspace => Datapath::Userspace,
    }
}

fn store(args: &Args) -> Result<Store, Wrong> {
    let lease_time = minutes(args.lease_time);
    if args.lease_time < 2 {
        return wrong("--lease-time must be at least 2 minutes");
    }
    match (args.store.as_str(), args.store.strip_prefix("file:")) {
        ("etcd", _) => etcd(args, lease_time).map(Store::Etcd),
        (_, Some(dir)) if !dir.is_empty() => Ok(Store::File {
            dir: dir.into(),
            config: args.net_config_path.clone(),
            lease_time,
        }),
        (typed, _) => wrong(format!(
            "--store={typed}: neither etcd nor of the form file:DIR"
        )),
    }
}

/// Flags that flannel takes too, and that change nothing there or here.
fn remarks(args: &Args) -> Vec<String> {
    let flags = [
        (
            args.vmodule.is_some(),
            "--vmodule has",
            "use -v for more log lines",
        ),
        (
            args.log_backtrace_at.is_some(),
            "--log_backtrace_at has",
            "use -v for more log lines",
        ),
        (
            args.net_config_path.is_some() && args.store == "etcd",
            "--net-config-path has",
            "with etcd the network config is kept there",
        ),
    ];
    let given = flags.into_iter().filter(|(given, ..)| *given);
    given
        .map(|(_, flag, instead)| format!("{flag} no effect: {instead}"))
        .collect()
}

fn etcd(args: &Args, lease_time: Duration) -> Result<EtcdOptions, Wrong> {
    let identity = match (&args.etcd_certfile, &args.etcd_keyfile) {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => return wrong("--etcd-certfile and --etcd-keyfile need each other"),
    };
    let user = match (&args.etcd_username, &args.etcd_password) {
        (Some(name), password) => Some((name.clone(), password.clone().unwrap_or_default())),
        (None, None) => None,
        (None, Some(_)) => return wrong("--etcd-password needs --etcd-username"),
    };
    Ok(EtcdOptions {
        endpoints: args.etcd_endpoints.clone(),
        prefix: args.etcd_prefix.clone(),
        ca_file: args.etcd_cafile.clone(),
        identity,
        user,
        lease_time,
    })
}

fn margin(args: &Args) -> Result<Duration, Wrong> {
    let margin = args.subnet_lease_renew_margin;
    if !(1..=MARGIN_MINUTES_MAX).contains(&margin) {
        return wrong(format!(
            "--subnet-lease-renew-margin must be between 1 and {MARGIN_MINUTES_MAX} minutes"
        ));
    }
    Ok(minutes(margin))
}

/// Beside the subnet file, of which each daemon on a host has its own.
fn beside(subnet_file: &Path, ending: &str) -> PathBuf {
    let mut name = subnet_file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A file as typed, or where it usually is; none for the word none.
fn chosen(typed: Option<PathBuf>, usual: impl FnOnce() -> PathBuf) -> Option<PathBuf> {
    let path = typed.unwrap_or_else(usual);
    (path.as_os_str() != "none").then_some(path)
}

fn resync(args: &Args) -> Result<Duration, Wrong> {
    if args.iptables_resync == 0 {
        return wrong("--iptables-resync must be at least 1 second");
    }
    Ok(Duration::from_secs(args.iptables_resync))
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(60))
}

fn pattern(text: &str) -> Result<Regex, Wrong> {
    Regex::new(text).map_err(|error| Wrong(format!("--iface-regex: {error}")))
}

fn source_check(typed: args::SourceCheck) -> SourceCheck {
    match typed {
        args::SourceCheck::Peers => SourceCheck::Peers,
        args::SourceCheck::Strict => SourceCheck::Strict,
        args::SourceCheck::Off => SourceCheck::Off,
    }
}

fn io(typed: Io) -> IoChoice {
    match typed {
        Io::Auto => IoChoice::Auto,
        Io::Uring => IoChoice::Uring,
        Io::UringMultishot => IoChoice::UringMultishot,
        Io::UringOneshot => IoChoice::UringOneshot,
        Io::Epoll => IoChoice::Epoll,
        Io::SingleQueue => IoChoice::SingleQueue,
    }
}

fn offloads(args: &Args) -> Offloads {
    let has = |list: &[Offload], which| list.contains(&which) || list.contains(&Offload::All);
    let on = |which| {
        args.offload.as_deref().is_none_or(|list| has(list, which)) && !has(&args.no_offload, which)
    };
    Offloads {
        tso: on(Offload::Tso),
        uso: on(Offload::Uso),
        gso: on(Offload::Gso),
        gro: on(Offload::Gro),
        merge: on(Offload::Merge),
        exact_ids: args.exact_ip_ids,
    }
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(why.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn settings(flags: &[&str]) -> Result<Settings, Wrong> {
        let words = ["flanneld", "--store=file:/s"].iter().chain(flags);
        Settings::try_from(Args::try_parse_from(words).unwrap())
    }

    #[test]
    fn leases_are_kept_in_etcd_unless_told_otherwise() {
        let plain = Settings::try_from(Args::try_parse_from(["flanneld"]).unwrap()).unwrap();
        let Store::Etcd(etcd) = plain.store else {
            panic!("not etcd")
        };
        assert_eq!(
            etcd.endpoints,
            ["http://127.0.0.1:4001", "http://127.0.0.1:2379"]
        );
        assert_eq!(etcd.prefix, "/coreos.com/network");
        assert!(settings(&["--store=redis:x"]).is_err() && settings(&["--store=file:"]).is_err());
        let remarks = settings(&["--store=etcd", "--net-config-path=/c"])
            .unwrap()
            .remarks;
        assert!(
            remarks[0].starts_with("--net-config-path has no effect"),
            "{remarks:?}"
        );
    }

    #[test]
    fn what_etcd_is_told_must_be_complete() {
        let etcd = |flag: &str| settings(&["--store=etcd", flag]);
        assert!(etcd("--etcd-certfile=/c").is_err() && etcd("--etcd-keyfile=/k").is_err());
        assert!(etcd("--etcd-password=p").is_err());
        assert!(etcd("--etcd-cafile=/ca").is_ok());
    }

    #[test]
    fn the_password_is_in_no_log_line() {
        let settings = settings(&[
            "--store=etcd",
            "--etcd-username=u",
            "--etcd-password=secret",
        ])
        .unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn the_last_of_a_repeated_flag_counts_but_interfaces_add_up() {
        let settings = settings(&["--spin=5", "--spin=7", "--iface=eth0", "--iface=eth1"]).unwrap();
        assert_eq!(settings.engine.spin, Duration::from_micros(7));
        assert_eq!(settings.interface.interfaces, ["eth0", "eth1"]);
    }

    #[test]
    fn offloads_are_chosen_or_left_out() {
        let on = |flags: &[&str]| {
            let offloads = settings(flags).unwrap().engine.offloads;
            [
                offloads.tso,
                offloads.uso,
                offloads.gso,
                offloads.gro,
                offloads.merge,
            ]
            .map(u8::from)
        };
        assert_eq!(on(&[]), [1, 1, 1, 1, 1]);
        assert_eq!(on(&["--offload=tso,gro"]), [1, 0, 0, 1, 0]);
        assert_eq!(on(&["--no-offload=merge"]), [1, 1, 1, 1, 0]);
        assert_eq!(on(&["--no-offload=all"]), [0, 0, 0, 0, 0]);
    }

    #[test]
    fn state_file_and_socket_are_beside_the_subnet_file_unless_told_otherwise() {
        let state = |flags: &[&str]| settings(flags).unwrap().state_file;
        let socket = |flags: &[&str]| settings(flags).unwrap().control_socket;
        let beside = state(&["--subnet-file=/run/x/subnet.env"]);
        assert_eq!(beside, Some("/run/x/subnet.env.state".into()));
        assert_eq!(state(&["--state-file=/s"]), Some("/s".into()));
        assert_eq!(state(&["--state-file=none"]), None);
        let beside = socket(&["--subnet-file=/run/x/subnet.env"]);
        assert_eq!(beside, Some("/run/x/subnet.env.sock".into()));
        assert_eq!(socket(&["--control-socket=none"]), None);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for flag in [
            "--subnet-lease-renew-margin=0",
            "--subnet-lease-renew-margin=1440",
            "--lease-time=1",
            "--iptables-resync=0",
            "--workers=0",
            "--spin=2000000",
            "--iface-regex=[",
        ] {
            assert!(settings(&[flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn switches_take_the_words_go_knows() {
        for (word, meaning) in [
            ("1", true),
            ("t", true),
            ("TRUE", true),
            ("True", true),
            ("0", false),
            ("f", false),
            ("F", false),
            ("False", false),
        ] {
            assert_eq!(
                settings(&[&format!("--pin={word}")]).unwrap().engine.pin,
                Some(meaning),
                "{word}"
            );
        }
        assert_eq!(settings(&["--pin"]).unwrap().engine.pin, Some(true));
        assert!(Args::try_parse_from(["flanneld", "--pin=yes"]).is_err());
    }

    #[test]
    fn an_unknown_flag_is_answered_with_the_nearest_name() {
        let error = Args::try_parse_from(["flanneld", "--ifac=eth0"]).unwrap_err();
        assert!(error.to_string().contains("--iface"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}

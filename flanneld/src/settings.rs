//! The flags made meaningful. All checks are here, so that nothing later needs to doubt.

use crate::args::{self, Args, EtcdVersion, Io, LogFormat, Offload, Outer, Sandbox, VxlanDatapath};
use console::socket_beside;
use control::host::external_interface::Choice;
use control::host::firewall::Wanted;
use control::network::{Backend, ConfigError, Datapath, FormName, NetworkConfig};
use control::registry::kube::{self, KubeOptions, NodeName};
use control::registry::{EtcdApi, EtcdOptions, Found};
use engine::{IoChoice, Offloads, Refusal, SourceCheck};
use regex::Regex;
use std::env;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
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
    /// Where a daemon waits for its successor.
    pub(crate) door: PathBuf,
    /// Whether to be one.
    pub(crate) takeover: bool,
    pub(crate) interface: Choice,
    pub(crate) rules: Wanted,
    pub(crate) resync: Duration,
    pub(crate) blackhole: bool,
    pub(crate) vxlan_datapath: Option<Datapath>,
    /// Between whose addresses packets travel, if not each family between its own.
    pub(crate) outer: Option<Outer>,
    /// What this node speaks, if that is not left to the network config.
    pub(crate) forms: Vec<FormName>,
    pub(crate) probes: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) engine: EngineOptions,
    pub(crate) verbosity: i32,
    pub(crate) log_format: LogFormat,
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
    /// By Kubernetes.
    Kube(KubeOptions),
}

impl Store {
    /// What tells it from others.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File { dir, .. } => dir.display().to_string(),
            Self::Etcd(options) => options.prefix.clone(),
            Self::Kube(options) => format!("kubernetes {}", options.prefix),
        }
    }

    /// Whether whoever runs the daemon starts it again whenever it ends, and ends it when another one works.
    pub(crate) fn restarts_always(&self) -> bool {
        matches!(self, Self::Kube(_))
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
    /// Datagrams are taken off the underlay device.
    pub(crate) shortcut: bool,
    pub(crate) source_check: SourceCheck,
    /// Whether privileges are given up, and what a worker meets that wants them back.
    pub(crate) confine: Option<Refusal>,
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
/// From what a busy store can be relied on to renew to ten years, which every store can count.
const LEASE_MINUTES: RangeInclusive<u64> = 2..=5_256_000;
/// Where the ConfigMap of a cluster is mounted.
const NET_CONFIG: &str = "/etc/kube-flannel/net-conf.json";
const SPIN_MICROSECONDS_MAX: u64 = 1_000_000;

impl TryFrom<Args> for Settings {
    type Error = Wrong;

    fn try_from(args: Args) -> Result<Self, Wrong> {
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
            outer: args.outer,
            forms: forms(&args.forms)?,
            probes: address(args.healthz_ip, args.healthz_port),
            metrics: address(args.metrics_ip, args.metrics_port),
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
                ..Choice::default()
            },
            door: beside(&args.subnet_file, ".takeover"),
            takeover: args.takeover,
            state_file: chosen(args.state_file, || beside(&args.subnet_file, ".state")),
            control_socket: chosen(args.control_socket, || socket_beside(&args.subnet_file)),
            subnet_file: args.subnet_file,
            verbosity: args.v,
            log_format: args.log_format,
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
            shortcut: args.shortcut,
            source_check: source_check(args.source_check),
            confine: confine(args.sandbox),
        })
    }
}

impl Settings {
    /// Who is answered over TCP, and where.
    pub(crate) fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let probes = self.probes.map(|address| ("probes", address));
        let metrics = self.metrics.map(|address| ("monitoring systems", address));
        probes.into_iter().chain(metrics).collect()
    }

    /// The network config for this node.
    pub(crate) fn network(&self, text: &str) -> Result<NetworkConfig, ConfigError> {
        NetworkConfig::parse(text)?.speaking(&self.forms)
    }

    /// Who wraps packets in VXLAN on this node: the flag is for one node, and wins over the config for all.
    pub(crate) fn datapath(&self, network: &NetworkConfig) -> Datapath {
        let configured = match &network.backend {
            Backend::Vxlan(options) => options.datapath,
            _ => None,
        };
        self.vxlan_datapath.or(configured).unwrap_or_default()
    }
}

/// Where to listen; port 0 for nowhere.
fn address(ip: IpAddr, port: u16) -> Option<SocketAddr> {
    (port != 0).then(|| SocketAddr::new(ip, port))
}

fn datapath(typed: VxlanDatapath) -> Datapath {
    match typed {
        VxlanDatapath::Kernel => Datapath::Kernel,
        VxlanDatapath::Userspace => Datapath::Userspace,
    }
}

fn forms(typed: &[args::Form]) -> Result<Vec<FormName>, Wrong> {
    if typed.len() > 1 && typed[1..].contains(&typed[0]) || typed.len() > 2 {
        return wrong("--forms takes udp, vxlan, or both, each once");
    }
    let name = |form: &args::Form| match form {
        args::Form::Udp => FormName::Udp,
        args::Form::Vxlan => FormName::Vxlan,
    };
    Ok(typed.iter().map(name).collect())
}

fn store(args: &Args) -> Result<Store, Wrong> {
    if !LEASE_MINUTES.contains(&args.lease_time) {
        let (min, max) = (LEASE_MINUTES.start(), LEASE_MINUTES.end());
        return wrong(format!(
            "--lease-time must be between {min} and {max} minutes"
        ));
    }
    let lease_time = minutes(args.lease_time);
    if args.kube_subnet_mgr {
        return kube(args).map(Store::Kube);
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
            args.net_config_path.is_some() && args.store == "etcd" && !args.kube_subnet_mgr,
            "--net-config-path has",
            "with etcd the network config is kept there",
        ),
        (
            args.subnet_lease_renew_margin >= args.lease_time,
            "--subnet-lease-renew-margin beyond --lease-time has",
            "leases are renewed after half their time",
        ),
    ];
    let given = flags.into_iter().filter(|(given, ..)| *given);
    given
        .map(|(_, flag, instead)| format!("{flag} no effect: {instead}"))
        .collect()
}

fn kube(args: &Args) -> Result<KubeOptions, Wrong> {
    if let Some(missing) = kube::MISSING {
        return wrong(format!("--kube-subnet-mgr: {missing}"));
    }
    if args.store != "etcd" {
        return wrong("--kube-subnet-mgr and --store exclude each other");
    }
    let prefix = args.kube_annotation_prefix.parse();
    let net_config = args.net_config_path.clone();
    Ok(KubeOptions {
        kubeconfig: args.kubeconfig_file.clone(),
        api_url: args.kube_api_url.clone(),
        prefix: prefix.map_err(|why| Wrong(format!("--kube-annotation-prefix: {why}")))?,
        net_config: net_config.unwrap_or_else(|| NET_CONFIG.into()),
        node: node_name(|name| env::var(name).ok())?,
        tell_condition: args.set_node_network_unavailable,
    })
}

fn node_name(variable: impl Fn(&str) -> Option<String>) -> Result<NodeName, Wrong> {
    let said = |name| variable(name).filter(|text| !text.is_empty());
    match (said("NODE_NAME"), said("POD_NAMESPACE"), said("POD_NAME")) {
        (Some(name), ..) => Ok(NodeName::Known(name)),
        (None, Some(namespace), Some(pod)) => Ok(NodeName::OfPod { namespace, pod }),
        _ => wrong(
            "env variables POD_NAME and POD_NAMESPACE must be set, or NODE_NAME: as in deploy/kube-flannel.yml, or to the node's name by hand",
        ),
    }
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
        api: match args.etcd_api {
            EtcdVersion::V2 => EtcdApi::V2,
            EtcdVersion::V3 => EtcdApi::V3,
            EtcdVersion::Auto => EtcdApi::Auto(Found::default()),
        },
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

fn confine(typed: Sandbox) -> Option<Refusal> {
    match typed {
        Sandbox::On => Some(Refusal::Error),
        Sandbox::Off => None,
        Sandbox::Kill => Some(Refusal::End),
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
        favourite: on(Offload::Favourite),
        exact_ids: args.exact_ip_ids,
    }
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong(why.into()))
}

#[cfg(test)]
mod tests;

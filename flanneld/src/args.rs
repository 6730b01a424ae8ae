//! The flags exactly as typed; what they mean is in `settings`.

use clap::{ArgAction, Parser, ValueEnum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

const KUBE: &str = "Kubernetes";
const OWN: &str = "Additions of this implementation";

const ABOUT: &str = "Gives every container on every host an address, and carries packets between them.

Each node leases a subnet of one overlay network and writes it to the subnet file for container runtimes. \
Packets to other nodes' subnets go into the device flannel0 and travel in UDP datagrams, bare (backend udp) or as \
VXLAN (vxlan), by a packet engine in this process. Without it, the kernel carries them: by plain routes (host-gw, \
DirectRouting) or by its own VXLAN device (--vxlan-datapath=kernel).";

const EXAMPLES: &str = "Every flag can be given as FLANNELD_ and its name in capitals in the environment, with _ for -.
One dash is as good as two.

flanneld cleanup [flags] removes what runs of this daemon and of flannel left on this host: devices, routes,
firewall rules, subnet file, state file and socket. Give it the flags the daemon was given; --dry-run only tells.

flanneld upgrade [flags] starts this program in place of the daemon that runs, without losing a packet: it starts
flanneld --takeover [flags] in the background and ends when that has taken over (0), or has failed (1) and the old
daemon goes on. Give it the flags the daemon was given.

Exit codes: 0 asked to end by SIGTERM, SIGINT or SIGQUIT; 1 cannot start; 2 flags that make no sense;
128 and the signal's number when a second signal came first. Rules and files stay for containers that run on.

Example with etcd, on each host:
  etcdctl put /coreos.com/network/config '{\"Network\":\"10.5.0.0/16\",\"Backend\":{\"Type\":\"vxlan\"}}'
  flanneld --etcd-endpoints=http://10.0.0.1:2379 --iface=eth0

Example in Kubernetes: kubectl apply -f deploy/kube-flannel.yml, or deploy/chart with helm.

Example without, on each of several hosts that share a directory:
  echo '{\"Network\":\"10.5.0.0/16\",\"Backend\":{\"Type\":\"vxlan\"}}' > /srv/flannel/config
  flanneld --store=file:/srv/flannel --iface=eth0
  . /run/flannel/subnet.env; echo \"containers here: $FLANNEL_SUBNET, MTU $FLANNEL_MTU\"";

/// The flags.
#[derive(Debug, Parser)]
#[command(name = "flanneld", about = ABOUT, after_help = EXAMPLES, args_override_self = true, disable_version_flag = true, disable_help_flag = true, max_term_width = 100)]
pub(crate) struct Args {
    /// Interface for traffic between hosts, by name or address; may be repeated, the first that exists is taken
    #[arg(long, value_name = "NAME|IP", action = ArgAction::Append)]
    pub(crate) iface: Vec<String>,

    /// Regular expression for the interface, tried on addresses, then names, after every --iface
    #[arg(long, value_name = "REGEX", action = ArgAction::Append)]
    pub(crate) iface_regex: Vec<String>,

    /// Take the interface the kernel would reach this address by, if nothing else matched
    #[arg(long, value_name = "IP")]
    pub(crate) iface_can_reach: Option<IpAddr>,

    /// Address other nodes send to; alone, it also chooses the interface [default: the interface's]
    #[arg(long, value_name = "IP")]
    pub(crate) public_ip: Option<Ipv4Addr>,

    /// IPv6 address other nodes send to [default: the interface's]
    #[arg(long, value_name = "IPV6")]
    pub(crate) public_ipv6: Option<Ipv6Addr>,

    /// etcd servers, tried in turn
    #[arg(
        long,
        value_name = "URL,...",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:4001,http://127.0.0.1:2379"
    )]
    pub(crate) etcd_endpoints: Vec<String>,

    /// What comes before every key in etcd
    #[arg(long, value_name = "PATH", default_value = "/coreos.com/network")]
    pub(crate) etcd_prefix: String,

    /// Certificates that vouch for etcd servers, PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cafile: Option<PathBuf>,

    /// Certificate to show to etcd servers, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_certfile: Option<PathBuf>,

    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_keyfile: Option<PathBuf>,

    /// User name for etcd
    #[arg(long, value_name = "NAME")]
    pub(crate) etcd_username: Option<String>,

    /// Password for etcd; others on this host see the command line, so rather use the environment
    #[arg(long, value_name = "PASSWORD")]
    pub(crate) etcd_password: Option<String>,

    /// File that tells container runtimes the subnet and MTU; read at start for the subnet to ask for again
    #[arg(long, value_name = "FILE", default_value = "/run/flannel/subnet.env")]
    pub(crate) subnet_file: PathBuf,

    /// How long before its end the lease is renewed
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub(crate) subnet_lease_renew_margin: u64,

    /// Hide pods' addresses outside the overlay network behind the host's
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true)]
    pub(crate) ip_masq: bool,

    /// Choose source ports of hidden connections as the kernel likes, not wholly at random
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true)]
    pub(crate) ip_masq_fully_random_disable: bool,

    /// Let pods' packets pass where the host forwards nothing by itself
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "true", default_missing_value = "true", value_parser = go_bool)]
    pub(crate) iptables_forward_rules: bool,

    /// How often firewall rules are looked after unasked; their removal is mostly noticed at once
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) iptables_resync: u64,

    /// Let packets for this node's subnet end here, not leave through other routes, while no bridge takes them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true)]
    pub(crate) ip_blackhole_route: bool,

    /// Address to answer health probes on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub(crate) healthz_ip: IpAddr,

    /// Port to answer /healthz and /readyz on; 0 for none
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) healthz_port: u16,

    /// Log level: 0 events, 1 more, 4 everything
    #[arg(
        long,
        value_name = "LEVEL",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub(crate) v: i32,

    /// Log levels by source file: without effect here
    #[arg(long, value_name = "FILE=LEVEL,...")]
    pub(crate) vmodule: Option<String>,

    /// Where to log a backtrace: without effect here
    #[arg(long = "log_backtrace_at", value_name = "FILE:LINE")]
    pub(crate) log_backtrace_at: Option<String>,

    /// Print the version and exit
    #[arg(long, num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true)]
    pub(crate) version: bool,

    /// Print this help and exit
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Take the subnet from the Kubernetes API instead of etcd: this node's podCIDR. Which node it is say NODE_NAME, or
    /// POD_NAME and POD_NAMESPACE, in the environment
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true, help_heading = KUBE)]
    pub(crate) kube_subnet_mgr: bool,

    /// URL of the API server [default: the one in --kubeconfig-file, or else the one a pod is told of]
    #[arg(long, value_name = "URL", help_heading = KUBE)]
    pub(crate) kube_api_url: Option<String>,

    /// How to log in there [default: as the pod this runs in]
    #[arg(long, value_name = "FILE", help_heading = KUBE)]
    pub(crate) kubeconfig_file: Option<PathBuf>,

    /// What comes before the names of node annotations
    #[arg(long, value_name = "PREFIX", default_value = "flannel.alpha.coreos.com", help_heading = KUBE)]
    pub(crate) kube_annotation_prefix: String,

    /// Tell the cluster when the node's network works, by its condition NetworkUnavailable
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "true", default_missing_value = "true", value_parser = go_bool, help_heading = KUBE)]
    pub(crate) set_node_network_unavailable: bool,

    /// File with the network config [default: /etc/kube-flannel/net-conf.json]; also with --store=file:DIR, instead of
    /// the one there
    #[arg(long, value_name = "FILE", help_heading = KUBE)]
    pub(crate) net_config_path: Option<PathBuf>,

    /// Where leases are kept: in etcd, or in a directory that all nodes share
    #[arg(long, value_name = "etcd|file:DIR", default_value = "etcd", help_heading = OWN)]
    pub(crate) store: String,

    /// Version of etcd's API: v3 as flannel since 0.18, v2 as before; auto asks which has the cluster's records
    #[arg(long, value_enum, default_value_t = EtcdVersion::V3, value_name = "VERSION", help_heading = OWN)]
    pub(crate) etcd_api: EtcdVersion,

    /// With cleanup: only tell what would be removed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true, help_heading = OWN)]
    pub(crate) dry_run: bool,

    /// With cleanup: give this node's lease back, too, so that others can have its subnet at once
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true, help_heading = OWN)]
    pub(crate) release_lease: bool,

    /// What this node knows of config, lease and peers, for a start while the store does not answer; none
    /// to remember nothing [default: the subnet file's name and .state]
    #[arg(long, value_name = "FILE", help_heading = OWN)]
    pub(crate) state_file: Option<PathBuf>,

    /// Socket that flannelctl asks over, for root only; none for no socket
    /// [default: the subnet file's name and .sock]
    #[arg(long, value_name = "FILE", help_heading = OWN)]
    pub(crate) control_socket: Option<PathBuf>,

    /// What log lines look like
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT", help_heading = OWN)]
    pub(crate) log_format: LogFormat,

    /// Address to answer monitoring systems and browsers on; they need no password, so others should not reach it
    #[arg(long, value_name = "IP", default_value = "127.0.0.1", help_heading = OWN)]
    pub(crate) metrics_ip: IpAddr,

    /// Port to answer /metrics on, in OpenMetrics form, and / with a status page for a browser; 0 for none
    #[arg(long, value_name = "PORT", default_value_t = 0, help_heading = OWN)]
    pub(crate) metrics_port: u16,

    /// Take over from the daemon with the same subnet file, without losing a packet: it hands over device, sockets and
    /// lease and ends; where none runs, this is an ordinary start
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true, help_heading = OWN)]
    pub(crate) takeover: bool,

    /// How long a lease lasts unless renewed: how long a node may be away and find its subnet still reserved for it
    #[arg(long, value_name = "MINUTES", default_value_t = 1440, help_heading = OWN)]
    pub(crate) lease_time: u64,

    /// Who wraps packets in VXLAN on this node: the packet engine, or a device of the kernel's, which stays when the
    /// daemon ends [default: Datapath of the network config, or else userspace]
    #[arg(long, value_enum, value_name = "WHO", help_heading = OWN)]
    pub(crate) vxlan_datapath: Option<VxlanDatapath>,

    /// Forms this node speaks with others, each by what the other's lease says; its own lease says the first. Both ports are
    /// open with udp,vxlan or vxlan,udp [default: what the network config says]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", help_heading = OWN)]
    pub(crate) forms: Vec<Form>,

    /// Between which addresses of nodes packets of both families travel: for IPv6 in containers where the nodes have IPv4
    /// alone, or the reverse; nodes of this daemon understand it [default: each family between its own]
    #[arg(long, value_enum, value_name = "FAMILY", help_heading = OWN)]
    pub(crate) outer: Option<Outer>,

    /// on: give up every privilege the running daemon does not need; kill: also end it where a worker tries for more all the same; off: keep all
    #[arg(long, value_enum, default_value_t = Sandbox::On, help_heading = OWN)]
    pub(crate) sandbox: Sandbox,

    /// How packets are moved; auto takes what works best on this kernel and says which
    #[arg(long, value_enum, default_value_t = Io::Auto, help_heading = OWN)]
    pub(crate) io: Io,

    /// Worker threads [default: by the number of processors]
    #[arg(long, value_name = "N", help_heading = OWN)]
    pub(crate) workers: Option<usize>,

    /// Bind each worker to one processor [default: where each has one to itself]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool, help_heading = OWN)]
    pub(crate) pin: Option<bool>,

    /// How long a worker looks for more packets before it sleeps: lower latency for processor time;
    /// it gives up by itself where packets come too rarely for that, 0 turns it off
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 50, help_heading = OWN)]
    pub(crate) spin: u64,

    /// Use these offloads where the kernel has them, and no others [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", help_heading = OWN)]
    pub(crate) offload: Option<Vec<Offload>>,

    /// Do without these offloads
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", help_heading = OWN)]
    pub(crate) no_offload: Vec<Offload>,

    /// Join inner packets only where every IPv4 identification comes back exactly
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true, help_heading = OWN)]
    pub(crate) exact_ip_ids: bool,

    /// Whose packets are taken in
    #[arg(long, value_enum, value_name = "WHOSE", default_value_t = SourceCheck::Peers, help_heading = OWN)]
    pub(crate) source_check: SourceCheck,

    /// Spread the flows of the UDP form over source ports, so that networks can balance them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true, help_heading = OWN)]
    pub(crate) udp_flow_ports: bool,

    /// Take datagrams off the underlay device ahead of the kernel's stack (native XDP): faster where they
    /// come in one by one, as from a device without GRO; the host's packet filter does not see them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, action = ArgAction::Set, default_value = "false", default_missing_value = "true", value_parser = go_bool, hide_default_value = true, help_heading = OWN)]
    pub(crate) shortcut: bool,
}

/// A version of etcd's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EtcdVersion {
    V2,
    V3,
    Auto,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// As stock flannel's
    Text,
    /// An object in JSON
    Json,
}

/// Who wraps packets in VXLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VxlanDatapath {
    /// The packet engine of this process
    Userspace,
    /// A kernel device, as stock flannel makes it
    Kernel,
}

/// Addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outer {
    /// Those of IPv4
    Ipv4,
    /// Those of IPv6
    Ipv6,
}

/// How packets are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Bare in UDP datagrams
    Udp,
    /// As VXLAN
    Vxlan,
}

/// Whose packets are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceCheck {
    /// Those of nodes with a lease, from any address but this node's own
    Peers,
    /// Those of nodes with a lease, each from its own subnets alone
    Strict,
    /// Anybody's, as in stock flannel
    Off,
}

/// What the daemon keeps of its privileges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sandbox {
    /// What it needs; anything else fails, and what workers try of it is counted and told
    On,
    /// Everything it was started with
    Off,
    /// What it needs; a worker that tries for more ends the daemon
    Kill,
}

/// Ways to move packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Io {
    /// Whatever works best here
    Auto,
    /// io_uring in the best form this kernel has
    Uring,
    /// io_uring with reads that keep delivering (Linux 6.7)
    UringMultishot,
    /// io_uring with batches of single reads
    UringOneshot,
    /// epoll, where io_uring is forbidden
    Epoll,
    /// One queue and no offload on the device, for old kernels and sandboxes
    SingleQueue,
}

/// Offloads that can be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Offload {
    /// TCP super-packets on the device
    Tso,
    /// UDP super-packets on the device
    Uso,
    /// Many datagrams in one send
    Gso,
    /// Many datagrams in one receive
    Gro,
    /// Inner packets joined before they are written
    Merge,
    /// A socket for the node alone that most comes from
    Favourite,
    /// All of them
    All,
}

/// The words for yes and no that Go knows.
fn go_bool(word: &str) -> Result<bool, String> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

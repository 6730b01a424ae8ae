//! The command line exactly as typed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use benches::between::PORT;
use benches::measure::Measurement;
use benches::{PathSpec, Profile};
use clap::{Args, Parser, Subcommand, ValueEnum};

const BENCH: &str = "Measures what flanneld carries, beside kernel VXLAN, plain routing and others.

Builds pairs of nodes with a container each in network namespaces of this machine, joins each pair in another way, sends \
the same traffic through all of them in turn, and writes a report with tables, plots and raw numbers. Needs root. Everything it sets up is gone \
when it ends, however it ends. Nothing outside its own namespaces is touched.";

const SERVE: &str = "Plays the other machine for `flannelctl bench --between`.

It authenticates nobody: whoever reaches it can make it send and receive test traffic. So it listens only on the addresses \
named here and only until it is interrupted, serves one client at a time, and sends datagrams only to where some have come \
from. Needs no root.";

const EXAMPLES: &str = "Examples:
  flannelctl bench --quick                       the gist, in less than a minute
  flannelctl bench                               everything, in less than a quarter of an hour
  flannelctl bench --paths kernel-vxlan,udp,udp+io=epoll --metrics tcp1,tcp4-back,max64,rr
  flannelctl bench --stock /usr/bin/flanneld     stock flannel as well, with an etcd started for it
  flannelctl bench --list                        every path, profile and metric with its meaning

Between two machines, with the daemon running on both:
  there$ flannelctl bench serve --listen 192.0.2.2 --listen 10.5.7.0
  here#  flannelctl bench --between 192.0.2.2 --through underlay=192.0.2.2,overlay=10.5.7.0

Both nodes, the daemons and both ends of the traffic share one machine: throughput is the inverse of what everything together \
costs the processors. Compare paths of one run, never numbers of different machines.";

const CODES: &str = "Exit codes: 0 all is well; 1 something is wrong, with the daemon or with asking it; 2 a command line that makes no sense;
3 no daemon is there; 4 a daemon is there and does not answer.";

/// Looks after flanneld.
#[derive(Debug, Parser)]
#[command(name = "flannelctl", version, max_term_width = 100, after_help = CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell how the daemon fares: lease, store, peers, how packets are carried, and what is wrong
    Status(Asking),

    /// Tell this node's subnet, since when it has it and how long; or look after the leases of all nodes
    Lease(Lease),

    /// List the nodes packets go to
    Peers(Asking),

    /// List the subnets packets go to, and through what
    Routes(Asking),

    /// Print every counter, each worker's beside the total
    Stats(Asking),

    /// Tell what was not carried, why, and how often at the moment
    Drops(Rates),

    /// Watch what the daemon moves: rates by peer and worker, drops, sizes of batches
    Top(Top),

    /// Check a network config before it is rolled out
    #[command(subcommand)]
    Config(Config),

    /// Show each of two stores the leases of the other, so that nodes of both form one network
    #[command(after_help = crate::bridge::HELP)]
    Bridge(Box<crate::bridge::Arguments>),

    /// Look for what usually keeps packets from getting through, and name the cure
    Doctor(Doctor),

    /// Write packets to a file for Wireshark: inside the tunnel, around it, and dropped ones with the reason
    Capture(Capture),

    /// Send packets to another node as containers' go, and name the hop that fails
    Ping(Ping),

    /// Measure what flanneld carries, beside kernel VXLAN and others, and write a report
    #[command(long_about = BENCH, after_help = EXAMPLES)]
    Bench(Box<Bench>),
}

/// Which daemon is asked, and for whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct Asking {
    /// Socket of the daemon; it has one beside its subnet file
    #[arg(
        long,
        value_name = "FILE",
        env = "FLANNELCTL_SOCKET",
        default_value = "/run/flannel/subnet.env.sock"
    )]
    pub(crate) socket: PathBuf,

    /// Print JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// The flags of `lease`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Lease {
    #[command(subcommand)]
    pub(crate) all: Option<crate::leases::Command>,

    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// The flags of `top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) asking: Asking,

    /// How often to ask
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) interval: Duration,
}

/// What can be done with a config.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Say what a config would do, and what in it is perhaps not meant
    Check(Check),
}

/// The flags of `config check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// File with the config, - for the standard input; with --etcd-endpoints the key in etcd
    #[arg(value_name = "FILE|KEY")]
    pub(crate) source: String,

    /// Read the key from these etcd servers
    #[arg(long, value_delimiter = ',', value_name = "URL,...")]
    pub(crate) etcd_endpoints: Option<Vec<String>>,

    /// Certificates that vouch for them, PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cafile: Option<PathBuf>,

    /// Certificate to show to them, PEM
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub(crate) etcd_certfile: Option<PathBuf>,

    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub(crate) etcd_keyfile: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// The flags of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) asking: Asking,

    /// How many nodes to try the way to
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) peers: usize,
}

/// The flags of `capture`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Capture {
    /// Where to write them, in pcapng form; - for the standard output
    #[arg(value_name = "FILE")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) asking: Asking,

    /// Which packets
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "inner,outer,dropped"
    )]
    pub(crate) what: Vec<What>,

    /// Only packets of this host, or from it
    #[arg(long, value_name = "IP")]
    pub(crate) host: Option<IpAddr>,

    /// Of dropped packets only those dropped for this reason, as flannelctl drops calls it
    #[arg(long, value_name = "NAME")]
    pub(crate) reason: Option<String>,

    /// End after so long
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = interval)]
    pub(crate) seconds: Duration,

    /// End after so many packets
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) packets: usize,

    /// Keep so much of each
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub(crate) snap: usize,
}

/// Which packets to capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// On the daemon's device, before they are wrapped and after they are unwrapped
    Inner,
    /// The datagrams that carry them
    Outer,
    /// What is not carried, with the reason as comment: the first 256 bytes of each
    Dropped,
}

/// The flags of `ping`.
#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// A node's address, or one in its subnet
    #[arg(value_name = "IP")]
    pub(crate) peer: IpAddr,

    #[command(flatten)]
    pub(crate) asking: Asking,

    /// How many packets
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) count: u32,

    /// Whole size of each, which must not be fragmented
    #[arg(long, value_name = "BYTES")]
    pub(crate) size: Option<u32>,
}

/// The flags of `drops`.
#[derive(Debug, Args)]
pub(crate) struct Rates {
    #[command(flatten)]
    pub(crate) asking: Asking,

    /// How long to watch for the rates
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) interval: Duration,
}

/// What `bench` can do besides measuring.
#[derive(Debug, Subcommand)]
pub(crate) enum Other {
    /// Play the other machine for --between
    #[command(long_about = SERVE)]
    Serve(Serve),
    /// Say which ratios of a report another one confirms
    Compare(Compare),
}

/// The flags of `bench compare`.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Directory of a report
    #[arg(value_name = "BEFORE")]
    pub(crate) before: PathBuf,

    /// Directory of the report to compare with it
    #[arg(value_name = "AFTER")]
    pub(crate) after: PathBuf,

    /// Mark ratios that differ by more than this
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    pub(crate) limit: f64,
}

/// The flags of `bench serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on; the first is where --between goes, traffic may come to all of them
    #[arg(long, required = true, value_name = "IP[:PORT]", value_parser = endpoint)]
    pub(crate) listen: Vec<SocketAddr>,

    /// End after the first client
    #[arg(long)]
    pub(crate) once: bool,
}

/// The flags of `bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, args_override_self = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) other: Option<Other>,

    /// Only the gist, in less than a minute
    #[arg(long)]
    pub(crate) quick: bool,

    /// Paths to compare [default: all; with --quick the main ones]
    #[arg(long, value_delimiter = ',', value_name = "PATH[+OPTION],...")]
    pub(crate) paths: Option<Vec<PathSpec>>,

    /// What to measure; NAME-back sends the other way [default: all; with --quick few]
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub(crate) metrics: Option<Vec<Measurement>>,

    /// What the link between the nodes does to large packets: wire, wiregro, wirepinned, offload
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME,...",
        default_value = "wire"
    )]
    pub(crate) profiles: Vec<Profile>,

    /// How often everything is measured [default: 5; with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repeats: Option<u32>,

    /// Seconds of traffic in one measurement [default: 0.5; with --quick 0.2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<f64>,

    /// Paths the others are compared with [default: kernel-vxlan,one-packet,plain]
    #[arg(long, value_delimiter = ',', value_name = "PATH,...")]
    pub(crate) references: Option<Vec<String>>,

    /// The daemon to measure [default: flanneld beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) flanneld: Option<PathBuf>,

    /// A stock flanneld to compare with; needs etcd and etcdctl, and the kernel module br_netfilter
    #[arg(long, value_name = "FILE")]
    pub(crate) stock: Option<PathBuf>,

    /// Measure the networks to another machine, where `flannelctl bench serve` runs; needs no root
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with_all = ["paths", "profiles", "stock", "flanneld"])]
    pub(crate) between: Option<String>,

    /// Addresses of the other machine to compare, each with a name [default: direct=HOST]
    #[arg(long, value_delimiter = ',', value_name = "NAME=IP,...", requires = "between", value_parser = network)]
    pub(crate) through: Vec<(String, IpAddr)>,

    /// Directory for report, plots and raw numbers [default: a new one here, by date]
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,

    /// No progress on the error output
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Say what can be measured, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,
}

/// An address, with the usual port where none is given.
fn endpoint(word: &str) -> Result<SocketAddr, String> {
    let alone = || word.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT));
    let endpoint = word.parse().or_else(|_| alone());
    endpoint.map_err(|_| "not an IP address, with a port or without".to_owned())
}

/// A named address.
fn network(word: &str) -> Result<(String, IpAddr), String> {
    let pair = word.split_once('=').and_then(|(name, address)| {
        let address = address.parse().ok()?;
        (!name.is_empty()).then(|| (name.to_owned(), address))
    });
    pair.ok_or_else(|| "not a name and an IP address, as in overlay=10.5.7.0".to_owned())
}

/// A time somebody may wait.
fn interval(word: &str) -> Result<Duration, String> {
    seconds(word).map(Duration::from_secs_f64)
}

/// A time that measures something and ends some day.
fn seconds(word: &str) -> Result<f64, String> {
    let seconds: f64 = word.parse().map_err(|_| "not a number".to_owned())?;
    let sensible = (0.05..=3600.0).contains(&seconds);
    sensible
        .then_some(seconds)
        .ok_or_else(|| "not between 0.05 and 3600".to_owned())
}

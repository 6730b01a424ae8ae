//! `flannelctl bridge`: joins two stores until it is interrupted.

use crate::exit::Exit;
use crate::keeping::{directory, etcd, user};
use clap::Args;
use control::bridge::{Bridge, Happening, Store};
use control::registry::{EtcdApi, EtcdOptions, Steward};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

/// What the help ends with.
pub(crate) const HELP: &str = "Stores:
  v2:URL,...[/PREFIX]   etcd by version 2 of its API, as flannel up to 0.17
  v3:URL,...[/PREFIX]   etcd by version 3, as flannel since 0.18; the usual prefix is /coreos.com/network
  file:DIR              a directory, as flanneld --store=file:DIR

A copy carries the bridge's name in a field that nodes pass over, and lasts as long as the record it was made from: when
the bridge ends, copies end with their records. It can be ended, killed and started again at any moment. Both stores
need the same network config, up to the ranges of subnets; where the backends are udp and vxlan, each with a Beside for the
other. For a service manager every flag but --drain is also a variable, as --from-cafile is FLANNELCTL_FROM_CAFILE.

Example, for nodes of flannel 0.11 and later ones with one etcd:
  flannelctl bridge --from v2:http://10.0.0.1:2379 --to v3:http://10.0.0.1:2379";

/// Where flannel's keys are unless told otherwise.
const PREFIX: &str = "/coreos.com/network";

/// The flags of `bridge`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// One store
    #[arg(long, value_name = "STORE", env = "FLANNELCTL_FROM", value_parser = place)]
    from: Place,

    /// The other; both are given the leases of the other
    #[arg(long, value_name = "STORE", env = "FLANNELCTL_TO", value_parser = place)]
    to: Place,

    /// Name in the copies; the same one after a restart [default: made of both stores]
    #[arg(long, value_name = "NAME", env = "FLANNELCTL_NAME", value_parser = bridge_name)]
    name: Option<String>,

    /// Remove this bridge's copies from both stores, and end
    #[arg(long)]
    drain: bool,

    /// How long leases last, as the daemons have it: for directories, and for copies of reservations
    #[arg(long, value_name = "MINUTES", env = "FLANNELCTL_LEASE_TIME", default_value_t = 1440, value_parser = clap::value_parser!(u32).range(2..=5_256_000))]
    lease_time: u32,

    /// Certificates that vouch for the servers of --from, PEM [default: the system's]
    #[arg(long, value_name = "FILE", env = "FLANNELCTL_FROM_CAFILE")]
    from_cafile: Option<PathBuf>,

    /// Certificate to show to them, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "FLANNELCTL_FROM_CERTFILE",
        requires = "from_keyfile"
    )]
    from_certfile: Option<PathBuf>,

    /// Key of that certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "FLANNELCTL_FROM_KEYFILE",
        requires = "from_certfile"
    )]
    from_keyfile: Option<PathBuf>,

    /// User name there
    #[arg(long, value_name = "NAME", env = "FLANNELCTL_FROM_USERNAME")]
    from_username: Option<String>,

    /// Password there; others on this host see the command line, so rather use the environment
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "FLANNELCTL_FROM_PASSWORD",
        hide_env_values = true
    )]
    from_password: Option<String>,

    /// Certificates that vouch for the servers of --to, PEM [default: the system's]
    #[arg(long, value_name = "FILE", env = "FLANNELCTL_TO_CAFILE")]
    to_cafile: Option<PathBuf>,

    /// Certificate to show to them, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "FLANNELCTL_TO_CERTFILE",
        requires = "to_keyfile"
    )]
    to_certfile: Option<PathBuf>,

    /// Key of that certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        env = "FLANNELCTL_TO_KEYFILE",
        requires = "to_certfile"
    )]
    to_keyfile: Option<PathBuf>,

    /// User name there
    #[arg(long, value_name = "NAME", env = "FLANNELCTL_TO_USERNAME")]
    to_username: Option<String>,

    /// Password there; others on this host see the command line, so rather use the environment
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "FLANNELCTL_TO_PASSWORD",
        hide_env_values = true
    )]
    to_password: Option<String>,
}

/// A store as typed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Directory(PathBuf),
    Etcd {
        v2: bool,
        endpoints: Vec<String>,
        prefix: String,
    },
}

/// What is needed to be let in.
struct Pass {
    ca_file: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    user: Option<(String, String)>,
}

/// Joins the stores, or removes what was copied.
pub(crate) fn run(arguments: &Arguments) -> Exit {
    match work(arguments) {
        Ok(()) => Exit::Well,
        Err(why) => {
            eprintln!("flannelctl: {why}");
            Exit::Failed
        }
    }
}

fn work(arguments: &Arguments) -> Result<(), String> {
    if arguments.from == arguments.to {
        return Err("--from and --to are the same store".to_owned());
    }
    let name = arguments
        .name
        .clone()
        .unwrap_or_else(|| usual_name(arguments));
    let stores = arguments.stores()?;
    let mut bridge = Bridge::new(&name, stores, say);
    if arguments.drain {
        return bridge.drain().map_err(|error| error.to_string());
    }
    let (happenings, inbox) = channel();
    end_on_signals(happenings.clone()).map_err(|error| error.to_string())?;
    bridge
        .run(&happenings, &inbox)
        .map_err(|error| error.to_string())
}

/// A line for whoever reads along; nobody has to.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn end_on_signals(happenings: Sender<Happening>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().spawn(move || {
        for _ in signals.forever() {
            let _ = happenings.send(Happening::Stop);
        }
    })?;
    Ok(())
}

impl Arguments {
    fn stores(&self) -> Result<[Store; 2], String> {
        let lease_time = Duration::from_secs(u64::from(self.lease_time) * 60);
        let from = Pass {
            ca_file: self.from_cafile.clone(),
            identity: self.from_certfile.clone().zip(self.from_keyfile.clone()),
            user: user(self.from_username.as_deref(), self.from_password.as_deref()),
        };
        let to = Pass {
            ca_file: self.to_cafile.clone(),
            identity: self.to_certfile.clone().zip(self.to_keyfile.clone()),
            user: user(self.to_username.as_deref(), self.to_password.as_deref()),
        };
        Ok([
            self.from.open(from, lease_time)?,
            self.to.open(to, lease_time)?,
        ])
    }
}

impl Place {
    fn open(&self, pass: Pass, lease_time: Duration) -> Result<Store, String> {
        let registry: Arc<dyn Steward> = match self {
            Self::Directory(dir) => directory(dir, lease_time)?,
            Self::Etcd {
                v2,
                endpoints,
                prefix,
            } => etcd(EtcdOptions {
                api: if *v2 { EtcdApi::V2 } else { EtcdApi::V3 },
                endpoints: endpoints.clone(),
                prefix: prefix.clone(),
                ca_file: pass.ca_file,
                identity: pass.identity,
                user: pass.user,
                lease_time,
            })?,
        };
        Ok(Store {
            name: self.to_string(),
            registry,
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(dir) => write!(formatter, "file:{}", dir.display()),
            Self::Etcd {
                v2,
                endpoints,
                prefix,
            } => {
                let version = if *v2 { 2 } else { 3 };
                write!(formatter, "v{version}:{}{prefix}", endpoints.join(","))
            }
        }
    }
}

fn place(word: &str) -> Result<Place, String> {
    let (kind, rest) = word.split_once(':').unwrap_or((word, ""));
    match (kind, rest) {
        ("file", dir) if !dir.is_empty() => Ok(Place::Directory(dir.into())),
        ("v2" | "v3", urls) if !urls.is_empty() => {
            let (endpoints, prefixes): (Vec<_>, Vec<_>) = urls.split(',').map(parts).unzip();
            let prefix = prefixes.into_iter().rev().find(|path| !path.is_empty());
            Ok(Place::Etcd {
                v2: kind == "v2",
                endpoints,
                prefix: prefix.unwrap_or_else(|| PREFIX.to_owned()),
            })
        }
        _ => Err("not of the form v2:URL,..., v3:URL,... or file:DIR".to_owned()),
    }
}

/// A server and the path behind it, as typed.
fn parts(url: &str) -> (String, String) {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find('/').map_or(url.len(), |at| host + at);
    let path = url[end..].trim_end_matches('/');
    (url[..end].to_owned(), path.to_owned())
}

/// A name for people and programs.
fn bridge_name(word: &str) -> Result<String, String> {
    let plain = |one: char| one.is_ascii_alphanumeric() || "-_.".contains(one);
    let good = (1..=40).contains(&word.len()) && word.chars().all(plain);
    good.then(|| word.to_owned())
        .ok_or_else(|| "up to 40 letters, digits, dots, dashes and underlines".to_owned())
}

/// The same for the same two stores, whichever is named first: bridges between others must not take its copies for theirs.
fn usual_name(arguments: &Arguments) -> String {
    let mut places = [&arguments.from, &arguments.to];
    places.sort();
    let text = places.map(Place::to_string).join(" ");
    let sum = text.bytes().fold(0x811c_9dc5_u32, |sum, byte| {
        (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{sum:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(v2: bool, endpoints: &[&str], prefix: &str) -> Place {
        Place::Etcd {
            v2,
            endpoints: endpoints.iter().map(|&one| one.to_owned()).collect(),
            prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn a_store_is_named_by_its_kind_its_servers_and_a_prefix() {
        let cases = [
            ("v2:http://a:2379", etcd(true, &["http://a:2379"], PREFIX)),
            (
                "v3:https://a:2379,https://[fd00::1]:2379/kube/network/",
                etcd(
                    false,
                    &["https://a:2379", "https://[fd00::1]:2379"],
                    "/kube/network",
                ),
            ),
            ("file:/srv/flannel", Place::Directory("/srv/flannel".into())),
        ];
        for (word, expected) in cases {
            assert_eq!(place(word), Ok(expected), "{word}");
        }
        for word in ["http://a:2379", "v2:", "file:", "v4:http://a", ""] {
            assert!(place(word).is_err(), "{word}");
        }
    }
}

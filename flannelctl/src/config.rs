//! `flannelctl config check`: what a network config would do, before it is rolled out.

use crate::args::{Asking, Check};
use crate::ask::{document, json, no_answer};
use crate::exit::Exit;
use console::answers::{SCHEMA, Status};
use console::protocol::Question;
use control::network::{Backend, Datapath, NetworkConfig};
use control::pool::Pool;
use control::registry::{EtcdApi, EtcdOptions, EtcdRegistry, Found, Registry};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Names a config may have, as the reference writes them.
const FIELDS: [&str; 12] = [
    "EnableIPv4",
    "EnableIPv6",
    "EnableNFTables",
    "Network",
    "SubnetMin",
    "SubnetMax",
    "SubnetLen",
    "IPv6Network",
    "IPv6SubnetMin",
    "IPv6SubnetMax",
    "IPv6SubnetLen",
    "Backend",
];
/// Names its backend may have.
const OPTIONS: [&str; 9] = [
    "Type",
    "Port",
    "VNI",
    "MTU",
    "GBP",
    "Learning",
    "DirectRouting",
    "Datapath",
    "Beside",
];
/// What most interfaces carry.
const USUAL_MTU: u32 = 1500;

/// What a config would do.
#[derive(Debug, Serialize)]
struct Outlook {
    schema: u32,
    /// Whether a daemon would take it.
    usable: bool,
    /// Why not.
    fault: Option<String>,
    /// What it means.
    effects: Vec<String>,
    /// What is perhaps not meant.
    doubts: Vec<String>,
}

/// Reads the config and tells.
pub(crate) fn check(arguments: &Check) -> Exit {
    let text = match read(arguments) {
        Ok(text) => text,
        Err(error) => {
            let why = format!("cannot read {}: {error}", arguments.source);
            no_answer(arguments.asking.json, "unreadable", &why);
            return Exit::Failed;
        }
    };
    let outlook = outlook(&text, running(&arguments.asking).as_ref());
    match arguments.asking.json {
        true => println!("{}", json(&outlook)),
        false => print!("{}", page(&outlook)),
    }
    match outlook.usable {
        true => Exit::Well,
        false => Exit::Failed,
    }
}

fn read(arguments: &Check) -> io::Result<String> {
    if let Some(endpoints) = &arguments.etcd_endpoints {
        return from_etcd(arguments, endpoints.clone());
    }
    match arguments.source.as_str() {
        "-" => io::read_to_string(io::stdin()),
        file => fs::read_to_string(Path::new(file)),
    }
}

fn from_etcd(arguments: &Check, endpoints: Vec<String>) -> io::Result<String> {
    let prefix = arguments.source.strip_suffix("/config");
    let identity = arguments
        .etcd_certfile
        .clone()
        .zip(arguments.etcd_keyfile.clone());
    let registry = EtcdRegistry::open(EtcdOptions {
        api: EtcdApi::Auto(Found::default()),
        endpoints,
        prefix: prefix.unwrap_or(&arguments.source).to_owned(),
        ca_file: arguments.etcd_cafile.clone(),
        identity,
        user: None,
        lease_time: Duration::from_secs(86_400),
    })?;
    registry.config().map_err(io::Error::other)
}

/// The daemon here, if one is at work: what would become of its lease?
fn running(asking: &Asking) -> Option<Status> {
    document(&asking.socket, Question::Status).ok()
}

fn outlook(text: &str, status: Option<&Status>) -> Outlook {
    let parsed = NetworkConfig::parse(text);
    let mut doubts = unknown_names(text);
    let (fault, effects) = match &parsed {
        Err(error) => (Some(error.to_string()), Vec::new()),
        Ok(config) => {
            doubts.extend(without_effect(config));
            doubts.extend(status.and_then(|status| disturbed(config, status)));
            (None, effects(config, status))
        }
    };
    Outlook {
        schema: SCHEMA,
        usable: fault.is_none(),
        fault,
        effects,
        doubts,
    }
}

fn effects(config: &NetworkConfig, status: Option<&Status>) -> Vec<String> {
    let mut effects: Vec<String> = config.pools().map(pool).collect();
    let underlay = status.and_then(|status| status.node.as_ref());
    let (underlay, whose) = match underlay {
        Some(node) => (node.mtu, format!("{} here", node.interface)),
        None => (USUAL_MTU, "a usual interface".to_owned()),
    };
    effects.push(carried(&config.backend));
    if let Some(beside) = &config.beside {
        effects.push(format!(
            "nodes whose leases say {} are peers, too, and to them {}",
            beside.name(),
            carried(beside)
        ));
    }
    let mtu = config.told_mtu(underlay, config.ipv4.is_none());
    effects.push(format!(
        "containers may send packets of {mtu} bytes, {whose} carries {underlay}"
    ));
    for port in config.spoken().filter_map(Backend::port) {
        effects.push(format!(
            "firewalls between nodes must let UDP port {port} pass both ways"
        ));
    }
    effects
}

fn pool(pool: &Pool) -> String {
    let Pool {
        network,
        subnet_len,
        min,
        max,
    } = pool;
    let nodes = 2f64.powi(i32::from(*subnet_len) - i32::from(network.prefix_len()));
    format!(
        "{network}: each node gets a /{subnet_len} between {min} and {max}; the whole network has room for {nodes} of them"
    )
}

fn carried(backend: &Backend) -> String {
    let direct = match backend.direct_routing() {
        true => "; nodes on one link reach each other without the tunnel",
        false => "",
    };
    let how = match backend {
        Backend::Udp(_) => "bare in UDP datagrams, by the packet engine".to_owned(),
        Backend::Vxlan(options) => {
            let who = match options.datapath.unwrap_or_default() {
                Datapath::Userspace => "the packet engine",
                Datapath::Kernel => "a device of the kernel's",
            };
            format!("as VXLAN {} by {who}", options.vni)
        }
        Backend::HostGw => "unwrapped; all nodes must be on one link".to_owned(),
        Backend::Alloc => "by somebody else; nodes only get subnets".to_owned(),
    };
    format!("packets travel {how}{direct}")
}

/// A misspelt name is passed over by every daemon, and its default holds.
fn unknown_names(text: &str) -> Vec<String> {
    let config: Value = serde_json::from_str(text).unwrap_or_default();
    let in_object = |value: &Value, known: &'static [&'static str], place: &str| {
        let names = value
            .as_object()
            .into_iter()
            .flat_map(|object| object.keys());
        let unknown = names.filter(|name| !known.iter().any(|one| one.eq_ignore_ascii_case(name)));
        let told = unknown.map(|name| {
            format!(
                "{name:?}{place} is not known and has no effect; known are {}",
                known.join(", ")
            )
        });
        told.collect::<Vec<_>>()
    };
    let backend = field(&config, "Backend");
    let beside = backend.and_then(|backend| field(backend, "Beside"));
    let mut unknown = in_object(&config, &FIELDS, "");
    for (object, place) in [(backend, " in Backend"), (beside, " in Beside")] {
        unknown.extend(
            object
                .into_iter()
                .flat_map(|object| in_object(object, &OPTIONS, place)),
        );
    }
    unknown
}

fn field<'v>(object: &'v Value, wanted: &str) -> Option<&'v Value> {
    let mut fields = object.as_object()?.iter();
    fields.find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then_some(value))
}

fn without_effect(config: &NetworkConfig) -> Option<String> {
    let options = config.vxlan()?;
    let in_engine = options.datapath.unwrap_or_default() == Datapath::Userspace;
    (in_engine && (options.gbp || options.learning)).then(|| {
        "GBP and Learning have no effect in user space; they need \"Datapath\": \"kernel\""
            .to_owned()
    })
}

/// What the daemon here would have to give up.
fn disturbed(config: &NetworkConfig, status: &Status) -> Option<String> {
    let lease = status.lease.as_ref()?;
    let fits = |subnet: &_| config.pools().any(|pool| pool.allows(*subnet));
    let moved = lease.subnets.iter().find(|subnet| !fits(subnet))?;
    Some(format!(
        "this node's subnet {moved} does not fit: at its next start it gets another, and its containers must be started anew"
    ))
}

fn page(outlook: &Outlook) -> String {
    let mut page = match &outlook.fault {
        None => "this config can be used:\n".to_owned(),
        Some(fault) => format!("this config cannot be used: {fault}\n"),
    };
    let effects = outlook
        .effects
        .iter()
        .map(|effect| format!("  - {effect}\n"));
    page.extend(effects);
    let doubts = outlook.doubts.iter().map(|doubt| format!("  ? {doubt}\n"));
    page.extend(doubts);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        page(&outlook(text, None))
    }

    #[test]
    fn a_config_is_told_by_what_it_would_do() {
        let told =
            told(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","DirectRouting":true}}"#);
        for words in [
            "can be used",
            "each node gets a /24 between 10.5.1.0 and 10.5.255.0",
            "room for 256",
            "VXLAN 1 by the packet engine",
            "without the tunnel",
            "packets of 1450 bytes",
            "UDP port 8472",
        ] {
            assert!(told.contains(words), "no {words:?} in\n{told}");
        }
        assert!(!told.contains("  ? "), "{told}");
    }

    #[test]
    fn a_config_with_two_forms_is_told_by_both() {
        let told = told(
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Beside":{"Type":"vxlan","Vni":1}}}"#,
        );
        for words in [
            "bare in UDP datagrams",
            "whose leases say vxlan are peers, too",
            "packets of 1450 bytes",
            "UDP port 8285",
            "UDP port 8472",
        ] {
            assert!(told.contains(words), "no {words:?} in\n{told}");
        }
        assert!(!told.contains("  ? "), "{told}");
    }

    #[test]
    fn names_nobody_knows_are_told() {
        let told = told(
            r#"{"Network":"10.5.0.0/16","SubnetLength":26,"Backend":{"type":"udp","Prot":8285}}"#,
        );
        assert!(told.contains(r#""SubnetLength" is not known"#), "{told}");
        assert!(told.contains(r#""Prot" in Backend is not known"#), "{told}");
        assert!(!told.contains(r#""type""#), "{told}");
    }

    #[test]
    fn what_no_daemon_would_take_is_refused_with_the_daemons_words() {
        let outlook = outlook(r#"{"Network":"10.5.0.0/33"}"#, None);
        assert!(!outlook.usable && outlook.fault.is_some());
        assert!(told("nonsense").starts_with("this config cannot be used: not a JSON object"));
    }
}

//! `flannelctl lease list|reserve|release`: the leases of all nodes, in the store itself, whether or not a daemon runs.

use crate::ask::table::Table;
use crate::ask::words::{list, or_dash, time};
use crate::ask::{json, no_answer};
use crate::exit::Exit;
use crate::keeping::Keeping;
use clap::{Args, Subcommand};
use console::answers::SCHEMA;
use control::acquire::compatible;
use control::lease::{Lease, LeaseAttrs};
use control::network::NetworkConfig;
use control::registry::{Record, Snapshot, Steward, Term};
use control::subnet_key::SubnetKey;
use ipnet::IpNet;
use serde::Serialize;
use std::net::IpAddr;

/// What can be done with leases.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the leases and reservations of all nodes, and how long they last
    List(List),

    /// Keep a subnet for a node, however long it is away
    Reserve(Reserve),

    /// Give a reservation up: it becomes an ordinary lease, which its node renews, or which ends
    Release(Release),
}

/// The flags of `lease list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    keeping: Keeping,
}

/// The flags of `lease reserve`.
#[derive(Debug, Args)]
pub(crate) struct Reserve {
    /// The subnet, as 10.5.7.0/24, or for two families 10.5.7.0/24,fd05::/64
    #[arg(value_name = "SUBNET", value_parser = key)]
    subnet: SubnetKey,

    /// The node's public address [default: the node that holds the subnet]
    #[arg(value_name = "IP")]
    node: Option<IpAddr>,

    #[command(flatten)]
    keeping: Keeping,
}

/// The flags of `lease release`.
#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The subnet, as 10.5.7.0/24, or for two families 10.5.7.0/24,fd05::/64
    #[arg(value_name = "SUBNET", value_parser = key)]
    subnet: SubnetKey,

    /// Remove the record, lease or reservation, so that others can have the subnet at once; a node of it that runs takes
    /// it back
    #[arg(long)]
    now: bool,

    #[command(flatten)]
    keeping: Keeping,
}

/// What is listed.
#[derive(Debug, Serialize)]
struct Leases {
    schema: u32,
    leases: Vec<Row>,
    unreadable: Vec<Unreadable>,
}

#[derive(Debug, Serialize)]
struct Row {
    subnets: Vec<IpNet>,
    node: Option<IpAddr>,
    form: String,
    reserved: bool,
    /// The bridge that has copied it from another store.
    bridge: Option<String>,
    seconds_left: Option<u64>,
    /// As it stands in the store.
    record: String,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    name: String,
    why: String,
}

/// Does what was typed.
pub(crate) fn run(command: &Command) -> Exit {
    let (as_json, done) = match command {
        Command::List(arguments) => (arguments.json, show(arguments)),
        Command::Reserve(arguments) => (false, reserve(arguments)),
        Command::Release(arguments) => (false, release(arguments)),
    };
    match done {
        Ok(told) => {
            print!("{told}");
            Exit::Well
        }
        Err(why) => {
            no_answer(as_json, "unreadable", &why);
            Exit::Failed
        }
    }
}

fn show(arguments: &List) -> Result<String, String> {
    let registry = arguments.keeping.open()?;
    let all = registry.snapshot().map_err(told)?;
    let leases = leases(&*registry, all)?;
    Ok(match arguments.json {
        true => json(&leases) + "\n",
        false => page(&leases),
    })
}

fn leases(registry: &dyn Steward, mut all: Snapshot) -> Result<Leases, String> {
    all.leases.sort_by_key(|lease| lease.key);
    let row = |lease: Lease| {
        let left = registry.left(&lease).map_err(told)?;
        Ok(Row {
            subnets: lease.key.subnets().collect(),
            node: node(&lease.attrs),
            form: form(&lease.attrs),
            reserved: lease.reserved,
            seconds_left: left.map(|left| left.as_secs()),
            record: lease.attrs.to_json(),
            bridge: lease.attrs.bridge.map(String::from),
        })
    };
    let unreadable = all.bad.into_iter().map(|bad| Unreadable {
        name: bad.name,
        why: bad.why,
    });
    Ok(Leases {
        schema: SCHEMA,
        leases: all
            .leases
            .into_iter()
            .map(row)
            .collect::<Result<_, String>>()?,
        unreadable: unreadable.collect(),
    })
}

fn page(leases: &Leases) -> String {
    let mut table = Table::new(&["SUBNET", "NODE", "FORM", "KIND", "LEFT"]);
    for lease in &leases.leases {
        let kind = match (&lease.bridge, lease.reserved) {
            (Some(bridge), _) => format!("copy of bridge {:?}", short(bridge)),
            (None, true) => "reservation".to_owned(),
            (None, false) => "lease".to_owned(),
        };
        table.row(vec![
            list(&lease.subnets),
            or_dash(lease.node),
            lease.form.clone(),
            kind,
            or_dash(lease.seconds_left.map(time)),
        ]);
    }
    let unreadable = leases
        .unreadable
        .iter()
        .map(|bad| format!("unreadable: {:?}: {}\n", bad.name, bad.why));
    let lines = match table.is_empty() {
        true => "no leases\n".to_owned(),
        false => table.render(),
    };
    lines + &unreadable.collect::<String>()
}

fn reserve(arguments: &Reserve) -> Result<String, String> {
    let (registry, key) = (arguments.keeping.open()?, arguments.subnet);
    let all = registry.snapshot().map_err(told)?;
    let Some(lease) = all.leases.iter().find(|lease| lease.key == key) else {
        return reserve_free(&*registry, key, arguments.node, &all);
    };
    let holder = holder(lease);
    if arguments.node.is_some() && arguments.node != node(&lease.attrs) {
        return Err(format!("{} belongs to {holder}", name(key)));
    }
    own(lease)?;
    if lease.reserved {
        return Ok(format!("{} is reserved for {holder} already\n", name(key)));
    }
    write(&*registry, Record::of(lease, Term::Reserved), Some(lease))?;
    Ok(format!(
        "reserved {} for {holder}, who holds it\n",
        name(key)
    ))
}

/// Reserves what nobody holds.
fn reserve_free(
    registry: &dyn Steward,
    key: SubnetKey,
    node: Option<IpAddr>,
    all: &Snapshot,
) -> Result<String, String> {
    let name = name(key);
    let node = node.ok_or_else(|| {
        format!("nobody holds {name}; say for which node: flannelctl lease reserve {name} IP")
    })?;
    let text = registry.config().map_err(told)?;
    let config = NetworkConfig::parse(&text)
        .map_err(|error| format!("the network config cannot be used: {error}"))?;
    if !compatible(&config, key) {
        return Err(format!(
            "{name} is no subnet a node can have: {}",
            pools(&config)
        ));
    }
    if let Some(other) = all
        .keys()
        .find(|held| key.subnets().any(|subnet| held.overlaps(subnet)))
    {
        return Err(format!("{name} shares addresses with the record {other}"));
    }
    let attrs = match node {
        IpAddr::V4(address) => LeaseAttrs {
            public_ip: Some(address),
            ..LeaseAttrs::default()
        },
        IpAddr::V6(address) => LeaseAttrs {
            public_ipv6: Some(address),
            ..LeaseAttrs::default()
        },
    };
    let record = Record {
        key,
        attrs: &attrs,
        term: Term::Reserved,
    };
    write(registry, record, None)?;
    let held = all
        .leases
        .iter()
        .find(|lease| lease.attrs.same_node(&attrs));
    let remark = held.map_or_else(String::new, |lease| {
        format!(
            "It holds {} now, and goes on with that; to have it change, release that and remove its subnet and state files before it is started again\n",
            self::name(lease.key)
        )
    });
    Ok(format!("reserved {name} for {node}\n{remark}"))
}

fn release(arguments: &Release) -> Result<String, String> {
    let (registry, key) = (arguments.keeping.open()?, arguments.subnet);
    let all = registry.snapshot().map_err(told)?;
    let lease = all.leases.iter().find(|lease| lease.key == key);
    let lease = lease.ok_or_else(|| format!("nobody holds {}", name(key)))?;
    own(lease)?;
    let (name, holder) = (name(key), holder(lease));
    if arguments.now {
        registry.remove(lease).map_err(told)?;
        return Ok(format!("removed {name} of {holder}\n"));
    }
    if !lease.reserved {
        let left = registry.left(lease).map_err(told)?.unwrap_or_default();
        return Err(format!(
            "{name} is an ordinary lease of {holder}, and ends in {} unless renewed; --now removes it",
            time(left.as_secs())
        ));
    }
    let lease_time = arguments.keeping.lease_time();
    let term = Term::Leased(lease_time);
    write(&*registry, Record::of(lease, term), Some(lease))?;
    Ok(format!(
        "{name} is an ordinary lease of {holder} now, and ends in {} unless renewed\n",
        time(lease_time.as_secs())
    ))
}

/// What a bridge has copied is changed where it comes from.
fn own(lease: &Lease) -> Result<(), String> {
    let Some(bridge) = &lease.attrs.bridge else {
        return Ok(());
    };
    Err(format!(
        "{} is a copy that bridge {:?} has made: do this in the store it comes from",
        name(lease.key),
        short(bridge)
    ))
}

fn write(registry: &dyn Steward, record: Record<'_>, over: Option<&Lease>) -> Result<(), String> {
    let written = registry.write(record, over);
    written.map(drop).map_err(told)
}

fn told(error: impl ToString) -> String {
    error.to_string()
}

/// The subnets as they are typed.
fn name(key: SubnetKey) -> String {
    let subnets: Vec<String> = key.subnets().map(|subnet| subnet.to_string()).collect();
    subnets.join(",")
}

fn pools(config: &NetworkConfig) -> String {
    let pools = config.pools().map(|pool| {
        format!(
            "a /{} between {} and {}",
            pool.subnet_len, pool.min, pool.max
        )
    });
    pools.collect::<Vec<_>>().join(" and ")
}

fn node(attrs: &LeaseAttrs) -> Option<IpAddr> {
    let ipv4 = attrs.public_ip.map(IpAddr::V4);
    ipv4.or_else(|| attrs.public_ipv6.map(IpAddr::V6))
}

fn holder(lease: &Lease) -> String {
    node(&lease.attrs).map_or_else(|| "nobody".to_owned(), |node| node.to_string())
}

fn form(attrs: &LeaseAttrs) -> String {
    match &*attrs.backend_type {
        "" => "udp".to_owned(),
        other => short(other),
    }
}

/// Anybody can write records, also long ones.
fn short(text: &str) -> String {
    text.chars()
        .filter(|one| !one.is_control())
        .take(40)
        .collect()
}

/// Subnets as typed, or as records are named.
fn key(word: &str) -> Result<SubnetKey, String> {
    let wrong = || format!("{word} is no subnet such as 10.5.7.0/24");
    if let Ok(key) = word.parse() {
        return Ok(key);
    }
    let (mut ipv4, mut ipv6) = (None, None);
    for part in word.split(',') {
        match part.parse().map_err(|_| wrong())? {
            IpNet::V4(net) if net == net.trunc() && ipv4.is_none() => ipv4 = Some(net),
            IpNet::V6(net) if net == net.trunc() && ipv6.is_none() => ipv6 = Some(net),
            _ => return Err(wrong()),
        }
    }
    SubnetKey::new(ipv4, ipv6).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_typed_as_people_write_them_or_as_records_are_named() {
        for (word, record) in [
            ("10.5.7.0/24", "10.5.7.0-24"),
            ("10.5.7.0-24", "10.5.7.0-24"),
            ("10.5.7.0/24,fd05::/64", "10.5.7.0-24&fd05::-64"),
            ("fd05::/64", "0.0.0.0-0&fd05::-64"),
        ] {
            assert_eq!(key(word).unwrap().to_string(), record);
        }
        for word in ["10.5.7.1/24", "10.5.7.0", "", "10.5.7.0/24,10.5.8.0/24"] {
            assert!(key(word).is_err(), "{word}");
        }
    }
}

//! Which firewall tools a host has: rules are set by those that are there, and what cannot be set is said.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path as FsPath;

use benches::deprive::Kernel;
use benches::{Lab, Path, PathSpec, Profile, Side};

use super::setup::flanneld;

const A: Side = Side::A;
/// Where tools of administrators are.
const TOOLS: &str = "/usr/sbin";
const NFTABLES: &str =
    r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp"},"EnableNFTables":true}"#;

/// A node whose daemon finds these tools and no others: `name` or `name=program`.
fn lab_with(tools: &[&str]) -> Lab {
    let mut lab = Lab::new(Profile::Offload).unwrap();
    let shown = lab.scratch().join("tools");
    fs::create_dir(&shown).unwrap();
    for tool in tools {
        let (name, program) = tool.split_once('=').unwrap_or((tool, tool));
        if program == name {
            fs::copy(FsPath::new(TOOLS).join(program), shown.join(name)).unwrap();
        } else {
            symlink(program, shown.join(name)).unwrap();
        }
    }
    lab.set_kernel(
        A,
        Kernel::whole().with_directory(&shown, FsPath::new(TOOLS)),
    );
    lab
}

fn connect(lab: Lab, name: &str) -> std::io::Result<Path> {
    let spec: PathSpec = name.parse().unwrap();
    let path = Path::connect(lab, &spec, flanneld())?;
    path.wait_until_connected()?;
    Ok(path)
}

fn up(lab: Lab, name: &str) -> Path {
    connect(lab, name).unwrap_or_else(|error| panic!("{error}"))
}

/// The rules of node A, as a tool shows them.
fn rules(path: &Path, show: &str) -> String {
    path.lab().node(A).run(show).unwrap()
}

const MULTI_NFT: &str = "xtables-nft-multi";
const MULTI_LEGACY: &str = "xtables-legacy-multi";

#[test]
fn rules_are_set_where_there_is_no_nft() {
    let [save, restore] =
        ["iptables-save", "iptables-restore"].map(|name| format!("{name}={MULTI_NFT}"));
    let path = up(lab_with(&[MULTI_NFT, &save, &restore]), "udp+ip-masq");
    assert!(rules(&path, "iptables-nft -t nat -S").contains("MASQUERADE"));
}

#[test]
fn rules_are_set_where_there_is_nothing_but_legacy_iptables() {
    let [save, restore] =
        ["iptables-save", "iptables-restore"].map(|name| format!("{name}={MULTI_LEGACY}"));
    let path = up(lab_with(&[MULTI_LEGACY, &save, &restore]), "udp+ip-masq");
    assert!(rules(&path, "iptables-legacy -t nat -S").contains("MASQUERADE"));
}

#[test]
fn rules_are_set_where_there_is_nothing_but_nft() {
    let lab = lab_with(&["nft"]);
    let config = lab.scratch().join("nftables.json");
    fs::write(&config, NFTABLES).unwrap();
    let path = up(
        lab,
        &format!("udp+ip-masq+net-config-path={}", config.display()),
    );
    assert!(rules(&path, "nft list ruleset").contains("masquerade"));
}

/// Pods without masquerading lose the world in silence: rather no start than that.
#[test]
fn a_start_without_the_tools_for_masquerading_is_refused() {
    let told = connect(lab_with(&[]), "udp+ip-masq")
        .unwrap_err()
        .to_string();
    assert!(told.contains("iptables-save is not installed"), "{told}");
    assert!(told.contains("leave out --ip-masq"), "{told}");
}

#[test]
fn without_tools_and_masquerading_packets_pass_and_the_rest_is_told() {
    let mut path = up(lab_with(&[]), "udp");
    let log = path.daemon(A).unwrap().log();
    let told = log
        .lines()
        .filter(|line| line.contains("iptables-save is not installed"));
    assert_eq!(told.count(), 1, "{log}");
}

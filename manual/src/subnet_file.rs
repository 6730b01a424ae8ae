//! The page of the file that tells container runtimes the node's subnet.

use crate::page::see_also;
use clap_mangen::roff::{Roff, bold, roman};
use control::subnet_file::VARIABLES;

const ABOUT: &str = "flanneld writes this file, /run/flannel/subnet.env unless told otherwise, as soon as it has a subnet, and again \
whenever what it says has changed; each time whole. Container runtimes, the CNI plugin flannel and mk-docker-opts.sh read it, \
and flanneld itself at its start, for the subnet to ask for again. It consists of lines NAME=VALUE that shells understand. It \
stays when the daemon ends, as containers go on by it.";

const EXAMPLE: &str = "FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.79.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false";

/// The page.
pub(crate) fn page() -> String {
    let mut roff = Roff::default();
    let source = concat!("flannel ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["subnet.env", "5", "", source, "flannel"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(
        "subnet.env - the subnet of this node in flannel's network",
    )]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(ABOUT)]);
    for (name, meaning) in VARIABLES {
        roff.control("TP", []);
        roff.text([bold(name)]);
        roff.text([roman(meaning)]);
    }
    roff.control("SH", ["EXAMPLE"]);
    roff.control("nf", []);
    roff.text([roman(EXAMPLE)]);
    roff.control("fi", []);
    roff.render() + &see_also(&["flanneld(8)", "flannelctl(1)"]).to_roff()
}

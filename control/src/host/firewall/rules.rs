//! Which packets get what treatment, in no tool's language. Pure.

use super::Overlay;
use ipnet::IpNet;

/// Packets a rule is about: all that match every part given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) source: Side,
    pub(super) destination: Side,
    pub(super) verdict: Verdict,
}

/// Where packets come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Any,
    In(IpNet),
    NotIn(IpNet),
}

/// What becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing; no later rule is asked.
    Leave,
    /// They may pass.
    Accept,
    /// They leave under the host's address.
    Masquerade,
}

/// Set by kube-proxy on packets it masquerades itself.
pub(super) const KUBE_PROXY_MARK: &str = "0x4000";

/// Rules for packets about to leave, after the one for [`KUBE_PROXY_MARK`].
pub(super) fn leaving(overlay: &Overlay) -> Vec<Rule> {
    use Side::{In, NotIn};
    use Verdict::{Leave, Masquerade};
    let (network, subnet) = (overlay.network, overlay.subnet);
    let rule = |source, destination, verdict| Rule {
        source,
        destination,
        verdict,
    };
    vec![
        rule(In(subnet), In(network), Leave),
        rule(In(network), In(subnet), Leave),
        // A local pod sees who really calls from outside.
        rule(NotIn(network), In(subnet), Leave),
        // Overlay addresses beside our subnet, as of a bridge not renumbered yet, stay themselves to other pods.
        rule(In(network), In(network), Leave),
        rule(In(network), NotIn(multicast(network)), Masquerade),
        rule(NotIn(network), In(network), Masquerade),
    ]
}

/// Rules for packets passing through.
pub(super) fn passing(overlay: &Overlay) -> Vec<Rule> {
    let rule = |source, destination| Rule {
        source,
        destination,
        verdict: Verdict::Accept,
    };
    vec![
        rule(Side::In(overlay.network), Side::Any),
        rule(Side::Any, Side::In(overlay.network)),
    ]
}

/// All multicast addresses of a family.
fn multicast(family: IpNet) -> IpNet {
    match family {
        IpNet::V4(_) => IpNet::new_assert([224, 0, 0, 0].into(), 4),
        IpNet::V6(_) => IpNet::new_assert([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8),
    }
}

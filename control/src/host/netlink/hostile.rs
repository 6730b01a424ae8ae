//! The kernel's answers, for those who feed us nonsense in their place.

use super::batch::read_outcomes;
use super::query::{interface, way_found};

/// Questions the answers may be to.
const QUESTIONS: usize = 8;

/// Reads a datagram about links and routes: how many of the answers in it could be used.
pub(crate) fn answers(datagram: &[u8]) -> usize {
    let mut outcomes: Vec<_> = (0..QUESTIONS).map(|_| Ok(None)).collect();
    // Whether all came is no matter here.
    let _ = read_outcomes(datagram, 1, &mut outcomes);
    let answers = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.ok().flatten());
    let used = |answer: netlink_packet_route::RouteNetlinkMessage| {
        let link = interface(answer.clone()).is_some();
        usize::from(link) + usize::from(way_found(Ok(Some(answer))).is_some())
    };
    answers.map(used).sum()
}

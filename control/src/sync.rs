//! Turns what the registry reports into the data plane's table: a snapshot, then events, a snapshot again when in doubt.

use crate::book::LeaseBook;
use crate::clock::since_boot;
use crate::lease::LeaseAttrs;
use crate::leaving::Leaving;
use crate::registry::{BadRecord, News, Snapshot};
use crate::screen::{Refusal, Screen};
use crate::sink::{Peer, PeerForm, TableSink};
use crate::subnet_key::SubnetKey;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tracing::{info, warn};

/// Follows the registry and keeps a table.
#[derive(Debug)]
pub struct Sync<S> {
    book: LeaseBook,
    screen: Screen,
    /// None between two data planes.
    sink: Option<S>,
    /// The table may be out of date.
    stale: bool,
    /// There has been a table.
    started: bool,
    /// How many routes it had: all, those of udp leases, those of vxlan leases.
    routes: [usize; 3],
    /// When records in doubt are let go, in time since boot.
    doubt_ends: Option<Duration>,
    leaving: Leaving,
    /// When to look at the host again, in time since boot.
    look_due: Option<Duration>,
    /// How long changes of the host are let come together.
    settling: Duration,
    /// When something was mended last that somebody had undone.
    mended: Option<Duration>,
    told: Told,
}

/// How long nodes have to write their records again after the registry lost them. They notice within seconds.
const DOUBT: Duration = Duration::from_secs(30);

/// Changes of the host come in groups, as when a link goes down and takes its routes along.
const SETTLE: Duration = Duration::from_millis(200);
/// What somebody undoes again and again is mended no sooner, and within a second all the same.
const PAUSE: Duration = Duration::from_millis(800);
/// How seldom we tell of what somebody undoes again and again, and try again what fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// A host that changes all the time is looked at for one part in so many of the time.
const LEISURE: u32 = 10;

/// What has been logged already: each fault costs one line, not one per event.
#[derive(Debug, Default)]
struct Told {
    bad: BTreeSet<BadRecord>,
    refused: BTreeSet<(SubnetKey, Refusal)>,
    shared: BTreeSet<(IpAddr, IpNet, IpNet)>,
    /// What the data plane complained about last.
    complaint: Option<String>,
    /// When it was told that somebody undoes things.
    undone: Option<Duration>,
}

/// How much of the registry is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that can be read.
    pub records: usize,
    /// Records that cannot.
    pub bad: usize,
    /// Records that may not become routes.
    pub refused: usize,
    /// Routes to other nodes.
    pub routes: usize,
    /// Those of udp leases.
    pub udp: usize,
    /// Those of vxlan leases.
    pub vxlan: usize,
}

impl<S: TableSink> Sync<S> {
    /// Starts with an empty table.
    pub fn new(screen: Screen, sink: S) -> Self {
        Self {
            book: LeaseBook::default(),
            screen,
            sink: Some(sink),
            stale: false,
            started: false,
            routes: [0; 3],
            doubt_ends: None,
            leaving: Leaving::default(),
            look_due: None,
            settling: SETTLE,
            mended: None,
            told: Told::default(),
        }
    }

    /// Takes in one report; the table follows at the next [`Sync::settle`], so that a burst costs one table.
    pub fn hear(&mut self, news: News, now: Duration) {
        let Some(news) = self.leaving.hold_back(news, now) else {
            return;
        };
        match &news {
            News::Lost(why) => warn!("registry lost: {why}. Peers stay as they are"),
            News::Regained => info!("registry is back"),
            _ => {}
        }
        self.stale |= match news {
            News::Snapshot(all) if self.lost_records(&all) => self.doubt(all, now),
            news => self.book.apply(news),
        };
        self.tell_bad();
    }

    /// Whether there has been a table.
    pub fn has_table(&self) -> bool {
        self.started
    }

    /// Every record known, our own included.
    pub fn records(&self) -> impl Iterator<Item = (SubnetKey, &LeaseAttrs)> {
        self.book.records()
    }

    /// The routes to other nodes, each with whether packets go there unwrapped.
    pub fn routes(&self) -> Vec<(Peer, bool)> {
        let plain = |subnet| self.sink.as_ref().is_some_and(|sink| sink.is_plain(subnet));
        let routes = self.book.peers(&self.screen).routes.into_iter();
        routes.map(|peer| (peer, plain(peer.subnet))).collect()
    }

    /// Something on the host has changed, perhaps what the data plane rests on.
    pub fn host_changed(&mut self, now: Duration) {
        let paused = self.mended.map(|mended| mended + PAUSE);
        let due = paused.unwrap_or_default().max(now + self.settling);
        self.look_due.get_or_insert(due);
    }

    /// When [`Sync::settle`] has something to do even without news.
    pub fn due(&self) -> Option<Duration> {
        let dues = [self.doubt_ends, self.leaving.due(), self.look_due];
        dues.into_iter().flatten().min()
    }

    /// Hands the data plane a new table if anything changed, and lets it look after the host if that did. Tells
    /// whether there is a new table.
    pub fn settle(&mut self, now: Duration) -> bool {
        if self.doubt_ends.is_some_and(|ends| ends <= now) {
            self.doubt_ends = None;
            self.stale |= self.book.forget_doubted();
        }
        for key in self.leaving.over(now) {
            self.stale |= self.book.apply(News::Gone(key));
        }
        let renewed = std::mem::take(&mut self.stale);
        if renewed {
            self.publish(now);
        }
        if self.look_due.is_some_and(|due| due <= now) {
            self.look_due = None;
            self.look(now);
        }
        renewed
    }

    /// Lets go of the data plane; what the registry tells is remembered for the next.
    pub fn detach(&mut self) {
        self.sink = None;
    }

    /// Goes on by other rules.
    pub fn screen(&mut self, screen: Screen) {
        self.screen = screen;
        self.stale |= self.started;
    }

    /// Goes on with another data plane and by other rules.
    pub fn attach(&mut self, screen: Screen, sink: S) {
        self.screen = screen;
        self.sink = Some(sink);
        // Before the first table nothing is known of peers, which is not the same as that there are none.
        self.stale = self.started;
    }

    fn publish(&mut self, now: Duration) {
        let peers = self.book.peers(&self.screen);
        for (key, why) in peers.refused.difference(&self.told.refused) {
            warn!("lease {key} is not used: {why}");
        }
        info!("{} peer subnets", peers.routes.len());
        self.tell_shared(&peers.routes);
        self.started = true;
        self.told.refused = peers.refused;
        self.routes = counts(&peers.routes);
        let outcome = self.sink.as_mut().map(|sink| sink.replace(&peers.routes));
        self.note(outcome.and_then(Result::err), now);
    }

    /// Both subnets are reached, but one of the records may be that of a node that is no more, or of a copy.
    fn tell_shared(&mut self, routes: &[Peer]) {
        let shared = shared(routes);
        for (endpoint, one, other) in shared.difference(&self.told.shared) {
            warn!(
                "leases {one} and {other} name the same node, {endpoint}: remove the record that is out of date, or give the nodes addresses of their own"
            );
        }
        self.told.shared = shared;
    }

    /// Lets the data plane look at the host.
    fn look(&mut self, now: Duration) {
        let Some(sink) = &mut self.sink else {
            return;
        };
        let began = since_boot();
        let outcome = sink.restore();
        let cost = since_boot().saturating_sub(began);
        self.settling = SETTLE.max(cost * LEISURE).min(PATIENCE);
        if matches!(outcome, Ok(true)) {
            self.mended = Some(now);
            self.tell_undone(now);
        }
        self.note(outcome.err(), now);
    }

    fn tell_undone(&mut self, now: Duration) {
        if self.told.undone.is_none_or(|told| now >= told + PATIENCE) {
            info!("somebody undid what packets to other nodes need on this host; restored");
            self.told.undone = Some(now);
        }
    }

    /// Tells each complaint once, and tries again by and by.
    fn note(&mut self, error: Option<io::Error>, now: Duration) {
        let complaint = error.map(|error| error.to_string());
        match &complaint {
            Some(text) if self.told.complaint != complaint => warn!("{text}. Trying on"),
            None if self.told.complaint.is_some() => info!("the host is set up as needed again"),
            _ => {}
        }
        if complaint.is_some() {
            self.look_due.get_or_insert(now + PATIENCE);
        }
        self.told.complaint = complaint;
    }

    /// A registry without our own record, which we have not removed, has lost it, and with it maybe all others'.
    fn lost_records(&self, all: &Snapshot) -> bool {
        self.book.knows(self.screen.own) && all.keys().all(|key| key != self.screen.own)
    }

    fn doubt(&mut self, all: Snapshot, now: Duration) -> bool {
        warn!(
            "the registry has lost our record; peers it lacks are kept for {} s",
            DOUBT.as_secs()
        );
        self.doubt_ends = Some(now + DOUBT);
        self.book.apply_doubtful(all)
    }

    /// Counts for a status line.
    pub fn tally(&self) -> Tally {
        let [routes, udp, vxlan] = self.routes;
        Tally {
            records: self.book.len(),
            bad: self.book.bad().len(),
            refused: self.told.refused.len(),
            routes,
            udp,
            vxlan,
        }
    }

    fn tell_bad(&mut self) {
        if *self.book.bad() == self.told.bad {
            return;
        }
        for record in self.book.bad().difference(&self.told.bad) {
            warn!("{record}");
        }
        self.told.bad.clone_from(self.book.bad());
    }
}

/// All routes, those of udp leases, those of vxlan leases.
fn counts(routes: &[Peer]) -> [usize; 3] {
    let of = |form: fn(&PeerForm) -> bool| routes.iter().filter(|one| form(&one.form)).count();
    [
        routes.len(),
        of(|form| matches!(form, PeerForm::Udp)),
        of(|form| matches!(form, PeerForm::Vxlan(_))),
    ]
}

/// Endpoints that several routes lead to, with two of them each.
fn shared(routes: &[Peer]) -> BTreeSet<(IpAddr, IpNet, IpNet)> {
    let mut by_endpoint: Vec<_> = routes
        .iter()
        .map(|one| (one.endpoint, one.subnet))
        .collect();
    by_endpoint.sort_unstable();
    let beside = by_endpoint.windows(2).filter_map(|pair| match pair {
        // A lease of both families may have one address for both.
        [(endpoint, one), (same, other)]
            if endpoint == same && one.max_prefix_len() == other.max_prefix_len() =>
        {
            Some((*endpoint, *one, *other))
        }
        _ => None,
    });
    beside.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{Lease, LeaseAttrs, Revision};
    use crate::network::NetworkConfig;
    use std::cell::RefCell;
    use std::rc::Rc;

    const NOW: Duration = Duration::from_secs(1000);

    /// Keeps every table it is given, and answers as it is told to.
    #[derive(Clone, Default)]
    struct Tables(Rc<RefCell<Vec<usize>>>, Rc<RefCell<Answer>>);

    /// What is to be said about the host.
    #[derive(Clone, Copy, Default)]
    enum Answer {
        #[default]
        Well,
        Mended,
        Failed,
    }

    impl TableSink for Tables {
        fn replace(&mut self, peers: &[Peer]) -> io::Result<()> {
            self.0.borrow_mut().push(peers.len());
            Ok(())
        }

        fn restore(&mut self) -> io::Result<bool> {
            match *self.1.borrow() {
                Answer::Well => Ok(false),
                Answer::Mended => Ok(true),
                Answer::Failed => Err(io::Error::other("the host is not well")),
            }
        }
    }

    fn put(key: &str) -> News {
        let attrs = LeaseAttrs {
            public_ip: Some([192, 168, 77, 2].into()),
            ..LeaseAttrs::default()
        };
        News::Put(Lease {
            key: key.parse().unwrap(),
            attrs,
            reserved: true,
            revision: Revision::default(),
        })
    }

    fn sync() -> (Sync<Tables>, Tables) {
        let screen = Screen {
            network: NetworkConfig::parse(r#"{"Network":"10.5.0.0/16"}"#).unwrap(),
            own: "10.5.1.0-24".parse().unwrap(),
            underlay: vec!["192.168.77.1/24".parse().unwrap()],
            mac: None,
            across: false,
        };
        let tables = Tables::default();
        (Sync::new(screen, tables.clone()), tables)
    }

    #[test]
    fn a_burst_of_reports_costs_one_table() {
        let (mut sync, tables) = sync();
        for third in 2..200 {
            sync.hear(put(&format!("10.5.{third}.0-24")), NOW);
        }
        sync.settle(NOW);
        sync.settle(NOW);
        assert_eq!(*tables.0.borrow(), [198]);
    }

    #[test]
    fn reports_that_change_no_route_cost_no_table() {
        let (mut sync, tables) = sync();
        sync.hear(put("10.5.2.0-24"), NOW);
        sync.settle(NOW);
        sync.hear(put("10.5.2.0-24"), NOW);
        sync.hear(News::Lost("down".to_owned()), NOW);
        sync.hear(News::Regained, NOW);
        sync.hear(
            News::Bad(BadRecord {
                name: "garbage".to_owned(),
                why: "nonsense".to_owned(),
            }),
            NOW,
        );
        sync.settle(NOW);
        assert_eq!(*tables.0.borrow(), [1]);
    }

    #[test]
    fn two_records_with_one_address_are_both_reached_and_told_once() {
        let (mut sync, tables) = sync();
        sync.hear(put("10.5.2.0-24"), NOW);
        sync.hear(put("10.5.3.0-24"), NOW);
        sync.settle(NOW);
        let routes = ["10.5.2.0/24", "10.5.3.0/24"].map(|net| net.parse().unwrap());
        let address = IpAddr::from([192, 168, 77, 2]);
        let told = BTreeSet::from([(address, routes[0], routes[1])]);
        assert_eq!((&*tables.0.borrow(), &sync.told.shared), (&vec![2], &told));
    }

    #[test]
    fn what_is_refused_is_counted() {
        let (mut sync, tables) = sync();
        sync.hear(put("10.5.1.128-25"), NOW);
        sync.hear(put("10.6.0.0-24"), NOW);
        sync.hear(
            News::Bad(BadRecord {
                name: "garbage".to_owned(),
                why: "nonsense".to_owned(),
            }),
            NOW,
        );
        sync.settle(NOW);
        assert_eq!(
            sync.tally(),
            Tally {
                records: 2,
                bad: 1,
                refused: 2,
                ..Tally::default()
            }
        );
        assert_eq!(*tables.0.borrow(), [0]);
    }

    #[test]
    fn a_wiped_registry_costs_no_route_while_nodes_write_their_records_again() {
        let (mut sync, tables) = sync();
        for key in ["10.5.1.0-24", "10.5.2.0-24", "10.5.3.0-24"] {
            sync.hear(put(key), NOW);
        }
        sync.settle(NOW);
        sync.hear(News::Snapshot(Snapshot::default()), NOW);
        sync.hear(put("10.5.2.0-24"), NOW);
        sync.settle(NOW);
        assert_eq!(*tables.0.borrow(), [2]);
        sync.settle(sync.due().unwrap());
        assert_eq!((&*tables.0.borrow(), sync.due()), (&vec![2, 1], None));
    }

    /// How long after a change of the host it is looked at, which is then done.
    fn wait_for_look(sync: &mut Sync<Tables>) -> Duration {
        sync.host_changed(NOW);
        let due = sync.due().unwrap();
        sync.settle(due);
        due - NOW
    }

    #[test]
    fn what_somebody_undoes_again_and_again_is_mended_within_a_second_and_told_seldom() {
        let (mut sync, tables) = sync();
        *tables.1.borrow_mut() = Answer::Mended;
        let (mut now, mut told) = (NOW, BTreeSet::new());
        for _ in 0..20 {
            sync.host_changed(now);
            let due = sync.due().unwrap();
            assert!(due - now <= PAUSE);
            sync.settle(due);
            now = due;
            told.extend(sync.told.undone);
        }
        assert!(now - NOW >= PAUSE * 19);
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn what_fails_is_tried_again_without_a_change_of_the_host() {
        let (mut sync, tables) = sync();
        *tables.1.borrow_mut() = Answer::Failed;
        wait_for_look(&mut sync);
        let again = sync.due().unwrap();
        *tables.1.borrow_mut() = Answer::Well;
        sync.settle(again);
        assert_eq!(sync.due(), None);
    }
}

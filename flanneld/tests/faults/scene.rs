//! Two nodes whose leases are in an etcd, which they reach by a road of its own: it can be cut without
//! touching what passes between them.
//!
//! ```text
//!   container a ── node a ═══════ node b ── container b      192.168.77.0/24
//!                    │     road     │
//!                    └──── hub ─────┘                        192.168.78.0/24
//!                   etcd, one or three members: .11, .12, .13
//! ```

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::Path as FsPath;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use benches::etcd::{Api, Etcd, Gateway, Plan};
use benches::traffic::Ends;
use benches::traffic::probe::Probe;
use benches::{Lab, Namespace, Path, PathSpec, Profile, Side};

/// Long enough for anything that comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Where the daemons keep their records.
pub(crate) const PREFIX: &str = "/coreos.com/network";
/// The client's port of every member.
pub(crate) const PORT: u16 = 2379;

/// More changes than a server remembers by version 2.
const MANY: usize = 1100;

/// How a daemon says that it cannot reach the store, and that it can again.
pub(crate) const LOST: &str = "registry lost";
pub(crate) const BACK: &str = "registry is back";

/// The daemon that belongs to these tests, or the one that is to be measured instead.
pub(crate) fn flanneld() -> &'static FsPath {
    static CHOSEN: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("FAULTS_DAEMON"));
    let built = || OsStr::new(env!("CARGO_BIN_EXE_flanneld"));
    FsPath::new(CHOSEN.as_deref().unwrap_or_else(built))
}

/// The daemon of the release before, where it is named; else the same once more.
pub(crate) fn flanneld_before() -> &'static FsPath {
    static NAMED: LazyLock<Option<OsString>> =
        LazyLock::new(|| env::var_os("FAULTS_DAEMON_BEFORE"));
    NAMED.as_deref().map_or_else(flanneld, FsPath::new)
}

/// What a fault lasts: long enough for every time limit, or minutes where there is time for that.
pub(crate) fn lasting(short: u64, long: u64) -> Duration {
    let unhurried = env::var_os("FAULTS_LONG").is_some();
    Duration::from_secs(if unhurried { long } else { short })
}

/// How often something is done: enough to see that it works, or to see how well.
pub(crate) fn often(some: usize, many: usize) -> usize {
    match env::var_os("FAULTS_LONG") {
        None => some,
        Some(_) => many,
    }
}

/// Where a member is on the road.
pub(crate) fn member_address(number: u8) -> IpAddr {
    [192, 168, 78, 11 + number].into()
}

/// The name of a record.
pub(crate) fn record(subnet: &str) -> String {
    format!("{PREFIX}/subnets/{subnet}")
}

/// A scene that is not built yet.
pub(crate) struct Stage {
    members: u8,
    shape: Box<dyn FnOnce(Plan) -> Plan>,
    spec: PathSpec,
    config: String,
    api: Api,
    prepare: Box<dyn FnOnce(&Etcd)>,
}

impl Stage {
    /// Nodes that speak a form, `udp` or `vxlan`; one member without TLS.
    pub(crate) fn new(form: &str) -> Self {
        Self {
            members: 1,
            shape: Box::new(|plan| plan),
            spec: form.parse().unwrap(),
            // What the tests write themselves lies above this range.
            config: format!(
                r#"{{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.60.0","Backend":{{"Type":"{form}"}}}}"#
            ),
            api: Api::V3,
            prepare: Box::new(|_| {}),
        }
    }

    /// A store by a version of etcd's API.
    pub(crate) fn by(self, api: Api) -> Self {
        Self { api, ..self }.flag(api_flag(api))
    }

    /// So many members.
    pub(crate) fn members(self, members: u8) -> Self {
        Self { members, ..self }
    }

    /// An etcd that is other than usual.
    pub(crate) fn shape(self, shape: impl FnOnce(Plan) -> Plan + 'static) -> Self {
        Self {
            shape: Box::new(shape),
            ..self
        }
    }

    /// What is done to the store before any daemon starts, besides its config.
    pub(crate) fn prepare(self, prepare: impl FnOnce(&Etcd) + 'static) -> Self {
        Self {
            prepare: Box::new(prepare),
            ..self
        }
    }

    /// One more flag for the daemons, without its dashes.
    pub(crate) fn flag(mut self, flag: impl Into<String>) -> Self {
        self.spec.options.push(flag.into());
        self
    }

    /// Starts everything and waits until packets pass.
    pub(crate) fn up(mut self) -> Scene {
        let lab = Lab::new(Profile::Offload).unwrap();
        let road = Namespace::new().unwrap();
        let (api, shape) = (self.api, self.shape);
        let etcd = open_road(&road, self.members, |plan| shape(serving(plan, api)));
        lay_road(&lab, &road);
        put(&etcd, api, &format!("{PREFIX}/config"), &self.config);
        (self.prepare)(&etcd);
        let store = format!("etcd-endpoints={}", etcd.endpoints());
        self.spec.options.extend(["store=etcd".to_owned(), store]);
        if let Some([authority, ..]) = etcd.client_files() {
            let authority = format!("etcd-cafile={}", authority.display());
            self.spec.options.push(authority);
        }
        let path = Path::connect(lab, &self.spec, flanneld()).unwrap_or_else(|why| panic!("{why}"));
        path.wait_until_connected()
            .unwrap_or_else(|why| panic!("{why}"));
        Scene {
            path,
            etcd,
            api,
            road,
        }
    }
}

/// The daemon's flag for a version of etcd's API, without its dashes.
pub(crate) fn api_flag(api: Api) -> &'static str {
    match api {
        Api::V2 => "etcd-api=v2",
        Api::V3 => "etcd-api=v3",
    }
}

/// The plan of an etcd that serves a version.
pub(crate) fn serving(plan: Plan, api: Api) -> Plan {
    match api {
        Api::V2 => plan.version_2(),
        Api::V3 => plan,
    }
}

/// Writes a value by a version, as an operator.
pub(crate) fn put(etcd: &Etcd, api: Api, key: &str, value: &str) {
    match api {
        Api::V2 => etcd.v2().put(key, value).unwrap(),
        Api::V3 => etcd.put(key, value).unwrap(),
    }
}

/// Makes a test of each function for a store by either version of etcd's API.
macro_rules! by_both_versions {
    ($($name:ident),+ $(,)?) => {
        mod by_version_3 {
            $(#[test]
            fn $name() {
                super::$name(benches::etcd::Api::V3);
            })+
        }
        mod by_version_2 {
            $(#[test]
            fn $name() {
                super::$name(benches::etcd::Api::V2);
            })+
        }
    };
}
pub(crate) use by_both_versions;

/// What a report says of the version, where it is not the usual one.
pub(crate) fn told(api: Api) -> &'static str {
    match api {
        Api::V2 => ", by version 2",
        Api::V3 => "",
    }
}

/// The hub with the members on it.
pub(crate) fn open_road(road: &Namespace, members: u8, shape: impl FnOnce(Plan) -> Plan) -> Etcd {
    road.ip("link add hub type bridge\nlink set hub up")
        .unwrap();
    let mut plan = Etcd::plan();
    for number in 0..members {
        let address = member_address(number);
        road.ip(&format!("addr add {address}/24 dev hub")).unwrap();
        plan = plan.member(road, address).unwrap();
    }
    shape(plan).launch().unwrap()
}

fn lay_road(lab: &Lab, road: &Namespace) {
    for side in Side::BOTH {
        let node = lab.node(side);
        node.ip(&format!(
            "link add store0 type veth peer name {} netns {}\n\
             addr add {}/24 dev store0\n\
             link set store0 up",
            lane(side),
            road.path(),
            on_road(side)
        ))
        .unwrap();
        let lane = lane(side);
        road.ip(&format!("link set {lane} master hub\nlink set {lane} up"))
            .unwrap();
    }
}

/// The road's end of the way to a node.
pub(crate) fn lane(side: Side) -> &'static str {
    ["lane-a", "lane-b"][side as usize]
}

/// A node's address on the road.
pub(crate) fn on_road(side: Side) -> IpAddr {
    [192, 168, 78, 1 + side as u8].into()
}

/// Everything at work. Fields end in this order.
pub(crate) struct Scene {
    pub(crate) path: Path,
    pub(crate) etcd: Etcd,
    pub(crate) api: Api,
    pub(crate) road: Namespace,
}

impl Scene {
    /// Begins to send a packet per millisecond from A to B and back.
    pub(crate) fn probe(&self) -> Probe {
        Probe::start(&Ends::of(&self.path, Side::A)).unwrap()
    }

    /// The first member's gateway.
    pub(crate) fn gateway(&mut self) -> Gateway {
        self.gateway_of(0)
    }

    /// The gateway of one of several members.
    pub(crate) fn gateway_of(&mut self, member: usize) -> Gateway {
        let gateway = self.etcd.member(member).gateway().unwrap();
        gateway.by(self.api)
    }

    /// What the store has under a key; empty where there is nothing, and while it does not answer.
    pub(crate) fn get(&self, key: &str) -> String {
        let found = match self.api {
            Api::V2 => self.etcd.v2().get(key),
            Api::V3 => self.etcd.get(key),
        };
        found.unwrap_or_default()
    }

    /// Writes a value as an operator.
    pub(crate) fn put(&self, key: &str, value: &str) {
        put(&self.etcd, self.api, key, value);
    }

    /// Has the store forget how it has become what it is.
    pub(crate) fn forget_history(&self) {
        match self.api {
            Api::V2 => self.etcd.v2().churn(MANY).unwrap(),
            Api::V3 => drop(self.etcd.compact().unwrap()),
        }
    }

    /// The name of a node's record.
    pub(crate) fn own_record(&self, side: Side) -> String {
        let subnet = self.path.subnet(side);
        record(&format!("{}-{}", subnet.base, subnet.length))
    }

    /// What a daemon has logged so far.
    pub(crate) fn log(&mut self, side: Side) -> String {
        self.path.daemon(side).unwrap().log()
    }

    /// From now on.
    pub(crate) fn mark(&mut self, side: Side) -> Mark {
        Mark {
            side,
            place: self.log(side).len(),
            begun: Instant::now(),
        }
    }

    /// Waits until a daemon has logged something after a mark; says how long after the mark that was.
    pub(crate) fn await_line(&mut self, mark: &Mark, text: &str) -> Duration {
        await_until(
            || self.log(mark.side)[mark.place..].contains(text),
            || format!("no {text:?} in"),
        );
        mark.begun.elapsed()
    }

    /// How many lines with a text a daemon has logged since a mark.
    pub(crate) fn lines_since(&mut self, mark: &Mark, text: &str) -> usize {
        let log = self.log(mark.side);
        log[mark.place..]
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Fails unless an outage was told of once for each cause, and its end once.
    pub(crate) fn assert_told_once(&mut self, mark: &Mark) {
        let log = self.log(mark.side);
        let lost: Vec<_> = log[mark.place..]
            .lines()
            .filter_map(|line| line.split_once(LOST).map(|(_, cause)| cause))
            .collect();
        let causes: BTreeSet<_> = lost.iter().collect();
        assert!(
            causes.len() == lost.len() && (1..=4).contains(&lost.len()),
            "{log}"
        );
        assert_eq!(self.lines_since(mark, BACK), 1, "{log}");
    }

    /// Waits until a key has a value that will do, and returns how long that took.
    pub(crate) fn await_value(&self, key: &str, good: impl Fn(&str) -> bool) -> Duration {
        let begun = Instant::now();
        await_until(
            || good(&self.get(key)),
            || format!("{key} is not as it should be"),
        );
        begun.elapsed()
    }

    /// Fails unless both daemons still run.
    pub(crate) fn assert_running(&mut self) {
        for side in Side::BOTH {
            self.path.daemon(side).unwrap().still_running().unwrap();
        }
    }
}

/// A moment in a daemon's log.
pub(crate) struct Mark {
    pub(crate) side: Side,
    place: usize,
    begun: Instant,
}

/// Waits until something holds; fails with a word on what did not.
pub(crate) fn await_until(mut holds: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{}", what());
        std::thread::sleep(Duration::from_millis(2));
    }
}

//! What comes and goes many times: the store, other nodes, the daemon itself. Nothing of it stays.

use std::thread;
use std::time::{Duration, Instant};

use benches::etcd::Api;
use benches::{Lab, Side};

use super::scene::{
    BACK, LOST, PATIENCE, PREFIX, Scene, Stage, await_until, by_both_versions, flanneld, often,
    record, told,
};
use super::table::report;

by_both_versions!(
    a_store_that_comes_and_goes_leaves_nothing,
    peers_that_come_and_go_leave_nothing,
    a_daemon_that_comes_and_goes_leaves_nothing,
);

const A: Side = Side::A;
/// Nodes that come and go together.
const PEERS: u8 = 50;
/// Memory a daemon may hold more in the end than once it has seen everything.
const KIB_MORE: u64 = 2048;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    memory_kib: u64,
}

impl Held {
    fn by(scene: &mut Scene) -> Self {
        let daemon = scene.path.daemon(A).unwrap();
        let count = |what: &str| {
            let place = format!("/proc/{}/{what}", daemon.id());
            std::fs::read_dir(place).unwrap().count()
        };
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            memory_kib: daemon.memory_kib().unwrap(),
        }
    }

    fn told(self, before: Self) -> [(&'static str, String); 2] {
        let more = self.memory_kib as f64 - before.memory_kib as f64;
        let held = format!("{} and {}", self.descriptors, self.threads);
        [
            ("memory more by", format!("{:.1} MiB", more / 1024.0)),
            ("descriptors and threads as before,", held),
        ]
    }
}

/// Waits until no more is held than before, which may take the last connection a moment.
fn await_let_go(scene: &mut Scene, before: Held) -> Held {
    let mut held = Held::by(scene);
    await_until(
        || {
            held = Held::by(scene);
            held.descriptors <= before.descriptors && held.threads <= before.threads
        },
        || format!("more is held than {before:?}"),
    );
    assert!(
        held.memory_kib < before.memory_kib + KIB_MORE,
        "{before:?}, {held:?}"
    );
    held
}

fn a_store_that_comes_and_goes_leaves_nothing(api: Api) {
    let rounds = often(4, 400);
    let mut scene = Stage::new("udp").by(api).up();
    let mut before = None;
    for _ in 0..=rounds {
        let mark = scene.mark(A);
        scene.etcd.kill();
        scene.await_line(&mark, LOST);
        scene.etcd.run().unwrap();
        scene.await_line(&mark, BACK);
        // The first time everything is loaded that is needed for it.
        before.get_or_insert_with(|| Held::by(&mut scene));
    }
    let before = before.unwrap();
    let held = await_let_go(&mut scene, before);
    report(
        &format!("etcd killed and started {rounds} times{}", told(api)),
        None,
        &held.told(before),
    );
    scene.assert_running();
}

fn peers_that_come_and_go_leave_nothing(api: Api) {
    let rounds = often(20, 2000);
    let mut scene = Stage::new("vxlan").by(api).up();
    let gateway = scene.gateway();
    let keys: Vec<_> = (0..PEERS)
        .map(|n| record(&format!("10.5.{}.0-24", 200 + n)))
        .collect();
    let pairs: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| {
            let value = format!(
                r#"{{"PublicIP":"192.168.78.{}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:01:{n:02x}"}}}}"#,
                100 + n
            );
            (key.clone(), value.into_bytes())
        })
        .collect();
    let mut before = None;
    for _ in 0..=rounds {
        let mark = scene.mark(A);
        gateway.put_all(&pairs).unwrap();
        scene.await_line(&mark, &format!("{} peer subnets", PEERS + 1));
        let mark = scene.mark(A);
        gateway.delete_all(&keys).unwrap();
        scene.await_line(&mark, "1 peer subnets");
        before.get_or_insert_with(|| Held::by(&mut scene));
    }
    let before = before.unwrap();
    let held = await_let_go(&mut scene, before);
    report(
        &format!("{PEERS} peers came and went {rounds} times{}", told(api)),
        None,
        &held.told(before),
    );
    scene.path.wait_until_connected().unwrap();
}

/// What a daemon at work has made on its host, without what is another every time.
fn made(lab: &Lab) -> Vec<String> {
    let node = lab.node(A);
    let questions = [
        "ip -brief addr show flannel0",
        "ip route show table all",
        "ip rule show",
        "iptables-save",
    ];
    let answers = questions.map(|question| node.run(question).unwrap_or_default());
    let lines = answers.iter().flat_map(|answer| answer.lines());
    let lasting = |line: &&str| !line.starts_with(['#', ':']) && !line.contains("fe80:");
    lines.filter(lasting).map(str::to_owned).collect()
}

/// The lines that only one of them has.
fn difference(before: &[String], after: &[String]) -> Vec<String> {
    let only = |sign: char, these: &[String], others: &[String]| {
        let missing = these.iter().filter(|line| !others.contains(line));
        missing
            .map(|line| format!("{sign} {line}"))
            .collect::<Vec<_>>()
    };
    [only('-', before, after), only('+', after, before)].concat()
}

fn a_daemon_that_comes_and_goes_leaves_nothing(api: Api) {
    let rounds = often(10, 1000);
    let mut scene = Stage::new("udp").by(api).flag("ip-masq").up();
    let leases = |scene: &Scene| match api {
        Api::V2 => {
            let records = scene.etcd.v2().keys(&format!("{PREFIX}/subnets"));
            records.unwrap().len()
        }
        Api::V3 => {
            let listed = scene.etcd.ctl(&["lease", "list"]).unwrap();
            listed.lines().count()
        }
    };
    let (before, leased) = (made(scene.path.lab()), leases(&scene));
    assert!(
        before.iter().any(|line| line.contains("MASQUERADE")),
        "{before:?}"
    );
    let begun = Instant::now();
    for round in 0..rounds {
        let signal = if round % 2 == 0 { 9 } else { 15 };
        scene.path.revive(A, flanneld(), signal).unwrap();
        scene.path.wait_until_connected().unwrap();
    }
    let each = begun.elapsed() / rounds as u32;
    let mut left = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let more = leases(&scene).saturating_sub(leased);
        left = difference(&before, &made(scene.path.lab()));
        left.extend((more > 0).then(|| format!("{more} leases more in etcd")));
        if left.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(left.is_empty(), "{left:#?}\n{}", scene.log(A));
    report(
        &format!(
            "a daemon killed and stopped by turns, {rounds} times{}",
            told(api)
        ),
        None,
        &[(
            "what it makes on the host is the same,",
            format!("{} ms each", each.as_millis()),
        )],
    );
}

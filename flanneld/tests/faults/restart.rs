//! The daemon is killed, stopped, and replaced by another one, under traffic.

use std::path::Path;
use std::time::{Duration, Instant};

use benches::Side;
use benches::traffic::Ends;
use benches::traffic::probe::Outcome;
use benches::traffic::streams::Streams;

use super::scene::{Scene, Stage, await_until, flanneld, flanneld_before, often};
use super::table::{assert_none_lost, ms, report};

const A: Side = Side::A;
/// Streams that must survive a takeover.
const STREAMS: usize = 50;
/// What each of them writes in between, so that other tests have a processor as well.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two restarts: long enough to write down what is known.
const REST: Duration = Duration::from_millis(300);

/// What every so many of them do not exceed: half, nearly all, all.
fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!(
        "p50 {}, p90 {}, max {}",
        ms(at(50)),
        ms(at(90)),
        ms(at(100))
    )
}

fn gaps(outcome: &Outcome) -> Vec<Duration> {
    outcome.gaps.iter().map(|gap| gap.length).collect()
}

/// Waits until a node has written down what its peers are.
fn await_memory(scene: &Scene) {
    let state = scene.path.lab().scratch().join("subnet-A.env.state");
    let peer = scene.own_record(Side::B);
    let peer = peer.rsplit('/').next().unwrap().to_owned();
    await_until(
        || std::fs::read_to_string(&state).is_ok_and(|text| text.contains(&peer)),
        || format!("{} lacks {peer}", state.display()),
    );
}

/// Ends the daemon again and again, starts it anew each time, and reports the gaps.
fn a_daemon_comes_back(form: &str, signal: i32, what: &str) {
    let rounds = often(10, 200);
    let mut scene = Stage::new(form).up();
    await_memory(&scene);
    let (own, probe) = (scene.own_record(A), scene.probe());
    let mut ended = Vec::new();
    for _ in 0..rounds {
        ended.push(scene.path.revive(A, flanneld(), signal).unwrap());
        scene.path.wait_until_connected().unwrap();
        std::thread::sleep(REST);
    }
    let outcome = probe.stop();
    report(
        &format!("{what}, {form} form, {rounds} times"),
        Some(&outcome),
        &[
            ("without packets", quantiles(gaps(&outcome))),
            ("ended within", quantiles(ended)),
        ],
    );
    assert_eq!(scene.own_record(A), own, "the subnet is kept");
    assert!(outcome.gaps.len() <= rounds, "{outcome}");
    scene.assert_running();
}

#[test]
fn a_daemon_that_is_killed_and_started_again_keeps_its_subnet_in_udp_form() {
    a_daemon_comes_back("udp", 9, "daemon killed and started again");
}

#[test]
fn a_daemon_that_is_killed_and_started_again_keeps_its_subnet_in_vxlan_form() {
    a_daemon_comes_back("vxlan", 9, "daemon killed and started again");
}

#[test]
fn a_daemon_that_is_stopped_and_started_again_keeps_its_subnet() {
    a_daemon_comes_back("udp", 15, "daemon stopped and started again");
}

/// Another daemon takes over; how long that took.
fn relieve(scene: &mut Scene, program: &Path) -> Duration {
    let begun = Instant::now();
    let mut old = scene.path.add(A, program, &["--takeover"]).unwrap();
    let status = old
        .wait()
        .unwrap_or_else(|why| panic!("{why}\n{}", scene.log(A)));
    assert!(status.success(), "{status}");
    begun.elapsed()
}

/// Segments sent more than once a second while something is done.
fn retransmissions(streams: &Streams, what: impl FnOnce()) -> String {
    let (begun, before) = (Instant::now(), streams.retransmitted().unwrap());
    what();
    let count = streams.retransmitted().unwrap() - before;
    format!("{:.0}", count as f64 / begun.elapsed().as_secs_f64())
}

fn another_daemon_takes_over(form: &str, flags: &[&str]) {
    daemons_take_over_by_turns(form, flags, "another daemon", [flanneld(); 2]);
}

fn daemons_take_over_by_turns(form: &str, flags: &[&str], who: &str, programs: [&Path; 2]) {
    let rounds = often(5, 100);
    let mut stage = Stage::new(form);
    for flag in flags {
        stage = stage.flag(*flag);
    }
    let mut scene = stage.up();
    let probe = scene.probe();
    let streams = Streams::start(&Ends::of(&scene.path, A), STREAMS, PAUSE).unwrap();
    let quiet = retransmissions(&streams, || std::thread::sleep(Duration::from_secs(1)));
    let mut took = Vec::new();
    let meanwhile = retransmissions(&streams, || {
        took.extend((0..rounds).map(|round| relieve(&mut scene, programs[round % 2])));
    });
    let (streams, outcome) = (streams.stop().unwrap(), probe.stop());
    let options: String = flags.iter().map(|flag| format!(", {flag}")).collect();
    report(
        &format!("{who} takes over, {form} form{options}, {rounds} times"),
        Some(&outcome),
        &[
            ("took", quantiles(took)),
            ("streams broken", format!("{} of {STREAMS}", streams.broken)),
            ("MiB through them", (streams.bytes >> 20).to_string()),
            ("retransmissions a second before", quiet),
            ("and meanwhile", meanwhile),
            ("slowest packet", ms(outcome.slowest)),
        ],
    );
    assert_none_lost(&outcome);
    assert_eq!(streams.broken, 0);
    assert!(streams.bytes > 0);
    scene.assert_running();
}

#[test]
fn a_takeover_loses_no_packet_and_breaks_no_stream_in_udp_form() {
    another_daemon_takes_over("udp", &[]);
}

#[test]
fn a_takeover_loses_no_packet_and_breaks_no_stream_in_vxlan_form() {
    another_daemon_takes_over("vxlan", &[]);
}

#[test]
fn a_takeover_loses_no_packet_with_multishot_reads_and_two_workers() {
    another_daemon_takes_over("vxlan", &["io=uring-multishot", "workers=2"]);
}

#[test]
fn a_release_and_the_one_before_take_over_from_each_other() {
    let programs = [flanneld_before(), flanneld()];
    daemons_take_over_by_turns(
        "vxlan",
        &[],
        "the release before, and this by turns,",
        programs,
    );
}

/// What came of many probes.
fn together(outcomes: Vec<Outcome>) -> Outcome {
    let mut all = Outcome::default();
    for outcome in outcomes {
        all.sent += outcome.sent;
        all.lost += outcome.lost;
        all.slowest = all.slowest.max(outcome.slowest);
        all.gaps.extend(outcome.gaps);
    }
    all
}

/// A takeover is over well before this long after the new daemon's start.
const TAKEOVER: Duration = Duration::from_millis(400);

#[test]
fn whenever_a_new_daemon_dies_before_it_has_taken_over_the_old_one_carries_on() {
    let moments = often(25, 200);
    let step = TAKEOVER / moments as u32;
    let mut scene = Stage::new("udp").up();
    let (mut outcomes, mut carried_on) = (Vec::new(), 0);
    for moment in 0..moments as u32 {
        let probe = scene.probe();
        let mut old = scene.path.add(A, flanneld(), &["--takeover"]).unwrap();
        std::thread::sleep(step * moment);
        let _ = scene.path.daemon(A).unwrap().stop_with(9);
        // Whether it had taken over the old one knows in a moment.
        std::thread::sleep(Duration::from_millis(50));
        if old.ended().unwrap().is_some() {
            // Then it died as any daemon may, and its packets with it.
            drop(probe);
            scene.path.revive(A, flanneld(), 9).unwrap();
            scene.path.wait_until_connected().unwrap();
            continue;
        }
        scene.path.put_back(A, old).unwrap();
        outcomes.push(probe.stop());
        carried_on += 1;
    }
    let outcome = together(outcomes);
    report(
        &format!("new daemon killed at {moments} moments of a takeover"),
        Some(&outcome),
        &[("the old one carried on", format!("{carried_on} times"))],
    );
    assert!(carried_on > 0);
    assert_none_lost(&outcome);
    scene.assert_running();
}

#[test]
fn whenever_an_old_daemon_dies_the_new_one_goes_on_alone() {
    let moments = often(25, 200);
    let step = TAKEOVER / moments as u32;
    let mut scene = Stage::new("udp").up();
    let own = scene.own_record(A);
    let mut without = Vec::new();
    for moment in 0..moments as u32 {
        let probe = scene.probe();
        let mut old = scene.path.add(A, flanneld(), &["--takeover"]).unwrap();
        std::thread::sleep(step * moment);
        let _ = old.stop_with(9);
        scene.path.wait_until_connected().unwrap();
        scene.assert_running();
        let outcome = probe.stop();
        without.push(outcome.longest_gap());
    }
    let lossless = without.iter().filter(|gap| gap.is_zero()).count();
    report(
        &format!("old daemon killed at {moments} moments of a takeover"),
        None,
        &[
            ("no packet lost", format!("{lossless} times")),
            ("without packets", quantiles(without)),
        ],
    );
    assert_eq!(scene.own_record(A), own, "the subnet is kept");
}

//! Anyone who can write to the store can write anything. It costs a log line and nothing else.

use std::thread;
use std::time::{Duration, Instant};

use benches::Side;
use benches::etcd::Api;

use super::road::a_moment;
use super::scene::{PREFIX, Scene, Stage, by_both_versions, record, told};
use super::table::{assert_none_lost, ms, report};

by_both_versions!(
    hostile_records_become_no_peer_and_hide_none,
    a_config_that_breaks_and_is_mended_costs_one_line_and_no_packet,
);

const GOOD: &str = r#"{"PublicIP":"192.168.78.250","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:50"}}"#;

fn with_address(address: &str) -> Vec<u8> {
    GOOD.replace("192.168.78.250", address).into_bytes()
}

/// Names and values that must become no peer.
fn hostile(scene: &Scene) -> Vec<(String, Vec<u8>)> {
    let own = scene.path.subnet(Side::A);
    let part_of_own = format!("{}-25", own.base);
    let long = "x".repeat(3000);
    let names = [
        "x",
        "10.1.2-24",
        "10.1.2.0-33",
        "999.1.1.0-24",
        "zz10.5.7.0-24",
        "10.5.7.0-24\0",
        "10.5.7.0-024",
        "10.5.7.9-24",
        "\u{1b}[31m10.5.7.0-24\nroot logged in",
        &long,
        // Readable, and not ours to route: elsewhere, everywhere, our own, the underlay.
        "192.168.1.0-24",
        "0.0.0.0-0",
        "0.0.0.0-1",
        "10.0.0.0-8",
        "10.5.0.0-16",
        "192.168.77.0-24",
        "127.0.0.0-8",
        &part_of_own,
    ];
    let names = names.map(|name| (record(name), GOOD.as_bytes().to_vec()));
    let values: [Vec<u8>; 13] = [
        b"".to_vec(),
        b"nonsense".to_vec(),
        b"\0".to_vec(),
        b"{\"PublicIP\":\"192.168.78.9\xff\"}".to_vec(),
        b"[]".to_vec(),
        br#"{"PublicIP":7}"#.to_vec(),
        br#"{"PublicIP":"192.168.78.9","BackendType":"vxlan","BackendData":{"VtepMAC":"ff:ff:ff:ff:ff:ff"}}"#.to_vec(),
        vec![b'['; 1 << 20],
        with_address("10.5.3.1"),
        with_address("127.0.0.1"),
        with_address("0.0.0.0"),
        with_address("255.255.255.255"),
        with_address("224.0.0.1"),
    ];
    let values = values.into_iter().enumerate();
    let values = values.map(|(n, value)| (record(&format!("10.5.{}.0-24", 100 + n)), value));
    names.into_iter().chain(values).collect()
}

fn routes(scene: &Scene) -> String {
    let node = scene.path.lab().node(Side::A);
    node.run("ip -4 route show table all").unwrap()
}

fn hostile_records_become_no_peer_and_hide_none(api: Api) {
    let mut scene = Stage::new("vxlan").by(api).up();
    let (gateway, before) = (scene.gateway(), routes(&scene));
    let records = hostile(&scene);
    let probe = scene.probe();
    let mark = scene.mark(Side::A);
    for (key, value) in &records {
        gateway.put(key, value).unwrap();
    }
    let written = Instant::now();
    gateway
        .put(&record("10.5.99.0-24"), GOOD.as_bytes())
        .unwrap();
    scene.await_line(&mark, "2 peer subnets");
    let good = written.elapsed();
    a_moment();
    let outcome = probe.stop();
    let log = scene.log(Side::A);
    let lines = ["ignoring lease record", "is not used"].map(|text| scene.lines_since(&mark, text));
    report(
        &format!("{} hostile records{}", records.len(), told(api)),
        Some(&outcome),
        &[
            ("a good one behind them in use after", ms(good)),
            ("log lines", format!("{}", lines.iter().sum::<usize>())),
        ],
    );
    assert_none_lost(&outcome);
    assert_eq!(
        routes(&scene),
        before,
        "a record changes no route of the host"
    );
    assert_eq!(lines.iter().sum::<usize>(), records.len(), "{log}");
    assert!(!log.contains("3 peer subnets"), "{log}");
    assert!(
        log.lines().all(|line| line.len() < 2000),
        "what others wrote is cut short"
    );
    assert!(
        !log.lines().any(|line| line.starts_with("root logged in")),
        "{log}"
    );
    assert!(!log.contains('\0') && !log.contains('\u{1b}'));
    // The same, found by who starts now.
    scene
        .path
        .restart(Side::A, super::scene::flanneld())
        .unwrap();
    scene.path.wait_until_connected().unwrap();
    assert_eq!(routes(&scene), before);
}

fn a_config_that_breaks_and_is_mended_costs_one_line_and_no_packet(api: Api) {
    let mut scene = Stage::new("udp").by(api).up();
    let key = format!("{PREFIX}/config");
    let good = scene.get(&key);
    let probe = scene.probe();
    let mark = scene.mark(Side::A);
    scene.put(&key, r#"{"Network":"10.5.0.0/33"#);
    let after = scene.await_line(&mark, "cannot be used");
    thread::sleep(Duration::from_millis(500));
    scene.put(&key, &good);
    a_moment();
    let outcome = probe.stop();
    report(
        &format!("config broken while running, then mended{}", told(api)),
        Some(&outcome),
        &[("told after", ms(after))],
    );
    assert_none_lost(&outcome);
    assert_eq!(
        scene.lines_since(&mark, "cannot be used"),
        1,
        "{}",
        scene.path.logs()
    );
    scene.assert_running();
}

//! What the sender of an IPv6 packet is told when it cannot go on, as ping shows it.

use std::thread::sleep;
use std::time::Duration;

use benches::{Path, Profile, Side};

use super::setup::{up, versions};
use super::traffic::{bound, stream};

/// In the overlay network, leased by nobody.
const NOBODY: &str = "fd05:0:0:fa::9";

/// What ping says in the container on node A.
fn ping(path: &Path, words: &str) -> String {
    let mut command = path.lab().container(Side::A).command("ping").unwrap();
    command.args(["-6", "-n", "-c", "1", "-W", "5"]);
    let said = command.args(words.split(' ')).output().unwrap();
    String::from_utf8(said.stdout).unwrap()
}

fn nobody_is_unreachable(name: &str) {
    let path = up(name, Profile::Offload);
    let said = ping(&path, NOBODY);
    assert!(
        said.contains("Destination unreachable: No route"),
        "{said}\n{}",
        path.logs()
    );
}

versions! { nobody_is_unreachable:
    a_container_learns_in_udp_form_that_nobody_has_an_ipv6_address("udp+inner=6");
    a_container_learns_in_vxlan_form_that_nobody_has_an_ipv6_address("vxlan+inner=6");
    a_container_learns_over_a_single_queue_that_nobody_has_an_ipv6_address("udp+inner=6+io=single-queue");
}

/// What traceroute does: one more hop to live each time, until the target answers.
fn every_hop_answers(name: &str) {
    let path = up(name, Profile::Offload);
    let target = path.container(Side::B).1;
    let mut hops = Vec::new();
    let arrived = (1..=8).any(|hop| {
        let said = ping(&path, &format!("-t {hop} {target}"));
        let arrived = said.contains(&format!("from {target}"));
        assert!(
            arrived || said.contains("Time exceeded"),
            "hop {hop} after {hops:?}: {said}"
        );
        hops.push(said);
        arrived
    });
    assert!(arrived && hops.len() >= 3, "{hops:?}");
}

versions! { every_hop_answers:
    traceroute_sees_every_ipv6_hop_in_udp_form("udp+inner=6");
    traceroute_sees_every_ipv6_hop_in_vxlan_form("vxlan+inner=6");
    traceroute_sees_every_ipv6_hop_with_kernel_vxlan("mixed-vxlan+inner=6");
}

/// Containers are told the MTU between IPv4 addresses; what is too much between IPv6 addresses gets there all the same,
/// and its sender is told what does so whole.
fn the_largest_packet_is_carried_and_the_mtu_told(name: &str) {
    let path = up(name, Profile::Offload);
    let target = path.container(Side::B).1;
    let whole = path.mtu();
    let device = path
        .lab()
        .container(Side::A)
        .run("ip link show eth0")
        .unwrap();
    assert!(device.contains(&format!("mtu {}", whole + 20)), "{device}");
    let [near, far] = Side::BOTH.map(|side| bound(&path, side));
    near.connect(far.local_addr().unwrap()).unwrap();
    let large = vec![7; whole as usize + 20 - 48];
    near.send(&large).unwrap();
    let mut buffer = [0; 2048];
    let arrived = far.recv(&mut buffer);
    assert_eq!(arrived.ok(), Some(large.len()), "{}", path.logs());
    let (container, told) = (path.lab().container(Side::A), format!("mtu {whole}"));
    let learned = (0..100).any(|_| {
        sleep(Duration::from_millis(10));
        let route = container.run(&format!("ip -6 route get {target}"));
        route.unwrap().contains(&told)
    });
    assert!(learned, "nobody said {told}\n{}", path.logs());
    stream(&path, Side::A);
}

versions! { the_largest_packet_is_carried_and_the_mtu_told:
    ipv6_packets_of_the_mtu_told_get_there_in_udp_form("udp+inner=6");
    ipv6_packets_of_the_mtu_told_get_there_in_vxlan_form("vxlan+inner=6");
}

//! A service's port on one node, whose container is on another: what comes in gets another destination and another
//! source on its way into the tunnel. Kernels have sent such packets with wrong outer checksums, and connections took
//! the second or the minute until the fifth try.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use benches::{Path, Profile, Side};

use super::offloads::damaged;
use super::setup::{up, versions};

const PORT: u16 = 30_080;
const CONNECTIONS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(20);

/// Leads the port at node A to the container at B, by an address of A's and a random port.
fn expose(path: &Path, to: SocketAddr) {
    let node = path.lab().node(Side::A);
    let own = Side::A.underlay();
    for rule in [
        format!("PREROUTING -d {own} -p tcp --dport {PORT} -j DNAT --to-destination {to}"),
        "POSTROUTING -o flannel0 -j MASQUERADE --random-fully".to_owned(),
    ] {
        node.run(&format!("iptables -w -t nat -A {rule}")).unwrap();
    }
    node.set("net/ipv4/ip_forward", "1").unwrap();
}

/// What TCP has sent twice in the client's namespace.
fn retransmitted(path: &Path) -> u64 {
    let table = path.lab().node(Side::B).run("cat /proc/net/snmp").unwrap();
    let mut tcp = table.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, count) = pairs.find(|(name, _)| *name == "RetransSegs").unwrap();
    count.parse().unwrap()
}

fn a_service_answers_at_the_first_try(name: &str) {
    let path = up(name, Profile::Offload);
    let (container, address) = path.container(Side::B);
    let service = container.enter(|| TcpListener::bind((address, 0))).unwrap();
    expose(&path, service.local_addr().unwrap());
    let before = retransmitted(&path);
    let at = SocketAddr::from((Side::A.underlay(), PORT));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..CONNECTIONS {
                service.accept().unwrap().0.write_all(b"hello").unwrap();
            }
        });
        for _ in 0..CONNECTIONS {
            let connect = || TcpStream::connect_timeout(&at, PATIENCE);
            let mut stream = path.lab().node(Side::B).enter(connect).unwrap();
            let mut answer = String::new();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "hello");
        }
    });
    assert_eq!(retransmitted(&path), before, "no try was lost");
    assert_eq!(damaged(&path), 0);
}

versions! { a_service_answers_at_the_first_try:
    a_service_answers_at_the_first_try_over_vxlan("vxlan");
    a_service_answers_at_the_first_try_in_udp_form("udp");
}

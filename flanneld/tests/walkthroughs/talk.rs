//! What runs on hosts and in containers of a guide: pings, a server, a client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use benches::Namespace;

const TRIES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// So long that it must be carried in many packets; no part of it repeats soon.
const BYTES: usize = 4 << 20;

/// Pings until there is an answer: the peers' leases may still be on their way.
pub(crate) fn reaches(from: &Namespace, to: Ipv4Addr) {
    let ping = format!("ping -n -c 1 -W 1 {to}");
    let mut answers = (0..TRIES).map(|_| from.run(&ping));
    assert!(answers.any(|answer| answer.is_ok()), "{ping}: no answer");
}

/// Sends a long text over TCP, which must arrive as it is. Tells who the client is to the server.
pub(crate) fn tcp(client: &Namespace, server: (&Namespace, Ipv4Addr)) -> IpAddr {
    let listener = server.0.enter(|| TcpListener::bind((server.1, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let sender = scope.spawn(move || send(client, address));
        let (stream, peer) = listener.accept().unwrap();
        assert!(
            receive(stream) == text(),
            "what was sent over TCP has changed"
        );
        sender.join().unwrap();
        peer.ip()
    })
}

fn send(client: &Namespace, to: SocketAddr) {
    let connect = || TcpStream::connect_timeout(&to, PATIENCE);
    let mut stream = client.enter(connect).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&text()).unwrap();
}

fn receive(mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    got
}

fn text() -> Vec<u8> {
    (0..BYTES as u32 / 4).flat_map(u32::to_be_bytes).collect()
}

/// Sends datagrams of many sizes, which must come back as they are; the largest travel in fragments.
pub(crate) fn udp(client: &Namespace, server: (&Namespace, Ipv4Addr)) {
    let far = server.0.enter(|| UdpSocket::bind((server.1, 0))).unwrap();
    let near = client.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    near.connect(far.local_addr().unwrap()).unwrap();
    for socket in [&near, &far] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut buffer = vec![0; 10_000];
    for size in [0, 1, 99, 1000, 1400, 1422, 1423, 4000, 8000] {
        near.send(&text()[..size]).unwrap();
        let (length, back) = far.recv_from(&mut buffer).unwrap();
        far.send_to(&buffer[..length], back).unwrap();
        let length = near.recv(&mut buffer).unwrap();
        assert!(
            buffer[..length] == text()[..size],
            "a datagram of {size} bytes has changed"
        );
    }
}

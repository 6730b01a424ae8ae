//! What runs on hosts and in containers of a guide: pings, a server, a client.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use benches::Namespace;

const TRIES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(20);
/// So long that it must be carried in many packets; no part of it repeats soon.
const BYTES: usize = 4 << 20;

/// Pings until there is an answer: the peers' leases may still be on their way.
pub(crate) fn reaches(from: &Namespace, to: impl Into<IpAddr>) {
    let to = to.into();
    let ping = format!("ping -n -c 1 -W 1 {to}");
    let mut answers = (0..TRIES).map(|_| from.run(&ping));
    assert!(answers.any(|answer| answer.is_ok()), "{ping}: no answer");
}

/// Sends a long text over TCP, which must arrive as it is. Tells who the client is to the server.
pub(crate) fn tcp(client: &Namespace, server: (&Namespace, impl Into<IpAddr>)) -> IpAddr {
    let server = (server.0, server.1.into());
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

/// Sends datagrams of many sizes, which must come back as they are; the largest travel in fragments. One that
/// is too large for the path in between may be lost once, and never comes changed.
pub(crate) fn udp(client: &Namespace, server: (&Namespace, impl Into<IpAddr>)) {
    let server = (server.0, server.1.into());
    let any = if server.1.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let far = server.0.enter(|| UdpSocket::bind((server.1, 0))).unwrap();
    let near = client.enter(|| UdpSocket::bind(any)).unwrap();
    near.connect(far.local_addr().unwrap()).unwrap();
    near.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    thread::scope(|scope| {
        scope.spawn(|| echo(&far));
        for size in [1, 99, 1000, 1400, 1422, 1423, 4000, 8000] {
            let sent = &text()[..size];
            let returned = (0..TRIES).any(|_| comes_back(&near, sent));
            assert!(
                returned,
                "a datagram of {size} bytes is lost again and again"
            );
        }
        near.send(&[]).unwrap();
    });
}

/// Sends back what comes, until something empty comes.
fn echo(socket: &UdpSocket) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; 10_000];
    while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
        socket.send_to(&buffer[..length], from).unwrap();
    }
}

/// Sends a datagram; an answer to an earlier one of another size is passed over.
fn comes_back(socket: &UdpSocket, sent: &[u8]) -> bool {
    // Too large for the path, as just learnt: it goes in fragments from now on.
    if socket.send(sent).is_err() {
        return false;
    }
    let mut buffer = vec![0; 10_000];
    while let Ok(length) = socket.recv(&mut buffer) {
        if length == sent.len() {
            assert!(
                buffer[..length] == *sent,
                "a datagram of {length} bytes has changed"
            );
            return true;
        }
    }
    false
}

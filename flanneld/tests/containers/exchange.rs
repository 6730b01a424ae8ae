//! What containers send each other: pings, a large file, small questions, many short connections.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use benches::Namespace;

use crate::machine::wait_for;
use crate::runtime::Container;

const FILE_MB: usize = 100;
const QUESTIONS: u32 = 200;
const CONNECTIONS: u32 = 1000;
/// What a resolver may send without asking.
const QUESTION_BYTES: usize = 512;
const PATIENCE: Duration = Duration::from_secs(20);
const UNANSWERED: Duration = Duration::from_secs(1);
const TRIES: usize = 10;

/// Everything, from one container to another.
pub(crate) fn everything(client: &Container<'_>, server: &Container<'_>) {
    wait_for("an answer to a ping", || client.reaches(server.address));
    large_file(client, server);
    questions(client, server);
    connections(client, server);
}

/// A file that arrives as it was sent, by the programs in the containers.
fn large_file(client: &Container<'_>, server: &Container<'_>) {
    let make = format!(
        "dd if=/dev/urandom of=/www/file bs=1M count={FILE_MB} 2>/dev/null; sha256sum < /www/file"
    );
    let sent = server.run(&make);
    let fetch = format!(
        "wget -q -O - http://{}/file | sha256sum",
        SocketAddr::new(server.address, 80)
    );
    assert_eq!(client.run(&fetch), sent);
}

/// Datagrams that are answered one by one.
fn questions(client: &Container<'_>, server: &Container<'_>) {
    let far = bind(&server.network, server.address);
    let near = bind(&client.network, client.address);
    near.connect(far.local_addr().unwrap()).unwrap();
    near.set_read_timeout(Some(UNANSWERED)).unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| answer(&far));
        for number in 0..QUESTIONS {
            assert!(
                (0..TRIES).any(|_| ask(&near, number)),
                "no answer to question {number}"
            );
        }
        near.send(&[]).unwrap();
    });
}

/// As resolvers do: another try after a while, and late answers to earlier ones do not count.
fn ask(socket: &UdpSocket, number: u32) -> bool {
    let mut question = [0x5a; QUESTION_BYTES];
    question[..4].copy_from_slice(&number.to_be_bytes());
    socket.send(&question).unwrap();
    let mut answer = [0; QUESTION_BYTES];
    while socket.recv(&mut answer).is_ok() {
        if answer == question {
            return true;
        }
    }
    false
}

/// Sends back what comes, until something empty comes.
fn answer(socket: &UdpSocket) {
    let mut buffer = [0; QUESTION_BYTES];
    while let Ok((length @ 1.., from)) = socket.recv_from(&mut buffer) {
        socket.send_to(&buffer[..length], from).unwrap();
    }
}

/// Short connections, one after the other, each with a question and its answer.
fn connections(client: &Container<'_>, server: &Container<'_>) {
    let listener = listen(&server.network, server.address);
    let there = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..CONNECTIONS {
                let (mut stream, from) = listener.accept().unwrap();
                assert_eq!(
                    from.ip(),
                    client.address,
                    "nobody in between changes addresses"
                );
                stream.write_all(&number.to_be_bytes()).unwrap();
            }
        });
        client
            .network
            .enter(|| {
                (0..CONNECTIONS).for_each(|number| assert_eq!(number_from(there), number));
                Ok(())
            })
            .unwrap();
    });
}

fn number_from(there: SocketAddr) -> u32 {
    let mut stream = TcpStream::connect_timeout(&there, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut number = [0; 4];
    stream.read_exact(&mut number).unwrap();
    u32::from_be_bytes(number)
}

/// Who a container is to a server elsewhere.
pub(crate) fn seen_as(
    client: &Container<'_>,
    server: &Namespace,
    address: impl Into<IpAddr>,
) -> IpAddr {
    let listener = listen(server, address.into());
    let there = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&there, PATIENCE);
    let _stream = client.network.enter(connect).unwrap();
    listener.accept().unwrap().1.ip()
}

fn bind(network: &Namespace, address: IpAddr) -> UdpSocket {
    network.enter(|| UdpSocket::bind((address, 0))).unwrap()
}

fn listen(network: &Namespace, address: IpAddr) -> TcpListener {
    network.enter(|| TcpListener::bind((address, 0))).unwrap()
}

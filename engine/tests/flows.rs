//! The outer source port tells inner flows apart, so that networks can spread them: always for
//! VXLAN, on request for the UDP form, and never for two packets of one flow.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod loopback;

use engine::{EngineConfig, Form, IoChoice, Mac, Peer, PeerForm, Refusal, Route, SubnetTable};
use loopback::{FAR, Loopback, config};
use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::time::Duration;

const FLOWS: u16 = 64;
const ROUNDS: u16 = 4;

/// Which outer source ports each of many inner flows used.
fn ports_by_flow(
    config: EngineConfig,
    form: PeerForm,
    inner_at: usize,
) -> BTreeMap<u16, BTreeSet<u16>> {
    let lab = Loopback::start(config);
    let address = lab.peer.local_addr().unwrap();
    let peer = Peer {
        address: address.ip(),
        port: address.port(),
        form,
        mtu: None,
    };
    let route = Route {
        subnet: "10.5.2.0/24".parse().unwrap(),
        peer,
    };
    lab.engine.publish(SubnetTable::build(
        vec!["10.5.1.0/24".parse().unwrap()],
        [route],
    ));
    let Loopback {
        engine,
        inner,
        peer,
    } = lab;
    drop(peer);
    let peer = UdpSocket::bind(address).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let socket = UdpSocket::bind(inner.local_addr().unwrap().ip().to_string() + ":0").unwrap();
    let mut seen: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
    let mut buffer = [0; 2048];
    for packet in 0..FLOWS * ROUNDS {
        let flow = 1000 + packet % FLOWS;
        socket.send_to(&[0; 10], (FAR, flow)).unwrap();
        let (len, from) = receive_from(&peer, &mut buffer);
        assert!(len > inner_at + 24);
        let inner_port = u16::from_be_bytes([buffer[inner_at + 22], buffer[inner_at + 23]]);
        seen.entry(inner_port).or_default().insert(from);
    }
    assert_eq!(engine.stop().imbalance(), 0);
    assert_eq!(seen.len(), usize::from(FLOWS), "every flow arrived");
    seen
}

fn receive_from(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, u16) {
    loop {
        match socket.recv_from(buffer) {
            Ok((len, from)) => return (len, from.port()),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Interrupted),
        }
    }
}

fn distinct(seen: &BTreeMap<u16, BTreeSet<u16>>) -> usize {
    assert!(
        seen.values().all(|ports| ports.len() == 1),
        "a flow changed its port: {seen:?}"
    );
    seen.values().flatten().collect::<BTreeSet<_>>().len()
}

#[test]
fn vxlan_spreads_flows_over_source_ports() {
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let forms = vec![Form::Vxlan {
        port: 8285,
        vni: 1,
        mac,
    }];
    let form = PeerForm::Vxlan {
        mac: Mac([2, 0, 0, 0, 0, 2]),
    };
    let seen = ports_by_flow(
        EngineConfig {
            forms,
            ..config(IoChoice::Auto)
        },
        form,
        22,
    );
    assert!(distinct(&seen) > 1, "{seen:?}");
}

#[test]
fn the_udp_form_sends_from_its_own_port_unless_asked_to_spread() {
    let seen = ports_by_flow(config(IoChoice::Auto), PeerForm::Udp, 0);
    assert_eq!((distinct(&seen), seen[&1000].first()), (1, Some(&8285)));
    let spread = EngineConfig {
        flow_ports: true,
        confine: Some(Refusal::End),
        ..config(IoChoice::Auto)
    };
    let seen = std::thread::spawn(|| ports_by_flow(spread, PeerForm::Udp, 0))
        .join()
        .unwrap();
    assert!(distinct(&seen) > 1, "{seen:?}");
}

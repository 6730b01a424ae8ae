//! Records of other nodes: whatever they say, no route leaves the overlay, takes ours, or hides another one.

use crate::input::Input;
use crate::sketch::{key, object};
use control::book::LeaseBook;
use control::fuzzing::record;
use control::lease::{Lease, LeaseAttrs, Revision};
use control::network::NetworkConfig;
use control::registry::News;
use control::screen::Screen;
use control::sink::Peer;
use control::subnet_key::SubnetKey;
use ipnet::IpNet;

const FIELDS: [&str; 9] = [
    "PublicIP",
    "PublicIPv6",
    "BackendType",
    "BackendData",
    "BackendV6Data",
    "VNI",
    "VtepMAC",
    "publicip",
    "More",
];
const BACKENDS: [&str; 4] = ["udp", "vxlan", "host-gw", "alloc"];
const RECORDS_MAX: u8 = 12;

/// Reads a backend and records.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let screen = screen(input.pick(&BACKENDS));
    let mut book = LeaseBook::default();
    for _ in 0..input.byte() % RECORDS_MAX {
        match next(&mut input) {
            Ok((key, attrs)) if input.one_in(8) => {
                check_record(key, &attrs);
                book.apply(News::Gone(key));
            }
            Ok((key, attrs)) => {
                check_record(key, &attrs);
                book.apply(News::Put(lease(key, attrs)));
            }
            Err(why) => assert!(!why.is_empty()),
        }
    }
    check_routes(&book.peers(&screen).routes, &screen);
}

fn next(input: &mut Input<'_>) -> Result<(SubnetKey, LeaseAttrs), String> {
    if input.one_in(4) {
        let (name, value) = (usize::from(input.byte() % 40), usize::from(input.byte()));
        let name = String::from_utf8_lossy(input.bytes(name));
        return record(&name, input.bytes(value));
    }
    let (key, value) = (key(input), object(input, &FIELDS, 2));
    record(&key, value.as_bytes())
}

fn lease(key: SubnetKey, attrs: LeaseAttrs) -> Lease {
    Lease {
        key,
        attrs,
        reserved: false,
        revision: Revision::default(),
    }
}

fn screen(backend: &str) -> Screen {
    let config = format!(
        r#"{{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48","Backend":{{"Type":"{backend}"}}}}"#
    );
    let parsed = |text: &str| text.parse().expect("a network");
    Screen {
        across: false,
        network: NetworkConfig::parse(&config).expect("a config"),
        own: "10.5.1.0-24&fd05:0:0:1::-64".parse().expect("a key"),
        underlay: ["192.168.77.1/24", "10.5.200.1/24"].map(parsed).to_vec(),
        mac: Some("02:00:00:00:00:09".parse().expect("an address")),
    }
}

/// What is read is written and read again as the same.
fn check_record(key: SubnetKey, attrs: &LeaseAttrs) {
    assert_eq!(key.to_string().parse(), Ok(key));
    let again = LeaseAttrs::parse(&attrs.to_json()).expect("what we write can be read");
    assert_eq!(&again, attrs);
}

fn check_routes(routes: &[Peer], screen: &Screen) {
    let share = |a: IpNet, b: IpNet| a.contains(&b) || b.contains(&a);
    for (number, route) in routes.iter().enumerate() {
        let (subnet, endpoint) = (route.subnet, route.endpoint);
        assert!(screen.network.networks().any(|net| net.contains(&subnet)));
        assert!(!screen.own.overlaps(subnet), "{subnet} is ours");
        let mut underlay = screen.underlay.iter();
        assert!(underlay.all(|net| !share(net.trunc(), subnet) && net.addr() != endpoint));
        assert!(!endpoint.is_loopback() && !endpoint.is_multicast() && !endpoint.is_unspecified());
        assert_eq!(subnet.addr().is_ipv4(), endpoint.is_ipv4());
        let mut others = routes[number + 1..].iter();
        assert!(
            others.all(|other| !share(other.subnet, subnet)),
            "two for {subnet}"
        );
    }
}

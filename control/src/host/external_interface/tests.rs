//! Choices on made-up hosts.

use super::*;

const IPV4: Families = Families {
    ipv4: true,
    ipv6: false,
};
const BOTH: Families = Families {
    ipv4: true,
    ipv6: true,
};

fn interface(index: u32, name: &str, nets: &[&str]) -> Interface {
    let address = |text: &&str| Address {
        net: text.parse().unwrap(),
        deprecated: false,
        permanent: true,
        temporary: false,
    };
    Interface {
        index,
        name: name.to_owned(),
        mtu: 1500,
        up: true,
        mac: None,
        vxlan: None,
        tun: false,
        addresses: nets.iter().map(address).collect(),
    }
}

fn host() -> HostView {
    let interfaces = vec![
        interface(1, "lo", &["127.0.0.1/8", "::1/128"]),
        interface(
            2,
            "eth0",
            &[
                "169.254.3.3/16",
                "192.168.77.1/24",
                "fe80::1/64",
                "fd77::1/64",
            ],
        ),
        interface(3, "eth1", &["172.16.30.5/24", "172.16.31.5/24"]),
    ];
    HostView {
        interfaces,
        default_ipv4: Some(2),
        default_ipv6: Some(2),
        reach: None,
        quiet: false,
    }
}

fn chosen(choice: &Choice, families: Families) -> String {
    match host().choose(choice, families) {
        Ok(found) => format!("{} {:?}", found.name, found.addresses),
        Err(error) => error.to_string(),
    }
}

fn word(text: &str) -> Choice {
    Choice {
        interfaces: vec![text.to_owned()],
        ..Choice::default()
    }
}

fn pattern(text: &str) -> Choice {
    Choice {
        patterns: vec![Regex::new(text).unwrap()],
        ..Choice::default()
    }
}

#[test]
fn without_a_word_the_default_route_decides() {
    assert_eq!(chosen(&Choice::default(), IPV4), "eth0 [192.168.77.1]");
    assert_eq!(
        chosen(&Choice::default(), BOTH),
        "eth0 [192.168.77.1, fd77::1]"
    );
}

#[test]
fn by_name() {
    assert_eq!(chosen(&word("eth1"), IPV4), "eth1 [172.16.30.5]");
}

#[test]
fn by_ipv4() {
    assert_eq!(chosen(&word("172.16.31.5"), IPV4), "eth1 [172.16.31.5]");
}

#[test]
fn by_ipv4_dual_stack() {
    assert_eq!(
        chosen(&word("192.168.77.1"), BOTH),
        "eth0 [192.168.77.1, fd77::1]"
    );
    assert_eq!(
        chosen(&word("eth1"), BOTH),
        "interface eth1 has no IPv6 address"
    );
}

#[test]
fn by_iface_regex_for_ipv4() {
    assert_eq!(
        chosen(&pattern(r"172\.16\.31.*"), IPV4),
        "eth1 [172.16.31.5]"
    );
}

#[test]
fn by_iface_regex_for_name() {
    assert_eq!(chosen(&pattern("th1$"), IPV4), "eth1 [172.16.30.5]");
}

#[test]
fn by_iface_regex_match_public_ipv4() {
    let choice = Choice {
        public_ip: Some([203, 0, 113, 9].into()),
        ..pattern("192.168")
    };
    let found = host().choose(&choice, IPV4).unwrap();
    assert_eq!(
        (found.public_ip, &*found.addresses),
        (choice.public_ip, &["192.168.77.1".parse().unwrap()][..])
    );
}

#[test]
fn by_iface_can_reach() {
    let mut host = host();
    host.reach = Some(RouteFound {
        interface: 3,
        source: "172.16.31.5".parse().ok(),
        gateway: None,
    });
    let choice = Choice {
        can_reach: "8.8.8.8".parse().ok(),
        ..Choice::default()
    };
    assert_eq!(
        host.choose(&choice, IPV4).unwrap().addresses,
        ["172.16.31.5".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn words_come_before_patterns_and_misses_are_passed_over() {
    let mut choice = pattern("eth1");
    choice.interfaces = vec!["eth9".to_owned(), "10.9.9.9".to_owned(), "eth0".to_owned()];
    assert_eq!(chosen(&choice, IPV4), "eth0 [192.168.77.1]");
}

#[test]
fn a_public_address_alone_names_its_interface() {
    let public = |text: &str| Choice {
        public_ip: text.parse().ok(),
        ..Choice::default()
    };
    assert_eq!(chosen(&public("172.16.31.5"), IPV4), "eth1 [172.16.31.5]");
    assert!(chosen(&public("203.0.113.9"), IPV4).ends_with("say which one to use with --iface"));
}

#[test]
fn a_miss_lists_what_there_is() {
    assert!(chosen(&word("eth9"), IPV4).contains("eth1:[172.16.30.5 172.16.31.5]"));
}

#[test]
fn lasting_addresses_are_preferred_and_deprecated_ones_left_out() {
    let mut host = host();
    let held = &mut host.interfaces[2].addresses;
    (held[0].permanent, held[1].permanent) = (false, true);
    assert_eq!(
        host.choose(&word("eth1"), IPV4).unwrap().addresses,
        ["172.16.31.5".parse::<IpAddr>().unwrap()]
    );
    host.interfaces[2].addresses[1].deprecated = true;
    assert_eq!(
        host.choose(&word("eth1"), IPV4).unwrap().addresses,
        ["172.16.30.5".parse::<IpAddr>().unwrap()]
    );
}

/// What becomes of the choice once the host looks like this.
fn again(choice: &Choice, interfaces: Vec<Interface>, default_ipv4: Option<u32>) -> String {
    let was = host().choose(choice, IPV4).unwrap();
    let view = HostView {
        interfaces,
        default_ipv4,
        ..HostView::default()
    };
    match view.choose_again(choice, IPV4, &was) {
        Ok(found) => found.to_string(),
        Err(error) => error.to_string(),
    }
}

fn named(name: &str) -> Choice {
    Choice {
        interfaces: vec![name.to_owned()],
        ..Choice::default()
    }
}

#[test]
fn who_holds_our_address_stays_the_one_whatever_becomes_of_routes_and_names() {
    let moved = interface(9, "br0", &["192.168.77.1/24"]);
    let other = interface(3, "eth1", &["192.168.88.1/24"]);
    let wanted = "br0 with 192.168.77.1, MTU 1500";
    let nothing_said = Choice::default();
    assert_eq!(again(&nothing_said, vec![other, moved], Some(3)), wanted);
}

#[test]
fn an_interface_that_got_another_address_is_found_by_its_name_without_a_default_route() {
    let renumbered = interface(2, "eth0", &["192.168.99.1/24"]);
    let wanted = "eth0 with 192.168.99.1, MTU 1500";
    assert_eq!(
        again(&Choice::default(), vec![renumbered.clone()], None),
        wanted
    );
    assert_eq!(again(&named("eth0"), vec![renumbered], None), wanted);
}

#[test]
fn an_interface_asked_for_that_is_gone_is_not_replaced_by_another() {
    let other = || vec![interface(3, "eth1", &["192.168.88.1/24"])];
    assert!(again(&named("eth0"), other(), Some(3)).starts_with("no interface matches"));
    let public = Choice {
        public_ip: Some([192, 168, 77, 1].into()),
        ..Choice::default()
    };
    assert!(again(&public, other(), Some(3)).starts_with("no interface has the public address"));
}

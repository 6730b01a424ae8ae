//! What operators write, and what becomes of it.

use super::*;

fn parse(text: &str) -> NetworkConfig {
    NetworkConfig::parse(text).unwrap()
}

fn refusal(text: &str) -> String {
    NetworkConfig::parse(text).unwrap_err().to_string()
}

fn in_words(pool: Option<Pool>) -> String {
    let pool = pool.unwrap();
    format!(
        "{} /{} {}..{}",
        pool.network, pool.subnet_len, pool.min, pool.max
    )
}

#[test]
fn config_defaults() {
    let config = parse(r#"{"network":"10.3.0.0/16"}"#);
    assert_eq!(
        in_words(config.ipv4),
        "10.3.0.0/16 /24 10.3.1.0..10.3.255.0"
    );
    assert_eq!(config.backend, Backend::Udp(UdpConfig::default()));
    assert!(config.ipv6.is_none());
}

#[test]
fn ipv6_config_defaults() {
    let config = parse(r#"{"enableIPv6":true,"Network":"10.3.0.0/16","ipv6Network":"fc00::/48"}"#);
    assert_eq!(
        in_words(config.ipv6),
        "fc00::/48 /64 fc00:0:0:1::..fc00:0:0:ffff::"
    );
}

#[test]
fn config_overrides_are_kept_verbatim() {
    let text = r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28,"Backend":{"Type":"VXLAN","VNI":7,"Port":4789,"Directrouting":true}}"#;
    let config = parse(text);
    assert_eq!(in_words(config.ipv4), "10.3.0.0/16 /28 10.3.5.0..10.3.8.0");
    let Backend::Vxlan(options) = config.backend else {
        panic!("not vxlan")
    };
    assert_eq!(
        (options.vni, options.port, options.direct_routing),
        (7, 4789, true)
    );
}

#[test]
fn ipv6_config_overrides_are_kept_verbatim() {
    let text = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:1::","IPv6SubnetMax":"fc00:0:0:f::","IPv6SubnetLen":64}"#;
    let config = parse(text);
    assert_eq!(
        in_words(config.ipv6),
        "fc00::/48 /64 fc00:0:0:1::..fc00:0:0:f::"
    );
    assert!(config.ipv4.is_none());
}

#[test]
fn host_bits_of_the_network_are_cleared() {
    assert_eq!(
        parse(r#"{"Network":"10.5.3.7/16"}"#)
            .networks()
            .next()
            .unwrap()
            .to_string(),
        "10.5.0.0/16"
    );
}

#[test]
fn a_narrow_network_gets_subnets_two_bits_longer() {
    assert_eq!(
        in_words(parse(r#"{"Network":"10.5.0.0/23"}"#).ipv4),
        "10.5.0.0/23 /25 10.5.0.128..10.5.1.128"
    );
    assert_eq!(
        in_words(parse(r#"{"Network":"10.5.0.0/28"}"#).ipv4),
        "10.5.0.0/28 /30 10.5.0.4..10.5.0.12"
    );
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    // Stock takes it, and ends for want of a subnet.
    let upside_down = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}"#;
    let refused = NetworkConfig::parse(upside_down).unwrap_err().to_string();
    assert_eq!(refused, "SubnetMin must not be above SubnetMax");
    let single = r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.9.0"}"#;
    assert!(NetworkConfig::parse(single).is_ok());
}

#[test]
fn refusals_have_the_words_operators_search_for() {
    let cases = [
        (
            r#"{}"#,
            "please define a correct Network parameter in the flannel config",
        ),
        (
            r#"{"Network":"10.5.0.0"}"#,
            "Network: invalid CIDR address: 10.5.0.0",
        ),
        (
            r#"{"Network":"fd00::/48"}"#,
            "Network: invalid CIDR address: fd00::/48",
        ),
        (
            r#"{"Network":"10.5.0.0/16","SubnetLen":31}"#,
            "SubnetLen must be less than /31",
        ),
        (
            r#"{"Network":"10.5.0.0/16","SubnetLen":17}"#,
            "network must be able to accommodate at least four subnets",
        ),
        (
            r#"{"Network":"10.5.0.0/29"}"#,
            "network is too small. Minimum useful network prefix is /28",
        ),
        (
            r#"{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0"}"#,
            "SubnetMin is not in the range of the Network",
        ),
        (
            r#"{"Network":"10.5.0.0/16","SubnetMax":"10.5.1.128"}"#,
            "SubnetMax is not on a SubnetLen boundary: 10.5.1.128",
        ),
        (
            r#"{"EnableIPv4":false}"#,
            "none defined stack: set EnableIPv4 or EnableIPv6 to true",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{}}"#,
            "unknown backend type: ; udp, vxlan, host-gw and alloc are served",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard"}}"#,
            "there is no backend wireguard in this build; udp, vxlan, host-gw and alloc are served",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":"7"}}"#,
            r#"VNI must be a whole number in range, not "7""#,
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#,
            "VNI must be at most 16777215: 16777216",
        ),
    ];
    for (text, words) in cases {
        assert_eq!(refusal(text), words, "{text}");
    }
}

#[test]
fn tunnel_mtu_is_the_underlays_less_the_headers() {
    assert_eq!(
        parse(r#"{"Network":"10.5.0.0/16"}"#)
            .backend
            .tunnel_mtu(1500),
        1472
    );
    let vxlan = |mtu: &str| {
        parse(&format!(
            r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan"{mtu}}}}}"#
        ))
        .backend
    };
    assert_eq!(vxlan("").tunnel_mtu(1500), 1450);
    assert_eq!(
        vxlan("").path_mtu(1500, "192.168.77.2".parse().unwrap()),
        1450
    );
    assert_eq!(vxlan("").path_mtu(1500, "fd77::2".parse().unwrap()), 1430);
    assert_eq!(vxlan(r#","MTU":1300"#).tunnel_mtu(1500), 1250);
}

#[test]
fn a_network_may_have_two_forms() {
    let config = parse(
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp","beside":{"Type":"vxlan","VNI":7,"Port":4789}}}"#,
    );
    let ports: Vec<_> = config.spoken().map(Backend::port).collect();
    assert_eq!(ports, [Some(8285), Some(4789)]);
    assert_eq!(
        (config.told_mtu(1500, false), config.device_mtu(1500, false)),
        (1450, 1472)
    );
    // A node may turn them round, and leave one out.
    let turned = config.clone().speaking(&[FormName::Vxlan, FormName::Udp]);
    let turned = turned.unwrap();
    assert_eq!(
        (turned.backend.name(), turned.vxlan().unwrap().vni),
        ("vxlan", 7)
    );
    assert_eq!(turned.told_mtu(1500, false), 1450);
    let alone = turned.speaking(&[FormName::Vxlan]).unwrap();
    assert_eq!((alone.udp(), alone.vxlan().unwrap().vni), (None, 7));
    assert_eq!(alone.device_mtu(1500, false), 1450);
}

#[test]
fn a_form_the_config_does_not_name_has_the_usual_options() {
    let config = parse(r#"{"Network":"10.5.0.0/16"}"#);
    let both = config.speaking(&[FormName::Vxlan, FormName::Udp]).unwrap();
    assert_eq!(both.vxlan(), Some(&VxlanConfig::default()));
    assert_eq!(both.udp(), Some(&UdpConfig::default()));
}

#[test]
fn forms_that_cannot_be_told_apart_are_refused() {
    let backend = |options: &str| {
        refusal(&format!(
            r#"{{"Network":"10.5.0.0/16","Backend":{options}}}"#
        ))
    };
    let same = backend(r#"{"Type":"udp","Beside":{"Type":"vxlan","Port":8285}}"#);
    assert!(same.contains("ports of their own"), "{same}");
    for twice in [
        r#"{"Type":"udp","Beside":{"Type":"udp"}}"#,
        r#"{"Type":"host-gw","Beside":{"Type":"udp"}}"#,
        r#"{"Type":"vxlan","Beside":{"Type":"alloc"}}"#,
    ] {
        assert!(backend(twice).starts_with("Beside names"), "{twice}");
    }
    let plain = parse(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#);
    assert!(plain.clone().speaking(&[FormName::Udp]).is_err());
    assert_eq!(plain.clone().speaking(&[]), Ok(plain));
}

#[test]
fn a_network_of_ipv6_alone_has_the_mtu_that_fits_between_ipv6_addresses() {
    let only_v6 = |backend: &str| {
        let config = format!(
            r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{backend}}}"#
        );
        parse(&config).told_mtu(1500, true)
    };
    assert_eq!(only_v6(r#"{"Type":"vxlan"}"#), 1430);
    assert_eq!(only_v6(r#"{"Type":"udp"}"#), 1452);
    assert_eq!(only_v6(r#"{"Type":"host-gw"}"#), 1500);
}

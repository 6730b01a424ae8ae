//! The network config: what is accepted makes sense to all who use it.

use crate::input::Input;
use crate::sketch::object;
use control::network::NetworkConfig;
use control::pool::Pool;
use std::net::IpAddr;

/// Their order is part of what saved inputs mean.
const FIELDS: [&str; 24] = [
    "Network",
    "IPv6Network",
    "EnableIPv4",
    "EnableIPv6",
    "EnableNFTables",
    "SubnetLen",
    "SubnetMin",
    "SubnetMax",
    "IPv6SubnetLen",
    "IPv6SubnetMin",
    "IPv6SubnetMax",
    "Backend",
    "Backend",
    "Type",
    "Port",
    "VNI",
    "MTU",
    "GBP",
    "Learning",
    "DirectRouting",
    "Datapath",
    "network",
    "BACKEND",
    "More",
];

/// Reads a config, raw or put together.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let text = match input.byte() % 3 {
        0 => String::from_utf8_lossy(input.rest()).into_owned(),
        1 => object(&mut input, &FIELDS, 2),
        _ => {
            let more = object(&mut input, &FIELDS, 2);
            let network = format!("10.{}.0.0/{}", input.byte(), input.byte() % 40);
            more.replacen('{', &format!("{{\"Network\":\"{network}\","), 1)
        }
    };
    match NetworkConfig::parse(&text) {
        Ok(config) => check_config(&config, &mut input),
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

fn check_config(config: &NetworkConfig, input: &mut Input<'_>) {
    assert!(config.pools().count() > 0);
    config.pools().for_each(check_pool);
    let mtu = input.double_word();
    let inner = config.backend.tunnel_mtu(mtu);
    for endpoint in ["192.0.2.1", "2001:db8::1"] {
        let endpoint: IpAddr = endpoint.parse().expect("an address");
        assert!(config.backend.path_mtu(mtu, endpoint) <= inner);
    }
    assert!(!config.backend.name().is_empty());
}

fn check_pool(pool: &Pool) {
    assert_eq!(pool.network, pool.network.trunc());
    assert!(pool.subnet_len > pool.network.prefix_len());
    assert!(pool.network.contains(&pool.min) && pool.network.contains(&pool.max));
    assert!(pool.min <= pool.max);
    for edge in [pool.min, pool.max] {
        let subnet = ipnet::IpNet::new(edge, pool.subnet_len).expect("a length that exists");
        assert_eq!(subnet.network(), edge, "subnets begin there");
        assert!(pool.allows(subnet) && pool.network.contains(&subnet));
    }
}

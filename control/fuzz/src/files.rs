//! Files of earlier runs: a state that is accepted comes back as it was, and a subnet file never names two subnets.

use crate::input::Input;
use crate::sketch::{dirtied, key, net, object};
use control::fuzzing::{previous_subnets, sealed_state, state, written};

const FIELDS: [&str; 5] = [
    "PublicIP",
    "PublicIPv6",
    "BackendType",
    "BackendData",
    "VtepMAC",
];
const NAMES: [&str; 6] = [
    "FLANNEL_SUBNET",
    "FLANNEL_IPV6_SUBNET",
    "export FLANNEL_SUBNET",
    "FLANNEL_NETWORK",
    " FLANNEL_SUBNET ",
    "FLANNEL_MTU",
];

/// Reads which file, and it.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        0 => drop(state(&String::from_utf8_lossy(input.rest()))),
        1 => check_state(&String::from_utf8_lossy(input.rest())),
        2 => check_state(&body(&mut input)),
        _ => check_subnet_file(&mut input),
    }
}

/// The body of a state file, nearly right.
fn body(input: &mut Input<'_>) -> String {
    let config = object(input, &FIELDS, 1)
        .replace('\\', "\\\\")
        .replace('"', "\\\"");
    let mut body = format!(
        "saved 1799999999\nhost host\nstore store\nconfig \"{config}\"\nown {}\n",
        key(input)
    );
    for _ in 0..input.byte() % 6 {
        body += &format!("{} {}\n", key(input), object(input, &FIELDS, 1));
    }
    dirtied(input, body)
}

fn check_state(body: &str) {
    let Ok(memory) = sealed_state(body) else {
        return;
    };
    let again = state(&written(&memory)).expect("what we write can be read");
    assert_eq!(again, memory);
    assert_eq!(memory.clone().snapshot().leases.len(), memory.records.len());
}

fn check_subnet_file(input: &mut Input<'_>) {
    let line = |input: &mut Input<'_>| {
        let quote = input.pick(&["", "\"", "'"]);
        format!("{}={quote}{}{quote}\n", input.pick(&NAMES), net(input, "/"))
    };
    let lines: String = (0..input.byte() % 8).map(|_| line(input)).collect();
    let text = dirtied(input, lines) + &String::from_utf8_lossy(input.rest());
    let Some(key) = previous_subnets(&text) else {
        return;
    };
    let families: Vec<_> = key
        .subnets()
        .map(|subnet| subnet.addr().is_ipv4())
        .collect();
    assert!([&[true][..], &[false], &[true, false]].contains(&&families[..]));
    assert!(key.subnets().all(|subnet| subnet == subnet.trunc()));
}

//! Texts that are nearly right: known words in known places, and now and then something else.

use crate::input::Input;

/// Addresses and networks that matter: ours, the underlay's, neighbours of both, and those nobody may have.
const ADDRESSES: [&str; 16] = [
    "10.5.2.0",
    "10.5.1.0",
    "10.5.0.0",
    "10.5.255.0",
    "10.6.0.0",
    "10.5.200.7",
    "192.168.77.2",
    "192.168.77.1",
    "0.0.0.0",
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "fd05:0:0:2::",
    "fd05:0:0:1::",
    "::1",
    "ff02::1",
];
const LENGTHS: [&str; 8] = ["24", "64", "0", "16", "32", "33", "128", "25"];
const TEXTS: [&str; 10] = [
    "udp",
    "vxlan",
    "host-gw",
    "alloc",
    "ipip",
    "",
    "userspace",
    "kernel",
    "02:00:00:00:00:02",
    "02:00:00:00:00:09",
];
const NUMBERS: [&str; 10] = [
    "0",
    "1",
    "-1",
    "24",
    "1450",
    "8472",
    "65536",
    "16777216",
    "1e9",
    "99999999999999999999",
];

/// A key of a record.
pub(crate) fn key(input: &mut Input<'_>) -> String {
    let mut key = net(input, "-");
    if input.one_in(3) {
        key = format!("{key}&{}", net(input, "-"));
    }
    dirtied(input, key)
}

/// A network with what divides it from its length.
pub(crate) fn net(input: &mut Input<'_>, divider: &str) -> String {
    format!(
        "{}{divider}{}",
        input.pick(&ADDRESSES),
        input.pick(&LENGTHS)
    )
}

/// A JSON object with some of these fields.
pub(crate) fn object(input: &mut Input<'_>, fields: &[&str], depth: u8) -> String {
    let count = input.byte() % 7;
    let field = |input: &mut Input<'_>| {
        let name = input.pick(fields);
        format!("\"{name}\":{}", value(input, fields, depth))
    };
    let fields: Vec<_> = (0..count).map(|_| field(input)).collect();
    dirtied(input, format!("{{{}}}", fields.join(",")))
}

fn value(input: &mut Input<'_>, fields: &[&str], depth: u8) -> String {
    match input.byte() % 8 {
        0 | 1 => format!("\"{}\"", input.pick(&ADDRESSES)),
        2 => format!("\"{}\"", net(input, "/")),
        3 => format!("\"{}\"", input.pick(&TEXTS)),
        4 => input.pick(&NUMBERS).to_owned(),
        5 => input
            .pick(&["true", "false", "null", "[]", "\"\\u0000\""])
            .to_owned(),
        _ if depth == 0 => "{}".to_owned(),
        _ => object(input, fields, depth - 1),
    }
}

/// The text, with a few bytes of the fuzzer's own in it now and then.
pub(crate) fn dirtied(input: &mut Input<'_>, mut text: String) -> String {
    if input.one_in(8) {
        let at = text.floor_char_boundary(usize::from(input.byte()) % (text.len() + 1));
        let count = usize::from(input.byte() % 8);
        text.insert_str(at, &String::from_utf8_lossy(input.bytes(count)));
    }
    text
}

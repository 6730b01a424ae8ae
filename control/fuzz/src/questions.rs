//! Questions from this host: on the control socket, over HTTP and at the door for successors; and the kernel's answers
//! to ours.

use crate::input::Input;
use console::protocol::{Head, Question};
use control::fuzzing::{netlink_answers, requested_path};
use control::handover::Word;

const PIECES: [&str; 18] = [
    "flannel",
    " ",
    "1",
    "status",
    "lease",
    "peers",
    "routes",
    "stats",
    "drops",
    "ok",
    "no",
    "\n",
    "1234",
    "GET ",
    "/healthz",
    "?",
    " HTTP/1.1",
    "\r\n",
];
/// Kinds of netlink messages: error, done, link, address, route.
const KINDS: [u16; 6] = [2, 3, 16, 20, 24, 28];

/// Reads who asks, and the question.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 5 {
        0 => check_line(input.rest()),
        1 => check_line(&pieces(&mut input)),
        2 => check_request(&pieces(&mut input)),
        3 => check_word(input.rest()),
        _ => {
            netlink_answers(&datagram(&mut input));
        }
    }
}

fn pieces(input: &mut Input<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    while !input.is_empty() && line.len() < 256 {
        if input.one_in(16) {
            line.push(input.byte());
        } else {
            line.extend(input.pick(&PIECES).as_bytes());
        }
    }
    line
}

/// What is understood is written as it was read.
fn check_line(line: &[u8]) {
    if let Ok(question) = Question::read(line) {
        assert_eq!(question.line().as_bytes(), line);
    }
    if let Ok(head) = Head::read(line) {
        assert_eq!(Head::read(head.line().as_bytes()), Ok(head));
    }
}

fn check_request(request: &[u8]) {
    let path = requested_path(request);
    assert!(path.len() <= request.len() && !path.contains([' ', '?', '\r', '\n']));
}

/// What a successor says is understood as it was meant.
fn check_word(text: &[u8]) {
    if let Ok(word) = serde_json::from_slice::<Word>(text) {
        let again = serde_json::to_vec(&word).expect("a word can be said");
        assert_eq!(serde_json::from_slice::<Word>(&again).ok(), Some(word));
    }
}

/// Messages with right lengths and numbers, and whatever in them.
fn datagram(input: &mut Input<'_>) -> Vec<u8> {
    let mut datagram = Vec::new();
    for number in 1..=u32::from(input.byte() % 9) {
        let kind = input.pick(&KINDS);
        let length = usize::from(input.byte());
        let body = input.bytes(length);
        let lie = u32::from(input.one_in(8)) * input.double_word();
        datagram.extend((16 + body.len() as u32 ^ lie).to_ne_bytes());
        datagram.extend(kind.to_ne_bytes());
        datagram.extend(0_u16.to_ne_bytes());
        datagram.extend(number.to_ne_bytes());
        datagram.extend(0_u32.to_ne_bytes());
        datagram.extend(body);
        datagram.resize(datagram.len().next_multiple_of(4), 0);
    }
    datagram
}

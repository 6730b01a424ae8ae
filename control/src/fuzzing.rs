//! Readers of what others wrote that are nobody's business but of those who feed them nonsense.

use crate::lease::LeaseAttrs;
use crate::memory::{Forgotten, Memory, sealed};
use crate::subnet_key::SubnetKey;
use crate::{host, http, registry, subnet_file};
use std::time::{Duration, UNIX_EPOCH};

/// A moment that states are read at.
const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOST: &str = "host";
const STORE: &str = "store";

/// A record of a store.
pub fn record(name: &str, value: &[u8]) -> Result<(SubnetKey, LeaseAttrs), String> {
    registry::parse_record(name, value)
}

/// A state file of this host and a store called store.
pub fn state(text: &str) -> Result<Memory, Forgotten> {
    Memory::parse(text, STORE, HOST, UNIX_EPOCH + NOW).map(|(memory, _)| memory)
}

/// The same whose checksum is right.
pub fn sealed_state(body: &str) -> Result<Memory, Forgotten> {
    state(&sealed(body))
}

/// What would be written of it.
pub fn written(memory: &Memory) -> String {
    memory.text(UNIX_EPOCH + NOW, HOST)
}

/// The subnets a subnet file names.
pub fn previous_subnets(text: &str) -> Option<SubnetKey> {
    subnet_file::parse(text)
}

/// The path a health probe asks for.
pub fn requested_path(request: &[u8]) -> &str {
    http::path(request)
}

/// A datagram of the kernel's about links and routes: how many of the answers in it could be used.
pub fn netlink_answers(datagram: &[u8]) -> usize {
    host::hostile::answers(datagram)
}

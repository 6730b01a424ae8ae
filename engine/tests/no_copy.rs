//! User space never copies payload: every byte that passes through `memcpy` while the engine
//! forwards is counted, by a `memcpy` of this test's own.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(unsafe_code, reason = "a memcpy that counts")]

mod loopback;

use engine::{Counter, IoChoice};
use loopback::{HEADERS, Loopback, config, receive};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicU64 = AtomicU64::new(0);
static LARGEST: AtomicU64 = AtomicU64::new(0);

fn count(len: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        BYTES.fetch_add(len as u64, Ordering::Relaxed);
        LARGEST.fetch_max(len as u64, Ordering::Relaxed);
    }
}

/// Every `memcpy` of this program: the linker prefers this one to the C library's.
///
/// # Safety
///
/// As for C's `memcpy`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    count(len);
    // SAFETY: the caller promises `len` readable and writable bytes that do not overlap; the
    // instruction copies exactly those, forward.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags)
        );
    }
    to
}

const PAYLOAD: usize = 1400;
const SEGMENTS: usize = 40;
const ROUNDS: usize = 200;

/// Counts what is copied while `traffic` runs, checks it, and says it.
fn counted(what: &str, io: IoChoice, forwarded: usize, traffic: impl FnOnce()) {
    BYTES.store(0, Ordering::Relaxed);
    LARGEST.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
    traffic();
    COUNTING.store(false, Ordering::Relaxed);
    let (bytes, largest) = (
        BYTES.load(Ordering::Relaxed),
        LARGEST.load(Ordering::Relaxed),
    );
    let share = bytes as f64 / forwarded as f64;
    println!("{what} over {io:?}: {share:.4} bytes copied a byte, at most {largest} at once");
    assert!(
        (largest as usize) < PAYLOAD,
        "a copy of {largest} bytes can hold a payload"
    );
    // Headers of 28 bytes a packet of 1428, and the engine's own small records.
    assert!(share < 0.5, "{bytes} bytes copied to forward {forwarded}");
}

fn forwards_by_reference(io: IoChoice) {
    let lab = Loopback::start(config(io));
    lab.segment_inner(PAYLOAD as u16);
    let payload = vec![0x5a; PAYLOAD * SEGMENTS];
    let mut buffer = vec![0; 65_536];
    let total = PAYLOAD * SEGMENTS * ROUNDS;
    counted("outbound", io, total, || {
        for _ in 0..ROUNDS {
            lab.inner.send(&payload).unwrap();
            for _ in 0..SEGMENTS {
                assert_eq!(lab.peer_receives(&mut buffer).len(), PAYLOAD + HEADERS);
            }
        }
    });
    let packets: Vec<_> = (0..SEGMENTS)
        .map(|id| lab.packet_inward(&payload[..PAYLOAD], id as u16))
        .collect();
    counted("inbound", io, total, || {
        for _ in 0..ROUNDS {
            packets
                .iter()
                .for_each(|packet| assert_eq!(lab.peer.send(packet).unwrap(), packet.len()));
            for _ in 0..SEGMENTS {
                assert_eq!(receive(&lab.inner, &mut buffer).unwrap(), PAYLOAD);
            }
        }
    });
    let counters = lab.engine.stop();
    let headers = counters.get(Counter::FromTun) * HEADERS as u64;
    assert!(
        counters.get(Counter::CopiedBytes) <= headers,
        "the engine's own count: {counters:?}"
    );
    assert_eq!(counters.imbalance(), 0);
}

/// One test, so that nothing else in this process copies while it counts.
#[test]
fn payload_is_forwarded_by_reference_in_every_way_of_moving_packets() {
    for io in loopback::ways() {
        std::thread::spawn(move || forwards_by_reference(io))
            .join()
            .unwrap();
    }
}

//! Congestion marks across the tunnel, as RFC 6040 asks and as the kernel's VXLAN does it.

/// Not ECN-capable.
pub const NOT_ECT: u8 = 0;
/// ECN-capable, code 1.
pub const ECT_1: u8 = 1;
/// ECN-capable, code 0.
pub const ECT_0: u8 = 2;
/// Congestion was met.
pub const CE: u8 = 3;

/// The mark of the outer header for a packet marked `inner`: the same, but a new tunnel starts
/// without congestion.
pub fn outer_for(inner: u8) -> u8 {
    if inner == CE { ECT_0 } else { inner }
}

/// The inner mark after leaving the tunnel, or `None` where the packet has to be dropped: the
/// underlay met congestion and the sender could never hear of it.
pub fn merge(outer: u8, inner: u8) -> Option<u8> {
    match (outer, inner) {
        (CE, NOT_ECT) => None,
        (CE, _) => Some(CE),
        (ECT_1, ECT_0) => Some(ECT_1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_the_tunnel_follows_the_kernel_table() {
        let rows = [
            [Some(0), Some(1), Some(2), Some(3)],
            [Some(0), Some(1), Some(1), Some(3)],
            [Some(0), Some(1), Some(2), Some(3)],
            [None, Some(3), Some(3), Some(3)],
        ];
        for (outer, row) in (0..).zip(rows) {
            for (inner, expected) in (0..).zip(row) {
                assert_eq!(
                    merge(outer, inner),
                    expected,
                    "outer {outer}, inner {inner}"
                );
            }
        }
    }

    #[test]
    fn entering_the_tunnel_copies_all_but_congestion() {
        assert_eq!([0, 1, 2, 3].map(outer_for), [0, 1, 2, 2]);
    }
}

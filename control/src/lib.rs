//! Subnets, leases and host set-up.

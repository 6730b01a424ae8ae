//! How the C library looks up names of hosts in a program that carries it in itself.
//!
//! Such a program has no loader, and yet the library would load what `/etc/nsswitch.conf` names, and with it the
//! system's own C library, of another version perhaps: that ends the program at the first name, if not in a worse way.

/// Has names looked up in `/etc/hosts` and by DNS, and nowhere else, where this program carries the C library in itself.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[allow(unsafe_code, reason = "a setting of the C library")]
pub fn load_nothing() {
    use std::ffi::{c_char, c_int};
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both texts end with a zero and last as long as the program; the library takes a lock of its own.
    let _ = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
}

/// Nothing needs to be kept from being loaded: the system's own C library does that.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn load_nothing() {}

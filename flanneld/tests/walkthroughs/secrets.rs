//! What a daemon logs when it logs everything: nothing secret.

use benches::etcd::Clients;
use benches::etcd::Etcd;
use std::fs;

use crate::site::Site;

const PASSWORD: &str = "zu-geheim-4711";

#[test]
fn no_log_line_holds_a_password_a_token_or_a_key_however_much_is_logged() {
    // Stock logs all its flags at start, the password among them.
    let mut site = Site::new("10.4.7.254", &["10.4.7.21"]);
    let plan = Etcd::plan().clients(Clients::Certified);
    let etcd = plan
        .member(&site.switch, site.gateway.into())
        .unwrap()
        .launch()
        .unwrap();
    etcd.put("/coreos.com/network/config", r#"{"Network":"10.5.0.0/16"}"#)
        .unwrap();
    etcd.ctl(&["user", "add", &format!("root:{PASSWORD}")])
        .unwrap();
    etcd.ctl(&["auth", "enable"]).unwrap();
    let [authority, certificate, key] = etcd.client_files().unwrap();
    let node = &mut site.nodes[0];
    node.start_with(
        &[
            &format!("--etcd-endpoints={}", etcd.endpoints()),
            &format!("--etcd-cafile={}", authority.display()),
            &format!("--etcd-certfile={}", certificate.display()),
            &format!("--etcd-keyfile={}", key.display()),
            "--etcd-username=root",
            "-v=10",
        ],
        &[("FLANNELD_ETCD_PASSWORD", PASSWORD)],
    );
    node.await_ready();
    node.daemon().stop().unwrap();
    let log = node.log();
    assert!(log.contains("root"), "who logs in is no secret");
    assert!(!log.contains(PASSWORD), "{log}");
    let key = fs::read_to_string(key).unwrap();
    for line in key.lines().filter(|line| !line.is_empty()) {
        assert!(!log.contains(line), "a line of the key: {line}");
    }
    for word in ["authorization", "token:"] {
        let lines = log
            .lines()
            .filter(|line| line.to_lowercase().contains(word));
        for line in lines {
            assert!(line.to_lowercase().contains("sensitive"), "{line}");
        }
    }
}

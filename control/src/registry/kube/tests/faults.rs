//! What is asked of the server, and what goes wrong with servers: only one of the tests' own does as it is told.

use super::*;
use benches::kube::{Rule, node_name};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The usual cluster with a record of node a, by which it is watched, and what has come of that since.
fn followed() -> (Cluster, Watch, Receiver<News>) {
    let cluster = Cluster::double().and(&USUAL);
    cluster.join("a", "192.168.77.1");
    let (watch, news) = watch(&*cluster.registry("a"));
    await_snapshot(&news);
    wait_for("a watch", || cluster.server().count("WATCH") > 0);
    (cluster, watch, news)
}

/// The annotations of a node in the least form.
fn record(address: &str) -> Value {
    json!({"metadata": {"annotations": {
        format!("{PREFIX}/kube-subnet-manager"): "true",
        format!("{PREFIX}/public-ip"): address,
    }}})
}

#[test]
fn a_node_without_a_pod_cidr_or_with_a_wrong_one_is_told_the_cure() {
    let cluster = Cluster::double().and(&[("bare", &[]), ("far", &["10.9.1.0/24"])]);
    let refusal = |node: &str, config| {
        let refused = cluster.try_join(node, "192.168.77.1", config);
        refused.unwrap_err().to_string()
    };
    let bare = refusal("bare", CONFIG);
    assert!(
        bare.contains(r#"node "bare" pod cidr not assigned"#),
        "{bare}"
    );
    assert!(bare.contains("--allocate-node-cidrs=true"), "{bare}");
    let far = refusal("far", CONFIG);
    assert!(far.contains("doesn't contain PodCIDR 10.9.1.0/24"), "{far}");
    assert!(far.contains("net-conf.json"), "{far}");
    let both = r#"{"Network":"10.9.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48"}"#;
    let half = refusal("far", both);
    assert!(half.contains("has no IPv6 podCIDR"), "{half}");
    let nobody = refusal("nobody", CONFIG);
    assert!(nobody.contains("there is no node nobody"), "{nobody}");
}

#[test]
fn the_node_is_found_by_its_pod() {
    let cluster = Cluster::double().and(&USUAL);
    cluster.server().add_pod("kube-flannel", "flannel-x", "b");
    let pod = NodeName::OfPod {
        namespace: "kube-flannel".to_owned(),
        pod: "flannel-x".to_owned(),
    };
    let registry = open(cluster.options(pod)).unwrap();
    let assigned = registry.assigned().unwrap().unwrap();
    assert_eq!(assigned.subnets, ["10.213.2.0/24".parse().unwrap()]);
    registry.assigned().unwrap();
    assert_eq!(cluster.server().count("GET /api/v1/namespaces"), 1);
}

#[test]
fn five_thousand_nodes_are_read_page_by_page() {
    let cluster = Cluster::double().and(&[]);
    for number in 0..5000 {
        let subnet = format!("10.{}.{}.0/24", 128 + number / 256, number % 256);
        let name = node_name(number);
        cluster.server().add_node(&name, &[&subnet]);
        cluster.server().change_node(&name, &record("192.168.77.9"));
    }
    let all = cluster.registry(&node_name(0)).snapshot().unwrap();
    assert_eq!((all.leases.len(), all.bad.len()), (5000, 0));
    assert_eq!(cluster.server().count("LIST"), 10);
}

#[test]
fn a_watch_that_was_cut_goes_on_where_it_ended() {
    let (cluster, _watch, news) = followed();
    for address in ["192.168.77.3", "192.168.77.4"] {
        cluster.server().cut();
        cluster.annotate("a", "public-ip", Some(address));
        await_news(&news, |news| is_put(news, address));
    }
    assert_eq!(cluster.server().count("LIST"), 1);
}

#[test]
fn history_the_server_forgot_is_made_up_for_by_a_new_list() {
    let (cluster, _watch, news) = followed();
    cluster.server().set_silent(true);
    cluster.server().cut();
    cluster.server().change_node("b", &record("192.168.77.2"));
    cluster.server().forget_history();
    cluster.server().set_silent(false);
    while await_snapshot(&news).len() != 2 {}
    assert_eq!(cluster.server().count("LIST"), 2);
    cluster.annotate("b", "public-ip", Some("192.168.77.9"));
    await_news(&news, |news| is_put(news, "192.168.77.9"));
}

#[test]
fn a_bookmark_spares_a_new_list() {
    let (cluster, _watch, news) = followed();
    cluster.annotate("a", "public-ip", Some("192.168.77.3"));
    await_news(&news, |news| is_put(news, "192.168.77.3"));
    // Only by the bookmark does the watch know that nothing has happened to nodes since.
    let marked = cluster.server().bookmark();
    wait_for("the bookmark to be sent", || {
        cluster.server().count("BOOKMARK") >= 1
    });
    cluster.server().forget_until(marked);
    cluster.server().cut();
    cluster.annotate("a", "public-ip", Some("192.168.77.5"));
    await_news(&news, |news| is_put(news, "192.168.77.5"));
    assert_eq!(cluster.server().count("LIST"), 1);
}

#[test]
fn a_server_that_asks_for_a_pause_is_left_alone() {
    let cluster = Cluster::double().and(&USUAL);
    let registry = cluster.registry("a");
    cluster.server().set_busy(Some(LONG));
    let busy = trouble(registry.snapshot());
    assert!(busy.contains("Too many requests"), "{busy}");
    let asked = cluster.server().count("");
    let again = trouble(registry.snapshot());
    assert!(again.contains("asked for a pause"), "{again}");
    assert_eq!(cluster.server().count(""), asked);
}

#[test]
fn a_server_that_was_busy_is_asked_again_when_the_pause_is_over() {
    let cluster = Cluster::double().and(&USUAL);
    cluster.join("a", "192.168.77.1");
    cluster.server().set_busy(Some(Duration::from_secs(1)));
    let registry = cluster.registry("a");
    let (_watch, news) = watch(&*registry);
    await_news(&news, |news| matches!(news, News::Lost(_)));
    cluster.server().set_busy(None);
    await_news(&news, |news| matches!(news, News::Regained));
    assert_eq!(await_snapshot(&news).len(), 1);
}

#[test]
fn a_token_that_was_replaced_is_read_anew_at_once() {
    let cluster = Cluster::double().and(&USUAL);
    let registry = cluster.registry("a");
    registry.assigned().unwrap();
    cluster.server().accept_only("two", LONG);
    let refused = trouble(registry.assigned());
    assert!(refused.contains("does not know us"), "{refused}");
    fs::write(cluster.directory.path().join("token"), "two").unwrap();
    registry.assigned().unwrap();
}

#[test]
fn a_watch_goes_on_with_a_new_token() {
    let (cluster, _watch, news) = followed();
    cluster.server().accept_only("two", LONG);
    cluster.server().cut();
    await_news(&news, |news| matches!(news, News::Lost(_)));
    fs::write(cluster.directory.path().join("token"), "two").unwrap();
    await_news(&news, |news| matches!(news, News::Regained));
    cluster.annotate("a", "public-ip", Some("192.168.77.3"));
    await_news(&news, |news| is_put(news, "192.168.77.3"));
}

#[test]
fn what_is_forbidden_is_told_with_the_role_that_allows_it() {
    let cluster = Cluster::double().and(&USUAL);
    cluster.server().grant(vec![Rule::new("nodes", "get")]);
    let refused = cluster.try_join("a", "192.168.77.1", CONFIG).unwrap_err();
    let refused = refused.to_string();
    for words in ["cannot patch resource \"nodes/status\"", "ClusterRole"] {
        assert!(refused.contains(words), "no {words} in {refused}");
    }
}

#[test]
fn the_cluster_is_told_nothing_where_that_is_not_wanted() {
    let cluster = Cluster::double().and(&USUAL);
    cluster.join("a", "192.168.77.1");
    let mut options = cluster.options(NodeName::Known("a".to_owned()));
    options.tell_condition = false;
    let registry = open(options).unwrap();
    let (_watch, news) = watch(&*registry);
    await_snapshot(&news);
    cluster.annotate("a", "public-ip", Some("192.168.77.3"));
    await_news(&news, |news| is_put(news, "192.168.77.3"));
    assert_eq!(cluster.condition("a", "NetworkUnavailable"), None);
}

#[test]
fn without_traffic_to_others_only_this_node_is_watched() {
    let cluster = Cluster::double().and(&USUAL);
    let config = cluster.directory.path().join("net-conf.json");
    fs::write(
        config,
        r#"{"Network":"10.213.0.0/16","Backend":{"Type":"alloc"}}"#,
    )
    .unwrap();
    cluster.join("a", "192.168.77.1");
    cluster.join("b", "192.168.77.2");
    assert_eq!(cluster.registry("a").snapshot().unwrap().leases.len(), 1);
}

#[test]
fn outside_of_a_pod_and_without_a_file_the_cure_is_told() {
    let cluster = Cluster::double().and(&USUAL);
    let mut options = cluster.options(NodeName::Known("a".to_owned()));
    options.kubeconfig = None;
    let refused = open(options).err().unwrap().to_string();
    assert!(refused.contains("--kubeconfig-file"), "{refused}");
}

#[test]
fn a_server_that_refuses_every_watch_as_too_old_is_followed_by_lists() {
    let cluster = Cluster::double().and(&USUAL);
    cluster.server().set_forgetful(true);
    let registry = cluster.registry("a");
    let (_watch, news) = watch(&*registry);
    assert!(await_snapshot(&news).is_empty());
    cluster.join("b", "192.168.77.2");
    while await_snapshot(&news) != ["10.213.2.0-24"] {}
    let (lists, watches) = (
        cluster.server().count("LIST"),
        cluster.server().count("WATCH"),
    );
    assert!(lists <= watches + 1, "{lists} lists for {watches} watches");
    cluster.server().set_forgetful(false);
    cluster.annotate("b", "public-ip", Some("192.168.77.9"));
    let moved: Option<std::net::Ipv4Addr> = "192.168.77.9".parse().ok();
    await_news(&news, |news| match news {
        News::Snapshot(all) => all
            .leases
            .iter()
            .any(|lease| lease.attrs.public_ip == moved),
        news => is_put(news, "192.168.77.9"),
    });
}

/// Fills a directory with a cargo that runs these tests as they are built, instead of building them again.
fn tools_with_cargo(directory: &Path) -> &Path {
    let tests = env::current_exe().unwrap();
    let cargo = format!(
        "#!/bin/sh\n[ \"$1 $2 $3 $4 $6\" = 'test --package control --lib --' ] || exit 9\nfilter=\"$5\"\nshift 6\nexec {} \"$filter\" \"$@\"\n",
        tests.display()
    );
    fs::create_dir(directory).unwrap();
    fs::write(directory.join("cargo"), cargo).unwrap();
    fs::set_permissions(directory.join("cargo"), Permissions::from_mode(0o755)).unwrap();
    directory
}

#[test]
fn what_holds_anywhere_needs_nothing_of_a_cluster_but_a_kubeconfig() {
    let cluster = Cluster::double();
    let tools = cluster.directory.path().join("tools");
    let path = env::var("PATH").unwrap_or_default();
    let suite = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/test-kube"))
        .arg(cluster.directory.path().join("admin/kubeconfig"))
        .env(
            "PATH",
            format!("{}:{path}", tools_with_cargo(&tools).display()),
        )
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&suite.stdout);
    assert!(suite.status.success(), "{suite:?}");
    assert!(said.contains("test-kube: all of it holds there"), "{said}");
    assert!(!said.contains(" 0 passed"), "{said}");
    assert!(cluster.server().count("CREATE /api/v1/nodes") > 0, "{said}");
    let left: Value = cluster.admin.nodes();
    assert_eq!(left["items"], json!([]), "nothing is left there");
}

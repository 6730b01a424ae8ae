//! What holds in any cluster, also a real one.

use super::*;
use crate::registry::Addresses;

#[test]
fn a_node_takes_its_pod_cidr_and_annotates_itself_as_flannel_does() {
    let cluster = Cluster::usual();
    let lease = cluster.join("a", "192.168.77.1");
    assert_eq!(lease.key.to_string(), "10.213.1.0-24");
    let said = |name| cluster.annotation("a", name).unwrap_or_default();
    assert_eq!(
        said("backend-data"),
        format!(r#"{{"VNI":1,"VtepMAC":"{MAC}"}}"#)
    );
    let names = ["backend-type", "public-ip", "kube-subnet-manager"];
    assert_eq!(names.map(said), ["vxlan", "192.168.77.1", "true"]);
    let record = |cluster: &Cluster| cluster.node("a")["metadata"]["annotations"].clone();
    let (before, patches) = (record(&cluster), cluster.count("PATCH"));
    cluster.join("a", "192.168.77.1");
    assert_eq!(cluster.count("PATCH"), patches, "nothing has changed");
    assert_eq!(record(&cluster), before);
    let lists = cluster.count("LIST").unwrap_or_default();
    assert_eq!(lists, 0, "nobody else matters for that");
}

#[test]
fn both_families_are_taken_from_the_pod_cidrs() {
    let cluster = Cluster::with(&[("a", &["10.213.1.0/24", "fd05:0:0:1::/64"])]);
    let both = r#"{"Network":"10.213.0.0/16","EnableIPv6":true,"IPv6Network":"fd05::/48"}"#;
    let network = NetworkConfig::parse(both).unwrap();
    let attrs = LeaseAttrs::parse(r#"{"PublicIP":"1.2.3.4","PublicIPv6":"fd77::1"}"#).unwrap();
    let wish = Wish {
        network: &network,
        attrs: &|_| attrs.clone(),
        previous: None,
    };
    let lease = acquire(&*cluster.registry("a"), &wish).unwrap();
    assert_eq!(lease.key.to_string(), "10.213.1.0-24&fd05:0:0:1::-64");
    let only = cluster.try_join("a", "1.2.3.4", CONFIG).unwrap();
    assert_eq!(only.key.to_string(), "10.213.1.0-24");
    assert_eq!(cluster.annotation("a", "public-ipv6"), None);
}

#[test]
fn nodes_that_come_change_and_go_are_news() {
    let cluster = Cluster::usual();
    cluster.join("a", "192.168.77.1");
    let registry = cluster.registry("a");
    let (_watch, news) = watch(&*registry);
    assert!(await_snapshot(&news).contains(&"10.213.1.0-24".to_owned()));
    cluster.join("b", "192.168.77.2");
    await_news(&news, |news| is_put(news, "192.168.77.2"));
    cluster.annotate("b", "public-ip", Some("192.168.77.9"));
    await_news(&news, |news| is_put(news, "192.168.77.9"));
    let bad_name = format!("node {}", cluster.name("b"));
    cluster.annotate("b", "backend-data", Some("{"));
    await_news(&news, |news| matches!(news, News::Gone(_)));
    await_news(
        &news,
        |news| matches!(news, News::Bad(bad) if bad.name == bad_name),
    );
    cluster.join("b", "192.168.77.2");
    assert!(await_snapshot(&news).contains(&"10.213.2.0-24".to_owned()));
    cluster.remove_node("b");
    await_news(&news, |news| matches!(news, News::Gone(_)));
    assert!(cluster.count("LIST").is_none_or(|lists| lists == 1));
}

#[test]
fn the_cluster_is_told_that_the_network_works_and_again_when_that_is_undone() {
    let cluster = Cluster::usual();
    cluster.join("a", "192.168.77.1");
    let cluster = &cluster;
    cluster.tell_ready("a");
    let condition = || cluster.condition("a", "NetworkUnavailable");
    let registry = cluster.registry("a");
    let (_watch, _news) = watch(&*registry);
    wait_for("the condition", || condition().is_some());
    let told = condition().unwrap();
    assert_eq!(told["status"], "False");
    assert_eq!(told["reason"], "FlannelIsUp");
    assert_eq!(told["message"], "Flannel is running on this node");
    let ready = cluster.condition("a", "Ready").unwrap();
    assert_eq!(ready["status"], "True", "others stay");
    let undone =
        json!({"status": {"conditions": [{"type": "NetworkUnavailable", "status": "True"}]}});
    cluster.admin.change_status(&cluster.name("a"), &undone);
    wait_for("the condition again", || {
        condition().is_some_and(|told| told["status"] == "False")
    });
}

#[test]
fn what_operators_say_about_a_nodes_addresses_is_read() {
    let cluster = Cluster::usual();
    let registry = cluster.registry("a");
    assert_eq!(registry.addresses().unwrap(), Addresses::default());
    cluster.annotate("a", "public-ip-overwrite", Some("1.2.3.4"));
    cluster.annotate("a", "node-public-ip", Some("5.6.7.8"));
    let told = registry.addresses().unwrap();
    assert_eq!(told.advertised_ip, Some([1, 2, 3, 4].into()));
    assert_eq!(told.public_ip, Some([5, 6, 7, 8].into()));
    cluster.annotate("a", "public-ip-overwrite", Some("here"));
    let wrong = trouble(registry.addresses());
    assert!(wrong.contains("public-ip-overwrite"), "{wrong}");
}

#[test]
fn a_node_that_was_made_anew_with_another_pod_cidr_is_told_apart() {
    let mut cluster = Cluster::usual();
    let lease = cluster.join("a", "192.168.77.1");
    cluster.remove_node("a");
    cluster.add_node("a", &["10.213.7.0/24"]);
    let refused = cluster.registry("a").create(lease.key, &lease.attrs);
    let refused = trouble(refused);
    assert!(
        refused.contains("10.213.7.0/24 instead of 10.213.1.0/24"),
        "{refused}"
    );
}

#[test]
fn a_lease_that_is_given_up_leaves_nothing_of_ours_at_the_node() {
    let cluster = Cluster::usual();
    let lease = cluster.join("a", "192.168.77.1");
    cluster.registry("a").remove(&lease).unwrap();
    let left = cluster.node("a")["metadata"]["annotations"].to_string();
    assert!(!left.contains(PREFIX), "{left}");
}

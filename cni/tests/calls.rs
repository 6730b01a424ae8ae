//! The plugin as runtimes call it, with a delegate that writes down what it was told.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may fail them as the tests themselves may"
)]

mod scene;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use scene::{ENV, Scene};
use serde_json::{Value, json};

const CONFIG: &str = r#"{"cniVersion":"1.0.0","name":"cbr0","type":"flannel"}"#;

#[test]
fn bridge_and_host_local_are_told_what_the_subnet_file_says() {
    let scene = Scene::new(ENV);
    let said = scene.add(CONFIG).unwrap();
    assert_eq!(said, json!({"cniVersion": "1.0.0", "told": "ADD"}));
    assert_eq!(
        scene.told(),
        json!({
            "cniVersion": "1.0.0", "name": "cbr0", "type": "bridge",
            "mtu": 1450, "ipMasq": false, "isGateway": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.5.26.0/24"}]],
                "routes": [{"dst": "10.5.0.0/16"}],
            },
        })
    );
    let variables = scene.variables();
    for wanted in [
        "CNI_CONTAINERID=c1",
        "CNI_IFNAME=eth0",
        "CNI_NETNS=/run/netns/c1",
        "CNI_ARGS=K=V",
    ] {
        assert!(
            variables.lines().any(|line| line == wanted),
            "{wanted}: {variables}"
        );
    }
}

#[test]
fn both_families_have_a_range_and_a_route() {
    let scene = Scene::new(
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.26.1/24\nFLANNEL_IPV6_NETWORK=fd05::/48\n\
         FLANNEL_IPV6_SUBNET=fd05:0:0:50::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n",
    );
    scene.add(CONFIG).unwrap();
    let told = scene.told();
    assert_eq!(told["ipMasq"], json!(true), "nobody else masquerades");
    assert_eq!(
        told["ipam"]["ranges"],
        json!([[{"subnet": "10.5.26.0/24"}], [{"subnet": "fd05:0:0:50::/64"}]])
    );
    assert_eq!(
        told["ipam"]["routes"],
        json!([{"dst": "10.5.0.0/16"}, {"dst": "fd05::/48"}])
    );
}

#[test]
fn what_the_config_says_counts_before_what_is_filled_in() {
    let scene = Scene::new(ENV);
    scene.plugin("other");
    let config = json!({
        "cniVersion": "0.3.1", "name": "cbr0", "type": "flannel",
        "delegate": {"type": "other", "mtu": 1300, "ipMasq": true, "hairpinMode": true, "cniVersion": "0.1.0"},
        "ipam": {"type": "static", "ranges": [], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/x"},
        "runtimeConfig": {"portMappings": []},
    });
    scene.add(&config.to_string()).unwrap();
    assert_eq!(
        scene.told(),
        json!({
            "cniVersion": "0.3.1", "name": "cbr0", "type": "other",
            "mtu": 1300, "ipMasq": true, "hairpinMode": true, "runtimeConfig": {"portMappings": []},
            "ipam": {
                "type": "static", "dataDir": "/x",
                "ranges": [[{"subnet": "10.5.26.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.5.0.0/16"}],
            },
        })
    );
}

#[test]
fn a_container_is_deleted_as_it_was_added_whatever_the_subnet_is_now() {
    let scene = Scene::new(ENV);
    scene.add(CONFIG).unwrap();
    let (added, kept) = (scene.told(), scene.state("c1"));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(kept.parent().unwrap()), 0o700);
    assert_eq!(mode(&kept), 0o600);
    scene.write_subnet(&ENV.replace("10.5.26", "10.5.27"));
    assert_eq!(scene.call("DEL", CONFIG), Ok(Value::Null));
    assert_eq!(scene.told(), added);
    assert!(!kept.exists());
    assert_eq!(scene.call("DEL", CONFIG), Ok(Value::Null), "once more");
}

#[test]
fn what_could_not_be_deleted_is_kept_and_tried_again() {
    // Forgotten after the first failure, the container's address stayed taken for ever.
    let scene = Scene::new(ENV);
    scene.add(CONFIG).unwrap();
    scene.fail(r#"{"cniVersion":"1.0.0","code":11,"msg":"device busy"}"#);
    let error = scene.call("DEL", CONFIG).unwrap_err();
    assert_eq!(
        (&error["code"], &error["msg"]),
        (&json!(11), &json!("device busy"))
    );
    assert!(scene.state("c1").exists());
    scene.heal();
    scene.call("DEL", CONFIG).unwrap();
    assert!(!scene.state("c1").exists());
}

#[test]
fn what_is_kept_of_a_container_but_makes_no_sense_keeps_it_from_nothing() {
    let scene = Scene::new(ENV);
    scene.add(CONFIG).unwrap();
    fs::write(scene.state("c1"), "{ half").unwrap();
    scene.call("DEL", CONFIG).unwrap();
    assert!(!scene.state("c1").exists());
}

#[test]
fn interfaces_of_one_container_are_kept_apart() {
    let mut scene = Scene::new(ENV);
    scene.add(CONFIG).unwrap();
    scene.interface = "net1";
    scene.add(&CONFIG.replace("cbr0", "other")).unwrap();
    scene.call("DEL", CONFIG).unwrap();
    assert_eq!(scene.told()["name"], json!("other"));
    assert!(scene.state("c1").exists(), "eth0 is still there");
    scene.interface = "eth0";
    scene.call("DEL", CONFIG).unwrap();
    assert_eq!(scene.told()["name"], json!("cbr0"));
}

#[test]
fn a_check_tells_whether_what_was_added_could_be_undone() {
    let scene = Scene::new(ENV);
    let error = scene.call("CHECK", CONFIG).unwrap_err();
    assert_eq!(error["code"], json!(3), "{error}");
    scene.add(CONFIG).unwrap();
    assert_eq!(scene.call("CHECK", CONFIG), Ok(Value::Null));
    let error = scene
        .call("CHECK", &CONFIG.replace("1.0.0", "0.3.1"))
        .unwrap_err();
    assert_eq!(error["code"], json!(1), "{error}");
}

#[test]
fn the_status_tells_whether_containers_could_be_added() {
    let scene = Scene::new(ENV);
    let config = CONFIG.replace("1.0.0", "1.1.0");
    scene.call("STATUS", &config).unwrap();
    scene.fail(r#"{"cniVersion":"1.1.0","code":51,"msg":"no addresses left"}"#);
    assert_eq!(
        scene.call("STATUS", &config).unwrap_err()["code"],
        json!(51)
    );
    scene.heal();
    for text in ["", "FLANNEL_SUBNET=x"] {
        scene.write_subnet(text);
        assert_eq!(
            scene.call("STATUS", &config).unwrap_err()["code"],
            json!(50)
        );
    }
    scene.write_subnet(ENV);
    let missing = config.replace("}", r#","delegate":{"type":"absent"}}"#);
    let error = scene.call("STATUS", &missing).unwrap_err();
    assert_eq!(error["code"], json!(50), "{error}");
    assert_eq!(scene.call("STATUS", CONFIG).unwrap_err()["code"], json!(1));
}

#[test]
fn what_the_runtime_knows_nothing_of_is_undone_in_this_network_alone() {
    let mut scene = Scene::new(ENV);
    let config = CONFIG.replace("1.0.0", "1.1.0");
    for (container, interface, network) in [
        ("alive", "eth0", "cbr0"),
        ("dead", "eth0", "cbr0"),
        ("dead", "net1", "cbr0"),
        ("foreign", "eth0", "other"),
    ] {
        (scene.container, scene.interface) = (container, interface);
        scene.add(&config.replace("cbr0", network)).unwrap();
    }
    let before = scene.calls();
    let error = scene.call("GC", &config).unwrap_err();
    assert_eq!(
        error["code"],
        json!(7),
        "no list is no reason to undo everything"
    );
    let valid = r#","cni.dev/valid-attachments":[{"containerID":"alive","ifname":"eth0"}]}"#;
    let config = config.replace("}", valid);
    scene.call("GC", &config).unwrap();
    assert_eq!(
        scene.calls()[before.len()..],
        ["DEL dead eth0", "DEL dead net1", "GC"]
    );
    assert_eq!(
        scene.told()["cni.dev/valid-attachments"][0]["containerID"],
        json!("alive")
    );
    assert_eq!(scene.states(), ["alive", "foreign"]);
}

#[test]
fn every_version_is_spoken_and_others_are_refused() {
    let scene = Scene::new(ENV);
    let said = scene.call("VERSION", r#"{"cniVersion":"0.4.0"}"#).unwrap();
    assert_eq!(said["cniVersion"], json!("0.4.0"));
    let versions = said["supportedVersions"].as_array().unwrap().clone();
    assert_eq!(versions.len(), 7);
    for version in versions {
        let version = version.as_str().unwrap().to_owned();
        assert_eq!(
            scene.add(&CONFIG.replace("1.0.0", &version)).unwrap()["told"],
            json!("ADD")
        );
        assert_eq!(scene.told()["cniVersion"], json!(version));
    }
    let error = scene.add(&CONFIG.replace("1.0.0", "2.0.0")).unwrap_err();
    assert_eq!(
        (&error["code"], &error["cniVersion"]),
        (&json!(1), &json!("2.0.0"))
    );
    assert!(scene.call("VERSION", "").unwrap()["supportedVersions"].is_array());
}

#[test]
fn called_by_hand_it_says_what_it_is() {
    let scene = Scene::new(ENV);
    let output = scene.command("").output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("CNI protocol versions supported: 0.1.0, "),
        "{said}"
    );
}

/// The code of the error an ADD ends with, and what is said.
fn refused(scene: &Scene, config: &str) -> (u64, String) {
    let error = scene.add(config).unwrap_err();
    (error["code"].as_u64().unwrap(), error.to_string())
}

#[test]
fn every_failure_has_its_code_and_says_what_to_do() {
    let scene = Scene::new(ENV);
    for (config, code, word) in [
        ("[]", 6, "no JSON object"),
        ("{", 6, "no JSON object"),
        (r#"{"cniVersion":"1.0.0"}"#, 7, "no usable name"),
        (r#"{"name":"../x"}"#, 7, "no usable name"),
        (
            r#"{"name":"n","cniVersion":7}"#,
            7,
            "cniVersion must be a string",
        ),
        (
            r#"{"name":"n","subnetFile":7}"#,
            7,
            "subnetFile must be a string",
        ),
        (
            r#"{"name":"n","delegate":[]}"#,
            7,
            "delegate must be an object",
        ),
        (
            r#"{"name":"n","delegate":{"name":"x"}}"#,
            7,
            "must not have `name`",
        ),
        (
            r#"{"name":"n","delegate":{"ipam":{}}}"#,
            7,
            "put ipam beside delegate",
        ),
        (
            r#"{"name":"n","delegate":{"type":7}}"#,
            7,
            "must be a string",
        ),
        (
            r#"{"name":"n","delegate":{"type":"absent"}}"#,
            7,
            "containernetworking-plugins",
        ),
        (
            r#"{"name":"n","delegate":{"type":"../bridge"}}"#,
            7,
            "is no plugin's name",
        ),
    ] {
        let (found, said) = refused(&scene, config);
        assert_eq!(found, code, "{config}: {said}");
        assert!(said.contains(word), "{config}: {said}");
    }
    for (variable, bad) in [
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../c1"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_NETNS", ""),
        ("CNI_PATH", ""),
        ("CNI_COMMAND", "REMOVE"),
    ] {
        let mut command = scene.command("ADD");
        let error = scene.run(command.env(variable, bad), CONFIG).unwrap_err();
        assert_eq!(error["code"], json!(4), "{variable}: {error}");
        assert!(error["msg"].as_str().unwrap().contains(variable), "{error}");
    }
    assert!(scene.states().is_empty() && scene.calls().is_empty());
}

#[test]
fn a_missing_subnet_file_leads_to_flanneld() {
    let scene = Scene::new(ENV);
    fs::remove_file(scene.subnet_file()).unwrap();
    let (code, said) = refused(&scene, CONFIG);
    assert_eq!(code, 11, "it may be there soon: {said}");
    assert!(
        said.contains("see whether flanneld runs on this node"),
        "{said}"
    );
    scene.write_subnet(&ENV.replace("FLANNEL_MTU=1450\n", ""));
    let (code, said) = refused(&scene, CONFIG);
    assert_eq!(code, 6);
    assert!(said.contains("subnet.env is missing FLANNEL_MTU"), "{said}");
}

#[test]
fn a_delegate_that_fails_is_heard_out() {
    let scene = Scene::new(ENV);
    scene.fail("Killed");
    let (code, said) = refused(&scene, CONFIG);
    assert_eq!(code, 100);
    assert!(
        said.contains("bridge ended with exit status: 1") && said.contains("Killed"),
        "{said}"
    );
    scene.fail(
        r#"{"code":100,"msg":"\"cni0\" already has an IP address different from 10.5.27.1/24"}"#,
    );
    let (_, said) = refused(&scene, CONFIG);
    assert!(said.contains("ip link delete cni0"), "{said}");
    assert!(
        scene.state("c1").exists(),
        "what was done by half can be undone"
    );
}

#[test]
fn a_full_disk_is_told_before_anything_is_done() {
    let scene = Scene::new(ENV);
    let config = CONFIG.replace("}", r#","dataDir":"/proc/no/such"}"#);
    let (code, said) = refused(&scene, &config);
    assert_eq!(code, 5);
    assert!(said.contains("name another with dataDir"), "{said}");
    assert!(scene.calls().is_empty());
}

//! What is shipped for Kubernetes: the chart as rendered, the manifest that is one such rendering, and what a pod is given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Deserializer, Value};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
/// Every value that differs from what is shipped, and what comes of that.
const VALUES: &str = include_str!("golden/everything-else.values.yml");
const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/containers/golden/everything-else.yml"
);
/// Where a kubelet looks for seccomp profiles.
pub(crate) const PROFILES: &str = "/var/lib/kubelet/seccomp";
/// What helm would know of a release.
const CONTEXT: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: context}
Release: {Name: flannel, Namespace: kube-flannel}
Values:
";
pub(crate) fn deploy(file: &str) -> PathBuf {
    Path::new(DEPLOY).join(file)
}

/// Runs kubectl, which renders and reads without any cluster.
fn kubectl(input: &Path, output: &str) -> String {
    let mut command = Command::new("kubectl");
    command.args(["annotate", "--local", "--dry-run=client", "--filename"]);
    command.arg(input).args(["lab=lab", "--output", output]);
    let done = command.stdin(Stdio::null()).output();
    let done = done.expect("there is no kubectl: apt install kubernetes-client");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {said}", input.display());
    String::from_utf8(done.stdout).unwrap()
}

/// The chart with other values, each a line of its own.
fn rendered(changes: &[&str]) -> String {
    let mut values = fs::read_to_string(deploy("chart/flannel/values.yaml")).unwrap();
    for change in changes {
        let (name, _) = change.split_once(": ").unwrap();
        let line = values
            .lines()
            .find(|line| line.split(':').next() == Some(name));
        let line = line
            .unwrap_or_else(|| panic!("no value `{name}`"))
            .to_owned();
        values = values.replace(&line, change);
    }
    let lines = values.lines().map(|line| format!("  {line}\n"));
    let context: String = std::iter::once(CONTEXT.to_owned()).chain(lines).collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("context.yaml");
    fs::write(&file, context).unwrap();
    let template = deploy("chart/flannel/templates/flannel.yaml");
    kubectl(&file, &format!("go-template-file={}", template.display()))
}

/// An object of the manifest.
pub(crate) fn object(kind: &str) -> Value {
    object_in(&deploy("kube-flannel.yml"), kind)
}

/// An object of the chart with other values.
pub(crate) fn rendered_object(kind: &str, changes: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rendered.yml");
    fs::write(&file, rendered(changes)).unwrap();
    object_in(&file, kind)
}

fn object_in(manifest: &Path, kind: &str) -> Value {
    let text = kubectl(manifest, "json");
    let objects = Deserializer::from_str(&text).into_iter::<Value>();
    let mut objects = objects.map(Result::unwrap);
    objects
        .find(|object| object["kind"] == kind)
        .expect("it is shipped")
}

/// A list of texts.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().cloned().unwrap_or_default().into_iter();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The flags by which docker gives a container of the manifest's pod what a kubelet would.
pub(crate) fn flags(pod: &Value, container: &Value) -> Vec<String> {
    let mut flags = vec!["--network=host".to_owned()];
    let context = &container["securityContext"];
    if context["readOnlyRootFilesystem"] == true {
        flags.push("--read-only".to_owned());
    }
    if context["allowPrivilegeEscalation"] == false {
        flags.push("--security-opt=no-new-privileges".to_owned());
    }
    if let Some(profile) = context["seccompProfile"]["localhostProfile"].as_str() {
        flags.push(format!("--security-opt=seccomp={PROFILES}/{profile}"));
    }
    for list in ["drop", "add"] {
        let names = texts(&context["capabilities"][list]).into_iter();
        flags.extend(names.map(|name| format!("--cap-{list}={name}")));
    }
    let mounts = container["volumeMounts"].as_array().unwrap();
    flags.extend(mounts.iter().map(|mount| volume(pod, mount)));
    flags
}

fn volume(pod: &Value, mount: &Value) -> String {
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes
        .iter()
        .find(|volume| volume["name"] == mount["name"]);
    let volume = volume.expect("a mount is of a volume");
    let place = mount["mountPath"].as_str().unwrap();
    // A ConfigMap's files are written by the kubelet, wherever that keeps them.
    let source = volume["hostPath"]["path"].as_str().unwrap_or(place);
    let mode = if mount["readOnly"] == true { ":ro" } else { "" };
    format!("--volume={source}:{place}{mode}")
}

#[test]
fn the_manifest_is_the_chart_with_its_own_values() {
    let shipped = fs::read_to_string(deploy("kube-flannel.yml")).unwrap();
    let rendered = rendered(&["createNamespace: true"]);
    assert_eq!(
        rendered,
        shipped,
        "render it anew: {}",
        update(&rendered, &deploy("kube-flannel.yml"))
    );
}

#[test]
fn every_value_of_the_chart_has_its_effect() {
    let values: Vec<&str> = VALUES.lines().collect();
    let rendered = rendered(&values);
    let golden = fs::read_to_string(GOLDEN).unwrap_or_default();
    assert_eq!(rendered, golden, "{}", update(&rendered, Path::new(GOLDEN)));
    let privileged = self::rendered(&["privileged: true"]);
    assert!(privileged.contains("            privileged: true\n"));
    assert!(!privileged.contains("NET_ADMIN"));
}

/// Where the new text is, for whoever wants it so.
fn update(text: &str, golden: &Path) -> String {
    let wanted = std::env::var_os("UPDATE_GOLDEN").is_some();
    if wanted {
        fs::write(golden, text).unwrap();
    }
    format!("UPDATE_GOLDEN=1 writes {}", golden.display())
}

#[test]
fn the_role_grants_what_the_daemon_asks_for_and_nothing_else() {
    let rules = object("ClusterRole")["rules"].clone();
    let told = |rule: &Value| {
        format!(
            "{}: {}",
            texts(&rule["resources"]).join(" "),
            texts(&rule["verbs"]).join(" ")
        )
    };
    let rules: Vec<_> = rules.as_array().unwrap().iter().map(told).collect();
    assert_eq!(rules, ["nodes: get list watch", "nodes/status: patch"]);
}

#[test]
fn the_network_config_of_the_plugin_is_the_one_shipped_by_itself() {
    let config = object("ConfigMap")["data"]["cni-conf.json"].clone();
    let config: Value = serde_json::from_str(config.as_str().unwrap()).unwrap();
    let alone = fs::read_to_string(deploy("10-flannel.conflist")).unwrap();
    assert_eq!(config, serde_json::from_str::<Value>(&alone).unwrap());
}

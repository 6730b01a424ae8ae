//! A cluster's pods: the daemon in a container that has what the manifest grants it, and no more.

use std::fs;
use std::path::Path;
use std::thread::panicking;
use std::time::{Duration, Instant};

use benches::kube::{ApiServer, Rule};
use serde_json::Value;

use crate::docker::start_dockerd;
use crate::exchange::everything;
use crate::machine::{Machine, wait_for};
use crate::manifest::{PROFILES, deploy, flags, object, rendered_object, texts};
use crate::pod::{DAEMON, IMAGE, system_image};
use crate::runtime::PODMAN;
use crate::site::Site;

const LONG: Duration = Duration::from_secs(3600);
const ACCOUNT: &str = "/var/lib/kubelet/account";
const CNI: [&str; 1] = ["--network=cbr0"];
/// The pods of a node, one after the other.
const CONTAINERS: [&str; 2] = ["old", "new"];
const DOCKER: &str = "/usr/bin/docker";
const PLUGIN: &str = "--volume=/usr/libexec/flannel/flannel:/usr/libexec/flannel/flannel:ro";

/// Two nodes of a cluster with nothing of flannel on them yet, and the pods they are to run.
struct Cluster {
    site: Site,
    server: ApiServer,
    pods: [Value; 2],
}

impl Cluster {
    fn new() -> Self {
        let mut site = Site::new(r#"{"Type":"vxlan"}"#);
        let server = ApiServer::start(&site.switch, site.outside().into()).unwrap();
        server.accept_only("token", LONG);
        server.grant(granted());
        let (system, busybox) = (system_image(&site.directory()), site.image.clone());
        for (number, machine) in site.machines.iter_mut().enumerate() {
            let subnet = format!("10.244.{}.0/24", number + 1);
            server.add_node(&name(number), &[&subnet]);
            prepare(machine, &system, &busybox);
            let account = machine.path(ACCOUNT);
            server.write_service_account(&account, "token").unwrap();
        }
        let with_rings = rendered_object("DaemonSet", &["ioUring: true"]);
        let pods = [object("DaemonSet"), with_rings];
        Self {
            site,
            server,
            pods: pods.map(|set| set["spec"]["template"]["spec"].clone()),
        }
    }

    /// Runs the init container to its end.
    fn install(&self, number: usize) {
        let pod = &self.pods[number];
        let container = &pod["initContainers"][0];
        let flags = [flags(pod, container), vec!["--rm".to_owned()]].concat();
        self.run(number, &flags, container);
    }

    /// Runs the daemon's container under a name, as a kubelet does: again and again, until it is told otherwise.
    fn start(&self, number: usize, container: &str) {
        let pod = &self.pods[number];
        let wanted = &pod["containers"][0];
        let more = [
            "--detach".to_owned(),
            "--restart=always".to_owned(),
            format!("--name={container}"),
            format!("--volume={ACCOUNT}:/var/run/secrets/kubernetes.io/serviceaccount:ro"),
            format!("--env=KUBERNETES_SERVICE_HOST={}", self.site.outside()),
            "--env=KUBERNETES_SERVICE_PORT=6443".to_owned(),
            format!("--env=NODE_NAME={}", name(number)),
        ];
        let flags = [flags(pod, wanted), more.to_vec()].concat();
        self.run(number, &flags, wanted);
    }

    fn run(&self, number: usize, flags: &[String], container: &Value) {
        let machine = &self.site.machines[number];
        let group = format!("--cgroup-parent=/{}", machine.cgroup);
        let words = [texts(&container["command"]), texts(&container["args"])].concat();
        let mut command = vec![DOCKER, "run", &group, DAEMON, PLUGIN];
        command.extend(flags.iter().map(String::as_str));
        command.push(IMAGE);
        command.extend(words.iter().map(String::as_str));
        machine.run(&command);
    }

    fn log(&self, number: usize, container: &str) -> String {
        let line = format!("{DOCKER} logs {container} 2>&1");
        self.site.machines[number].run(&["sh", "-c", &line])
    }

    /// Whether a probe of the manifest is passed.
    fn passes(&self, number: usize, probe: &str) -> bool {
        let get = &self.pods[number]["containers"][0][probe]["httpGet"];
        let (host, path) = (get["host"].as_str().unwrap(), get["path"].as_str().unwrap());
        let url = format!("http://{host}:{}{path}", get["port"]);
        let fetch = ["busybox", "wget", "-q", "-O", "-", &url];
        self.site.machines[number].try_run(&fetch).is_ok()
    }

    /// The tool on the node asks the daemon, none of whose processes know of those outside of its container.
    fn operator_sees(&self, number: usize) {
        let tool = Path::new(env!("CARGO_BIN_EXE_flanneld")).with_file_name("flannelctl");
        let peers = self.site.machines[number].run(&[tool.to_str().unwrap(), "peers"]);
        let other = Site::address(1 - number).to_string();
        assert!(peers.contains(&other), "no {other} in {peers}");
    }

    fn await_ready(&self, number: usize, container: &str) {
        wait_for("the pod to be ready", || {
            let machine = &self.site.machines[number];
            let state = machine.run(&[
                DOCKER,
                "inspect",
                "--format",
                "{{.RestartCount}}",
                container,
            ]);
            assert_eq!(state, "0", "{}", self.log(number, container));
            self.passes(number, "readinessProbe") && self.passes(number, "livenessProbe")
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for container in CONTAINERS.iter().filter(|_| panicking()) {
            for machine in &self.site.machines {
                let line = format!("{DOCKER} logs {container} 2>&1");
                let said = machine.try_run(&["sh", "-c", &line]);
                eprintln!("--- {}: {container} ---\n{said:?}", machine.cgroup);
            }
        }
    }
}

/// What the role of the manifest grants.
fn granted() -> Vec<Rule> {
    let rules = object("ClusterRole")["rules"].clone();
    let rules = rules.as_array().unwrap().iter();
    rules
        .map(|rule| {
            Rule::new(
                &texts(&rule["resources"]).join(" "),
                &texts(&rule["verbs"]).join(" "),
            )
        })
        .collect()
}

fn name(number: usize) -> String {
    format!("node-{}", number + 1)
}

/// A machine with runtimes and their images, and the files of the ConfigMap.
fn prepare(machine: &mut Machine, system: &Path, busybox: &Path) {
    for installed in ["/usr/lib/cni/flannel", "/etc/cni/net.d/10-flannel.conflist"] {
        fs::remove_file(machine.path(installed)).unwrap();
    }
    // What the image has.
    let plugin = Path::new(env!("CARGO_BIN_EXE_flanneld")).with_file_name("flannel");
    fs::copy(plugin, machine.path("/usr/libexec/flannel/flannel")).unwrap();
    let profile = fs::read_to_string(deploy("seccomp.json")).unwrap();
    machine.write(&format!("{PROFILES}/flanneld.json"), &profile);
    let files = object("ConfigMap")["data"].clone();
    for (name, text) in files.as_object().unwrap() {
        machine.write(&format!("/etc/kube-flannel/{name}"), text.as_str().unwrap());
    }
    machine.write("/run/xtables.lock", "");
    machine.write(
        "/run/flannel/docker",
        "DOCKER_NETWORK_OPTIONS=--bridge=none\n",
    );
    start_dockerd(machine);
    machine.feed(&[DOCKER, "import", "-", IMAGE], system);
    PODMAN.import(machine, busybox);
}

#[test]
fn pods_as_the_manifest_grants_them_connect_containers_and_take_over_from_each_other() {
    let cluster = Cluster::new();
    let begun = Instant::now();
    for number in 0..2 {
        cluster.install(number);
        cluster.start(number, "old");
    }
    (0..2).for_each(|number| cluster.await_ready(number, "old"));
    let machines = &cluster.site.machines;
    let one = PODMAN.run(&machines[0], "one", &CNI);
    let two = PODMAN.run(&machines[1], "two", &CNI);
    wait_for("the first answer", || one.reaches(two.address));
    println!(
        "cluster: a container answers {:?} after the pods were started",
        begun.elapsed()
    );
    everything(&one, &two);
    assert!(
        cluster.log(1, "old").contains("; io_uring, "),
        "{}",
        cluster.log(1, "old")
    );
    let condition = cluster.server.condition("node-1", "NetworkUnavailable");
    assert_eq!(condition.unwrap()["reason"], "FlannelIsUp");
    cluster.operator_sees(0);
    // A rolling update with surge: the new pod is there before the old one goes.
    cluster.start(0, "new");
    wait_for("the new pod to take over", || {
        cluster.log(0, "old").contains("waiting to be ended")
    });
    assert!(cluster.log(0, "new").contains("taking over from process"));
    cluster.await_ready(0, "old");
    machines[0].run(&[DOCKER, "stop", "old"]);
    cluster.await_ready(0, "new");
    assert!(one.reaches(two.address) && two.reaches(one.address));
    cluster.operator_sees(0);
}

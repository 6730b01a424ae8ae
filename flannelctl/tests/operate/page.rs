//! The status page in a real browser without a screen, which says what has become of the page, and takes a picture.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path as FsPath;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use benches::{Path, PathSpec, Profile, Side};

use super::scene::flanneld;

const ADDRESS: &str = "http://127.0.0.1:9472/";
/// A signature, and the size of the picture behind it.
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn up(options: &str) -> Path {
    let spec: PathSpec = format!("udp+metrics-port=9472{options}").parse().unwrap();
    Path::up(&spec, Profile::Offload, &flanneld()).unwrap()
}

/// The browser on node A, with words of the test's.
fn browse(path: &Path, words: &[&str]) -> String {
    let home = path.lab().scratch().join("browser");
    let mut browser = path
        .lab()
        .node(Side::A)
        .command("chromium-headless-shell")
        .unwrap();
    browser
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=4000",
        ])
        .arg(format!("--user-data-dir={}", home.display()))
        .args(words)
        .arg(ADDRESS);
    let output = browser.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The page after it has asked a few times, while containers talk.
fn page(path: &Path) -> String {
    let (container, _) = path.container(Side::A);
    let (_, far) = path.container(Side::B);
    let seen = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // As long as the browser takes, however busy the machine is.
            while !seen.load(Ordering::Relaxed) {
                let _ = container.run(&format!("ping -c 50 -i 0.002 -W 1 {far}"));
            }
        });
        let dom = scope.spawn(|| browse(path, &["--dump-dom"])).join();
        seen.store(true, Ordering::Relaxed);
        dom.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A picture of a size, in light or dark; how wide and high it is.
fn picture(path: &Path, name: &str, size: &str, dark: bool) -> Vec<u8> {
    let file = path.lab().scratch().join(name);
    let scheme = if dark { 0 } else { 1 };
    let words = [
        format!("--screenshot={}", file.display()),
        format!("--window-size={size}"),
        format!("--blink-settings=preferredColorScheme={scheme}"),
        "--hide-scrollbars".to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    browse(path, &words);
    let picture = fs::read(&file).unwrap();
    assert!(picture.starts_with(PICTURE));
    keep(&file, name);
    picture
}

/// For somebody who wants to look: `STATUS_PAGE_PICTURES=DIR` keeps them.
fn keep(file: &FsPath, name: &str) {
    if let Some(directory) = std::env::var_os("STATUS_PAGE_PICTURES") {
        fs::copy(file, FsPath::new(&directory).join(name)).unwrap();
    }
}

/// What is answered for a path, headers included.
fn get(path: &Path, page: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect("127.0.0.1:9472")?;
        write!(stream, "GET {page} HTTP/1.1\r\nHost: node\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    path.lab().node(Side::A).enter(ask).unwrap()
}

#[test]
fn the_status_page_shows_the_mesh_and_what_passes_in_a_real_browser() {
    let path = up("");
    let (container, _) = path.container(Side::A);
    let _ = container.run("ping -c 3 -i 0.01 -W 0.1 10.5.255.9");
    // Between two looks of a page whose time runs faster than the clock there may be no packet.
    let doms = (0..20).map(|_| page(&path));
    let dom = doms
        .enumerate()
        .find(|(tries, dom)| *tries == 19 || dom.contains(" moving\""));
    let (_, dom) = dom.expect("the last one counts");
    let subnet = path.subnet(Side::B).to_string();
    for words in [
        "✓ all is well",
        "192.168.77.1",
        "192.168.77.2",
        &subnet,
        "class=\"link udp",
        "class=\"flow out udp moving\"",
        "UDP form",
        "out_no_route",
        "heard 0 s ago",
        "file at ",
    ] {
        assert!(dom.contains(words), "no {words:?} in\n{dom}");
    }
    let light = picture(&path, "light.png", "1200,1000", false);
    let dark = picture(&path, "dark.png", "1200,1000", true);
    assert_ne!(light, dark);
    picture(&path, "phone.png", "390,1000", false);
}

#[test]
fn the_status_page_names_every_form_that_is_spoken() {
    let path = up("+forms=udp,vxlan");
    let dom = page(&path);
    for words in ["udp and vxlan by the engine", "UDP port 8285 and 8472"] {
        assert!(dom.contains(words), "no {words:?} in\n{dom}");
    }
}

#[test]
fn the_status_page_says_what_is_wrong() {
    let mut path = up("");
    path.daemon(Side::B).unwrap().stop().unwrap();
    let store = path.lab().scratch().join("store");
    fs::rename(&store, path.lab().scratch().join("elsewhere")).unwrap();
    let dom = (0..20).map(|_| page(&path));
    let told = dom.filter(|dom| dom.contains("has not answered for"));
    let dom = told.take(1).next().expect("the store's absence is told");
    assert!(dom.contains("1 problem"), "{dom}");
    picture(&path, "trouble.png", "1200,1000", false);
}

#[test]
fn fifty_nodes_fit_the_status_page_also_on_a_phone() {
    let path = up("+leases=48");
    let dom = page(&path);
    assert_eq!(dom.matches("class=\"link ").count(), 49, "{dom}");
    assert!(dom.contains("172.16.0.48"), "{dom}");
    picture(&path, "fifty.png", "1200,1000", false);
    picture(&path, "fifty-dark-phone.png", "390,1200", true);
}

#[test]
fn the_page_and_its_documents_tell_nothing_that_is_roots_and_let_nothing_else_in() {
    let path = up("");
    let (container, _) = path.container(Side::A);
    let _ = container.run("ping -c 3 -i 0.01 -W 0.1 10.5.255.9");
    let page = get(&path, "/");
    for header in [
        "Content-Type: text/html; charset=utf-8",
        "Content-Security-Policy: default-src 'none'; script-src 'nonce-",
        "frame-ancestors 'none'",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
    ] {
        assert!(page.contains(header), "no {header:?} in {page}");
    }
    let drops = get(&path, "/drops.json");
    assert!(drops.contains("\"out_no_route\""), "{drops}");
    assert!(!drops.contains("\"bytes\""), "{drops}");
    for nothing in ["/dropped.json", "/secrets", "/../etc/passwd", "/status"] {
        assert!(get(&path, nothing).starts_with("HTTP/1.1 404"), "{nothing}");
    }
    let status = get(&path, "/status.json");
    let (_, body) = status.split_once("\r\n\r\n").unwrap();
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    let socket = path.lab().scratch().join("subnet-A.env.sock");
    let mut asked = super::scene::ask(&socket, "status --json").json();
    for seconds in ["uptime_seconds", "silent_seconds", "lease", "store"] {
        asked[seconds] = document[seconds].clone();
    }
    assert_eq!(document, asked);
}

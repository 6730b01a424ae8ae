//! The pages and completions, as `man` and shells read them.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn written() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut manual = Command::new(env!("CARGO_BIN_EXE_manual"));
    assert!(manual.arg(directory.path()).status().unwrap().success());
    directory
}

/// The page as it is read, in lines that are not broken.
fn read(page: &Path) -> String {
    let groff = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-rLL=300n", "-P-c", "-P-bou"])
        .arg(page)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&groff.stderr).into_owned();
    assert_eq!(complaints, "", "{}", page.display());
    String::from_utf8(groff.stdout).unwrap()
}

#[test]
fn every_page_is_read_without_complaint_and_says_what_help_says() {
    let directory = written();
    let pages = directory.path().join("man");
    let mut names = Vec::new();
    for entry in fs::read_dir(&pages).unwrap().flatten() {
        read(&entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    for name in [
        "flanneld.8",
        "flannelctl.1",
        "flannelctl-doctor.1",
        "flannelctl-config-check.1",
        "subnet.env.5",
    ] {
        assert!(
            names.iter().any(|one| one == name),
            "no {name} in {names:?}"
        );
    }
    let daemon = read(&pages.join("flanneld.8"));
    for words in [
        "overlay network daemon",
        "--etcd-endpoints",
        "flanneld cleanup [flags]",
        "How long a lease lasts",
    ] {
        assert!(daemon.contains(words), "no {words:?} in\n{daemon}");
    }
    let tool = read(&pages.join("flannelctl.1"));
    assert!(tool.contains("flannelctl-doctor(1)"), "{tool}");
    let file = read(&pages.join("subnet.env.5"));
    assert!(file.contains("FLANNEL_IPV6_SUBNET"), "{file}");
}

/// What bash offers after these words.
fn offered(directory: &Path, program: &str, words: &[&str]) -> String {
    let script = format!(
        "source {}/bash/{program}.bash; COMP_WORDS=({program} {}); COMP_CWORD={}; _{program} {program} \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[@]}}\"",
        directory.display(),
        words.join(" "),
        words.len()
    );
    let bash = Command::new("bash").args(["-c", &script]).output().unwrap();
    String::from_utf8_lossy(&bash.stdout).into_owned()
}

#[test]
fn a_shell_completes_commands_and_flags() {
    let directory = written();
    let offered = |program: &str, words: &[&str]| offered(directory.path(), program, words);
    assert_eq!(offered("flannelctl", &["doc"]).trim(), "doctor");
    assert_eq!(
        offered("flannelctl", &["capture", "--re"]).trim(),
        "--reason"
    );
    assert_eq!(offered("flanneld", &["--etcd-pre"]).trim(), "--etcd-prefix");
    assert!(offered("flanneld", &["up"]).contains("upgrade"));
    for file in [
        "zsh/_flannelctl",
        "zsh/_flanneld",
        "fish/flannelctl.fish",
        "fish/flanneld.fish",
    ] {
        assert!(directory.path().join(file).exists(), "{file}");
    }
}

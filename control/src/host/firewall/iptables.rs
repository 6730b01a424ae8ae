//! The rules in iptables' language: two chains of our own, each with one jump to it from a chain of the kernel's.

use super::remains::Remains;
use super::rules::{KUBE_PROXY_MARK, Rule, Side, Verdict, leaving, passing};
use super::{Keep, Overlay, run};
use ipnet::IpNet;
use std::io;

/// A chain of ours.
struct Chain {
    table: &'static str,
    /// The kernel's chain that jumps to ours.
    hook: &'static str,
    name: &'static str,
    comment: &'static str,
}

const LEAVING: Chain = Chain {
    table: "nat",
    hook: "POSTROUTING",
    name: "FLANNEL-POSTRTG",
    comment: "flanneld masq",
};
const PASSING: Chain = Chain {
    table: "filter",
    hook: "FORWARD",
    name: "FLANNEL-FWD",
    comment: "flanneld forward",
};

/// How long another user of the tables may keep us waiting, in seconds.
const LOCK_LIMIT: &str = "5";

/// Makes the tables hold what is wanted of ours and nothing else of ours.
pub(super) fn apply(overlay: &Overlay, keep: Keep) -> io::Result<()> {
    let tables = Tables::read(overlay.network)?;
    let wanted = overlay.wanted;
    let with_others = |chain: &Chain, saved: &str, ours: Vec<String>| match keep {
        Keep::Ours => ours,
        Keep::Others => [ours, chain.lines_of_others(saved, overlay)].concat(),
    };
    let leaving = wanted.masquerade.then(|| {
        let lines = LEAVING.lines(&leaving(overlay), wanted.random_ports);
        with_others(&LEAVING, &tables.nat, lines)
    });
    let passing = wanted.forward.then(|| {
        let lines = PASSING.lines(&passing(overlay), false);
        with_others(&PASSING, &tables.filter, lines)
    });
    let batch = LEAVING.batch(&tables.nat, leaving) + &PASSING.batch(&tables.filter, passing);
    tables.write(&batch)
}

/// Removes what is ours.
pub(super) fn remove(overlay: &Overlay) -> io::Result<()> {
    let tables = Tables::read(overlay.network)?;
    let batch = LEAVING.batch(&tables.nat, None) + &PASSING.batch(&tables.filter, None);
    tables.write(&batch)
}

/// Our rules as they stand, one to a line.
pub(super) fn list(overlay: &Overlay) -> io::Result<String> {
    let tables = Tables::read(overlay.network)?;
    let of = |chain: &Chain, saved: &str| {
        saved
            .lines()
            .filter(|line| chain.concerns(line) && !overlay.is_anothers(line))
            .fold(String::new(), |all, line| all + line + "\n")
    };
    Ok(of(&LEAVING, &tables.nat) + &of(&PASSING, &tables.filter))
}

/// Everything of ours in one family's tables, whoever set it up.
pub(super) fn remains(
    family: IpNet,
    networks: &[IpNet],
    own: &[IpNet],
) -> io::Result<Vec<Remains>> {
    let tables = Tables::read(family)?;
    let removal = |what: String, batch: String| Remains {
        what,
        tool: tables.restore(),
        words: &["-w", LOCK_LIMIT, "--noflush"],
        batch,
    };
    let masquerades = LEAVING.bare_rules(&tables.nat, networks, own);
    // Anybody may let a network pass; only where the rest stands as well was it an old flannel.
    let of_old = if masquerades.is_empty() {
        &[]
    } else {
        networks
    };
    let passes = PASSING.bare_rules(&tables.filter, of_old, own);
    let mut found = Vec::new();
    for (chain, saved, bare) in [
        (&LEAVING, &tables.nat, masquerades),
        (&PASSING, &tables.filter, passes),
    ] {
        let batch = chain.batch(saved, None);
        if !batch.is_empty() {
            let what = format!(
                "{} chain {} of table {}",
                tables.family, chain.name, chain.table
            );
            found.push(removal(what, batch));
        }
        for rule in bare {
            let what = format!("{} rule {rule}", tables.family);
            found.push(removal(
                what,
                format!("*{}\n-D {rule}\nCOMMIT\n", chain.table),
            ));
        }
    }
    Ok(found)
}

/// One family's tables as the tool saves them.
struct Tables {
    family: &'static str,
    nat: String,
    filter: String,
}

impl Tables {
    fn read(family: IpNet) -> io::Result<Self> {
        let family = if family.addr().is_ipv4() {
            "iptables"
        } else {
            "ip6tables"
        };
        let save = |table| run(&format!("{family}-save"), &["-t", table], "");
        Ok(Self {
            family,
            nat: save(LEAVING.table)?,
            filter: save(PASSING.table)?,
        })
    }

    fn write(&self, batch: &str) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        run(self.restore(), &["-w", LOCK_LIMIT, "--noflush"], batch).map(drop)
    }

    fn restore(&self) -> &'static str {
        match self.family {
            "iptables" => "iptables-restore",
            _ => "ip6tables-restore",
        }
    }
}

impl Chain {
    /// Whether a saved line is a rule of ours.
    fn concerns(&self, line: &str) -> bool {
        line.starts_with("-A ") && line.split_whitespace().any(|word| word == self.name)
    }

    /// Rules in the kernel's chain itself, as older versions left them: with our comment, or exactly as the
    /// first ones wrote them.
    fn bare_rules(&self, saved: &str, networks: &[IpNet], own: &[IpNet]) -> Vec<String> {
        let comment = format!("--comment \"{}\"", self.comment);
        let jump = format!("-j {}", self.name);
        let old: Vec<String> = networks
            .iter()
            .flat_map(|network| self.first_rules(*network, own))
            .collect();
        let rules = saved.lines().filter_map(|line| line.strip_prefix("-A "));
        rules
            .filter(|rule| rule.starts_with(&format!("{} ", self.hook)))
            .filter(|rule| rule.contains(&comment) || old.iter().any(|known| known == rule))
            .filter(|rule| !rule.ends_with(&jump))
            .map(str::to_owned)
            .collect()
    }

    /// The rules of flannel before it had chains of its own.
    fn first_rules(&self, network: IpNet, own: &[IpNet]) -> Vec<String> {
        let hook = self.hook;
        if self.table == PASSING.table {
            return vec![
                format!("{hook} -s {network} -j ACCEPT"),
                format!("{hook} -d {network} -j ACCEPT"),
            ];
        }
        let mut rules = vec![format!("{hook} -s {network} -d {network} -j RETURN")];
        rules.extend(
            own.iter()
                .map(|own| format!("{hook} ! -s {network} -d {own} -j RETURN")),
        );
        for random in ["", " --random-fully"] {
            rules.push(format!(
                "{hook} -s {network} ! -d 224.0.0.0/4 -j MASQUERADE{random}"
            ));
            rules.push(format!(
                "{hook} ! -s {network} -d {network} -j MASQUERADE{random}"
            ));
        }
        rules
    }

    /// Rules another daemon keeps in the same chain.
    fn lines_of_others(&self, saved: &str, overlay: &Overlay) -> Vec<String> {
        let start = format!("-A {} ", self.name);
        let others = saved
            .lines()
            .filter(|line| line.starts_with(&start) && overlay.is_anothers(line));
        others.map(str::to_owned).collect()
    }

    fn jump(&self) -> String {
        format!(
            "{} -m comment --comment \"{}\" -j {}",
            self.hook, self.comment, self.name
        )
    }

    fn lines(&self, rules: &[Rule], random_ports: bool) -> Vec<String> {
        let mut lines = Vec::new();
        if self.table == LEAVING.table {
            lines.push(format!("-A {} -m mark --mark {KUBE_PROXY_MARK}/{KUBE_PROXY_MARK} -m comment --comment \"{}\" -j RETURN", self.name, self.comment));
        }
        lines.extend(rules.iter().map(|rule| self.line(rule, random_ports)));
        lines
    }

    fn line(&self, rule: &Rule, random_ports: bool) -> String {
        let side = |flag: &str, side: Side| match side {
            Side::Any => String::new(),
            Side::In(net) => format!(" {flag} {net}"),
            Side::NotIn(net) => format!(" ! {flag} {net}"),
        };
        let verdict = match rule.verdict {
            Verdict::Leave => "RETURN",
            Verdict::Accept => "ACCEPT",
            Verdict::Masquerade if random_ports => "MASQUERADE --random-fully",
            Verdict::Masquerade => "MASQUERADE",
        };
        let (source, destination) = (side("-s", rule.source), side("-d", rule.destination));
        format!(
            "-A {}{source}{destination} -m comment --comment \"{}\" -j {verdict}",
            self.name, self.comment
        )
    }

    /// The changes that lead from what is saved to the lines wanted, or to nothing of ours.
    fn batch(&self, saved: &str, wanted: Option<Vec<String>>) -> String {
        let known = saved
            .lines()
            .any(|line| line.starts_with(&format!(":{} ", self.name)));
        let jumps: Vec<&str> = saved
            .lines()
            .filter_map(|line| line.strip_prefix("-A "))
            .filter(|line| {
                line.starts_with(self.hook) && line.ends_with(&format!("-j {}", self.name))
            })
            .collect();
        let mut changes: Vec<String> = Vec::new();
        match wanted {
            None if !known => return String::new(),
            None => {
                changes.extend(jumps.iter().map(|jump| format!("-D {jump}")));
                changes.push(format!("-F {}", self.name));
                changes.push(format!("-X {}", self.name));
            }
            Some(lines) => {
                // Naming the chain makes it, or empties it.
                changes.push(format!(":{} - [0:0]", self.name));
                changes.extend(lines);
                if jumps.is_empty() {
                    changes.push(self.new_jump(saved));
                }
            }
        }
        format!("*{}\n{}\nCOMMIT\n", self.table, changes.join("\n"))
    }

    /// At the end, after whatever others decide first; but before a rule that refuses everything, behind which it would never be reached.
    fn new_jump(&self, saved: &str) -> String {
        let start = format!("-A {} ", self.hook);
        let refuses_all = |rule: &str| rule.starts_with("-j DROP") || rule.starts_with("-j REJECT");
        let position = saved
            .lines()
            .filter_map(|line| line.strip_prefix(&start))
            .position(refuses_all);
        match position {
            Some(before) => {
                let jump =
                    self.jump()
                        .replacen(self.hook, &format!("{} {}", self.hook, before + 1), 1);
                format!("-I {jump}")
            }
            None => format!("-A {}", self.jump()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::*;

    fn overlay() -> Overlay {
        let wanted = Wanted {
            masquerade: true,
            random_ports: true,
            forward: true,
        };
        Overlay {
            network: "10.5.0.0/16".parse().unwrap(),
            subnet: "10.5.98.0/24".parse().unwrap(),
            wanted,
        }
    }

    fn masquerade() -> Vec<String> {
        LEAVING.lines(&leaving(&overlay()), true)
    }

    const EMPTY: &str = "*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n";

    #[test]
    fn rules_are_worded_as_operators_know_them() {
        let wanted = r#"*nat
:FLANNEL-POSTRTG - [0:0]
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.98.0/24 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.98.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.98.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
COMMIT
"#;
        assert_eq!(LEAVING.batch(EMPTY, Some(masquerade())), wanted);
        let wanted = "*filter\n:FLANNEL-FWD - [0:0]\n\
                      -A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment \"flanneld forward\" -j ACCEPT\n\
                      -A FLANNEL-FWD -d 10.5.0.0/16 -m comment --comment \"flanneld forward\" -j ACCEPT\n\
                      -A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD\nCOMMIT\n";
        assert_eq!(
            PASSING.batch(
                "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n",
                Some(PASSING.lines(&passing(&overlay()), false))
            ),
            wanted
        );
    }

    #[test]
    fn a_jump_that_stands_is_not_made_again() {
        let saved = "*nat\n:FLANNEL-POSTRTG - [0:0]\n-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\nCOMMIT\n";
        assert!(
            !LEAVING
                .batch(saved, Some(masquerade()))
                .contains("-A POSTROUTING")
        );
    }

    #[test]
    fn a_rule_that_refuses_everything_comes_after_ours() {
        // Stock appends its jump, which is then never reached.
        let saved = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\nCOMMIT\n";
        assert_eq!(
            PASSING.new_jump(saved),
            "-I FORWARD 2 -m comment --comment \"flanneld forward\" -j FLANNEL-FWD"
        );
    }

    #[test]
    fn rules_of_another_daemon_in_the_same_chain_are_kept_and_no_others() {
        let others = "-A FLANNEL-FWD -s 10.6.0.0/16 -j ACCEPT";
        let saved = format!(
            "*filter\n:FLANNEL-FWD - [0:0]\n-A FORWARD -j FLANNEL-FWD\n\
             -A FLANNEL-FWD -s 10.5.0.0/16 -j ACCEPT\n{others}\n\
             -A FLANNEL-FWD -s 10.5.77.0/24 -d 10.5.0.0/16 -j RETURN\n\
             -A FORWARD -s 10.7.0.0/16 -j ACCEPT\nCOMMIT\n"
        );
        assert_eq!(PASSING.lines_of_others(&saved, &overlay()), [others]);
        let mark = "-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN";
        assert!(!overlay().is_anothers(mark));
    }

    #[test]
    fn rules_of_older_versions_are_told_from_other_peoples() {
        let (network, own) = (
            ["10.5.0.0/16".parse().unwrap()],
            ["10.5.98.0/24".parse().unwrap()],
        );
        let ours = [
            "POSTROUTING -s 10.5.0.0/16 -d 10.5.0.0/16 -j RETURN",
            "POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE",
            "POSTROUTING ! -s 10.5.0.0/16 -d 10.5.98.0/24 -j RETURN",
            "POSTROUTING -s 10.9.0.0/16 -m comment --comment \"flanneld masq\" -j MASQUERADE",
        ];
        let others = [
            "POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
            "POSTROUTING -s 10.6.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE",
            "POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG",
        ];
        let lines = ours
            .iter()
            .chain(&others)
            .map(|rule| format!("-A {rule}\n"));
        let saved: String = lines.collect();
        assert_eq!(LEAVING.bare_rules(&saved, &network, &own), ours);
        let passing = "-A FORWARD -s 10.5.0.0/16 -j ACCEPT\n";
        assert_eq!(PASSING.bare_rules(passing, &network, &own).len(), 1);
        assert!(PASSING.bare_rules(passing, &[], &own).is_empty());
    }

    #[test]
    fn what_is_not_wanted_any_more_is_removed_and_nothing_else() {
        let saved = "*nat\n:FLANNEL-POSTRTG - [0:0]\n-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE\n-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\nCOMMIT\n";
        let wanted = "*nat\n-D POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n-F FLANNEL-POSTRTG\n-X FLANNEL-POSTRTG\nCOMMIT\n";
        assert_eq!(LEAVING.batch(saved, None), wanted);
        assert_eq!(LEAVING.batch(EMPTY, None), "");
    }
}

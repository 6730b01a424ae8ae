//! The rules in nftables' language: one table of our own for each family, replaced whole.

use super::remains::Remains;
use super::rules::{KUBE_PROXY_MARK, Rule, Side, Verdict, leaving, passing};
use super::{Keep, Overlay, run};
use ipnet::IpNet;
use std::io;

/// Makes our table hold what is wanted.
pub(super) fn apply(overlay: &Overlay, keep: Keep) -> io::Result<()> {
    let others = match keep {
        Keep::Ours => String::new(),
        Keep::Others => whole(overlay.network)?,
    };
    run("nft", &["-f", "-"], &batch(overlay, &others)).map(drop)
}

/// Removes our table.
pub(super) fn remove(family: IpNet) -> io::Result<()> {
    let name = table(family);
    run(
        "nft",
        &["-f", "-"],
        &format!("table {name}\ndelete table {name}\n"),
    )
    .map(drop)
}

/// Our table, if it stands.
pub(super) fn remains(family: IpNet) -> io::Result<Vec<Remains>> {
    let name = table(family);
    let stands = !whole(family)?.is_empty();
    let ours = stands.then(|| Remains {
        what: format!("nftables table {name}"),
        tool: "nft",
        words: &["-f", "-"],
        batch: format!("table {name}\ndelete table {name}\n"),
    });
    Ok(ours.into_iter().collect())
}

/// Our rules as they stand; empty if the table is gone.
pub(super) fn list(overlay: &Overlay) -> io::Result<String> {
    let table = whole(overlay.network)?;
    let ours = table.lines().filter(|line| !overlay.is_anothers(line));
    Ok(ours.fold(String::new(), |all, line| all + line + "\n"))
}

/// The table as it stands, with what other daemons keep in it.
fn whole(family: IpNet) -> io::Result<String> {
    let tables = run("nft", &["list", "tables"], "")?;
    let name = table(family);
    if !tables.lines().any(|line| line == format!("table {name}")) {
        return Ok(String::new());
    }
    let mut words = vec!["list", "table"];
    words.extend(name.split(' '));
    run("nft", &words, "")
}

fn table(family: IpNet) -> &'static str {
    if family.addr().is_ipv4() {
        "ip flannel-ipv4"
    } else {
        "ip6 flannel-ipv6"
    }
}

/// Naming the table first makes the deletion succeed; all of it is one step for the kernel. Of the table as it
/// stood, rules of other daemons are kept.
fn batch(overlay: &Overlay, stood: &str) -> String {
    let name = table(overlay.network);
    let mut text = format!("table {name}\ndelete table {name}\ntable {name} {{\n");
    if overlay.wanted.masquerade {
        text +=
            "  chain postrtg {\n    type nat hook postrouting priority srcnat; policy accept;\n";
        text += &format!("    meta mark & {KUBE_PROXY_MARK} == {KUBE_PROXY_MARK} return\n");
        text += &lines(
            &leaving(overlay),
            overlay,
            &of_others(stood, "postrtg", overlay),
        );
    }
    if overlay.wanted.forward {
        text += "  chain forward {\n    type filter hook forward priority filter; policy accept;\n";
        text += &lines(
            &passing(overlay),
            overlay,
            &of_others(stood, "forward", overlay),
        );
    }
    text + "}\n"
}

/// The rules for other networks in a chain of a table as it stood.
fn of_others(stood: &str, chain: &str, overlay: &Overlay) -> String {
    let header = format!("chain {chain} {{");
    let body = stood.lines().skip_while(|line| line.trim() != header);
    let body = body.skip(1).take_while(|line| line.trim() != "}");
    let others = body.filter(|line| overlay.is_anothers(line));
    others.fold(String::new(), |all, line| all + "    " + line.trim() + "\n")
}

fn lines(rules: &[Rule], overlay: &Overlay, others: &str) -> String {
    let lines: String = rules
        .iter()
        .map(|rule| format!("   {}\n", line(rule, overlay)))
        .collect();
    lines + others + "  }\n"
}

fn line(rule: &Rule, overlay: &Overlay) -> String {
    let family = if overlay.network.addr().is_ipv4() {
        "ip"
    } else {
        "ip6"
    };
    let side = |which: &str, side: Side| match side {
        Side::Any => String::new(),
        Side::In(net) => format!(" {family} {which} {net}"),
        Side::NotIn(net) => format!(" {family} {which} != {net}"),
    };
    let verdict = match rule.verdict {
        Verdict::Leave => "return",
        Verdict::Accept => "accept",
        Verdict::Masquerade if overlay.wanted.random_ports => "masquerade fully-random",
        Verdict::Masquerade => "masquerade",
    };
    format!(
        "{}{} {verdict}",
        side("saddr", rule.source),
        side("daddr", rule.destination)
    )
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::*;

    #[test]
    fn the_table_has_both_chains() {
        let wanted = Wanted {
            masquerade: true,
            random_ports: false,
            forward: true,
        };
        let overlay = Overlay {
            network: "fd05::/48".parse().unwrap(),
            subnet: "fd05:0:0:1::/64".parse().unwrap(),
            wanted,
        };
        let text = "table ip6 flannel-ipv6
delete table ip6 flannel-ipv6
table ip6 flannel-ipv6 {
  chain postrtg {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & 0x4000 == 0x4000 return
    ip6 saddr fd05:0:0:1::/64 ip6 daddr fd05::/48 return
    ip6 saddr fd05::/48 ip6 daddr fd05:0:0:1::/64 return
    ip6 saddr != fd05::/48 ip6 daddr fd05:0:0:1::/64 return
    ip6 saddr fd05::/48 ip6 daddr fd05::/48 return
    ip6 saddr fd05::/48 ip6 daddr != ff00::/8 masquerade
    ip6 saddr != fd05::/48 ip6 daddr fd05::/48 masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ip6 saddr fd05::/48 accept
    ip6 daddr fd05::/48 accept
  }
}
";
        assert_eq!(batch(&overlay, ""), text);
        let another = "ip6 daddr fd06::/48 accept";
        let stood = text.replace("    ip6 saddr fd05::/48 accept", &format!("    {another}"));
        let with_others = batch(&overlay, &stood);
        assert_eq!(
            with_others,
            text.replace(
                "accept\n  }\n}",
                &format!("accept\n    {another}\n  }}\n}}")
            )
        );
    }
}

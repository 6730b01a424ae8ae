//! Measures between two machines: the one that asks, and the one that serves.

use std::io;
use std::net::{IpAddr, SocketAddr};

use benches::between::{Link, PORT, Server};
use benches::measure::Subject;
use benches::report::Report;
use benches::run::{Lane, Progress, Run};

use super::{announcement, choice};
use crate::args::{Bench, Serve};

const NAME: &str = "between";
const DIRECT: &str = "direct";
const SETTING: &str = "Measured between two machines; processor time is the sum of both, all that was busy there included.";

pub(super) fn measure(arguments: &Bench, host: &str) -> io::Result<Report> {
    let (host, port) = split(host);
    let link = Link::to(host, port)?;
    let networks = match arguments.through.as_slice() {
        [] => vec![(DIRECT.to_owned(), link.address())],
        named => named.to_vec(),
    };
    let first = || vec![networks[0].0.clone()];
    let references = arguments.references.clone().unwrap_or_else(first);
    let mut report = Report::new(&references, SETTING);
    let about = [env!("CARGO_PKG_VERSION"), "here;", link.about()].join(" ");
    report.machine.versions.push(format!("flannelctl {about}"));
    let names: Vec<_> = networks.iter().map(|(name, _)| name.as_str()).collect();
    let plan = choice(arguments).plan_between(&names);
    let progress = Progress::new(plan.cost(), arguments.quiet);
    progress.say(&announcement(&plan, &format!("to {host}"), plan.cost()));
    let mut run = Run {
        plan: &plan,
        report: &mut report,
        progress,
    };
    run.measure(NAME, |lane| Ok(through(&link, &networks, lane)));
    run.progress.finish();
    Ok(report)
}

fn through(link: &Link, networks: &[(String, IpAddr)], lane: &Lane) -> Box<dyn Subject> {
    let network = networks.iter().find(|(name, _)| *name == lane.name);
    let address = network.map_or_else(|| link.address(), |(_, address)| *address);
    Box::new(link.through(address))
}

/// Serves until interrupted.
pub(super) fn serve(arguments: &Serve) -> io::Result<()> {
    let server = Server::listen(&arguments.listen)?;
    let addresses: Vec<_> = arguments
        .listen
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    eprintln!(
        "listening on {}, for traffic also on ports that come and go, at {}; anybody who reaches them can \
         have test traffic sent and received. Ctrl-C ends it",
        server.address()?,
        addresses.join(", ")
    );
    server.run(arguments.once, |event| eprintln!("{event}"))
}

/// A host and its port, which is the usual one where none is given.
fn split(host: &str) -> (&str, u16) {
    if let Ok(address) = host.parse::<SocketAddr>() {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        return (name.trim_matches(['[', ']']), address.port());
    }
    match host
        .rsplit_once(':')
        .map(|(name, port)| (name, port.parse()))
    {
        Some((name, Ok(port))) if !name.contains(':') => (name, port),
        _ => (host, PORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port() {
        let split_as = [
            ("node-b", ("node-b", PORT)),
            ("node-b:99", ("node-b", 99)),
            ("192.0.2.2", ("192.0.2.2", PORT)),
            ("192.0.2.2:99", ("192.0.2.2", 99)),
            ("fd00::2", ("fd00::2", PORT)),
            ("[fd00::2]:99", ("fd00::2", 99)),
        ];
        for (typed, meant) in split_as {
            assert_eq!(split(typed), meant);
        }
    }
}

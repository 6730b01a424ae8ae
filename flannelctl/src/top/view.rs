//! What is on the screen; everything fits in 80 columns and 24 lines.

use super::rates::{Flow, Peer, Rates};
use super::{Screen, Sort};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Sparkline, Table};

const HELP: &str = "\
 q, Esc   leave
 s        sort peers: by address, by packets sent, by packets received
 /        show only peers whose address contains what is typed; Enter keeps it
 ?        this help

 OUT goes to other nodes, IN comes from them. /SEND and /WRITE are packets per
 message sent and per write to the device: the more, the cheaper each.
 A turn is what a worker does between two looks at what is ready.";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let [head, lines, workers, peers, drops, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Length(workers_height(screen)),
        Constraint::Min(3),
        Constraint::Length(drops_height(screen)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(heading(screen)), head);
    sparklines(frame, lines, screen);
    if screen.help {
        frame.render_widget(Paragraph::new(HELP), peers);
    } else {
        frame.render_widget(peer_table(screen), peers);
    }
    frame.render_widget(worker_table(&screen.rates), workers);
    frame.render_widget(drop_table(&screen.rates), drops);
    frame.render_widget(Paragraph::new(footer(screen)), keys);
}

fn workers_height(screen: &Screen) -> u16 {
    1 + screen.rates.workers.len().clamp(1, 4) as u16
}

fn drops_height(screen: &Screen) -> u16 {
    1 + screen.rates.drops.len().clamp(1, 4) as u16
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn heading(screen: &Screen) -> Vec<Line<'_>> {
    let Some(look) = &screen.look else {
        return vec![Line::from(
            screen.trouble.as_deref().unwrap_or("asking ..."),
        )];
    };
    let status = &look.status;
    let (word, color) = match (&screen.trouble, status.problems.first()) {
        (Some(trouble), _) => (trouble.as_str(), Color::Red),
        (None, Some(problem)) => (problem.as_str(), Color::Red),
        (None, None) => ("well", Color::Green),
    };
    let lease = status.lease.as_ref();
    let subnets = lease.map_or_else(String::new, |lease| {
        let subnets: Vec<String> = lease.subnets.iter().map(ToString::to_string).collect();
        format!("{} {}", subnets.join(" "), lease.standing)
    });
    let network = status.network.as_ref();
    let network = network.map_or_else(String::new, |one| {
        format!("{} MTU {}", one.backend, one.mtu)
    });
    let spreads = screen.rates.spreads.iter().map(|(name, median, most)| {
        let told =
            |value: &Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        format!("{name} {}/{}", told(median), told(most))
    });
    let spreads: Vec<String> = spreads.collect();
    vec![
        Line::from(vec![
            Span::styled(format!("flanneld {}  ", status.version), bold()),
            Span::raw(format!("{subnets}  {network}  ")),
            Span::styled(word, Style::new().fg(color)),
        ]),
        Line::from(format!("p50/p99: {}", spreads.join("  "))),
    ]
}

fn sparklines(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let total = screen.rates.total;
    let rows: [Rect; 2] = Layout::vertical([Constraint::Length(1); 2]).areas(area);
    let sides = [
        (
            "OUT",
            total.out_packets,
            total.out_bits,
            &screen.out_history,
        ),
        ("IN ", total.in_packets, total.in_bits, &screen.in_history),
    ];
    for (row, (name, packets, bits, history)) in rows.into_iter().zip(sides) {
        let [words, line] =
            Layout::horizontal([Constraint::Length(34), Constraint::Min(10)]).areas(row);
        let told = format!("{name} {:>9}/s  {:>10}bit/s", short(packets), short(bits));
        frame.render_widget(Paragraph::new(told), words);
        let width = usize::from(line.width);
        let shown: Vec<u64> = history.iter().rev().take(width).rev().copied().collect();
        frame.render_widget(Sparkline::default().data(shown), line);
    }
}

fn worker_table(rates: &Rates) -> Table<'static> {
    let rows = rates.workers.iter().take(4).enumerate();
    let rows = rows.map(|(number, worker)| {
        let mut cells = vec![format!("worker {number}"), String::new()];
        cells.extend(flow(&worker.flow));
        cells.extend([
            format!("{:>6.1}", worker.a_send),
            format!("{:>6.1}", worker.a_write),
            format!("{:>8}", short(worker.sleeps)),
        ]);
        Row::new(cells)
    });
    let heading = heading_row(&[
        "WORKER", "", "OUT/s", "bit/s", "IN/s", "bit/s", " /SEND", "/WRITE", "  SLEEPS",
    ]);
    Table::new(rows, widths(&[9, 5, 9, 9, 9, 9, 6, 6, 8])).header(heading)
}

fn peer_table(screen: &Screen) -> Table<'_> {
    let rows = shown(screen).into_iter().map(|peer| {
        let mut cells = vec![peer.address.to_string(), peer.form.clone()];
        cells.extend(flow(&peer.flow));
        let seen = peer
            .seen
            .map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s"));
        cells.push(format!("{seen:>6}"));
        Row::new(cells)
    });
    let heading = heading_row(&["PEER", "FORM", "OUT/s", "bit/s", "IN/s", "bit/s", "  SEEN"]);
    Table::new(rows, widths(&[22, 5, 9, 9, 9, 9, 6])).header(heading)
}

/// The peers that pass the filter, in the order asked for.
fn shown(screen: &Screen) -> Vec<&Peer> {
    let wanted = |peer: &&Peer| peer.address.to_string().contains(&screen.filter);
    let mut peers: Vec<&Peer> = screen.rates.peers.iter().filter(wanted).collect();
    match screen.sort {
        Sort::Address => peers.sort_by_key(|peer| peer.address),
        Sort::Out => {
            peers.sort_by(|one, other| other.flow.out_packets.total_cmp(&one.flow.out_packets))
        }
        Sort::In => {
            peers.sort_by(|one, other| other.flow.in_packets.total_cmp(&one.flow.in_packets))
        }
    }
    peers
}

fn drop_table(rates: &Rates) -> Table<'static> {
    let rows = rates.drops.iter().take(4).map(|(reason, rate, count)| {
        Row::new([
            reason.clone(),
            format!("{:>9}", short(*rate)),
            format!("{count:>12}"),
        ])
    });
    let heading = heading_row(&["DROPPED", "PACKETS/s", "IN ALL"]);
    Table::new(rows, widths(&[24, 9, 12])).header(heading)
}

fn heading_row(names: &[&str]) -> Row<'static> {
    let names = names.iter().enumerate().map(|(place, name)| match place {
        0 => (*name).to_owned(),
        _ if name.contains("/s") => format!("{name:>9}"),
        _ => (*name).to_owned(),
    });
    Row::new(names.collect::<Vec<_>>()).style(bold())
}

fn widths(columns: &[u16]) -> Vec<Constraint> {
    columns
        .iter()
        .map(|width| Constraint::Length(*width))
        .collect()
}

fn flow(flow: &Flow) -> [String; 4] {
    [
        flow.out_packets,
        flow.out_bits,
        flow.in_packets,
        flow.in_bits,
    ]
    .map(|value| format!("{:>9}", short(value)))
}

fn footer(screen: &Screen) -> String {
    let sorted = match screen.sort {
        Sort::Address => "address",
        Sort::Out => "sent",
        Sort::In => "received",
    };
    match (screen.typing, screen.filter.as_str()) {
        (true, typed) => format!("/{typed}"),
        (false, "") => format!("q leave  s sort ({sorted})  / filter  ? help"),
        (false, typed) => format!("q leave  s sort ({sorted})  / filter ({typed})  ? help"),
    }
}

/// Three or four digits and a letter for thousands.
fn short(value: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.iter().find(|(size, _)| value >= *size) {
        Some((size, letter)) => format!("{:.2} {letter}", value / size),
        None => format!("{value:.0} "),
    }
}

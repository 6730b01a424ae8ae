//! `flannelctl top`: what the daemon moves, live. The daemon is asked by a thread of its own, so that keys work whatever
//! it does; the screen shows what changed between the last two answers.

mod rates;
mod view;

use crate::args::Top;
use crate::ask::document;
use crate::exit::Exit;
use console::client::Unanswered;
use console::protocol::Question;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use rates::{Look, Rates};
use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a key may wait.
const PATIENCE: Duration = Duration::from_millis(100);
/// Rates that sparklines remember.
const HISTORY: usize = 200;

/// The order of peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    Address,
    Out,
    In,
}

/// All that can be seen.
#[derive(Debug, Default)]
struct Screen {
    look: Option<Look>,
    rates: Rates,
    /// Why there is nothing new.
    trouble: Option<String>,
    out_history: VecDeque<u64>,
    in_history: VecDeque<u64>,
    sort: Sort,
    filter: String,
    typing: bool,
    help: bool,
}

/// Shows it until somebody leaves.
pub(crate) fn run(arguments: &Top) -> Exit {
    if !io::stdout().is_terminal() {
        eprintln!(
            "flannelctl: top needs a terminal; status, peers and stats --json tell the same to programs"
        );
        return Exit::Failed;
    }
    let (sender, looks) = sync_channel(1);
    let (socket, interval) = (arguments.asking.socket.clone(), arguments.interval);
    thread::spawn(move || watch(&socket, interval, &sender));
    let shown = ratatui::try_init().and_then(|mut terminal| show(&mut terminal, &looks));
    ratatui::restore();
    match shown {
        Ok(()) => Exit::Well,
        Err(error) => {
            eprintln!("flannelctl: {error}");
            Exit::Failed
        }
    }
}

/// Asks again and again, until nobody looks any more.
fn watch(socket: &Path, interval: Duration, looks: &SyncSender<Result<Look, Unanswered>>) {
    let began = Instant::now();
    while looks.send(look(socket, began)).is_ok() {
        thread::sleep(interval);
    }
}

fn look(socket: &Path, began: Instant) -> Result<Look, Unanswered> {
    Ok(Look {
        status: document(socket, Question::Status)?,
        peers: document(socket, Question::Peers)?,
        drops: document(socket, Question::Drops)?,
        stats: document(socket, Question::Stats)?,
        at: began.elapsed(),
    })
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    looks: &Receiver<Result<Look, Unanswered>>,
) -> io::Result<()> {
    let mut screen = Screen::default();
    loop {
        for answer in looks.try_iter() {
            screen.take(answer);
        }
        terminal.draw(|frame| view::draw(frame, &screen))?;
        if event::poll(PATIENCE)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let interrupt =
                key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            if interrupt || screen.press(key.code) {
                return Ok(());
            }
        }
    }
}

impl Screen {
    /// Takes in what the daemon says.
    fn take(&mut self, answer: Result<Look, Unanswered>) {
        match answer {
            Err(why) => self.trouble = Some(why.to_string()),
            Ok(look) => {
                self.trouble = None;
                if let Some(before) = &self.look {
                    self.rates = Rates::between(before, &look);
                    remember(&mut self.out_history, self.rates.total.out_packets);
                    remember(&mut self.in_history, self.rates.total.in_packets);
                }
                self.look = Some(look);
            }
        }
    }

    /// Does what a key asks for; tells whether that is the end.
    fn press(&mut self, key: KeyCode) -> bool {
        match key {
            KeyCode::Esc | KeyCode::Enter if self.typing => self.typing = false,
            KeyCode::Backspace if self.typing => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.typing => self.filter.push(letter),
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('/') => {
                self.filter.clear();
                self.typing = true;
            }
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Char('s') => {
                self.sort = match self.sort {
                    Sort::Address => Sort::Out,
                    Sort::Out => Sort::In,
                    Sort::In => Sort::Address,
                }
            }
            _ => {}
        }
        false
    }
}

fn remember(history: &mut VecDeque<u64>, value: f64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(value as u64);
}

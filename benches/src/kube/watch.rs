//! A watch: what happens to nodes from a version on, an object a line, until its time is up.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Request, begin_stream, chunk};
use super::serve::Shared;
use super::status::Failure;
use super::store::Event;

/// How long a watch lasts that does not say.
const LIFE: u64 = 1800;
const LOOK: Duration = Duration::from_millis(100);

/// One who watches.
struct Watcher<'a, W> {
    shared: &'a Shared,
    stream: &'a mut W,
    select: Box<dyn Fn(&Value) -> bool>,
    bookmarks: bool,
    seen: u64,
    marked: u64,
}

/// Serves a watch to its end.
pub(super) fn serve(
    shared: &Shared,
    request: &Request,
    select: Box<dyn Fn(&Value) -> bool>,
    stream: &mut impl Write,
) -> io::Result<()> {
    let life = request.query("timeoutSeconds").parse().unwrap_or(LIFE);
    let ends = Instant::now() + Duration::from_secs(life);
    begin_stream(stream)?;
    let mut watcher = Watcher {
        shared,
        stream,
        select,
        bookmarks: request.query("allowWatchBookmarks") == "true",
        seen: request.query("resourceVersion").parse().unwrap_or(0),
        marked: shared.store().bookmarks,
    };
    if shared.is_forgetful() {
        watcher.say(&failed(&Failure::expired("too old resource version")))?;
    } else {
        watcher.follow(ends)?;
    }
    chunk(stream, b"")
}

impl<W: Write> Watcher<'_, W> {
    fn follow(&mut self, ends: Instant) -> io::Result<()> {
        while Instant::now() < ends && !self.shared.is_stopped() {
            let (events, marks, version) = {
                let store = self.shared.store();
                (store.since(self.seen), store.bookmarks, store.version())
            };
            match events {
                Ok(events) => events.iter().try_for_each(|event| self.tell(event))?,
                Err(failure) => return self.say(&failed(&failure)),
            }
            if marks != std::mem::replace(&mut self.marked, marks) && self.bookmarks {
                self.seen = self.seen.max(version);
                self.say(&bookmark(self.seen))?;
                self.shared.note("BOOKMARK".to_owned());
            }
            self.shared.await_change(self.seen, self.marked, LOOK);
        }
        Ok(())
    }

    fn tell(&mut self, event: &Event) -> io::Result<()> {
        self.seen = event.version;
        match (self.select)(&event.node) {
            true => self.say(&json!({"type": event.kind, "object": *event.node})),
            false => Ok(()),
        }
    }

    fn say(&mut self, line: &Value) -> io::Result<()> {
        chunk(self.stream, format!("{line}\n").as_bytes())
    }
}

fn failed(failure: &Failure) -> Value {
    json!({"type": "ERROR", "object": failure.status()})
}

fn bookmark(version: u64) -> Value {
    let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
    json!({"type": "BOOKMARK", "object": {"kind": "Node", "apiVersion": "v1", "metadata": metadata, "spec": {}, "status": {}}})
}

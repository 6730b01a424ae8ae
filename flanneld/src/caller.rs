//! Calls to the registry on a thread of their own: a store that does not answer must hold up nothing else.

use crate::daemon::Happening;
use control::hold::Call;
use control::registry::Registry;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Makes calls one after another; each answer is a happening. Dropping it ends it after the call under way.
#[derive(Debug)]
pub(crate) struct Caller(Sender<Call>);

impl Caller {
    /// Starts the thread.
    pub(crate) fn start(
        registry: Arc<dyn Registry>,
        happenings: Sender<Happening>,
    ) -> io::Result<Self> {
        let (sender, calls) = channel::<Call>();
        let run = move || {
            for call in calls {
                let answer = call.make(&*registry);
                // Nobody waits for the answer any more: the daemon is ending.
                let _ = happenings.send(Happening::Answered(answer));
            }
        };
        thread::Builder::new()
            .name("registry".to_owned())
            .spawn(run)?;
        Ok(Self(sender))
    }

    /// Makes a call soon.
    pub(crate) fn ask(&self, call: Call) {
        // The thread ends only with this value.
        let _ = self.0.send(call);
    }
}

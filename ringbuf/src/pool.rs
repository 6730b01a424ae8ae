//! The free frames of one worker.
//!
//! Last in, first out: the frame that came home last is the one whose lines are still in the
//! cache, and frames that are never needed never become resident. Empty is an answer, not a wait.

use crate::frame::Frame;

/// A stack of free frames.
#[derive(Debug)]
pub struct Pool<'a> {
    free: Vec<Frame<'a>>,
}

impl<'a> Pool<'a> {
    /// The first frame given is the first one taken.
    pub(crate) fn new(frames: impl DoubleEndedIterator<Item = Frame<'a>>) -> Self {
        Self {
            free: frames.rev().collect(),
        }
    }

    /// A frame without a packet, or `None` when all are out.
    pub fn take(&mut self) -> Option<Frame<'a>> {
        let mut frame = self.free.pop()?;
        frame.reset();
        Some(frame)
    }

    /// Brings a frame home.
    pub fn put(&mut self, frame: Frame<'a>) {
        self.free.push(frame);
    }

    /// How many frames can be taken.
    pub fn available(&self) -> usize {
        self.free.len()
    }
}

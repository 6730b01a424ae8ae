//! Giving up, for good, what a thread does not need: so that whoever takes it over finds little to do.
//!
//! Four walls, each of the kernel's, each for the calling thread and those it starts from then on: [`capabilities`],
//! [`calls`] (system calls), [`files`] (paths, ports and other processes); and [`process`], which concerns all threads.
//! What is behind them is decided by the callers, who know what their threads do.
//!
//! Threads of one process share memory and descriptors, so a wall around one of them is as good as the walls around
//! the others: the calls a thread may make are therefore bound to the descriptors that are its own. What it tries all the
//! same is counted in [`denied`]. [`peer`] tells whom a process lets in. What the C library would load on its own is left
//! out by [`names`].

pub mod calls;
pub mod capabilities;
pub mod denied;
pub mod files;
pub mod names;
pub mod peer;
pub mod process;

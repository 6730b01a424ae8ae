//! Plots of a report as SVG, written by hand: bars for what has one value a path, lines for the rest.
//!
//! Every row and every line is labelled where it is, so that no colour has to be looked up, and the
//! colours can be told apart by the colour-blind. One file serves light and dark pages.

mod bars;
mod charts;
mod labels;
mod lines;
mod scale;
mod svg;

use crate::report::Report;

/// A finished plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The profile it shows.
    pub profile: String,
    /// What it shows, in words.
    pub title: String,
    /// The name of its file.
    pub file: String,
    /// The file itself.
    pub svg: String,
}

/// Every plot for which there are numbers.
pub fn all(report: &Report) -> Vec<Plot> {
    let profiles = report.profiles();
    let plots = profiles
        .iter()
        .flat_map(|profile| charts::of(report, profile));
    plots.collect()
}

//! Horizontal bars: a row per path, a panel per number, the value written at the end of each bar.

use crate::report::{Summary, short};

use super::scale::{Scale, written};
use super::svg::{Anchor, Svg, TEXT, WIDTH, family, text_width};

const TOP: f64 = 92.0;
const ROW: f64 = 25.0;
const THICKNESS: f64 = 14.0;
/// Between panels, and around everything.
const MARGIN: f64 = 16.0;
/// What a written value needs beside its bar.
const VALUE: f64 = 46.0;
/// How far a spread may reach, in lengths of the longest bar.
const ROOM: f64 = 1.4;
const FOOT: f64 = 34.0;

/// One number of every path.
pub(super) struct Panel {
    /// What it is, with the unit.
    pub(super) title: String,
    /// In the order of the rows.
    pub(super) values: Vec<Option<Summary>>,
}

impl Panel {
    /// From zero to where every bar ends; a repeat far beyond all bars runs off the panel, because it would
    /// leave no room for them.
    fn scale(&self) -> Scale {
        let values = || self.values.iter().flatten();
        let longest = values().map(|value| value.median).fold(0.0, f64::max);
        Scale::linear(values().map(|value| value.high.min(longest * ROOM)))
    }
}

/// A whole plot.
pub(super) struct Bars {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) rows: Vec<String>,
    pub(super) panels: Vec<Panel>,
}

impl Bars {
    pub(super) fn draw(&self) -> String {
        let height = TOP + self.rows.len() as f64 * ROW + FOOT;
        let mut svg = Svg::new(height, &self.title, &self.note);
        let labels = self.rows.iter().map(|row| text_width(row, TEXT));
        let left = MARGIN + labels.fold(0.0, f64::max) + 10.0;
        for (number, row) in self.rows.iter().enumerate() {
            let at = (left - 10.0, middle(number) + 4.5);
            svg.text(at, "label", Anchor::End, row);
        }
        let count = self.panels.len() as f64;
        let width = (WIDTH - left - MARGIN * count) / count;
        for (number, panel) in self.panels.iter().enumerate() {
            let from = left + number as f64 * (width + MARGIN);
            self.draw_panel(&mut svg, panel, from, width - VALUE);
        }
        svg.finish(&self.title)
    }

    fn draw_panel(&self, svg: &mut Svg, panel: &Panel, left: f64, width: f64) {
        let scale = panel.scale();
        let axis = Axis { scale, left, width };
        svg.text((left, TOP - 14.0), "panel", Anchor::Start, &panel.title);
        self.draw_axis(svg, &axis);
        for (number, (row, value)) in self.rows.iter().zip(&panel.values).enumerate() {
            if let Some(value) = value {
                draw_bar(svg, row, *value, middle(number), &axis);
            }
        }
    }

    fn draw_axis(&self, svg: &mut Svg, axis: &Axis) {
        let bottom = TOP + self.rows.len() as f64 * ROW;
        for mark in axis.scale.marks(if axis.width > 250.0 { 5 } else { 3 }) {
            let x = axis.place(mark);
            svg.line((x, TOP - 4.0), (x, bottom), "grid");
            svg.text((x, bottom + 17.0), "tick", Anchor::Middle, &written(mark));
        }
    }
}

/// The values of a panel across its width.
struct Axis {
    scale: Scale,
    left: f64,
    width: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        self.left + self.scale.place(value) * self.width
    }
}

fn middle(row: usize) -> f64 {
    TOP + (row as f64 + 0.5) * ROW
}

/// The bar of the median, the spread across its end, the value behind both.
fn draw_bar(svg: &mut Svg, row: &str, value: Summary, y: f64, axis: &Axis) {
    let (zero, end) = (axis.place(0.0), axis.place(value.median));
    // What is a detail of another path is paler than the path itself.
    let lesser = if row.contains('+') { " lesser" } else { "" };
    let class = format!("f-{}{lesser}", family(row));
    let upper_left = (zero, y - THICKNESS / 2.0);
    svg.bar(upper_left, ((end - zero).max(1.0), THICKNESS), &class);
    let (low, high) = (axis.place(value.low), axis.place(value.high));
    if high - low > 1.5 {
        svg.line((low, y), (high, y), "spread");
        // A spread without an end runs off the panel.
        let ends = [value.low, value.high].into_iter();
        for x in ends
            .filter(|end| axis.scale.holds(*end))
            .map(|end| axis.place(end))
        {
            svg.line((x, y - 3.0), (x, y + 3.0), "spread");
        }
    }
    let at = (end.max(high) + 6.0, y + 4.5);
    svg.text(at, "value", Anchor::Start, &short(value.median));
}

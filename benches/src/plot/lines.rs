//! Lines: a value per path and place, the path's name at the end of its line.

use super::labels::spread;
use super::scale::{Scale, written};
use super::svg::{Anchor, Svg, TEXT, WIDTH, family, text_width};

const TOP: f64 = 92.0;
const BOTTOM: f64 = 400.0;
const LEFT: f64 = 62.0;
const MARGIN: f64 = 16.0;
/// Between neighbouring names.
const LINE: f64 = 16.0;
/// From the end of a line to its name.
const LEADER: f64 = 22.0;

/// A line with the path's name and its points: a place, 0 to 1, and a value.
pub(super) struct Series {
    pub(super) path: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A whole plot.
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) note: String,
    /// What the values are, with the unit.
    pub(super) values: String,
    /// What the places are.
    pub(super) places: String,
    /// The places that are named.
    pub(super) marks: Vec<(f64, String)>,
    pub(super) scale: Scale,
    pub(super) series: Vec<Series>,
}

impl Lines {
    pub(super) fn draw(&self) -> String {
        let mut svg = Svg::new(BOTTOM + 54.0, &self.title, &self.note);
        svg.text((MARGIN, TOP - 14.0), "panel", Anchor::Start, &self.values);
        self.draw_axes(&mut svg);
        for series in &self.series {
            svg.curve(&self.drawn(series), family(&series.path));
        }
        self.draw_names(&mut svg);
        svg.finish(&self.title)
    }

    /// Where the lines end and the names begin.
    fn right(&self) -> f64 {
        let names = self
            .series
            .iter()
            .map(|series| text_width(&series.path, TEXT));
        WIDTH - MARGIN - names.fold(0.0, f64::max) - LEADER
    }

    fn x(&self, place: f64) -> f64 {
        // The first and the last point keep clear of the edges.
        let (left, right) = (LEFT + 16.0, self.right() - 6.0);
        left + place * (right - left)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - self.scale.place(value) * (BOTTOM - TOP - 10.0)
    }

    fn drawn(&self, series: &Series) -> Vec<(f64, f64)> {
        let points = series.points.iter();
        points
            .map(|(place, value)| (self.x(*place), self.y(*value)))
            .collect()
    }

    fn draw_axes(&self, svg: &mut Svg) {
        let right = self.right();
        for mark in self.scale.marks(5) {
            let y = self.y(mark);
            svg.line((LEFT, y), (right, y), "grid");
            svg.text((LEFT - 8.0, y + 4.0), "tick", Anchor::End, &written(mark));
        }
        for (place, name) in &self.marks {
            let x = self.x(*place);
            svg.line((x, BOTTOM), (x, BOTTOM + 5.0), "grid");
            svg.text((x, BOTTOM + 20.0), "tick", Anchor::Middle, name);
        }
        let middle = f64::midpoint(LEFT, right);
        svg.text(
            (middle, BOTTOM + 42.0),
            "note",
            Anchor::Middle,
            &self.places,
        );
    }

    fn draw_names(&self, svg: &mut Svg) {
        let series = self.series.iter();
        let ends: Vec<_> = series
            .filter_map(|series| self.drawn(series).pop())
            .collect();
        let wanted: Vec<_> = ends.iter().map(|(_, y)| *y).collect();
        let places = spread(&wanted, LINE, (TOP, BOTTOM - 2.0));
        let x = self.right() + LEADER;
        let drawn = self
            .series
            .iter()
            .filter(|series| !series.points.is_empty());
        for ((series, end), y) in drawn.zip(ends).zip(places) {
            let family = family(&series.path);
            svg.line(
                (end.0 + 5.0, end.1),
                (x - 4.0, y),
                &format!("leader s-{family}"),
            );
            let class = format!("label f-{family}");
            svg.text((x, y + 4.5), &class, Anchor::Start, &series.path);
        }
    }
}

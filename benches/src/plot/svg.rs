//! The few shapes that plots are made of, and the colours for light and dark pages.

use std::fmt::{self, Write};

/// Width of every plot; what a page of text leaves room for.
pub(super) const WIDTH: f64 = 860.0;
/// Height of ordinary text.
pub(super) const TEXT: f64 = 13.0;
/// The part of its height a character of the page's font takes in width, on average and a bit more.
const ASPECT: f64 = 0.58;

/// The colours of a family of paths: its name, on a light page, on a dark page.
const FAMILIES: [(&str, &str, &str); 7] = [
    ("plain", "#6e7781", "#9aa4ae"),
    ("kernel", "#b26200", "#f0b040"),
    ("one", "#a3447a", "#d98bb8"),
    ("udp", "#0064a8", "#58aee8"),
    ("vxlan", "#00795a", "#34c79c"),
    ("hostgw", "#7a6a00", "#e8dc4a"),
    ("stock", "#c4421a", "#ff8f66"),
];
/// Page, text, lesser text, lines.
const LIGHT: [&str; 4] = ["#ffffff", "#1b1f24", "#59636e", "#dfe4e9"];
const DARK: [&str; 4] = ["#0d1117", "#e6edf3", "#9aa4ae", "#2a313a"];

/// The class that gives shapes of a path their colour.
pub(super) fn family(path: &str) -> &'static str {
    let base = path.split('+').next().unwrap_or_default();
    match base {
        "kernel-vxlan" => "kernel",
        "one-packet" => "one",
        "udp" | "mixed-udp" => "udp",
        "vxlan" | "mixed-vxlan" | "mixed-vxlan-back" => "vxlan",
        "host-gw" => "hostgw",
        stock if stock.starts_with("stock") => "stock",
        _ => "plain",
    }
}

/// About how wide a text is.
pub(super) fn text_width(text: &str, height: f64) -> f64 {
    text.chars().count() as f64 * height * ASPECT
}

/// Where a text begins, ends or has its middle.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

/// A picture under way.
pub(super) struct Svg {
    body: String,
    height: f64,
}

impl Svg {
    /// An empty picture with its title and what that means.
    pub(super) fn new(height: f64, title: &str, subtitle: &str) -> Self {
        let body = String::new();
        let mut svg = Self { body, height };
        svg.text((16.0, 28.0), "title", Anchor::Start, title);
        svg.text((16.0, 48.0), "note", Anchor::Start, subtitle);
        svg
    }

    /// Text whose baseline begins, ends or has its middle at a point.
    pub(super) fn text(&mut self, at: (f64, f64), class: &str, anchor: Anchor, text: &str) {
        let (x, y, anchor, text) = (at.0, at.1, anchor.name(), escaped(text));
        self.add(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// A straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        ));
    }

    /// A filled rectangle by its upper left corner and its size.
    pub(super) fn bar(&mut self, at: (f64, f64), size: (f64, f64), class: &str) {
        let ((x, y), (width, height)) = (at, size);
        self.add(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" rx="2" class="{class}"/>"#
        ));
    }

    /// A line through points, with a dot on each.
    pub(super) fn curve(&mut self, points: &[(f64, f64)], class: &str) {
        let list: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let list = list.join(" ");
        self.add(format_args!(
            r#"<polyline points="{list}" class="curve s-{class}"/>"#
        ));
        for (x, y) in points {
            self.add(format_args!(
                r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.2" class="f-{class}"/>"#
            ));
        }
    }

    /// The whole file.
    pub(super) fn finish(self, title: &str) -> String {
        let Self { body, height } = self;
        let (title, style) = (escaped(title), style());
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n\
             <title>{title}</title>\n<style>\n{style}</style>\n\
             <rect width=\"100%\" height=\"100%\" class=\"page\"/>\n{body}</svg>\n"
        )
    }

    fn add(&mut self, element: fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{element}");
    }
}

fn style() -> String {
    let light = FAMILIES.map(|(family, light, _)| (family, light));
    let dark = FAMILIES.map(|(family, _, dark)| (family, dark));
    format!(
        ".title {{ font-size: 17px; font-weight: 600 }}\n\
         .label, .value, .panel {{ font-size: {TEXT}px }}\n\
         .panel {{ font-weight: 600 }}\n\
         .note, .tick {{ font-size: 12px }}\n\
         .curve {{ fill: none; stroke-width: 2.2; stroke-linejoin: round }}\n\
         .spread {{ stroke-width: 1.4; opacity: 0.75 }}\n\
         .grid {{ stroke-width: 1 }}\n\
         .leader {{ stroke-width: 1; opacity: 0.6 }}\n\
         .lesser {{ opacity: 0.6 }}\n\
         {}@media (prefers-color-scheme: dark) {{\n{}}}\n",
        colours(LIGHT, &light),
        colours(DARK, &dark)
    )
}

fn colours([page, text, lesser, lines]: [&str; 4], families: &[(&str, &str)]) -> String {
    let mut out = format!(
        ".page {{ fill: {page} }}\n\
         .title, .label, .value, .panel {{ fill: {text} }}\n\
         .note, .tick {{ fill: {lesser} }}\n\
         .grid {{ stroke: {lines} }}\n\
         .axis, .spread {{ stroke: {text} }}\n"
    );
    for (family, colour) in families {
        let _ = writeln!(
            out,
            ".f-{family} {{ fill: {colour} }} .s-{family} {{ stroke: {colour} }}"
        );
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_its_element() {
        let mut svg = Svg::new(100.0, "a<b & c", "");
        svg.text((0.0, 0.0), "label", Anchor::End, "</text>");
        let file = svg.finish("<title>");
        assert!(file.contains("a&lt;b &amp; c") && !file.contains("</text></text>"));
    }

    #[test]
    fn paths_of_one_kind_share_a_colour() {
        assert_eq!(family("udp+io=epoll"), family("udp"));
        assert_eq!(family("stock-vxlan"), "stock");
        assert_eq!(family("underlay"), "plain");
    }
}

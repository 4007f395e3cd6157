//! A dashboard as a picture: its own queries, asked of a Prometheus and drawn as SVG.
//!
//! What must hold: a picture shows what the queries answer and nothing else; its text is escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::dashboards::{Dashboard, Look, Panel, Scale};
use crate::prometheus::{Api, Error, Series};

/// Pixels.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 58.0;
const TOP: f64 = 30.0;
const FOOT: f64 = 50.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 40.0;
/// Points of a line.
const POINTS: u32 = 120;
/// The most names under a panel, and characters of one: what fits.
const MOST_NAMES: usize = 6;
const NAME_LENGTH: usize = 30;
/// Readable on white, and apart for people who don't see red and green.
const COLOURS: [&str; 8] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999999", "#000000"];

/// Draws a dashboard over the last so many seconds.
///
/// # Errors
/// Every [`Error`].
pub fn draw(dashboard: &Dashboard, api: &Api, seconds: u32) -> Result<String, Error> {
    let rows = dashboard.panels.len().div_ceil(2) as f64;
    let (width, height) = (2.0 * WIDTH + 3.0 * GAP, HEAD + rows * (HEIGHT + GAP));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#f4f5f5\"/>\n<text x=\"{GAP}\" y=\"26\" font-size=\"16\">{}</text>\n",
        escaped(dashboard.title)
    );
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let from_s = now_s - f64::from(seconds);
    let step_s = f64::from(seconds) / f64::from(POINTS);
    let range = format!("{}s", (seconds / 12).max(2));
    for (place, panel) in dashboard.panels.iter().enumerate() {
        let mut found = Vec::new();
        for (expression, legend) in panel.queries {
            let query = dashboard.filled_in(expression, &range);
            for series in api.query_range(&query, from_s, now_s, step_s)? {
                found.push((named(legend, &series), series));
            }
        }
        let (x, y) = (GAP + (place % 2) as f64 * (WIDTH + GAP), HEAD + (place / 2) as f64 * (HEIGHT + GAP));
        let _ = writeln!(svg, "<g transform=\"translate({x},{y})\">");
        draw_panel(&mut svg, panel, &found, (from_s, now_s));
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A legend with the labels of a series filled in.
fn named(legend: &str, series: &Series) -> String {
    let mut text = legend.to_owned();
    for (name, value) in &series.labels {
        text = text.replace(&format!("{{{{{name}}}}}"), value.as_str().unwrap_or_default());
    }
    text
}

fn draw_panel(svg: &mut String, panel: &Panel, found: &[(String, Series)], times: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"3\" fill=\"white\" stroke=\"#ddd\"/><text x=\"10\" y=\"18\" \
         font-weight=\"bold\">{}<title>{}</title></text>",
        escaped(panel.title),
        escaped(panel.description)
    );
    if found.iter().all(|(_, series)| series.points.is_empty()) {
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"#888\">nothing to show</text>",
            WIDTH / 2.0 - 40.0,
            HEIGHT / 2.0
        );
        return;
    }
    match panel.look {
        Look::Number => draw_number(svg, panel, found),
        Look::Lines => draw_lines(svg, panel, found, times),
        Look::HeatMap => draw_heat_map(svg, panel, found, times),
    }
}

fn draw_number(svg: &mut String, panel: &Panel, found: &[(String, Series)]) {
    let last = found.iter().find_map(|(_, series)| series.points.last()).map_or(0.0, |(_, value)| *value);
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" font-size=\"48\" text-anchor=\"middle\" fill=\"{}\">{}</text>",
        WIDTH / 2.0,
        HEIGHT / 2.0 + 16.0,
        COLOURS[2],
        short(last, panel.scale)
    );
}

/// Where a time stands.
fn x_of(time: f64, (from, to): (f64, f64)) -> f64 {
    LEFT + (time - from) / (to - from).max(f64::MIN_POSITIVE) * (WIDTH - LEFT - 10.0)
}

fn draw_lines(svg: &mut String, panel: &Panel, found: &[(String, Series)], times: (f64, f64)) {
    let values =
        found.iter().flat_map(|(_, series)| &series.points).map(|(_, value)| *value).filter(|value| value.is_finite());
    let most = values.fold(0.0, f64::max);
    let most = if most > 0.0 { most * 1.05 } else { 1.0 };
    let floor = HEIGHT - FOOT;
    let y_of = |value: f64| floor - value / most * (floor - TOP);
    for part in 0..=4 {
        let value = most * f64::from(part) / 4.0;
        scale_line(svg, y_of(value), &short(value, panel.scale));
    }
    for (place, (name, series)) in in_order(found).into_iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let mut path = String::new();
        for (time, value) in series.points.iter().filter(|(_, value)| value.is_finite()) {
            let letter = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", x_of(*time, times), y_of(*value));
        }
        let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
        draw_name(svg, place, name, colour);
    }
    if found.len() > MOST_NAMES {
        draw_name(svg, MOST_NAMES, &format!("and {} more", found.len() - MOST_NAMES), "#fff");
    }
}

/// The series in the order of their names; if there are more than are named, the largest come first.
fn in_order(found: &[(String, Series)]) -> Vec<&(String, Series)> {
    let most = |(_, series): &(String, Series)| series.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut order: Vec<_> = found.iter().collect();
    if order.len() > MOST_NAMES {
        order.sort_by(|one, other| most(other).total_cmp(&most(one)));
    }
    order
}

fn draw_name(svg: &mut String, place: usize, name: &str, colour: &str) {
    if place > MOST_NAMES || (place == MOST_NAMES && !name.starts_with("and ")) {
        return;
    }
    let x = 10.0 + (place % 3) as f64 * 168.0;
    let y = HEIGHT - FOOT + 18.0 + (place / 3) as f64 * 13.0;
    let is_whole = name.chars().count() <= NAME_LENGTH;
    let name = if is_whole { name.to_owned() } else { name.chars().take(NAME_LENGTH - 1).chain(['…']).collect() };
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{}\" width=\"8\" height=\"8\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y}\" font-size=\"9\">{}</text>",
        y - 8.0,
        x + 12.0,
        escaped(&name)
    );
}

/// Buckets count what is below them: the difference to the bucket before is what is in one.
fn draw_heat_map(svg: &mut String, panel: &Panel, found: &[(String, Series)], times: (f64, f64)) {
    let mut buckets: Vec<(f64, &Series)> = found
        .iter()
        .filter_map(|(name, series)| Some((name.parse().ok().or((name == "+Inf").then_some(f64::INFINITY))?, series)))
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut below: BTreeMap<u64, f64> = BTreeMap::new();
    let mut cells = Vec::new();
    for (place, (_, series)) in buckets.iter().enumerate() {
        for (time, count) in &series.points {
            let before = below.insert(time.to_bits(), *count).unwrap_or(0.0);
            let inside = count - before;
            if inside > 0.0 {
                cells.push((place, *time, inside));
            }
        }
    }
    let most = cells.iter().map(|(_, _, inside)| *inside).fold(1.0, f64::max);
    let floor = HEIGHT - FOOT;
    let row = (floor - TOP) / buckets.len().max(1) as f64;
    for (place, (bound, _)) in buckets.iter().enumerate().filter(|(place, _)| place % 4 == 0) {
        scale_line(svg, floor - place as f64 * row, &short(*bound, panel.scale));
    }
    let column = (WIDTH - LEFT - 10.0) / f64::from(POINTS);
    for (place, time, inside) in cells {
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{column:.1}\" height=\"{row:.1}\" fill=\"{}\" fill-opacity=\"{:.2}\"/>",
            x_of(time, times),
            floor - (place + 1) as f64 * row,
            COLOURS[0],
            0.08 + 0.92 * (inside / most).sqrt()
        );
    }
}

fn scale_line(svg: &mut String, y: f64, text: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#eee\"/><text x=\"{}\" y=\"{:.1}\" font-size=\"9\" \
         text-anchor=\"end\">{text}</text>",
        WIDTH - 10.0,
        LEFT - 4.0,
        y + 3.0
    );
}

/// A number in a few characters, with its unit.
fn short(value: f64, scale: Scale) -> String {
    let with = |value: f64, unit: &str| {
        let digits = if value == 0.0 || value.abs() >= 100.0 {
            0
        } else if value.abs() >= 10.0 {
            1
        } else {
            2
        };
        format!("{value:.digits$} {unit}").trim_end().to_owned()
    };
    let large = |value: f64, step: f64, unit: &str| {
        let names = ["", "k", "M", "G", "T"];
        let mut power = 0;
        let mut value = value;
        while value.abs() >= step && power + 1 < names.len() {
            value /= step;
            power += 1;
        }
        with(value, &format!("{}{unit}", names[power]))
    };
    match scale {
        _ if value.is_infinite() => "∞".to_owned(),
        Scale::Count => large(value, 1000.0, ""),
        Scale::Rate => large(value, 1000.0, "/s"),
        Scale::Bytes => large(value, 1024.0, "B"),
        Scale::ByteRate => large(value, 1024.0, "B/s"),
        Scale::Share => with(value * 100.0, "%"),
        Scale::Seconds if value.abs() >= 1.0 || value == 0.0 => with(value, "s"),
        Scale::Seconds if value.abs() >= 1e-3 => with(value * 1e3, "ms"),
        Scale::Seconds => with(value * 1e6, "µs"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_picture_of_the_documents_shows_every_panel() {
        for dashboard in crate::dashboards::ALL {
            let path = format!("{}/../../docs/pictures/{}.svg", env!("CARGO_MANIFEST_DIR"), dashboard.name);
            let picture = std::fs::read_to_string(path).unwrap();
            for panel in dashboard.panels {
                let title = format!(">{}<title>", escaped(panel.title));
                assert!(picture.contains(&title), "{}: make dashboards draws {}", dashboard.name, panel.title);
            }
            assert!(!picture.contains("nothing to show"), "{} has a panel without data", dashboard.name);
        }
    }

    #[test]
    fn a_name_is_given_to_what_is_seen() {
        let series = |number: usize| {
            let points = vec![(1.0, 0.0), (2.0, if number == 8 { 5.0 } else { 0.0 })];
            (
                format!("the number {number} with a name that is too long"),
                Series { labels: serde_json::Map::default(), points },
            )
        };
        let found: Vec<_> = (0..9).map(series).collect();
        let mut svg = String::new();
        let panel = &crate::dashboards::ALL[0].panels[2];
        draw_lines(&mut svg, panel, &found, (1.0, 2.0));
        assert!(svg.contains(">the number 8 with a name that…<"), "{svg}");
        assert!(svg.contains(">and 3 more<") && !svg.contains("number 7 with"), "{svg}");
        assert_eq!(in_order(&found[..3])[0].0, found[0].0);
    }

    #[test]
    fn numbers_are_short() {
        for (value, scale, text) in [
            (0.0, Scale::Count, "0"),
            (12_345.0, Scale::Rate, "12.3 k/s"),
            (0.000_05, Scale::Seconds, "50.0 µs"),
            (0.0819, Scale::Seconds, "81.9 ms"),
            (1_048_576.0, Scale::Bytes, "1.00 MB"),
            (0.5, Scale::Share, "50.0 %"),
        ] {
            assert_eq!(short(value, scale), text);
        }
    }
}

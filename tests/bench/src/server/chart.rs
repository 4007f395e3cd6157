//! The chart of the pool strategies: for each load, each strategy's rate as a share of the best one, written as SVG.

use std::fmt::Write as _;

use kvs_bench::report::short;
use kvs_bench::row::RowResult;

use crate::figures::strategies::{ENGINES, STRATEGIES};
use crate::strategies_report::{names, rates};

/// Pixels.
const BAR: usize = 12;
const GAP: usize = 18;
const LEFT: usize = 70;
const TOP: usize = 60;
const HEIGHT: usize = 150;
/// Under the bars: the load, and the best rate.
const FOOT: usize = 60;
/// Readable on white and on black, and apart for people who don't see red and green.
const COLOURS: [&str; STRATEGIES.len()] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7"];

/// Draws the rows.
pub fn draw(rows: &[RowResult]) -> String {
    let group_width = BAR * STRATEGIES.len() + GAP;
    let most = ENGINES.iter().map(|engine| rows.iter().filter(|row| names(row)[0] == *engine).count()).max();
    let width = LEFT + most.unwrap_or(0) * group_width + GAP;
    let height = TOP + ENGINES.len() * (HEIGHT + FOOT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">Pool strategies: share of the best rate of each load</text>\n"
    );
    for (place, ((_, strategy), colour)) in STRATEGIES.iter().zip(COLOURS).enumerate() {
        let x = LEFT + place * 110;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"30\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"39\">{strategy}</text>",
            x + 14
        );
    }
    for (place, engine) in ENGINES.iter().enumerate() {
        let floor = TOP + place * (HEIGHT + FOOT) + HEIGHT;
        let _ = writeln!(svg, "<text x=\"8\" y=\"{}\" font-size=\"13\">{engine}</text>", floor - HEIGHT / 2);
        for percent in [50, 100] {
            let y = floor - HEIGHT * percent / 100;
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{width}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#ccc\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{percent} %</text>",
                LEFT - 4,
                y + 4
            );
        }
        for (place, row) in rows.iter().filter(|row| names(row)[0] == *engine).enumerate() {
            group(&mut svg, row, LEFT + GAP / 2 + place * group_width, floor);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// The bars of one load, and what stands under them.
fn group(svg: &mut String, row: &RowResult, x: usize, floor: usize) {
    let rates = rates(row);
    let best = rates.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    for (place, (rate, colour)) in rates.iter().zip(COLOURS).enumerate() {
        let height = rate / best * HEIGHT as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{}\" y=\"{:.1}\" width=\"{}\" height=\"{height:.1}\" fill=\"{colour}\"><title>{}</title></rect>",
            x + place * BAR,
            floor as f64 - height,
            BAR - 1,
            short(*rate)
        );
    }
    let [_, work, connections] = names(row);
    let best_rate = short(best);
    let middle = x + BAR * STRATEGIES.len() / 2;
    for (line, text) in [(14, work), (28, connections), (42, best_rate.as_str())] {
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", floor + line);
    }
}

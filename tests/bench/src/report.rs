//! Results for people and for programs: lines of JSON, tables for the terminal, the table of a document.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use crate::Result;
use crate::row::{Measured, RowResult};

/// Appends rows to a file, one JSON object each.
pub fn append(path: &Path, rows: &[RowResult]) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for row in rows {
        writeln!(file, "{}", serde_json::to_string(row)?)?;
    }
    Ok(())
}

/// Appends every number of every round of a figure to a file.
pub fn append_rounds(path: &Path, figure: &str, measured: &Measured) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for (peer, rounds) in &measured.metrics {
        for (round, metrics) in (1..).zip(rounds) {
            let line = serde_json::json!({ "figure": figure, "store": peer, "round": round, "metrics": metrics });
            writeln!(file, "{line}")?;
        }
    }
    Ok(())
}

/// Rows that a run wrote.
pub fn read(path: &Path) -> Result<Vec<RowResult>> {
    fs::read_to_string(path)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// A row with every store on a line: median, least and greatest, ratio, and what was noted beside.
pub fn block(row: &RowResult) -> String {
    let mut text = format!("{} ({}, {} is better, rounds {})\n", row.bench, row.unit, row.better, row.rounds);
    let stores =
        std::iter::once(("ours", row.ours)).chain(row.peers.iter().map(|(name, value)| (name.as_str(), *value)));
    for (name, value) in stores {
        let [least, greatest] = row.spread.get(name).copied().unwrap_or([value; 2]);
        let ratio = row.ratio.get(name).map(|ratio| format!("ratio {}", short(*ratio))).unwrap_or_default();
        let range = format!("[{} .. {}]", short(least), short(greatest));
        let _ = write!(text, "  {name:<8} {:>9} {range:<22} {ratio:<12}", short(value));
        if let Some(beside) = row.beside.get(name) {
            let of = |title: &str, value: Option<f64>, unit: &str| {
                value.map(|value| format!("  {title} {}{unit}", short(value))).unwrap_or_default()
            };
            text.push_str(&of("cpu", beside.cpu_us_per_op, " us/op"));
            text.push_str(&of("device", beside.device_bytes_per_op, " B/op"));
            text.push_str(&of("probe", beside.probe_us, " us"));
            text.push_str(&of("load", beside.load, ""));
            text.push_str(&of("resident", beside.resident_mib, " MiB"));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for (title, goal, met) in [("reach", &row.reach, row.reach_met), ("aim", &row.aim, row.aim_met)] {
        if !goal.is_empty() {
            let _ = writeln!(text, "  {title:<8} {goal}: {}", word(met));
        }
    }
    text
}

fn word(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "NOT met",
        None => "not measured",
    }
}

/// All rows as one table, in Markdown that also reads well on a terminal.
pub fn table(rows: &[RowResult]) -> String {
    let mut names: Vec<&str> = rows.iter().flat_map(|row| row.peers.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut head: Vec<String> = ["figure", "unit", "ours"].map(str::to_owned).to_vec();
    head.extend(names.iter().map(|name| (*name).to_owned()));
    head.extend(["reach", "aim"].map(str::to_owned));
    lines.push(head);
    for row in rows {
        let mut line = vec![row.bench.clone(), row.unit.clone(), short(row.ours)];
        for name in &names {
            line.push(match (row.peers.get(*name), row.ratio.get(*name)) {
                (Some(value), Some(ratio)) => format!("{} ({}x)", short(*value), short(*ratio)),
                (Some(value), None) => short(*value),
                (None, _) => String::new(),
            });
        }
        for (goal, met) in [(&row.reach, row.reach_met), (&row.aim, row.aim_met)] {
            line.push(if goal.is_empty() { String::new() } else { format!("{goal}: {}", word(met)) });
        }
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for (place, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if place == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// A number as short as it can be without losing what it says.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if size >= 10_000.0 {
        // Groups of three digits, as people read them.
        let digits = format!("{size:.0}");
        let grouped = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
        return if value < 0.0 { format!("-{grouped}") } else { grouped };
    }
    let decimals = match size {
        _ if size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 0.1 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// Writes a text into the part of a document that a command generates.
pub fn document(path: &Path, command: &str, generated: &str) -> Result<()> {
    let (begin_mark, end_mark) =
        (format!("<!-- generated by {command}: begin -->"), format!("<!-- generated by {command}: end -->"));
    let text = fs::read_to_string(path)?;
    let (Some(begin), Some(end)) = (text.find(&begin_mark), text.find(&end_mark)) else {
        return Err(format!("{} has no generated part: it begins with {begin_mark}", path.display()).into());
    };
    let before = &text[..begin + begin_mark.len()];
    let after = &text[end..];
    Ok(fs::write(path, format!("{before}\n{}\n{after}", generated.trim_end()))?)
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_read_well() {
        let written = [152_345.6, 9_999.4, 57.25, 1.234, 0.043_21, -12_345.0].map(short);
        assert_eq!(written, ["152,346", "9999", "57.2", "1.23", "0.0432", "-12,345"]);
    }
}

//! Tables for people: columns of plain text, the same on a terminal and in a pipe, and one line of
//! JSON for programs.
//!
//! No colours, no frames. What others wrote is shown without control characters, so that nobody's
//! reference or answer moves a reader's cursor.

use std::{borrow::Cow, time::Duration};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, Table as Grid, Width};
use jiff::Timestamp;
use serde::Serialize;

use crate::api::model::CountsView;

/// The gap between two columns, in characters.
const GAP: u16 = 2;

/// Rows under a header.
pub(super) struct Table {
    grid: Grid,
    columns: usize,
}

/// Where a column's texts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

// === impl Table ===

impl Table {
    /// A table with these columns.
    pub(super) fn new(columns: &[(&str, Side)]) -> Self {
        let mut grid = Grid::new();
        grid.load_style(comfy_table::presets::NOTHING);
        grid.set_header(columns.iter().map(|(name, _)| name.to_uppercase()));
        for (column, (_, side)) in grid.column_iter_mut().zip(columns) {
            column.set_padding((0, GAP));
            column.set_cell_alignment(match side {
                Side::Left => CellAlignment::Left,
                Side::Right => CellAlignment::Right,
            });
        }
        Self { grid, columns: columns.len() }
    }

    /// A table without a header: names, and what they stand for.
    pub(super) fn of_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut table = Self::new(&[("", Side::Left), ("", Side::Left)]);
        for (name, value) in pairs {
            table.row([name.to_owned(), value]);
        }
        table
    }

    /// Keeps columns this wide at least, so that tables printed one after the other line up.
    pub(super) fn at_least(mut self, widths: &[u16]) -> Self {
        for (column, width) in self.grid.column_iter_mut().zip(widths) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + GAP)));
        }
        self
    }

    /// Adds a row.
    pub(super) fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        let cells = cells.into_iter().take(self.columns);
        self.grid.add_row(cells.map(|cell| Cell::new_owned(plain(&cell).into_owned())));
    }

    /// The whole as text, each line ended.
    pub(super) fn text(&self) -> String {
        let lines = self.grid.lines().map(|line| line.trim_end().to_owned() + "\n");
        lines.skip_while(|line| line == "\n").collect()
    }

    /// The rows as text, without the header.
    pub(super) fn rows_text(&self) -> String {
        self.text().split_inclusive('\n').skip(1).collect()
    }
}

/// A batch's counts: each that is not 0, and the total.
pub(super) fn counts(counts: &CountsView) -> String {
    let mut table = Table::new(&[("state", Side::Left), ("messages", Side::Right)]);
    for (state, messages) in states(counts) {
        if messages > 0 {
            table.row([state.to_owned(), number(messages)]);
        }
    }
    table.row(["total".to_owned(), number(counts.total)]);
    table.text()
}

/// The counts, each with its state's word.
pub(super) fn states(counts: &CountsView) -> [(&'static str, u64); 9] {
    [
        ("queued", counts.queued),
        ("sending", counts.sending),
        ("sent", counts.sent),
        ("delivered", counts.delivered),
        ("undelivered", counts.undelivered),
        ("failed", counts.failed),
        ("expired", counts.expired),
        ("canceled", counts.canceled),
        ("unknown", counts.unknown),
    ]
}

/// A number with its thousands apart: `1,234,567`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of `what`, named in the singular: `1 recipient`, `2,000 recipients`.
pub(super) fn counted(many: u64, what: &str) -> String {
    format!("{} {what}{}", number(many), if many == 1 { "" } else { "s" })
}

/// An instant of the API's in short: `2026-11-23 20:16:46Z`.
pub(super) fn instant(rfc_3339: &str) -> String {
    match rfc_3339.parse::<Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => rfc_3339.to_owned(),
    }
}

/// The time between two instants of the API's.
pub(super) fn between(from: &str, to: &str) -> Option<Duration> {
    let (from, to) = (from.parse::<Timestamp>().ok()?, to.parse::<Timestamp>().ok()?);
    Some(to.duration_since(from).try_into().unwrap_or_default())
}

/// A duration as people say it: `850ms`, `12.3s`, `2m 5s`, `3h 7m`, `2d 4h`.
pub(super) fn duration(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (0, ms) => format!("{ms}ms"),
        (seconds @ 1..60, ms) => format!("{seconds}.{}s", ms / 100),
        _ => whole(duration),
    }
}

/// A duration in its two largest units, whole seconds at best: `7s`, `2m 5s`, `3h 7m`, `2d 4h`.
pub(super) fn whole(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = duration.as_secs();
    let largest = UNITS.iter().position(|(unit, _)| rest >= *unit).unwrap_or(UNITS.len() - 1);
    let mut words = Vec::new();
    for (unit, name) in UNITS.iter().skip(largest).take(2) {
        if rest / unit > 0 || words.is_empty() {
            words.push(format!("{}{name}", rest / unit));
        }
        rest %= unit;
    }
    words.join(" ")
}

/// A text of someone else's with its control characters made harmless.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    } else {
        text.into()
    }
}

/// A document on one line, ended. Whatever JSON a client has put into it is kept but for its line
/// breaks, which stand between its parts.
pub(super) fn json_line<T: Serialize>(document: &T) -> Result<String, anyhow::Error> {
    let json = serde_json::to_string(document)?;
    Ok(json.replace(['\n', '\r'], " ") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_columns_of_plain_text() {
        let mut table = Table::new(&[("id", Side::Left), ("messages", Side::Right)]);
        table.row(["a".to_owned(), "7".to_owned()]);
        table.row(["bcd\u{1b}[2J\n".to_owned(), "1,000".to_owned()]);
        assert_eq!(
            table.text(),
            "ID        MESSAGES\na                7\nbcd\u{fffd}[2J\u{fffd}     1,000\n"
        );
    }

    #[test]
    fn pages_of_rows_line_up() {
        let page = |id: &str| {
            let columns = [("id", Side::Left), ("to", Side::Left)];
            let mut table = Table::new(&columns).at_least(&[6]);
            table.row([id.to_owned(), "x".to_owned()]);
            table
        };
        assert_eq!(page("a").text(), "ID      TO\na       x\n");
        assert_eq!(page("abcdef").rows_text(), "abcdef  x\n");
    }

    #[test]
    fn counts_show_what_there_is_and_the_total() {
        let view = CountsView::from(crate::domain::batch::Counts {
            total: 1_200,
            sending: 0,
            ended: crate::domain::batch::FinalCounts::default(),
        });
        assert_eq!(counts(&view), "STATE   MESSAGES\nqueued     1,200\ntotal      1,200\n");
    }

    #[test]
    fn numbers_times_and_durations_are_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(instant("2026-11-23T20:16:46.971Z"), "2026-11-23 20:16:46Z");
        assert_eq!(instant("soon"), "soon");
        let (from, to) = ("2026-11-23T20:16:46.971Z", "2026-11-23T20:16:47.001Z");
        assert_eq!(between(from, to), Some(Duration::from_millis(30)));
        assert_eq!(between(to, from), Some(Duration::ZERO));
        let ms = [850, 1_000, 12_345, 60_000, 125_000, 11_220_000, 187_200_000];
        assert_eq!(
            ms.map(|ms| duration(Duration::from_millis(ms))),
            ["850ms", "1.0s", "12.3s", "1m", "2m 5s", "3h 7m", "2d 4h"]
        );
    }

    #[test]
    fn a_document_is_one_line_whatever_is_in_it() {
        let raw =
            serde_json::value::RawValue::from_string("{\n \"a\": \"x\\ny\" }".into()).unwrap();
        assert_eq!(json_line(&raw).unwrap(), "{  \"a\": \"x\\ny\" }\n");
    }
}

//! How things are written for people: text from outside, times, spans, tables.

use std::time::Duration;

use theriac_model::time::Timestamp;

/// More of a foreign text is not shown in one line.
const LONGEST: usize = 400;

/// Text that a log, an alert or a remedy may have written, made harmless for a terminal: no control characters, no
/// direction marks, one line, bounded. Quotes stay as they are.
pub fn outside(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c if is_invisible(c) => shown.extend(c.escape_unicode()),
            c => shown.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Marks that turn the direction of text or take no room: a terminal would show something else than is there.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The local time of day with its date, to the millisecond.
pub fn when(at: Timestamp) -> String {
    zoned(at).map_or_else(|| format!("{} ms", at.0), |time| time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
}

/// The local time of day.
pub fn clock(at: Timestamp) -> String {
    zoned(at).map_or_else(|| format!("{} ms", at.0), |time| time.strftime("%H:%M:%S%.3f").to_string())
}

fn zoned(at: Timestamp) -> Option<jiff::Zoned> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::system()))
}

/// `0.42 s`, `12 s`, `3 min 5 s`, `2 h 3 min`, `4 d 2 h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.2} s", span.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        86_400.. => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Rows in columns, two spaces apart; the last column is not padded.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Each line two spaces further in.
pub fn indent(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // AB10.
    #[test]
    fn text_from_outside_can_neither_colour_nor_move_nor_turn_the_line() {
        assert_eq!(outside("a\u{1b}[2Jb\r\nc\u{202e}d"), "a\\u{1b}[2Jb\\r\\nc\\u{202e}d");
        assert_eq!(outside("it's \"web\" – läuft"), "it's \"web\" – läuft");
        assert_eq!(outside(&"x".repeat(1000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn spans_are_as_exact_as_people_want_them() {
        let shown = [420, 12_000, 185_000, 7_380_000, 352_800_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(shown, ["0.42 s", "12 s", "3 min 5 s", "2 h 3 min", "4 d 2 h"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a".to_owned(), "bb".to_owned()], ["ccc".to_owned(), "d".to_owned()]];
        assert_eq!(columns(&rows), "a    bb\nccc  d\n");
    }
}

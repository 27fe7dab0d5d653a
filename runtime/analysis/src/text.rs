//! Numbers and foreign text as people read them.

use theriac_model::units::Bytes;

/// A value with its unit: `2.1 %`, `1.5 GiB`, `1.9 cores`.
pub(crate) fn quantity(value: f64, unit: &str) -> String {
    match unit {
        "permille" => format!("{:.1} %", value / 10.0),
        "percent" => format!("{value:.1} %"),
        "bytes" => bytes(value),
        "bytes-per-second" => format!("{}{}/s", if value < 0.0 { "-" } else { "" }, bytes(value.abs())),
        "millicores" => format!("{:.2} cores", value / 1000.0),
        "seconds" => format!("{value:.0} s"),
        "load" => format!("{value:.2}"),
        "per-second" => format!("{value:.0}/s"),
        _count_or_flag if value.fract() == 0.0 => format!("{value:.0}"),
        _count_or_flag => format!("{value:.2}"),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast of a byte count, for people"
)]
fn bytes(value: f64) -> String {
    Bytes(value.max(0.0).round() as u64).to_string()
}

/// Text from outside: escaped, one line, at most `most` characters.
pub(crate) fn foreign(text: &str, most: usize) -> String {
    let mut kept: String = text.chars().take(most).flat_map(char::escape_debug).collect();
    // Quotes are harmless in a sentence, and escaped they are hard to read.
    kept = kept.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(most).is_some() {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_unit() {
        assert_eq!(quantity(21.0, "permille"), "2.1 %");
        assert_eq!(quantity(1536.0, "bytes"), "1.5 KiB");
        assert_eq!(quantity(1_900.0, "millicores"), "1.90 cores");
        assert_eq!(quantity(3.0, "count"), "3");
        assert_eq!(quantity(-2048.0, "bytes-per-second"), "-2 KiB/s");
    }

    #[test]
    fn foreign_text_can_not_draw_on_a_terminal() {
        assert_eq!(foreign("a\x1b[2J\nb", 80), "a\\u{1b}[2J\\nb");
        assert_eq!(foreign("say \"hi\"", 80), "say \"hi\"");
        assert_eq!(foreign("abcdef", 3), "abc…");
    }
}

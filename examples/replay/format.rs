//! Numbers and keys as people read them.

use std::fmt::Write;

/// `1234567` as `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole` in percent; of nothing it is none.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64 * 100.0
}

/// Bytes in KiB or MiB.
pub fn bytes(n: u64) -> String {
    let kib = n as f64 / 1024.0;
    if kib < 1024.0 { format!("{kib:.0} KiB") } else { format!("{:.1} MiB", kib / 1024.0) }
}

/// `1 line`, `2 lines`.
pub fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// A key on one line of the report: keys come from outside, and may be long or hold what a
/// terminal would obey.
pub fn key(key: &str) -> String {
    const MOST: usize = 72;
    let mut text = String::new();
    for (i, char) in key.chars().enumerate() {
        if i == MOST {
            text.push('…');
            break;
        }
        if char.is_control() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}", char.escape_default());
        } else {
            text.push(char);
        }
    }
    if text.is_empty() {
        text.push_str("(empty)");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_from_the_right() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn keys_cannot_command_the_terminal() {
        assert_eq!(key("a\u{1b}[31m\n"), r"a\u{1b}[31m\n");
        assert_eq!(key(""), "(empty)");
        assert_eq!(key(&"x".repeat(100)).chars().count(), 73);
    }
}

//! Text in columns: widths as a terminal counts them, shortening, wrapping, colour.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What stands for what was left out.
const ELLIPSIS: char = '…';

/// A colour, or a weight, of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Paint {
    /// `text` in this colour, where colours are shown.
    pub(super) fn on(self, colour: bool, text: &str) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Cyan => 36,
        };
        if colour && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Columns that `text` takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text` with spaces after it up to `columns`.
pub(super) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `text` in one line and without control characters, which could drive the terminal: messages hold what other
/// systems and people wrote.
pub fn plain(text: &str) -> String {
    text.split(char::is_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().filter(|c| !c.is_control()).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}

/// `text`, its end left out where it is wider than `columns`.
pub(super) fn cut_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = head(text, columns.saturating_sub(1));
    kept.truncate(kept.trim_end().len());
    if columns > 0 {
        kept.push(ELLIPSIS);
    }
    kept
}

/// `text`, its middle left out where it is wider than `columns`: names differ at their ends.
pub(super) fn cut_middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let after = room / 2;
    let mut kept = head(text, room - after);
    if columns > 0 {
        kept.push(ELLIPSIS);
    }
    let tail: String = head(&text.chars().rev().collect::<String>(), after);
    kept.extend(tail.chars().rev());
    kept
}

/// A remark whose first line is a sentence, wrapped; lines below it, like those of a file, stay as they are. No character of it
/// drives the terminal.
pub fn remark(text: &str, columns: Option<usize>) -> String {
    let mut lines = text.lines();
    let first = wrap(&plain(lines.next().unwrap_or_default()), columns);
    let others = lines.map(|line| line.chars().filter(|c| !c.is_control()).collect());
    first.into_iter().chain(others).map(|line| line + "\n").collect()
}

/// As much of the beginning of `text` as `columns` hold.
fn head(text: &str, columns: usize) -> String {
    let mut used = 0;
    text.chars()
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= columns
        })
        .collect()
}

/// `text` in lines of at most `columns`, broken between words, or within one that is longer than a line.
/// Without a width it is one line.
pub(super) fn wrap(text: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns.map(|columns| columns.max(1)) else {
        return vec![text.to_owned()];
    };
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word = word.to_owned();
        if !line.is_empty() && width(&line) + 1 + width(&word) > columns {
            lines.push(std::mem::take(&mut line));
        }
        while width(&word) > columns {
            let start = head(&word, columns);
            // A character wider than the whole line still has to go somewhere.
            let taken = start.len().max(word.chars().next().map_or(0, char::len_utf8));
            let rest = word.split_off(taken);
            lines.push(word);
            word = rest;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A count with its thousands apart.
pub(super) fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole`, which is not 0, in percent with two digits that tell something.
#[allow(clippy::cast_precision_loss)]
pub(super) fn share(part: u64, whole: u64) -> String {
    let percent = 100.0 * part as f64 / whole as f64;
    let digits = match percent {
        _ if part == 0 || part == whole => 0,
        p if p < 0.1 => 3,
        p if p < 1.0 => 2,
        p if p < 99.0 => 1,
        _ => 2,
    };
    format!("{percent:.digits$}%")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_lose_their_middle_and_sentences_their_end() {
        for (columns, middle, end) in [
            (40, "fraud-detector-v12", "fraud-detector-v12"),
            (18, "fraud-detector-v12", "fraud-detector-v12"),
            (17, "fraud-de…ctor-v12", "fraud-detector-v…"),
            (9, "frau…-v12", "fraud-de…"),
            (1, "…", "…"),
            (0, "", ""),
        ] {
            assert_eq!(cut_middle("fraud-detector-v12", columns), middle);
            assert_eq!(cut_end("fraud-detector-v12", columns), end);
        }
        assert_eq!(cut_end("two words", 5), "two…");
    }

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        assert_eq!(plain("red \u{1b}[31malert\u{7}\n  next\tline "), "red [31malert next line");
    }

    #[test]
    fn counts_and_shares_are_easy_to_read() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(count), text);
        }
        for (part, whole, text) in [
            (0, 7, "0%"),
            (7, 7, "100%"),
            (1, 100_000, "0.001%"),
            (3, 1_240, "0.24%"),
            (90, 1_200, "7.5%"),
            (9_999, 10_000, "99.99%"),
        ] {
            assert_eq!(share(part, whole), text);
        }
    }

    #[test]
    fn of_a_remark_the_sentence_is_wrapped_and_the_lines_of_a_file_are_not() {
        let text = "error: one two three\n  |\n1 | a long line of a \u{1b}[31mfile";
        assert_eq!(remark(text, Some(10)), "error: one\ntwo three\n  |\n1 | a long line of a [31mfile\n");
        assert_eq!(remark("error: one two three", None), "error: one two three\n");
    }

    #[test]
    fn sentences_break_between_words() {
        assert_eq!(wrap("step 3 of 5 waits", Some(9)), ["step 3 of", "5 waits"]);
        assert_eq!(wrap("a/very-long-word b", Some(6)), ["a/very", "-long-", "word b"]);
        assert_eq!(wrap("", Some(6)), [""]);
        assert_eq!(wrap("any length", None), ["any length"]);
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_it_may_be(text in "\\PC{0,40}", columns in 1usize..30) {
            prop_assert!(width(&cut_end(&text, columns)) <= columns);
            prop_assert!(width(&cut_middle(&text, columns)) <= columns);
            for line in wrap(&text, Some(columns)) {
                prop_assert!(width(&line) <= columns.max(2), "{line:?}");
            }
        }
    }
}

//! Lines of coloured text for a terminal of any width: made without knowing it, cut or wrapped when they are shown.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    /// As the terminal has it.
    #[default]
    Plain,
    /// Titles, names that matter.
    Bold,
    /// What is there to be looked up.
    Dim,
    /// Failures.
    Red,
    /// What went well.
    Green,
    /// The canary.
    Yellow,
    /// Stable.
    Cyan,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Cyan => "36",
        }
    }
}

/// One line, or a paragraph that is wrapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Paint, String)>);

impl Line {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// A line of one piece.
    pub fn of(paint: Paint, text: impl Into<String>) -> Self {
        Self::new().and(paint, text)
    }

    /// With one more piece.
    #[must_use]
    pub fn and(mut self, paint: Paint, text: impl Into<String>) -> Self {
        self.0.push((paint, text.into()));
        self
    }

    /// With plain text.
    #[must_use]
    pub fn plain(self, text: impl Into<String>) -> Self {
        self.and(Paint::Plain, text)
    }

    /// Columns that it takes.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// With spaces up to `column`.
    #[must_use]
    pub fn to(self, column: usize) -> Self {
        let missing = column.saturating_sub(self.width());
        self.plain(" ".repeat(missing))
    }

    /// As text, cut at `width` columns.
    pub fn show(&self, width: Option<usize>, colour: bool) -> String {
        let cut = width.filter(|width| self.width() > *width);
        let mut left = cut.map_or(usize::MAX, |width| width.saturating_sub(1));
        let mut shown = String::new();
        for (paint, text) in &self.0 {
            let kept: String = text
                .chars()
                .take_while(|c| {
                    let columns = c.width().unwrap_or(0);
                    let fits = columns <= left;
                    left = if fits { left - columns } else { 0 };
                    fits
                })
                .collect();
            if colour && *paint != Paint::Plain && !kept.is_empty() {
                shown += &format!("\u{1b}[{}m{kept}\u{1b}[0m", paint.code());
            } else {
                shown += &kept;
            }
        }
        if cut.is_some_and(|width| width > 0) {
            shown.push('…');
        }
        shown.truncate(shown.trim_end_matches(' ').len());
        shown
    }

    /// Without spaces at its end.
    fn trimmed(mut self) -> Self {
        if let Some((_, last)) = self.0.last_mut() {
            last.truncate(last.trim_end_matches(' ').len());
        }
        self
    }

    /// In lines of at most `width` columns, broken between words; all but the first begin with `indent` spaces.
    pub fn wrapped(&self, width: Option<usize>, indent: usize) -> Vec<Self> {
        let Some(width) = width else { return vec![self.clone()] };
        let width = width.max(indent + 10);
        let (mut lines, mut line, mut column) = (Vec::new(), Self::new(), 0);
        for (paint, text) in &self.0 {
            for word in words(text) {
                let columns = word.trim_end().width();
                if column + columns > width && column > indent {
                    lines.push(std::mem::take(&mut line).trimmed());
                    line = line.plain(" ".repeat(indent));
                    column = indent;
                }
                column += word.width();
                line = line.and(*paint, word);
            }
        }
        lines.push(line);
        lines
    }
}

/// Words, each with the spaces after it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line::of(Paint::Bold, "iris-v2 ").and(Paint::Red, "broke ").plain("at weight 25")
    }

    #[test]
    fn colour_is_only_there_where_it_is_wanted() {
        assert_eq!(line().show(None, false), "iris-v2 broke at weight 25");
        assert_eq!(
            line().show(None, true),
            "\u{1b}[1miris-v2 \u{1b}[0m\u{1b}[31mbroke \u{1b}[0mat weight 25"
        );
    }

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        for width in 0..40 {
            let shown = line().show(Some(width), false);
            assert!(shown.width() <= width, "{shown:?} at {width}");
        }
        assert_eq!(line().show(Some(12), false), "iris-v2 bro…");
        assert_eq!(Line::of(Paint::Plain, "▄▄▄").to(6).width(), 6);
    }

    #[test]
    fn paragraphs_break_between_words_and_keep_their_colours() {
        let lines: Vec<String> = line().wrapped(Some(14), 2).iter().map(|l| l.show(None, false)).collect();
        assert_eq!(lines, ["iris-v2 broke", "  at weight 25"]);
        for width in 13..40 {
            assert!(line().wrapped(Some(width), 2).iter().all(|line| line.width() <= width), "{width}");
        }
        assert_eq!(line().wrapped(None, 2), [line()]);
    }
}

//! Where it is shown: a terminal whose last lines are drawn again and again while what was decided scrolls above
//! them, or a log.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use crate::{
    moment::Moment,
    text::Line,
    view::{in_short, view},
};

/// How often a moment goes to a log when nothing changes.
const LOG_EVERY: Duration = Duration::from_secs(2);
/// Size of a terminal that does not tell.
const USUAL: (usize, usize) = (80, 24);

/// Where it is shown.
pub enum Screen {
    /// A terminal that is drawn on.
    Live(Live),
    /// Lines, one after another.
    Plain(Plain),
}

/// A log.
#[derive(Default)]
pub struct Plain {
    /// When the last moment was written, and which weight it had.
    last: Option<(Duration, u8)>,
}

/// A terminal that is drawn on.
pub struct Live {
    colour: bool,
    /// Lines of the view that stand at the end of the terminal.
    drawn: usize,
    /// Lines to say above it at the next draw.
    said: Vec<String>,
}

impl Screen {
    /// The terminal if there is one, else a log.
    pub fn new(plain: bool) -> Self {
        let terminal = io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        if plain || !terminal {
            return Self::Plain(Plain::default());
        }
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self::Live(Live { colour, drawn: 0, said: Vec::new() })
    }

    /// Paragraphs that stay; lines after the first of each begin with `indent` spaces.
    pub fn say(&mut self, lines: &[Line], indent: usize) -> io::Result<()> {
        match self {
            Self::Live(live) => {
                let (columns, _) = size();
                for line in lines {
                    let wrapped = line.wrapped(Some(columns), indent);
                    live.said.extend(wrapped.iter().map(|line| line.show(Some(columns), live.colour)));
                }
                // With no view on the screen nothing else would show them.
                if live.drawn == 0 { live.draw(&[]) } else { Ok(()) }
            }
            Self::Plain(_) => {
                let mut out = io::stdout().lock();
                lines.iter().try_for_each(|line| writeln!(out, "{}", line.show(None, false)))?;
                out.flush()
            }
        }
    }

    /// Shows a moment.
    pub fn show(&mut self, moment: &Moment) -> io::Result<()> {
        match self {
            Self::Live(live) => {
                let (columns, rows) = size();
                let mut lines = view(moment, columns, rows, live.colour);
                lines.truncate(rows.saturating_sub(1));
                let lines: Vec<String> =
                    lines.iter().map(|line| line.show(Some(columns), live.colour)).collect();
                live.draw(&lines)
            }
            Self::Plain(plain) => {
                let weight = moment.canary.as_ref().map_or(0, |canary| canary.intended);
                let due = plain.last.is_none_or(|(at, before)| {
                    before != weight || moment.elapsed.saturating_sub(at) >= LOG_EVERY
                });
                if !due || moment.stable.name.is_empty() {
                    return Ok(());
                }
                plain.last = Some((moment.elapsed, weight));
                writeln!(io::stdout().lock(), "{}", in_short(moment).show(None, false))
            }
        }
    }

    /// Takes the view away: what is said from now on follows what was said before.
    pub fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Live(live) => live.draw(&[]),
            Self::Plain(_) => Ok(()),
        }
    }
}

impl Live {
    fn draw(&mut self, view: &[String]) -> io::Result<()> {
        let text = frame(self.drawn, &self.said, view);
        self.drawn = view.len();
        self.said.clear();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// A terminal is left as it was found, however this ends.
impl Drop for Live {
    fn drop(&mut self) {
        let said = std::mem::take(&mut self.said);
        let mut text: String = said.iter().map(|line| format!("{line}\n")).collect();
        text += "\u{1b}[?7h\u{1b}[?25h";
        // There is nobody left to tell.
        let _ = io::stdout().lock().write_all(text.as_bytes());
        let _ = io::stdout().lock().flush();
    }
}

/// What replaces the `drawn` lines of the last view: new lines that stay, and the view below them. In one piece, where
/// the terminal knows how, without its cursor and without wrapping, so that the lines are as many as were counted.
fn frame(drawn: usize, said: &[String], view: &[String]) -> String {
    let mut text = String::from("\u{1b}[?2026h\u{1b}[?25l\u{1b}[?7l\r");
    if drawn > 0 {
        let _ = write!(text, "\u{1b}[{drawn}A");
    }
    for line in said.iter().chain(view) {
        // Cleared before and not after: at the last column that would take the last character.
        let _ = writeln!(text, "\u{1b}[2K{line}");
    }
    text += "\u{1b}[J\u{1b}[?7h";
    if view.is_empty() {
        text += "\u{1b}[?25h";
    }
    text + "\u{1b}[?2026l"
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(USUAL, |size| (size.ws_col.into(), size.ws_row.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_replaces_the_one_before_and_what_was_said_stays_above() {
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = frame(0, &[], &lines(&["a", "b"]));
        assert!(!first.contains('A') && first.contains("\u{1b}[2Ka\n\u{1b}[2Kb\n"));
        let second = frame(2, &lines(&["said"]), &lines(&["c", "d"]));
        let order = ["\u{1b}[2A", "Ksaid\n", "Kc\n", "Kd\n", "\u{1b}[J"];
        let places: Vec<usize> = order.iter().map(|part| second.find(part).unwrap()).collect();
        assert!(places.is_sorted(), "{second:?}");
    }

    #[test]
    fn without_a_view_the_cursor_is_there_again() {
        assert!(!frame(0, &[], &["a".to_owned()]).contains("\u{1b}[?25h"));
        assert!(frame(1, &[], &[]).contains("\u{1b}[?25h"));
    }
}

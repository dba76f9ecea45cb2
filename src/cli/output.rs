//! Where output goes and in which form.

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    os::fd::AsFd,
};

use clap::ValueEnum;
use kube::ResourceExt;
use serde::Serialize;

use super::{exit::Failure, view::Screen};

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a table, or for one Rollout everything about it.
    #[default]
    Table,
    /// The table with all columns, however wide.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names alone, for scripts.
    Name,
}

/// The form of the output, where a table of many makes no sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Plain {
    /// A sentence for people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Names alone, for scripts.
    Name,
}

/// The form of the output, where there are no names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// What standard output is: as wide as the terminal and coloured where it is one, unless `NO_COLOR` says otherwise.
pub fn screen(program: &str) -> Screen {
    let terminal = stdout().is_terminal();
    Screen {
        width: width_of(terminal),
        height: height_of(terminal),
        colour: terminal && !colour_is_refused(),
        program: program.to_owned(),
    }
}

/// Whether the user, or the terminal, wants no colours.
pub fn colour_is_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// The same screen after its window may have changed.
pub fn resized(screen: &Screen) -> Screen {
    let terminal = stdout().is_terminal();
    Screen {
        width: width_of(terminal).or(screen.width),
        height: height_of(terminal).or(screen.height),
        ..screen.clone()
    }
}

fn width_of(terminal: bool) -> Option<usize> {
    size(stdout()).filter(|_| terminal)?.0
}

fn height_of(terminal: bool) -> Option<usize> {
    size(stdout()).filter(|_| terminal)?.1
}

/// How wide the terminal is that remarks go to, where they go to one.
pub fn width_for_remarks() -> Option<usize> {
    size(stderr()).filter(|_| stderr().is_terminal())?.0
}

/// Columns and rows of a terminal; each by itself, because some that know the one do not know the other.
fn size(terminal: impl AsFd) -> Option<(Option<usize>, Option<usize>)> {
    let size = rustix::termios::tcgetwinsize(terminal).ok()?;
    let known = |count: u16| Some(usize::from(count)).filter(|count| *count > 0);
    Some((known(size.ws_col), known(size.ws_row)))
}

/// `object` without the server's notes of who set which field, which nobody wants to scroll past.
pub fn without_managed_fields<K: ResourceExt + Clone>(object: &K) -> K {
    let mut object = object.clone();
    object.managed_fields_mut().clear();
    object
}

/// `value` as JSON with a line end.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::Format { format: "JSON", message: error.to_string() })
}

/// `value` as one line of JSON.
pub fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::Format { format: "JSON", message: error.to_string() })
}

/// `value` as YAML.
pub fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    serde_saphyr::to_string(value)
        .map(|text| if text.ends_with('\n') { text } else { text + "\n" })
        .map_err(|error| Failure::Format { format: "YAML", message: error.to_string() })
}

/// Writes all of `text` at once and hands it on, so that a closed pipe is noticed here.
pub fn write(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

//! Every command can be typed, and every link leads somewhere.

use std::path::Path;

use clap::Parser;
use sluice::cli::Cli;

use crate::{blocks, documents, read, root};

/// The words of a command line, quotes minded; up to a pipe or a comment.
fn split(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ' ') => words.push(String::new()),
            (None, '|' | '#') => break,
            (_, c) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Every line that a reader is told to type.
fn commands(path: &Path) -> Vec<String> {
    let text = read(path);
    let lines: Vec<String> = if path.extension().is_some_and(|extension| extension == "yaml") {
        text.lines().filter_map(|line| line.strip_prefix("#   ")).map(str::to_owned).collect()
    } else {
        let shell =
            blocks(&text).into_iter().filter(|(language, ..)| matches!(language.as_str(), "sh" | "console"));
        shell.flat_map(|(_, _, block)| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    lines.iter().map(|line| line.trim_start_matches("$ ").to_owned()).collect()
}

#[test]
fn every_command_can_be_typed() {
    let mut seen = 0;
    for path in documents() {
        for command in commands(&path) {
            let words = split(&command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let ours = match words.as_slice() {
                ["kubectl", "sluice", rest @ ..] => [&["kubectl-sluice"], rest].concat(),
                ["sluice", ..] => words.clone(),
                ["kubectl", "apply", rest @ ..] => {
                    for file in rest.iter().filter(|word| {
                        ["deploy", "examples", "crds"].iter().any(|folder| word.starts_with(folder))
                    }) {
                        assert!(root(file).exists(), "{}: {command}: there is no {file}", path.display());
                    }
                    continue;
                }
                _ => continue,
            };
            let parsed = Cli::try_parse_from(ours);
            // To ask for help is no mistake.
            let mistake = parsed.err().filter(clap::Error::use_stderr);
            assert!(mistake.is_none(), "{}: {command}\n{}", path.display(), mistake.unwrap());
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} commands were found");
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    for path in
        documents().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    {
        let text = read(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            let heading = |line: &str| {
                let words = line.trim_start_matches('#').trim().to_lowercase();
                let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                kept.collect::<String>().replace(' ', "-")
            };
            if !anchor.is_empty() {
                let there =
                    read(&target).lines().any(|line| line.starts_with('#') && heading(line) == anchor);
                assert!(there, "{}: {link}: no such heading", path.display());
            }
        }
    }
}

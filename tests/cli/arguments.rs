//! Command lines: what is understood, and what is refused with a word that helps.

use clap::Parser;
use sluice::cli::{Ask, Cli, Command, Format};

use super::world::ask;

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())
}

#[test]
fn what_is_wrong_is_refused_and_says_what_was_expected() {
    for (line, expected) in [
        ("sluice", "Usage:"),
        ("sluice fly", "unrecognized subcommand 'fly'"),
        ("sluice approve", "<NAME>"),
        ("sluice approve iris wine", "unexpected argument 'wine'"),
        ("sluice approve iris --full", "unexpected argument '--full'"),
        ("sluice approve iris --wait soon", "\"soon\" is not a duration: expected a number with a unit"),
        ("sluice abort iris --step 3", "unexpected argument '--step'"),
        ("sluice get -o xml", "[possible values: table, wide, json, yaml, name]"),
        ("sluice get iris -A", "cannot be used with"),
        ("sluice crd -o table", "[possible values: yaml, json]"),
    ] {
        let error = parse(line).map(|cli| format!("{cli:?}")).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    let long = "x".repeat(1025);
    let error = parse(&format!("sluice abort iris --reason {long}")).unwrap_err();
    assert!(error.contains("1025 characters are too many: at most 1024"), "{error}");
}

#[test]
fn the_namespace_can_stand_on_either_side_of_the_command() {
    for line in ["sluice -n models get", "sluice get -n models", "sluice get --namespace=models"] {
        assert_eq!(parse(line).unwrap().cluster.namespace.as_deref(), Some("models"), "{line}");
    }
}

#[test]
fn one_can_ask_for_a_name_a_form_and_a_watch() {
    let Ask::Get(args) = ask(parse("sluice get iris -w -o yaml").unwrap().command) else { panic!("get") };
    assert_eq!((args.name.as_deref(), args.watch, args.output), (Some("iris"), true, Format::Yaml));
    let Ask::Get(args) = ask(parse("sluice get").unwrap().command) else { panic!("get") };
    assert_eq!((args.name, args.watch, args.output), (None, false, Format::Table));
}

#[test]
fn an_action_waits_ten_seconds_unless_told_otherwise() {
    for (line, seconds) in [
        ("sluice pause iris", 10),
        ("sluice pause iris --wait 1m30s", 90),
        ("sluice pause iris --wait 0s", 0),
    ] {
        let Ask::Pause(args) = ask(parse(line).unwrap().command) else { panic!("pause") };
        assert_eq!(args.wait.0.as_secs(), seconds, "{line}");
    }
}

#[test]
fn only_promote_can_be_full() {
    let Ask::Promote(args) = ask(parse("sluice promote iris --full -r go").unwrap().command) else {
        panic!("promote")
    };
    assert!(args.full);
    assert_eq!(args.ask.reason.as_deref(), Some("go"));
}

#[test]
fn run_watches_one_namespace_where_one_is_named() {
    let cli = parse("sluice run -n models --no-leader-election --log-format json --http [::1]:9000").unwrap();
    assert_eq!(cli.cluster.namespace.as_deref(), Some("models"));
    let Command::Run(args) = cli.command else { panic!("run") };
    assert!(args.no_leader_election);
    assert_eq!(args.http.port(), 9000);
}

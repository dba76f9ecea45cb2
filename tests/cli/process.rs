//! The command as the shell sees it.

use std::{
    io::Read,
    process::{Command, Output, Stdio},
};

const SLUICE: &str = env!("CARGO_BIN_EXE_sluice");

/// A process that finds no cluster, whatever the machine has.
fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("HOME", "/nowhere").env("NO_COLOR", "1");
    command
}

fn run(args: &[&str]) -> Output {
    command(SLUICE, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_is_output_and_lists_commands_and_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    for expected in ["approve", "promote", "abort", "retry", "pause", "resume", "get", "crd", "run"] {
        assert!(help.contains(&format!("\n  {expected} ")), "{expected} is not in {help}");
    }
    assert!(help.contains("Exit codes:\n  0  done\n  1  failed\n  2  the command line is wrong\n"), "{help}");
}

#[test]
fn a_wrong_command_line_is_no_output_and_exits_with_2() {
    for args in [&[][..], &["fly"], &["get", "--nope"], &["approve"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert!(text(&output.stderr).contains("Usage: sluice"), "{args:?}");
    }
}

#[test]
fn without_a_cluster_there_is_one_clear_line_and_a_hint() {
    for args in [&["get"][..], &["approve", "iris"], &["run"]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(5), "{args:?}");
        let error = text(&output.stderr);
        let lines: Vec<_> = error.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("error: no cluster to talk to: "), "{error}");
        assert!(lines[1].starts_with("hint: give --kubeconfig FILE"), "{error}");
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("config");
    // Nothing listens on port 1 of this machine.
    let content = "{apiVersion: v1, kind: Config, current-context: c,
        clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: u, user: {}}],
        contexts: [{name: c, context: {cluster: c, user: u}}]}";
    std::fs::write(&kubeconfig, content).unwrap();
    let output = run(&["get", "--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(5));
    let error = text(&output.stderr);
    assert_eq!(error, "error: cannot reach the cluster at http://127.0.0.1:1: connection refused\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = command(SLUICE, &["crd"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The pipe is closed before all of the 60 kB can be in it.
    let mut first = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"---\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn crd_prints_what_is_stored_in_the_repository() {
    let stored =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/crds/sluice.dev.yaml")).unwrap();
    let output = run(&["crd"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout) == stored, "crds/sluice.dev.yaml is stale");
}

#[cfg(unix)]
#[test]
fn as_a_plugin_it_answers_by_the_name_that_people_type() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("kubectl-sluice");
    std::os::unix::fs::symlink(SLUICE, &plugin).unwrap();
    let plugin = plugin.to_str().unwrap();
    let help = command(plugin, &["approve", "--help"]).output().unwrap();
    assert!(text(&help.stdout).contains("Usage: kubectl sluice approve"), "{}", text(&help.stdout));
    let wrong = command(plugin, &["approve"]).output().unwrap();
    assert!(text(&wrong.stderr).contains("Usage: kubectl sluice approve"), "{}", text(&wrong.stderr));
}

/// A password in the wrong place, or in a URL that is none, is not shown to whoever reads the log of the pod.
#[test]
fn no_password_of_the_command_line_or_a_file_is_shown() {
    const SECRET: &str = "s3cr3t-of-bob";
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cases = [
        vec!["--prometheus".to_owned(), format!("ftp://bob:{SECRET}@prometheus")],
        vec!["--prometheus".to_owned(), format!("bob:{SECRET}")],
        vec!["--prometheus".to_owned(), format!("http://bob:{SECRET}@prometheus:99999")],
        vec!["--prometheus".to_owned(), format!("http://prometheus/?token={SECRET}")],
        vec![
            "--config".into(),
            file("a", format!("sources: {{a: {{url: 'http://a', basic: 'bob:{SECRET}'}}}}")),
        ],
        vec!["--config".into(), file("b", format!("sources: {{a: {{url: 'bob:{SECRET}'}}}}"))],
        vec![
            "--config".into(),
            file("d", format!("sources: {{a: {{url: 'http://a', bearerToken: '{SECRET}'}}}}")),
        ],
        vec!["--config".into(), file("e", format!("sources: '{SECRET}'"))],
        vec![
            "--config".into(),
            file("f", format!("sources: {{a: {{url: 'http://a', headers: {{A: ['{SECRET}']}}}}}}")),
        ],
        vec![
            "--kubeconfig".into(),
            file("g", format!("{{apiVersion: v1, kind: Config, users: [{{name: a, user: '{SECRET}'}}]}}")),
        ],
        vec![
            "--kubeconfig".into(),
            file(
                "h",
                format!(
                    "{{apiVersion: v1, kind: Config, users: [{{name: a, user: {{token: ['{SECRET}']}}}}]}}"
                ),
            ),
        ],
        vec!["--help".into()],
    ];
    for arguments in cases {
        let output = command(SLUICE, &["run"])
            .args(&arguments)
            .env("SLUICE_PROMETHEUS", format!("http://bob:{SECRET}@prometheus"))
            .env("RUST_LOG", "trace")
            .output()
            .unwrap();
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.is_empty());
        assert!(!all.contains(SECRET), "{arguments:?}: {all}");
    }
}

#[test]
fn a_password_in_the_clusters_address_is_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("config");
    let content = "{apiVersion: v1, kind: Config, current-context: c,
        clusters: [{name: c, cluster: {server: 'http://bob:s3cr3t@127.0.0.1:1/k8s/'}}], users: [{name: u, user: {}}],
        contexts: [{name: c, context: {cluster: c, user: u}}]}";
    std::fs::write(&kubeconfig, content).unwrap();
    for args in [&["get"][..], &["run", "--http", "127.0.0.1:0"]] {
        let output = command(SLUICE, args)
            .args(["--kubeconfig", kubeconfig.to_str().unwrap()])
            .env("RUST_LOG", "info")
            .output()
            .unwrap();
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(all.contains("http://127.0.0.1:1/k8s"), "{all}");
        assert!(!all.contains("s3cr3t"), "{all}");
    }
}

use super::*;

fn write(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn credentials_come_from_files_and_are_read_again_when_they_change() {
    let fake = Fake::start().await;
    let directory = tempfile::tempdir().unwrap();
    let token = write(directory.path(), "token", "first\n");
    let tenant = write(directory.path(), "tenant", "team-a\n");
    let source = format!(
        "url: {}/prom/\nbearerTokenFile: {token}\nheaders:\n  X-Scope-OrgID: {{file: {tenant}}}\n  X-Plain: yes-it-is",
        fake.url
    );
    let asker = Asker::with(config(&source));
    let server = asker.metrics.server(&asker.plan).unwrap();
    let far = Instant::now() + Duration::from_secs(30);
    server.query("x", at(0), far).await.unwrap();
    write(directory.path(), "token", "the second\n");
    server.query("x", at(1), far).await.unwrap();
    let seen = fake.seen();
    assert_eq!(seen[0].path, "/prom/api/v1/query");
    assert_eq!(seen[0].header("authorization"), Some("Bearer first"));
    assert_eq!(seen[0].header("x-scope-orgid"), Some("team-a"));
    assert_eq!(seen[0].header("x-plain"), Some("yes-it-is"));
    assert_eq!(seen[1].header("authorization"), Some("Bearer the second"));
    fs::remove_file(directory.path().join("token")).unwrap();
    let trouble = server.query("x", at(2), far).await.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Refused);
    assert!(trouble.message.contains("token cannot be read"), "{trouble}");
}

#[tokio::test]
async fn no_credential_is_in_a_message_even_if_the_server_repeats_it() {
    let fake = Fake::start().await;
    fake.answers(|seen| {
        (
            StatusCode::FORBIDDEN,
            "text/html",
            format!("you sent {}", seen.header("x-key").unwrap_or("nothing")),
        )
    });
    let mut asker = Asker::with(config(&format!("url: {}\nheaders: {{X-Key: s3cr3t}}", fake.url)));
    let trouble = asker.look(0).await.counts.unwrap_err();
    assert!(trouble.message.contains("you sent <redacted>"), "{trouble}");
}

#[tokio::test]
async fn a_user_in_the_url_is_sent_as_basic_and_never_shown() {
    let fake = Fake::start().await;
    let config = Config::prometheus(&fake.url.replace("http://", "http://bob:p%40ss@")).unwrap();
    assert!(!format!("{config:?}").contains("p@ss") && !format!("{config:?}").contains("p%40ss"));
    let mut asker = Asker::with(config);
    asker.look(0).await;
    assert_eq!(fake.seen()[0].header("authorization"), Some("Basic Ym9iOnBAc3M="));
}

use super::*;

const WHOLE: &str = "
sources:
  default:
    url: https://prometheus.monitoring:9090/prom
    headers:
      X-Scope-OrgID: team-a
      THANOS-TENANT: {file: /etc/sluice/tenant}
    bearerTokenFile: /etc/sluice/token
    caFile: /etc/sluice/ca.crt
    clientCertificate: {certFile: /etc/sluice/tls.crt, keyFile: /etc/sluice/tls.key}
    timeout: 5s
    maxConcurrentQueries: 3
  other:
    url: http://mimir
    basic: {username: bob, passwordFile: /etc/sluice/password}
scrape:
  maxConcurrentPods: 10
  timeout: 500ms
  tls:
  - {port: 8443, insecureSkipVerify: true}
profiles:
  istio:
    labels: {subset: destination_version}
    match: {reporter: waypoint}
";

#[test]
fn everything_that_can_be_configured_is_read() {
    let config = Config::read(WHOLE).unwrap();
    let default = &config.sources["default"];
    assert_eq!((default.timeout.0.as_secs(), default.max_concurrent_queries), (5, 3));
    assert!(
        matches!(&default.headers["X-Scope-OrgID"], HeaderValue::Literal(secret) if secret.expose() == "team-a")
    );
    assert!(matches!(&default.headers["THANOS-TENANT"], HeaderValue::File(_)));
    let other = &config.sources["other"];
    assert_eq!((other.timeout, other.max_concurrent_queries), (TIMEOUT, MAX_CONCURRENT));
    let scrape = &config.scrape;
    assert_eq!((scrape.max_concurrent_pods, scrape.max_concurrent_pods_per_look), (10, 16));
    assert_eq!((scrape.timeout.to_string().as_str(), scrape.tls[0].port), ("500ms", 8443));
    let istio = &config.profiles[&api::Profile::Istio];
    assert_eq!(istio.labels.subset.as_deref(), Some("destination_version"));
    assert_eq!(Config::read("{}").unwrap().sources.len(), 0);
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("sources: {default: {url: 'http://p', tokn: x}}", "tokn"),
        ("source: {}", "source"),
        ("sources: {default: {}}", "url"),
        ("sources: {default: {url: prometheus}}", "is no URL like http://"),
        ("sources: {default: {url: 'ftp://p'}}", "expected http or https"),
        ("sources: {default: {url: 'http://p?x=y'}}", "query"),
        ("sources: {default: {url: 'http://p', timeout: 5}}", "is not a duration"),
        ("sources: {default: {url: 'http://p', timeout: 0s}}", "sources.default.timeout"),
        (
            "sources: {default: {url: 'http://p', maxConcurrentQueries: 0}}",
            "sources.default.maxConcurrentQueries",
        ),
        ("sources: {default: {url: 'http://p', headers: {A: {fil: x}}}}", "{file: PATH}"),
        ("sources: {default: {url: 'http://u:p@p', bearerTokenFile: x}}", "at most one of"),
        ("scrape: {maxConcurrentPods: 0}", "scrape.maxConcurrentPods: is 0"),
        ("scrape: {maxConcurrentPodsPerLook: 0}", "scrape.maxConcurrentPodsPerLook: is 0"),
        ("scrape: {timeout: 0s}", "scrape.timeout: is 0"),
        ("scrape: {tls: [{port: 1}, {port: 1}]}", "scrape.tls[1].port: is 1"),
        (
            "scrape: {tls: [{port: 1, caFile: x, insecureSkipVerify: true}]}",
            "scrape.tls[0]: expected caFile or",
        ),
        ("scrape: {tls: [{port: 1, url: x}]}", "url"),
        ("profiles: {nginx: {}}", "nginx"),
        ("profiles: {istio: {labels: {host: x}}}", "host"),
        ("sources: {default: {url: 'http://a'}, default: {url: 'http://b'}}", "default"),
    ] {
        let message = Config::read(text).expect_err(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn an_error_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    assert!(Config::load(&path).unwrap_err().to_string().contains("config.yaml: cannot be read"));
    std::fs::write(&path, "sources: 1").unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().starts_with(&path.display().to_string()));
}

#[test]
fn a_password_is_neither_printed_nor_kept_in_the_url() {
    let config = Config::prometheus("https://bob:s3cr3t@prometheus/x").unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cr3t") && shown.contains("prometheus"), "{shown}");
    for bad in ["http//bob:s3cr3t@p", "ftp://bob:s3cr3t@p", "http://bob:s3cr3t@p?x"] {
        let message = Config::prometheus(bad).unwrap_err().to_string();
        assert!(!message.contains("s3cr3t") && message.starts_with("--prometheus"), "{message}");
    }
    let text = "sources: {default: {url: 'http://bob:s3cr3t@p:x'}}";
    let message = Config::read(text).unwrap_err();
    assert!(!message.contains("s3cr3t"), "{message}");
    let literal = Config::read("sources: {a: {url: 'http://p', headers: {X: s3cr3t}}}").unwrap();
    assert!(!format!("{literal:?}").contains("s3cr3t"));
}

#[test]
fn a_credential_file_that_is_missing_is_found_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let no_pem = directory.path().join("ca");
    fs::write(&no_pem, "no PEM").unwrap();
    let no_pem = format!("caFile: {}", no_pem.display());
    for (field, name) in [
        (no_pem.as_str(), "holds no PEM certificate"),
        ("bearerTokenFile: /nonexistent/token", "bearerTokenFile: /nonexistent/token cannot be read"),
        ("basic: {username: u, passwordFile: /nonexistent/password}", "basic.passwordFile: /"),
        ("caFile: /nonexistent/ca", "caFile: /"),
        ("headers: {X-A: {file: /nonexistent/header}}", "headers.X-A: /"),
        ("headers: {'a b': x}", "headers: \"a b\""),
    ] {
        let config = Config::read(&format!("sources: {{main: {{url: 'https://p', {field}}}}}")).unwrap();
        let message = crate::metrics::Metrics::new(config).err().unwrap().to_string();
        assert!(message.contains("\"main\"") && message.contains(name), "{message}");
    }
    let text = "scrape: {tls: [{port: 8443, caFile: /nonexistent/ca}]}";
    let message = crate::metrics::Metrics::new(Config::read(text).unwrap()).err().unwrap().to_string();
    assert!(message.contains("scrape.tls.8443.caFile: /nonexistent/ca cannot be read"), "{message}");
}

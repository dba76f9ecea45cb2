//! What the platform says about scraping: how many pods at once, how long, and TLS.

use super::*;

/// Pods of which each says how many others were being asked at the same time.
#[tokio::test]
async fn no_more_pods_are_asked_at_once_than_configured_and_none_is_left_out() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // As many are waited for as should come at once.
    let wanted = Arc::new(AtomicUsize::new(1));
    let mut port = 0;
    let mut pods = Vec::new();
    for number in 1..=9 {
        let address = IpAddr::from([127, 0, 1, number]);
        let listener = TcpListener::bind((address, port)).await.unwrap();
        port = listener.local_addr().unwrap().port();
        let (now, most, wanted) = (now.clone(), most.clone(), wanted.clone());
        let handler = move || async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while most.load(Ordering::SeqCst) < wanted.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            // For more to come, were they let: too short a time would only hide that.
            tokio::time::sleep(Duration::from_millis(20)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            exposition(1, 0)
        };
        let router = Router::new().route("/metrics", get(handler));
        tokio::spawn(async move { axum::serve(listener, router).await });
        pods.push(Pod { name: format!("pod-{number}"), address, started: None });
    }
    let plan = plan(port);
    let arm = Arm { pods, ..Arm::of(Predictor::new("models", "iris-v1", 8000)) };
    for (text, expected) in [
        ("scrape: {maxConcurrentPods: 3}", 3),
        ("scrape: {maxConcurrentPodsPerLook: 2}", 2),
        ("scrape: {maxConcurrentPods: 1, maxConcurrentPodsPerLook: 9}", 1),
    ] {
        most.store(0, Ordering::SeqCst);
        wanted.store(expected, Ordering::SeqCst);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        let metrics = Metrics::new(Config::load(&path).unwrap()).unwrap();
        let mut memory = Memory::default();
        metrics.look(&question(&plan, 0, &arm, None), &mut memory).await;
        let look = metrics.look(&question(&plan, 10, &arm, None), &mut memory).await;
        assert_eq!(look.counts.unwrap().stable.requests, 0, "nine pods stood still");
        assert_eq!(most.load(Ordering::SeqCst), expected, "{text}");
    }
}

#[tokio::test]
async fn a_pod_has_as_long_as_the_platform_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let pod = Pod { name: "silent".into(), address: address.ip(), started: None };
    let arm = Arm { pods: vec![pod], ..Arm::of(Predictor::new("models", "iris-v1", 8000)) };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    std::fs::write(&path, "scrape: {timeout: 30ms}").unwrap();
    let metrics = Metrics::new(Config::load(&path).unwrap()).unwrap();
    let plan = plan(address.port());
    let look = metrics.look(&question(&plan, 0, &arm, None), &mut Memory::default()).await;
    let trouble = look.counts.unwrap_err();
    assert!(trouble.message.contains("no answer within 0.03 s"), "{trouble}");
}

/// A port that speaks TLS, by a certificate for an address that signs itself, if it is for that one.
async fn tls_pod(address: [u8; 4], certified: &str) -> (u16, String) {
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let signed = rcgen::generate_simple_self_signed([certified.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((IpAddr::from(address), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked).await;
            let body = exposition(7, 1);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, signed.cert.pem())
}

#[tokio::test]
async fn a_port_speaks_tls_where_the_platform_says_so() {
    let (port, certificate) = tls_pod([127, 0, 0, 31], "127.0.0.31").await;
    let (misnamed, other) = tls_pod([127, 0, 0, 31], "127.0.0.32").await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let (ca, other) = (file("ca.crt", &certificate), file("other.crt", &other));
    let pod = Pod { name: "pod-1".into(), address: IpAddr::from([127, 0, 0, 31]), started: None };
    let arm = Arm { pods: vec![pod], ..Arm::of(Predictor::new("models", "iris-v1", 8000)) };
    for (port, tls, kind) in [
        (port, format!("caFile: {}", ca.display()), TroubleKind::Baseline),
        (port, "insecureSkipVerify: true".to_owned(), TroubleKind::Baseline),
        (port, format!("caFile: {}", other.display()), TroubleKind::Untrusted),
        (misnamed, format!("caFile: {}", other.display()), TroubleKind::Untrusted),
        (misnamed, "insecureSkipVerify: true".to_owned(), TroubleKind::Baseline),
    ] {
        let text = format!("scrape: {{tls: [{{port: {port}, {tls}}}]}}");
        let metrics = Metrics::new(Config::load(&file("config.yaml", &text)).unwrap()).unwrap();
        let plan = plan(port);
        let look = metrics.look(&question(&plan, 0, &arm, None), &mut Memory::default()).await;
        let trouble = look.counts.unwrap_err();
        assert_eq!(trouble.kind, kind, "{text}: {trouble}");
    }
    // A port that the platform says nothing about is spoken to as ever.
    let plan = plan(port);
    let look = metrics().look(&question(&plan, 0, &arm, None), &mut Memory::default()).await;
    assert_ne!(look.counts.unwrap_err().kind, TroubleKind::Baseline);
}

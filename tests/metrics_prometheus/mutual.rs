//! A real Prometheus that lets nobody in without a certificate.

use std::{fs, path::Path};

use sluice_core::judge::Trouble;
use sluice_lab::real::Guard;

use super::{authority::Authority, *};

/// Writes a client's certificate and key, as a rotated secret does.
fn rotate(directory: &Path, (certificate, key): &(String, String)) {
    fs::write(directory.join("tls.crt"), certificate).unwrap();
    fs::write(directory.join("tls.key"), key).unwrap();
}

/// A source with the certificate in `directory`, if it has one.
fn source(directory: &Path, prometheus: &Prometheus, with_certificate: bool) -> Config {
    let file = |name: &str| directory.join(name).display().to_string();
    let client = if with_certificate {
        format!("    clientCertificate: {{certFile: {}, keyFile: {}}}\n", file("tls.crt"), file("tls.key"))
    } else {
        String::new()
    };
    let text = format!(
        "sources:\n  default:\n    url: {}\n    caFile: {}\n{client}",
        prometheus.url(),
        file("ca.crt")
    );
    fs::write(directory.join("config.yaml"), text).unwrap();
    Config::load(&directory.join("config.yaml")).unwrap()
}

async fn trouble(looker: &mut Looker) -> Trouble {
    looker.look(&[]).await.counts.unwrap_err()
}

#[tokio::test]
async fn a_certificate_is_shown_and_a_rotated_one_is_taken_up() {
    let (ours, clients, other) = (Authority::new("ours"), Authority::new("clients"), Authority::new("other"));
    let (certificate, key) = ours.signs("127.0.0.1", 2090);
    let (own, own_key) = clients.signs("lab", 2090);
    let guard = Guard { certificate, key, user: None, clients: Some([clients.pem.clone(), own + &own_key]) };
    let prometheus = Prometheus::start_guarded(SCRAPE_INTERVAL, &guard).await.unwrap();
    let gateway = Exporter::start().await;
    gateway.says(istio("iris-v1", &[(200, 1000)], 1000));
    prometheus.set_targets([Target::new(&gateway.address)]).await.unwrap();
    scraped(&prometheus, "istio_requests_total").await;

    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("ca.crt"), &ours.pem).unwrap();
    // The server says why, or has closed before it could be read: the certificate is asked for after the connection stands.
    let refused = |trouble: &Trouble| {
        assert!(matches!(trouble.kind, TroubleKind::Refused | TroubleKind::Unavailable), "{trouble:?}");
        assert!(trouble.message.starts_with("metrics source default cannot be asked: "), "{trouble}");
        assert!(
            trouble.message.contains("client certificate") || trouble.message.contains("alert"),
            "{trouble}"
        );
    };
    let mut without = Looker::with(source(directory, &prometheus, false), api::Profile::Istio);
    refused(&trouble(&mut without).await);

    rotate(directory, &other.signs("sluice", 2090));
    let mut looker = Looker::with(source(directory, &prometheus, true), api::Profile::Istio);
    refused(&trouble(&mut looker).await);
    // The platform rotates the secret. Nothing is restarted.
    let good = clients.signs("sluice", 2090);
    rotate(directory, &good);
    looker.baseline().await;
    gateway.says(istio("iris-v1", &[(200, 1100), (503, 3)], 1090));
    looker.until((103, 3, 13), (0, 0, 0)).await;

    // Half of a rotation, and files that went, are trouble that names field and file, and pass.
    let (stranger, _) = clients.signs("sluice", 2090);
    for (break_it, words) in [
        (
            Box::new(|| fs::write(directory.join("tls.crt"), &stranger).unwrap()) as Box<dyn Fn()>,
            "do not belong together",
        ),
        (
            Box::new(|| fs::write(directory.join("tls.crt"), "nonsense").unwrap()),
            "tls.crt holds no PEM certificate",
        ),
        (Box::new(|| fs::write(directory.join("tls.key"), "nonsense").unwrap()), "tls.key holds no PEM key"),
        (Box::new(|| fs::remove_file(directory.join("tls.key")).unwrap()), "tls.key cannot be read"),
    ] {
        break_it();
        let mut trouble = trouble(&mut looker).await;
        while trouble.kind == TroubleKind::NoData {
            // A look within 20 ms of the one before shares its answer.
            tokio::time::sleep(wait::EVERY).await;
            trouble = self::trouble(&mut looker).await;
        }
        assert_eq!(trouble.kind, TroubleKind::Untrusted, "{trouble}");
        assert!(
            trouble.message.contains("clientCertificate.") && trouble.message.contains(words),
            "{trouble}"
        );
        rotate(directory, &good);
    }
    gateway.says(istio("iris-v1", &[(200, 1200), (503, 3)], 1190));
    looker.until((203, 3, 13), (0, 0, 0)).await;
}

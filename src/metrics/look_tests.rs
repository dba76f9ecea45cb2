use sluice_core::api;

use super::*;

fn source(name: &str, profile: api::Profile) -> MetricsPlan {
    MetricsPlan::Source { name: name.to_owned(), profile, labels: BTreeMap::new() }
}

fn scrape(profile: api::Profile) -> MetricsPlan {
    MetricsPlan::Scrape { port: 8082, path: "/metrics".to_owned(), profile, labels: BTreeMap::new() }
}

#[test]
fn what_can_never_be_measured_is_refused_with_what_was_expected() {
    let metrics = Metrics::new(Config::prometheus("http://127.0.0.1:1").unwrap()).unwrap();
    assert!(metrics.has_source("default") && !metrics.has_source("other"));
    let labelled = MetricsPlan::Source {
        name: "default".to_owned(),
        profile: api::Profile::Istio,
        labels: BTreeMap::from([("x\"}".to_owned(), "y".to_owned())]),
    };
    for (plan, expected) in [
        (source("other", api::Profile::Istio), "it knows default"),
        (scrape(api::Profile::Istio), "cannot be scraped"),
        (scrape(api::Profile::Envoy), "because proxies expose it"),
        (labelled, "is not the name of a label"),
    ] {
        let trouble = metrics.check(&plan).unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::Misconfigured);
        assert!(trouble.message.contains(expected), "{trouble}");
    }
    for profile in [
        api::Profile::Istio,
        api::Profile::Mlserver,
        api::Profile::Seldon,
        api::Profile::Kserve,
        api::Profile::Envoy,
    ] {
        assert_eq!(metrics.check(&source("default", profile)), Ok(()));
    }
    for profile in [api::Profile::Mlserver, api::Profile::Seldon, api::Profile::Kserve] {
        assert_eq!(metrics.check(&scrape(profile)), Ok(()));
    }
}

#[test]
fn an_unknown_source_says_that_there_is_none() {
    let metrics = Metrics::new(Config::default()).unwrap();
    let message = metrics.check(&source("default", api::Profile::Istio)).unwrap_err().message;
    assert!(message.contains("it knows none"), "{message}");
}

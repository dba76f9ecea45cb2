use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn istio() -> Profile {
    Profile::of(api::Profile::Istio)
}

#[test]
fn bounds_are_the_same_however_they_are_written() {
    let istio = istio();
    let bucket = |profile: &Profile, le: &str| {
        let name = format!("{}_bucket", profile.groups[0].sets[0].latency);
        let pairs = [("le", le), ("path", "/invocations"), ("reporter", "source")];
        profile.role(&name, &labels(&pairs))
    };
    let quarter = Some(Role::Bucket(Bound(250_000)));
    assert_eq!(bucket(&istio, "250"), quarter);
    assert_eq!(bucket(&istio, "250.0"), quarter);
    assert_eq!(bucket(&istio, "2.5e2"), quarter);
    assert_eq!(bucket(&istio, "+Inf"), Some(Role::Whole));
    assert_eq!(bucket(&istio, "x"), None);
    assert_eq!(bucket(&Profile::of(api::Profile::Mlserver), "0.25"), quarter);
    let les = |bound| istio.groups[0].les([Bound(bound)].into_iter());
    assert_eq!(les(250_000), ["250", "250.0"]);
    assert_eq!(les(500), ["0.5"]);
    // As Prometheus writes half an hour in milliseconds.
    assert_eq!(les(1_800_000_000), ["1.8e+06", "1800000", "1800000.0"]);
}

#[test]
fn numbers_are_written_as_go_does() {
    for (value, expected) in [
        (0.0, "0"),
        (0.5, "0.5"),
        (600_000.0, "600000"),
        (1e6, "1e+06"),
        (3.6e6, "3.6e+06"),
        (0.0001, "0.0001"),
        (0.000_05, "5e-05"),
        (1e21, "1e+21"),
    ] {
        assert_eq!(as_go_writes(value), expected);
    }
}

#[test]
fn predictors_of_one_service_need_a_label_for_their_subset() {
    let mut one = Predictor::new("models", "iris", 8000);
    let mut other = one.clone();
    one.subset = Some("v1".into());
    other.subset = Some("v2".into());
    assert!(istio().confuses(&one, &other).unwrap().contains("subset"));
    let names = LabelNames { subset: Some("destination_version".into()), ..LabelNames::default() };
    let istio = istio().with(&Overrides { labels: names, ..Overrides::default() });
    assert_eq!(istio.confuses(&one, &other), None);
    let series = labels(&[
        ("destination_service_name", "iris"),
        ("destination_service_namespace", "models"),
        ("destination_version", "v2"),
    ]);
    let both = [Arm::of(one.clone()), Arm::of(other.clone())];
    assert_eq!(istio.groups[0].arms.whose(&series, both.iter()), Some(&both[1]));
    // Envoy says the subset; a Knative revision or a predictor of Seldon's has none.
    assert_eq!(Profile::of(api::Profile::Envoy).confuses(&one, &other), None);
    for profile in [api::Profile::Kserve, api::Profile::Seldon] {
        let message = Profile::of(profile).confuses(&one, &other).unwrap();
        assert!(message.contains("Services of their own"), "{message}");
    }
}

#[test]
fn the_configuration_can_change_labels() {
    let overrides = Overrides {
        labels: LabelNames { service: Some("svc".into()), ..LabelNames::default() },
        fixed: BTreeMap::from([("reporter".into(), "waypoint".into())]),
    };
    let changed = istio().with(&overrides);
    let is_svc = |arms: &ArmLabels| matches!(arms, ArmLabels::Service { service, .. } if service == "svc");
    assert!(is_svc(&changed.groups[0].arms));
    assert_eq!(changed.groups[0].fixed["reporter"], "waypoint");
    assert_eq!(changed.of_copies().groups[0].fixed["reporter"], "waypoint", "the platform knows better");
    assert_eq!(istio().of_copies().groups[0].fixed["reporter"], "destination");
    // Whatever a profile goes by, a label that has the Service's name will do.
    for profile in [api::Profile::Seldon, api::Profile::Kserve, api::Profile::Envoy] {
        assert!(Profile::of(profile).with(&overrides).groups.iter().all(|group| is_svc(&group.arms)));
    }
    let namespace = LabelNames { namespace: Some("kubernetes_namespace".into()), ..LabelNames::default() };
    let seldon =
        Profile::of(api::Profile::Seldon).with(&Overrides { labels: namespace, ..Overrides::default() });
    assert_eq!(seldon.groups[0].arms, ArmLabels::Seldon { namespace: "kubernetes_namespace".into() });
}

#[test]
fn what_is_not_needed_is_not_asked_for() {
    for profile in [api::Profile::Istio, api::Profile::Seldon, api::Profile::Mlserver] {
        let names = Profile::of(profile).names(false);
        assert!(names.iter().all(|name| !name.ends_with("_bucket")), "{names:?}");
    }
}

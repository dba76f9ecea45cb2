//! Whose history it is: the Rollout's stable and its canary, or whom the command line names.

use sluice_core::{Predictor, machine::Refusal, plan::Plan};

use super::ReplayArgs;
use crate::cli::{exit::Failure, manifest::Manifest, objects::Objects};

/// The two predictors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The one that users have.
    pub stable: Predictor,
    /// The one that wants to replace it.
    pub canary: Predictor,
}

/// Of whom the history is asked for.
pub fn of(args: &ReplayArgs, manifest: &Manifest, plan: &Plan, namespace: &str) -> Result<Pair, Failure> {
    let objects = Objects::of_file(manifest, plan, namespace);
    let target = manifest.spec.target.service.as_ref();
    // The port is of no importance to metrics: where nothing says it, any will do.
    let port = target.and_then(|target| target.port);
    let canary = match &args.canary {
        Some(named) => predictor("--canary", named, namespace, port)?,
        None => canary(&objects, manifest, namespace)?,
    };
    let stable = match &args.stable {
        Some(named) => predictor("--stable", named, namespace, Some(canary.port))?,
        None => stable(&objects, manifest, plan, &canary)?,
    };
    if stable == canary {
        return Err(Failure::Other(format!(
            "{stable} is stable and the canary: name others with --stable and --canary"
        )));
    }
    Ok(Pair { stable, canary })
}

fn canary(objects: &Objects, manifest: &Manifest, namespace: &str) -> Result<Predictor, Failure> {
    let Some(target) = &manifest.spec.target.service else {
        return Err(Failure::Other(
            "spec.target: the predictors of a SeldonDeployment are in no file: name their Services with --stable and \
             --canary"
                .to_owned(),
        ));
    };
    let named = || {
        let port = target.port.unwrap_or(80);
        Predictor { subset: target.subset.clone(), ..Predictor::new(namespace, &target.name, port) }
    };
    Ok(objects.wanted(&manifest.spec).unwrap_or_else(|_| named()))
}

/// The one predictor that has traffic and is not the canary, as the routes in the file show it.
fn stable(
    objects: &Objects,
    manifest: &Manifest,
    plan: &Plan,
    canary: &Predictor,
) -> Result<Predictor, Failure> {
    let advice = "name it with --stable SERVICE";
    if let Some(from) = manifest.spec.target.service.as_ref().and_then(|target| target.from.as_ref()) {
        return Ok(Predictor { service: from.clone(), ..canary.clone() });
    }
    if objects.virtual_services.is_empty() {
        return Err(Failure::Other(format!(
            "which predictor is stable? Its VirtualService is not in the file: put it there, or {advice}"
        )));
    }
    let seen = objects.see(plan, canary, &manifest.spec).map(|seen| seen.weighted);
    let mut seen = seen.map_err(|Refusal { message, .. }| {
        Failure::Other(format!("which predictor is stable? {message}; {advice}"))
    })?;
    seen.retain(|one| one != canary);
    match <[Predictor; 1]>::try_from(seen) {
        Ok([stable]) => Ok(stable),
        Err(several) => {
            let there: Vec<String> = several.iter().map(ToString::to_string).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            Err(Failure::Other(format!(
                "which predictor is stable? Beside {canary} the routes give traffic to {there}: {advice}"
            )))
        }
    }
}

/// `SERVICE`, `SERVICE:PORT` or `SERVICE:PORT#SUBSET`, with the namespace before it or not.
fn predictor(option: &str, text: &str, namespace: &str, port: Option<u16>) -> Result<Predictor, Failure> {
    let with_namespace = if text.contains('/') { text.to_owned() } else { format!("{namespace}/{text}") };
    let whole = if with_namespace.contains(':') {
        with_namespace
    } else {
        let (service, subset) = with_namespace.split_once('#').unwrap_or((&with_namespace, ""));
        let subset = if subset.is_empty() { String::new() } else { format!("#{subset}") };
        format!("{service}:{}{subset}", port.unwrap_or(80))
    };
    whole.parse().ok().filter(|predictor: &Predictor| !predictor.service.is_empty()).ok_or_else(|| {
        Failure::Other(format!("{option} {text:?}: expected SERVICE, SERVICE:PORT or SERVICE:PORT#SUBSET"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predictor_is_named_by_as_much_as_tells_it() {
        let named = |text: &str| predictor("--stable", text, "models", Some(8000)).map(|one| one.to_string());
        for (text, expected) in [
            ("iris-v1", "models/iris-v1:8000"),
            ("iris-v1:9000", "models/iris-v1:9000"),
            ("iris#v1", "models/iris:8000#v1"),
            ("iris:80#v1", "models/iris:80#v1"),
            ("other/iris-v1", "other/iris-v1:8000"),
        ] {
            assert_eq!(named(text).unwrap(), expected);
        }
        for wrong in ["", "iris:http", "iris:99999"] {
            assert!(named(wrong).unwrap_err().to_string().contains("expected SERVICE"), "{wrong}");
        }
    }
}

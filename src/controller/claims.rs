//! Who moves which routes: what every other Rollout claims, parsed once per version of it.

use std::{collections::HashMap, sync::Arc};

use kube::ResourceExt;
use sluice_core::{carrier::Claim, plan::Plan};

use super::subject::{RolloutObject, Subject};

/// The claims of Rollouts by uid, each with the version that it was read from.
#[derive(Default)]
pub(super) struct Claims(HashMap<String, (String, Option<Arc<Claim>>)>);

impl Claims {
    /// What the Rollouts of `all` claim, but for the one with the uid `own`.
    pub(super) fn beside(&mut self, own: &str, all: &[Arc<RolloutObject>]) -> Vec<Claim> {
        if self.0.len() > 2 * all.len() + 16 {
            self.0.retain(|uid, _| all.iter().any(|rollout| rollout.uid().as_ref() == Some(uid)));
        }
        let others = all.iter().filter(|rollout| rollout.uid().as_deref() != Some(own));
        others.filter_map(|rollout| self.of(rollout)).map(|claim| claim.as_ref().clone()).collect()
    }

    fn of(&mut self, rollout: &RolloutObject) -> Option<Arc<Claim>> {
        let (uid, version) = (rollout.uid()?, rollout.resource_version()?);
        match self.0.get(&uid) {
            Some((known, claim)) if *known == version => claim.clone(),
            Some(_) | None => {
                let claim = read(rollout).map(Arc::new);
                self.0.insert(uid, (version, claim.clone()));
                claim
            }
        }
    }
}

/// The routes that a Rollout is moving, or would move.
fn read(rollout: &RolloutObject) -> Option<Claim> {
    let subject = Subject::read(rollout);
    let pinned = subject.status.pinned.as_deref().cloned();
    let spec = pinned.or_else(|| subject.spec.clone().ok())?;
    let routes = Plan::new(&spec, &subject.namespace).ok()?.routes;
    Some(Claim { rollout: subject.display(), since: subject.created, routes })
}

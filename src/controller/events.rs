//! One Event per decision, one when a spec is refused, one when the metrics are missing and one when they are back, and one
//! when a stable predictor was changed in place. And one of a SeldonDeployment, when it asks for a copy of a Rollout and
//! cannot have it.
//!
//! Events are named after the decision, so that a second attempt finds the first one there. They are for people: one
//! that cannot be written is lost and keeps nothing from happening.

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, Resource, api::PostParams, core::ObjectMeta};
use sluice_core::api::{
    Condition, ConditionStatus, ConditionType, Decision, DecisionKind, Rollout, RolloutStatus,
};
use sluice_core::{digest, judge::Said};

use super::{
    context::Context,
    stores::{Seldon, SeldonObject},
    subject::Subject,
};

/// The reason of the Event that says that the metrics can be had again.
const METRICS_RECOVERED: &str = "MetricsRecovered";
/// The reason of the Event that says that a stable predictor was changed in place.
const UNGUARDED: &str = "Unguarded";
/// The reason of the Event that says that a SeldonDeployment is not guarded by the copy it asks for.
const NOT_WIRED: &str = "NotWired";
/// The longest note that the API server takes.
const LONGEST_NOTE: usize = 1024;

/// Says what was decided.
pub(super) async fn decided(context: &Context, subject: &Subject, decision: &Decision) {
    let warn = match decision.kind {
        DecisionKind::RolledBack
        | DecisionKind::Withdrawn
        | DecisionKind::Overdue
        | DecisionKind::Recovered => true,
        DecisionKind::Paused => decision.by.is_none(),
        DecisionKind::Adopted
        | DecisionKind::Started
        | DecisionKind::Entered
        | DecisionKind::Approved
        | DecisionKind::Resumed
        | DecisionKind::Superseded
        | DecisionKind::Cancelled
        | DecisionKind::Observed
        | DecisionKind::Lost
        | DecisionKind::Promoting
        | DecisionKind::Promoted
        | DecisionKind::Retired
        | DecisionKind::Retried
        | DecisionKind::Released
        | DecisionKind::Unknown => false,
    };
    let note = format!("{}: {}", decision.change(), decision.message);
    let (key, reason) = (decision.seq.to_string(), format!("{:?}", decision.kind));
    publish(context, subject, &News { key: &key, warn, reason: &reason, note: &note }).await;
}

/// Says that the spec is refused now, or for another reason than before.
pub(super) async fn refused(
    context: &Context,
    subject: &Subject,
    before: &RolloutStatus,
    after: &RolloutStatus,
) {
    let of = ConditionType::Accepted;
    let (Some(now), then) = (condition(after, of), condition(before, of)) else { return };
    let same = then.is_some_and(|then| then.status == now.status && then.reason == now.reason);
    if now.status != ConditionStatus::False || same {
        return;
    }
    let key = format!("{}-{}", now.reason.to_lowercase(), now.last_transition_time.timestamp_millis());
    publish(context, subject, &News { key: &key, warn: true, reason: &now.reason, note: &now.message }).await;
}

/// Says that the metrics cannot be had any more, or can again; nothing where only the explanation is another one. `said`
/// is what the looks say: the rollout may be over with the look that found the metrics again, and the condition with it.
pub(super) async fn metrics(
    context: &Context,
    subject: &Subject,
    before: &RolloutStatus,
    after: &RolloutStatus,
    said: Option<&Said>,
) {
    let missing = |status| {
        let condition = condition(status, ConditionType::MetricsAvailable);
        condition.filter(|condition| condition.status == ConditionStatus::False)
    };
    let rollout = subject.display();
    match (missing(before), missing(after)) {
        (None, Some(now)) => {
            tracing::warn!(rollout, reason = now.reason, "{}", now.message);
            let key =
                format!("{}-{}", now.reason.to_lowercase(), now.last_transition_time.timestamp_millis());
            publish(
                context,
                subject,
                &News { key: &key, warn: true, reason: &now.reason, note: &now.message },
            )
            .await;
        }
        (Some(then), Some(now)) if then.message != now.message => {
            tracing::warn!(rollout, reason = now.reason, "{}", now.message);
        }
        (Some(then), None) if said == Some(&Said::Available) => {
            let note = format!("the metrics can be had again, after: {}", then.message);
            tracing::info!(rollout, reason = METRICS_RECOVERED, "{note}");
            let since = then.last_transition_time.timestamp_millis();
            let key = format!("{}-{since}", METRICS_RECOVERED.to_lowercase());
            publish(
                context,
                subject,
                &News { key: &key, warn: false, reason: METRICS_RECOVERED, note: &note },
            )
            .await;
        }
        (Some(_) | None, Some(_) | None) => {}
    }
}

/// Says that what users have was changed past every check, or was changed once more.
pub(super) async fn unguarded(
    context: &Context,
    subject: &Subject,
    before: &RolloutStatus,
    after: &RolloutStatus,
) {
    let said = |status| {
        let condition = condition(status, ConditionType::Guarded);
        condition.filter(|condition| condition.status == ConditionStatus::False)
    };
    let Some(now) = said(after) else { return };
    if said(before).is_some_and(|then| then.message == now.message) {
        return;
    }
    tracing::warn!(rollout = subject.display(), reason = UNGUARDED, "{}", now.message);
    let key = format!("unguarded-{}", context.clock.now().timestamp_millis());
    publish(context, subject, &News { key: &key, warn: true, reason: UNGUARDED, note: &now.message }).await;
}

/// Says that a SeldonDeployment has no copy of the Rollout that it names, and why. Named after the cause: another replica, or
/// this one after a restart, finds it there.
pub(super) async fn not_wired(context: &Context, namespace: &str, seldon: &Seldon, cause: &str) {
    let regarding = reference::<SeldonObject>(namespace, &seldon.view.name, &seldon.uid);
    let key = format!("notwired-{}", digest(cause));
    publish_of(context, regarding, &News { key: &key, warn: true, reason: NOT_WIRED, note: cause }).await;
}

fn condition(status: &RolloutStatus, of: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.kind == of)
}

/// What an Event says.
struct News<'a> {
    /// Tells it from others about the same object.
    key: &'a str,
    warn: bool,
    reason: &'a str,
    note: &'a str,
}

async fn publish(context: &Context, subject: &Subject, news: &News<'_>) {
    let regarding = reference::<Rollout>(&subject.namespace, &subject.name, &subject.uid);
    publish_of(context, regarding, news).await;
}

fn reference<K: Resource<DynamicType = ()>>(namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

async fn publish_of(context: &Context, regarding: ObjectReference, news: &News<'_>) {
    let said = |field: &Option<String>| field.clone().unwrap_or_default();
    let namespace = said(&regarding.namespace);
    let of = format!("{} {namespace}/{}", said(&regarding.kind), said(&regarding.name));
    let events: Api<Event> = Api::namespaced(context.client.clone(), &namespace);
    let event = event(context, regarding, news);
    let what = format!("writing an Event of {of}");
    if let Err(error) = context.write(what, events.create(&PostParams::default(), &event)).await
        && !matches!(error, super::Error::Conflict { .. })
    {
        tracing::warn!(%of, %error, "an Event was lost");
    }
}

fn event(context: &Context, regarding: ObjectReference, news: &News<'_>) -> Event {
    let News { key, warn, reason, note } = *news;
    let uid = regarding.uid.iter().flat_map(|uid| uid.chars());
    let uid: String = uid.filter(char::is_ascii_alphanumeric).take(8).collect();
    let now = Timestamp::from_microsecond(context.clock.now().timestamp_micros()).ok();
    let name = format!("{}.{uid}.{key}", regarding.name.as_deref().unwrap_or_default());
    Event {
        metadata: ObjectMeta {
            // A name may have 253 characters; the end of it is what tells Events apart.
            name: Some(name.chars().skip(name.chars().count().saturating_sub(253)).collect()),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: now.map(MicroTime),
        reporting_controller: Some("sluice.dev/controller".to_owned()),
        reporting_instance: Some("sluice".to_owned()),
        action: Some(reason.to_owned()),
        reason: Some(reason.to_owned()),
        type_: Some(if warn { "Warning" } else { "Normal" }.to_owned()),
        note: Some(note[..note.floor_char_boundary(LONGEST_NOTE)].to_owned()),
        regarding: Some(regarding),
        ..Event::default()
    }
}

//! What a kubelet reports of a pod of one container.

use std::net::Ipv4Addr;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::super::namespace;
use super::plan::Plan;

/// How a pod's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It runs, ready or not.
    Running { ready: bool },
    /// It has ended and is about to be started again.
    BackOff,
}

/// The status of a pod whose process was started again so often.
pub(super) fn status(
    plan: &Plan,
    address: Ipv4Addr,
    started: Timestamp,
    restarts: u32,
    state: State,
) -> Value {
    let now = Timestamp::now();
    let ready = state == State::Running { ready: true };
    let condition = |kind: &str, holds: bool| {
        let status = if holds { "True" } else { "False" };
        json!({"type": kind, "status": status, "lastTransitionTime": now})
    };
    let container = match state {
        State::Running { .. } => json!({"running": {"startedAt": started}}),
        State::BackOff => json!({"waiting": {"reason": "CrashLoopBackOff"}, "running": null}),
    };
    json!({"status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "hostIP": namespace::NODE,
        "hostIPs": [{"ip": namespace::NODE}],
        "startTime": started,
        "conditions": [
            condition("PodScheduled", true),
            condition("Initialized", true),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
        "containerStatuses": [{
            "name": plan.container,
            "image": plan.image,
            "imageID": plan.image,
            "ready": ready,
            "started": state != State::BackOff,
            "restartCount": restarts,
            "state": container,
        }],
    }})
}

/// The status of a pod that cannot be run.
pub(super) fn failed(why: &str) -> Value {
    json!({"status": {"phase": "Failed", "reason": "CannotRun", "message": why}})
}

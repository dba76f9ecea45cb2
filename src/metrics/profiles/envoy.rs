//! Envoy's own counters about the clusters that Istio gives it, as a gateway's or a client's proxy says them.
//!
//! Seen with Envoy 1.40:
//!
//! - `upstream_rq_xx` (`upstream_rq` with a class under Istio's tags) has each request once, by the answer that its client got:
//!   an answer that was retried is in `retry_upstream_rq_xx` alone, a connection that did not come about and a time-out are a
//!   5xx here. `upstream_rq_total` counts tries, and does not count what never went out.
//! - Copies are counted like requests, so mirrors need no other place to read.
//! - `upstream_rq_time` has nothing of requests that timed out, and comes up to 5 s later.
//! - A gRPC status is nowhere: an answer 200 with status 14 is a 2xx. gRPC is measured by another profile.
//!
//! Istio's proxies say these only where the mesh asks for them, by `proxyStatsMatcher` with the prefix `cluster.outbound`.

use std::collections::BTreeMap;

use super::{ArmLabels, Exposed, Group, Profile, Set, codes::is_5xx};
use crate::metrics::exposition::Labels;

pub(super) fn profile() -> Profile {
    let group = |requests, arms, counts: fn(&Labels) -> bool, failed: fn(&Labels) -> bool| Group {
        sets: vec![Set {
            requests,
            latency: "envoy_cluster_upstream_rq_time",
            units_per_second: 1e3,
            counts,
            failed,
        }],
        fixed: BTreeMap::new(),
        arms,
        target_labels: false,
    };
    let of_istio = group(
        "envoy_cluster_upstream_rq",
        ArmLabels::Cluster { label: "cluster_name".to_owned() },
        // The same requests are there by code, too.
        |labels| !labels.contains_key("response_code"),
        |labels| labels.get("response_code_class").is_some_and(|class| is_5xx(class)),
    );
    let label = "envoy_cluster_name".to_owned();
    let failed: fn(&Labels) -> bool =
        |labels| labels.get("envoy_response_code_class").is_some_and(|class| class == "5");
    let of_others = |arms| group("envoy_cluster_upstream_rq_xx", arms, |_| true, failed);
    Profile {
        name: "envoy",
        groups: vec![of_istio, of_others(ArmLabels::CutCluster { label })],
        exposed: Exposed::ByProxies,
        needs: "proxies of Istio's that say what Envoy counts about its clusters (meshConfig.defaultConfig.proxyStatsMatcher with \
                the inclusionPrefixes cluster.outbound), and a Prometheus that scrapes them; HTTP, because Envoy counts a gRPC \
                status nowhere",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Expected, look};
    use super::*;

    /// What Envoy 1.40 exposed with Istio's tags, and with its own, after the same requests: to v1 `200 200 500 404 200 200`,
    /// three that were copied to v2, one 503 that was tried three times, one that timed out; to v2 a 503; to v3 one that
    /// nobody listened to.
    const OF_ISTIO: &str = include_str!("data/envoy-istio.txt");
    const OF_OTHERS: &str = include_str!("data/envoy-upstream.txt");

    #[test]
    fn every_request_counts_once_by_its_last_answer_and_copies_count() {
        let arms =
            ["models/iris-v1:8000", "models/iris-v2:8000", "models/iris-v3:8000#v3", "other/iris-v1:8000"];
        for text in [OF_ISTIO, OF_OTHERS] {
            let expected =
                [Expected::new(11, 3), Expected::new(4, 1), Expected::new(1, 1), Expected::new(0, 0)];
            look(&profile(), text, &arms, &[], &expected);
            let slow = [Expected::new(11, 3).slower(250_000, 1), Expected::new(4, 1).slower(250_000, 0)];
            look(&profile(), text, &arms[..2], &[250_000], &slow);
        }
    }

    #[test]
    fn the_port_and_the_subset_are_of_the_arm() {
        let arms = ["models/iris-v1:9000", "models/iris-v3:8000", "models/iris-v3:8000#v4"];
        let nothing = [Expected::new(0, 0), Expected::new(0, 0), Expected::new(0, 0)];
        for text in [OF_ISTIO, OF_OTHERS] {
            look(&profile(), text, &arms, &[], &nothing);
        }
    }
}

//! The weights that Envoy has, over time, and whether the answers of users are what chance makes of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use sluice_lab::binomial;
use sluice_lab::real::{Answer, Answers, wait};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::lab::{LIMIT, Lab};
use crate::world::ROUTE;

/// How often Envoy is asked.
const EVERY: Duration = Duration::from_millis(100);
/// Envoy's workers have what its main thread shows a moment later; a busy machine takes longer to send what is to be sent.
pub const MARGIN: Duration = Duration::from_millis(250);
/// The chance that a test fails though nothing is wrong.
pub const MISS: f64 = 1e-6;
/// Over fewer requests chance explains nearly any share.
const FEWEST: u64 = 100;

type Weights = BTreeMap<String, u64>;

/// When Envoy was asked and had answered, and what it said.
type Look = (Range<Instant>, Weights);

/// What Envoy did with one route, from the moment this began. Dropping it ends it.
pub struct Observed {
    looks: Arc<Mutex<Vec<Look>>>,
    disturbed: Mutex<Vec<Range<Instant>>>,
    task: JoinHandle<()>,
}

/// What of Envoy's is watched.
enum Watched {
    /// A route of a host.
    Route { host: String, route: String },
    /// Connections to a port, for a host as clients name it where that is given.
    Connections { port: u16, sni: Option<String> },
}

/// While Envoy had the same weights.
#[derive(Clone, Debug)]
pub struct Window {
    pub weights: Weights,
    pub from: Instant,
    pub to: Instant,
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observed {
    /// Watches the managed route of a host.
    pub fn start(lab: &Arc<Lab>, host: &str) -> Self {
        Self::of_route(lab, host, ROUTE)
    }

    /// Watches the route of this name.
    pub fn of_route(lab: &Arc<Lab>, host: &str, route: &str) -> Self {
        Self::of(lab, Watched::Route { host: host.to_owned(), route: route.to_owned() })
    }

    /// Watches connections to a port, for a host as clients name it where that is given.
    pub fn of_connections(lab: &Arc<Lab>, port: u16, sni: Option<&str>) -> Self {
        Self::of(lab, Watched::Connections { port, sni: sni.map(str::to_owned) })
    }

    fn of(lab: &Arc<Lab>, watched: Watched) -> Self {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let (kept, lab) = (looks.clone(), lab.clone());
        let task = tokio::spawn(async move {
            loop {
                let asked = Instant::now();
                if let Ok(weights) = weights(&lab, &watched).await {
                    kept.lock().unwrap().push((asked..Instant::now(), weights));
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { looks, disturbed: Mutex::default(), task }
    }

    /// Others write the route now, and for so long what users see does not count. Between two looks at Envoy a change may
    /// come and go.
    pub fn disturbed_for(&self, time: Duration) {
        let now = Instant::now();
        self.disturbed.lock().unwrap().push(now..now + time);
    }

    /// Whether somebody else had written the route a moment before.
    pub fn was_disturbed(&self, at: Instant) -> bool {
        self.disturbed.lock().unwrap().iter().any(|time| time.contains(&at))
    }

    /// Times of unchanged weights that lasted long enough to say something, the oldest first.
    pub fn windows(&self) -> Vec<Window> {
        let mut windows: Vec<Window> = Vec::new();
        for (at, weights) in self.looks.lock().unwrap().iter() {
            match windows.last_mut() {
                // An answer that took long may have been true at any time of that.
                Some(last) if last.weights == *weights => last.to = at.start,
                _ => windows.push(Window { weights: weights.clone(), from: at.end, to: at.end }),
            }
        }
        let inner = windows.into_iter().map(|window| Window {
            from: window.from + MARGIN,
            to: window.to.checked_sub(MARGIN).unwrap_or(window.to),
            ..window
        });
        inner.filter(|window| window.from < window.to).collect()
    }

    /// Waits until users sent so many requests while a Service had its present weight, and this is that weight.
    pub async fn sent(&self, users: &Answers, service: &str, weight: u64, count: usize) -> Result<()> {
        wait::until(LIMIT, format!("{count} requests while {service} has {weight}%"), || {
            // A window so short that it says nothing is not among them: the last may be of the weight before.
            let of_weight = |window: &Window| window.weights.get(service).copied().unwrap_or(0) == weight;
            let last = self.windows().pop().filter(of_weight);
            let sent = last.map_or(0, |window| users.between(window.from, window.to).len());
            std::future::ready(if sent >= count { Ok(()) } else { Err(sent.to_string()) })
        })
        .await?;
        Ok(())
    }

    /// [`share_is`] for a Service whose predictor calls itself something else.
    pub fn share_is(
        &self,
        answers: &Answers,
        (service, predictor): (&str, &str),
        weight: u64,
    ) -> Result<u64> {
        let windows = self.windows();
        let of_weight =
            windows.iter().filter(|window| window.weights.get(service).copied().unwrap_or(0) == weight);
        let answers = of_weight.flat_map(|window| answers.between(window.from, window.to));
        let counted: Vec<Answer> = answers.filter(|answer| !self.was_disturbed(answer.sent)).collect();
        let (all, by) = (counted.len() as u64, Answer::by_predictor(&counted));
        #[allow(clippy::cast_precision_loss, reason = "a weight is at most 100")]
        let likely = binomial::interval(all, weight as f64 / 100.0, MISS);
        ensure!(all >= FEWEST, "only {all} requests were sent while {service} had {weight}%");
        let seen = by.get(predictor).copied().unwrap_or(0);
        ensure!(
            likely.contains(&seen),
            "{service} at {weight}%: {seen} of {all}, and likely is {likely:?}; {by:?}"
        );
        Ok(all)
    }

    /// [`share_is`](Self::share_is) over at least so many requests.
    pub fn share_is_over(
        &self,
        answers: &Answers,
        (service, predictor): (&str, &str),
        weight: u64,
        requests: u64,
    ) -> Result<()> {
        let seen = self.share_is(answers, (service, predictor), weight)?;
        ensure!(seen >= requests, "only {seen} requests were sent while {service} had {weight}%");
        println!("{service} at {weight}%: {seen} requests");
        Ok(())
    }

    /// The weights that a Service had, one after the other, as Envoy had them.
    pub fn sequence(&self, service: &str) -> Vec<u64> {
        let looks = self.looks.lock().unwrap();
        let mut list: Vec<u64> =
            looks.iter().map(|(_, weights)| weights.get(service).copied().unwrap_or(0)).collect();
        list.dedup();
        list
    }
}

/// What Envoy sends where, by Service; and by `<service>#<subset>`, where it tells subsets apart.
async fn weights(lab: &Lab, watched: &Watched) -> Result<Weights> {
    let gateway = &lab.shared().await?.gateway;
    let found = match watched {
        Watched::Route { host, route } => gateway.weights(host, route).await?,
        Watched::Connections { port, sni } => gateway.connection_weights(*port, sni.as_deref()).await?,
    };
    ensure!(!found.is_empty(), "Envoy does not know where to send");
    Ok(by_service(found))
}

fn by_service(clusters: Vec<(String, u64)>) -> Weights {
    let mut weights = Weights::new();
    for (cluster, weight) in clusters {
        // outbound|8000|<subset>|iris-v1.models.svc.cluster.local
        let mut parts = cluster.rsplit('|');
        let host = parts.next().unwrap_or_default();
        let service = host.split('.').next().unwrap_or_default();
        // Two subsets of a Service share what it has.
        *weights.entry(service.to_owned()).or_default() += weight;
        if let Some(subset) = parts.next().filter(|subset| !subset.is_empty()) {
            *weights.entry(format!("{service}#{subset}")).or_default() += weight;
        }
    }
    weights
}

/// Over all times at which a Service had a weight, the answers of its predictor are as many as chance explains; how many
/// requests these were: enough to tell.
pub fn share_is(observed: &Observed, answers: &Answers, service: &str, weight: u64) -> Result<u64> {
    observed.share_is(answers, (service, service), weight)
}

/// [`share_is`] over at least so many requests.
pub fn share_is_over(
    observed: &Observed,
    answers: &Answers,
    service: &str,
    weight: u64,
    requests: u64,
) -> Result<()> {
    observed.share_is_over(answers, (service, service), weight, requests)
}

/// Not one request failed.
pub fn none_failed(answers: &[Answer]) -> Result<()> {
    only_failed(answers, |_| false)
}

/// No request failed but those that `allowed` is about.
pub fn only_failed(answers: &[Answer], allowed: impl Fn(&Answer) -> bool) -> Result<()> {
    ensure!(!answers.is_empty(), "nobody asked");
    let failed: Vec<_> = answers.iter().filter(|answer| answer.failed() && !allowed(answer)).collect();
    ensure!(
        failed.is_empty(),
        "{} of {} requests failed, the first: {:?}, the last: {:?}",
        failed.len(),
        answers.len(),
        failed.first(),
        failed.last()
    );
    Ok(())
}

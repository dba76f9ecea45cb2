//! What becomes of the events of one watch, the same before both APIs.

use std::{collections::VecDeque, future::pending, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;

use super::{EventThen, Faults, Target, Verb};
use crate::embedded::Refusal;

/// A line of a watch.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// An event as JSON, with the end of the line.
    pub(crate) text: Bytes,
    /// Namespace and name of the object, where it is a change that faults may strike.
    pub(crate) about: Option<(String, String)>,
}

impl Line {
    /// An event as the real server writes it, the type first: clients rely on it when they read an object without
    /// knowing yet what it is.
    pub(crate) fn of(event: &Value, about: Option<(String, String)>) -> Self {
        let text = format!("{{\"type\":{},\"object\":{}}}\n", event["type"], event["object"]);
        Self { text: Bytes::from(text), about }
    }

    /// An error: what a watch says instead of a change that it cannot give.
    pub(crate) fn error(refusal: &Refusal) -> Self {
        Self::of(&json!({"type": "ERROR", "object": refusal.body()}), None)
    }
}

type Lines = Pin<Box<dyn Stream<Item = Line> + Send>>;

struct Watched {
    faults: Arc<Faults>,
    /// The plural of what is watched.
    resource: String,
    lines: Lines,
    /// What comes before the next of `lines`.
    ready: VecDeque<Bytes>,
    ended: bool,
    closing: Receiver<u64>,
}

/// The lines of a watch of this resource (plural) as a client with these faults gets them.
pub(crate) fn struck<L>(
    faults: &Arc<Faults>,
    resource: String,
    lines: L,
) -> impl Stream<Item = Bytes> + Send + use<L>
where
    L: Stream<Item = Line> + Send + 'static,
{
    let closing = faults.closing();
    let (faults, lines) = (faults.clone(), Box::pin(lines));
    let watched = Watched { faults, resource, lines, ready: VecDeque::new(), ended: false, closing };
    stream::unfold(watched, |mut watched| async move {
        let line = watched.next().await?;
        // Nobody hears what is said after the end of their process.
        watched.faults.while_alive().await;
        Some((line, watched))
    })
}

impl Watched {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.faults.while_alive().await;
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                biased;
                line = self.lines.next() => match line {
                    Some(line) => self.take(line).await,
                    None => self.ended = true,
                },
                // Its sender lives in the faults.
                _ = self.closing.changed() => self.ended = true,
                () = self.faults.crashed() => return pending().await,
            }
        }
    }

    /// Makes of a line what the faults leave of it.
    async fn take(&mut self, line: Line) {
        let fault = line.about.as_ref().and_then(|(namespace, name)| {
            let resource = &self.resource;
            self.faults.strike_event(&Target { verb: Verb::Watch, resource, namespace, name })
        });
        match fault {
            None => self.ready.push_back(line.text),
            Some(EventThen::Tamper(tamper)) => {
                let mut event: Value = serde_json::from_slice(&line.text).unwrap_or_default();
                tamper.change(&mut event["object"]);
                self.ready.push_back(Line::of(&event, None).text);
            }
            Some(EventThen::Drop) => {}
            Some(EventThen::Duplicate) => self.ready.extend([line.text.clone(), line.text]),
            Some(EventThen::Delay(time)) => {
                tokio::time::sleep(time).await;
                self.ready.push_back(line.text);
            }
            Some(EventThen::Expire) => {
                let refusal = Refusal::new(410, "Expired", "too old resource version, by a fault");
                self.ready.push_back(Line::error(&refusal).text);
                self.ended = true;
            }
            Some(EventThen::Close) => self.ended = true,
        }
    }
}

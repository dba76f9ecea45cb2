//! The lines of a watch, as the server sends them.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;

use crate::faults::Line;

/// Which of a watch's events tell what there was, not what happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Initial {
    /// It begins at a version that the client knows.
    None,
    /// All up to this version.
    UpTo(u64),
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Object,
}

#[derive(Default, Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
    resource_version: String,
}

impl Initial {
    /// What there is now of a kind.
    pub(super) async fn until_now(upstream: &Client, path: &str) -> io::Result<Self> {
        let request =
            Request::get(format!("{path}?limit=1")).body(Body::empty()).map_err(io::Error::other)?;
        let answer = upstream.send(request).await.map_err(io::Error::other)?;
        let body = answer.into_body().collect_bytes().await.map_err(io::Error::other)?;
        // What is no list has no version: the watch is then refused, too.
        let list: Object = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Self::UpTo(list.metadata.resource_version.parse().unwrap_or_default()))
    }

    fn holds(self, version: &str) -> bool {
        match self {
            Self::None => false,
            Self::UpTo(end) => version.parse().is_ok_and(|version: u64| version <= end),
        }
    }
}

/// The events of a watch's answer, until its end or until it breaks.
pub(super) fn lines<B>(body: B, initial: Initial) -> impl Stream<Item = Line> + Send
where
    B: http_body::Body<Data = Bytes, Error: Send> + Send,
{
    let data = Box::pin(body.into_data_stream());
    stream::unfold((data, BytesMut::new()), move |(mut data, mut buffer)| async move {
        let mut searched = 0;
        loop {
            if let Some(end) = buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let text = buffer.split_to(searched + end + 1).freeze();
                return Some((line(text, initial), (data, buffer)));
            }
            searched = buffer.len();
            buffer.extend_from_slice(&data.next().await?.ok()?);
        }
    })
}

fn line(text: Bytes, initial: Initial) -> Line {
    let event = serde_json::from_slice::<Event>(&text).ok();
    let change = event.filter(|event| {
        matches!(event.r#type.as_str(), "ADDED" | "MODIFIED" | "DELETED")
            && !initial.holds(&event.object.metadata.resource_version)
    });
    let about = change.map(|change| (change.object.metadata.namespace, change.object.metadata.name));
    Line { text, about }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: &str =
        r#"{"type":"ADDED","object":{"metadata":{"namespace":"a","name":"b","resourceVersion":"7"}}}"#;
    const BOOKMARK: &str = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;

    #[tokio::test]
    async fn lines_are_whole_however_they_arrive_and_only_changes_are_about_something() {
        let text = format!("{ADDED}\n{BOOKMARK}\n{ADDED}\nhalf of a li");
        for size in [1, 7, 1000] {
            let chunks: Vec<Result<_, std::convert::Infallible>> = text
                .as_bytes()
                .chunks(size)
                .map(|part| Ok(http_body::Frame::data(Bytes::copy_from_slice(part))))
                .collect();
            let body = http_body_util::StreamBody::new(stream::iter(chunks));
            let seen: Vec<Line> = lines(body, Initial::None).collect().await;
            let about = Some(("a".to_owned(), "b".to_owned()));
            let seen: Vec<_> = seen.into_iter().map(|line| (line.text, line.about)).collect();
            let whole = |text: &str| Bytes::from(format!("{text}\n"));
            assert_eq!(seen, [(whole(ADDED), about.clone()), (whole(BOOKMARK), None), (whole(ADDED), about)]);
        }
    }

    #[test]
    fn what_was_there_before_is_no_change() {
        assert!(line(Bytes::from(ADDED), Initial::UpTo(7)).about.is_none());
        assert!(line(Bytes::from(ADDED), Initial::UpTo(6)).about.is_some());
    }
}

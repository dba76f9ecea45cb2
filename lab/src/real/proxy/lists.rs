//! Lists of another time: after a restart a client may be told by a server that is behind the one it wrote to.

use std::collections::HashMap;
use std::sync::PoisonError;

use bytes::Bytes;
use kube::client::Body;

use super::service::Shared;
use crate::real::{Error, Result};

/// Answers to requests for lists, by what was asked for.
#[derive(Clone, Debug, Default)]
pub struct Lists(HashMap<String, Bytes>);

impl Lists {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a proxy knows about lists.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What was asked for so far, as paths with queries.
    asked: Vec<String>,
    /// What is answered the next time.
    old: Lists,
}

impl Shared {
    /// Notes that this was asked for; the old answer to it, if there is one.
    pub(super) fn listed(&self, path: &str) -> Option<Bytes> {
        let mut known = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.asked.iter().any(|asked| asked == path) {
            known.asked.push(path.to_owned());
        }
        known.old.0.remove(path)
    }

    pub(super) fn be_old(&self, lists: Lists) {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).old = lists;
    }

    pub(super) async fn lists_now(&self) -> Result<Lists> {
        let asked = self.lists.lock().unwrap_or_else(PoisonError::into_inner).asked.clone();
        let mut lists = Lists::default();
        for path in asked {
            let failed = || Error::kube(format!("list {path}"));
            let request = http::Request::get(&path).body(Body::empty());
            let request = request.map_err(|error| failed()(kube::Error::HttpError(error)))?;
            let answer = self.upstream.send(request).await.map_err(failed())?;
            let body = answer.into_body().collect_bytes().await.map_err(failed())?;
            lists.0.insert(path, body);
        }
        Ok(lists)
    }
}

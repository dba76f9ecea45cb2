//! The open inference protocol over gRPC, as far as traffic needs it: one method, a frame in, a frame and a status out.
//!
//! Messages are written by hand, because two fields of one message are not worth a code generator.

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, extract::State, response::Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};

use super::{ANSWERED_BY, Inner};

/// The path of the method `ModelInfer`.
pub const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The trailer that says how a call ended.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// What both sides call a body of frames.
const TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

const OK: HeaderValue = HeaderValue::from_static("0");
const INVALID_ARGUMENT: HeaderValue = HeaderValue::from_static("3");
const INTERNAL: HeaderValue = HeaderValue::from_static("13");

/// The length of a frame's head: whether it is compressed, and how long it is.
const HEAD: usize = 5;

/// A frame with the message of the first fields of a `ModelInferRequest` or a `ModelInferResponse`, which are the same:
/// the names of the model and of its version. Names have at most 127 bytes here.
pub fn frame(model: &str, version: &str) -> Bytes {
    let mut message = BytesMut::new();
    for (number, text) in [(1_u8, model), (2, version)] {
        // Its number and that it is text; then its length, which one byte says up to 127.
        message.put_u8(number << 3 | 2);
        message.put_u8(u8::try_from(text.len()).unwrap_or(0).min(127));
        message.put_slice(text.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.extend(message);
    frame.freeze()
}

/// Whether a body is one whole frame, not compressed.
fn is_frame(body: &[u8]) -> bool {
    let Some((head, message)) = body.split_first_chunk::<HEAD>() else { return false };
    let [compressed, length @ ..] = head;
    *compressed == 0 && u32::from_be_bytes(*length) as usize == message.len()
}

pub(super) async fn infer(State(inner): State<Arc<Inner>>, body: Bytes) -> Response {
    let turn = inner.turn();
    if !turn.latency.is_zero() {
        tokio::time::sleep(turn.latency).await;
    }
    // By HTTP's code where what was served is counted: gRPC's own is in the trailers.
    let (status, code) = if !is_frame(&body) {
        (INVALID_ARGUMENT, StatusCode::BAD_REQUEST)
    } else if turn.fails {
        (INTERNAL, StatusCode::INTERNAL_SERVER_ERROR)
    } else {
        (OK, StatusCode::OK)
    };
    inner.answered(None, code.as_u16(), &turn);
    let message = if status == OK { frame(&inner.model, &inner.version) } else { Bytes::new() };
    let trailers = HeaderMap::from_iter([(STATUS, status)]);
    let body = Full::new(message).with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, TYPE);
    if let Ok(name) = HeaderValue::from_str(&inner.name()) {
        response.headers_mut().insert(ANSWERED_BY, name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_its_length_and_its_message() {
        let frame = frame("iris", "v2");
        assert_eq!(&frame[..], b"\x00\x00\x00\x00\x0a\x0a\x04iris\x12\x02v2");
        assert!(is_frame(&frame));
        assert!(!is_frame(&frame[1..]) && !is_frame(b"") && !is_frame(b"\x01\0\0\0\0"));
    }
}

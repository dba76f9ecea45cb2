//! Spec and status of a Rollout, small.
//!
//! A Rollout at rest is kept for days and read once in minutes. Its status has twenty decisions with the numbers that
//! they were made on: twenty times nearly the same text, which packs to a tenth. Ten thousand of them then fit into the
//! memory that a thousand would take.

use std::{
    borrow::Cow,
    io::{Read, Write},
    sync::Arc,
};

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use serde_json::value::RawValue;

/// Shorter texts are not worth it, in bytes.
const WORTH_PACKING: usize = 512;

/// Spec and status as JSON. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Body(Arc<Form>);

#[derive(Debug)]
enum Form {
    Plain {
        spec: Option<Box<RawValue>>,
        status: Option<Box<RawValue>>,
    },
    /// Both texts, one after the other, deflated.
    Packed {
        spec: Option<usize>,
        status: Option<usize>,
        both: Box<[u8]>,
    },
}

impl Body {
    pub(super) fn new(spec: Option<Box<RawValue>>, status: Option<Box<RawValue>>) -> Self {
        Self(Arc::new(Form::Plain { spec, status }))
    }

    /// The texts of spec and status, as far as they are there.
    pub(super) fn texts(&self) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
        match &*self.0 {
            Form::Plain { spec, status } => {
                let text = |raw| Cow::Borrowed(RawValue::get(raw));
                (spec.as_deref().map(text), status.as_deref().map(text))
            }
            Form::Packed { spec, status, both } => {
                let length = spec.unwrap_or(0) + status.unwrap_or(0);
                let mut text = String::with_capacity(length);
                // What was packed here can be unpacked here.
                let unpacked = DeflateDecoder::new(&**both).read_to_string(&mut text);
                debug_assert!(unpacked.is_ok_and(|bytes| bytes == length), "a packed Rollout is damaged");
                let status_text = text.split_off(spec.unwrap_or(0).min(text.len()));
                (spec.map(|_| text.into()), status.map(|_| status_text.into()))
            }
        }
    }

    /// The same, smaller.
    pub(super) fn packed(&self) -> Self {
        let Form::Plain { spec, status } = &*self.0 else { return self.clone() };
        let length = |raw: &Option<Box<RawValue>>| raw.as_ref().map(|raw| raw.get().len());
        let (spec_length, status_length) = (length(spec), length(status));
        if spec_length.unwrap_or(0) + status_length.unwrap_or(0) < WORTH_PACKING {
            return self.clone();
        }
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        let written =
            [spec, status].into_iter().flatten().try_for_each(|raw| encoder.write_all(raw.get().as_bytes()));
        match written.and_then(|()| encoder.finish()) {
            Ok(both) => {
                Self(Arc::new(Form::Packed { spec: spec_length, status: status_length, both: both.into() }))
            }
            Err(_) => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps)] // as it is needed
    fn raw(text: &str) -> Option<Box<RawValue>> {
        Some(RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn what_is_packed_comes_out_as_it_was() {
        let decision = r#"{"message":"p99 is 210 ms, at most 250 ms — «gut»","weight":20}"#;
        let long = format!("[{}]", [decision; 40].join(","));
        for (spec, status) in [
            (raw("{}"), raw(&long)),
            (raw(&long), None),
            (None, raw(&long)),
            (raw(&long), raw(&long)),
            (raw("{}"), raw("{}")),
            (None, None),
        ] {
            let body = Body::new(spec, status);
            assert_eq!(body.packed().texts(), body.texts());
            assert_eq!(body.packed().packed().texts(), body.texts());
        }
    }

    #[test]
    fn twenty_decisions_take_a_tenth() {
        let long = format!("[{}]", [r#"{"message":"p99 is 210 ms","weight":20}"#; 100].join(","));
        match &*Body::new(raw("{}"), raw(&long)).packed().0 {
            Form::Packed { both, .. } => assert!(both.len() < long.len() / 10, "{}", both.len()),
            Form::Plain { .. } => panic!("it is not packed"),
        }
    }
}

//! Refusals: what the API answers instead of doing what it was asked, as the `Status` bodies of the real server.

use http::StatusCode;
use serde_json::{Value, json};

use super::kind::Kind;

/// A refusal, answered as a `Status` object under its HTTP code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason, `NotFound`, `Conflict`, ...
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// `details` of the `Status`, `null` when there are none.
    pub details: Value,
}

impl Refusal {
    /// A refusal without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: Value::Null }
    }

    /// What an overloaded or restarting API server answers: 503.
    pub fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    }

    /// What a validating webhook's denial looks like from outside: 403 unless the webhook says otherwise.
    pub fn denied_by(webhook: &str, message: &str) -> Self {
        Self::new(403, "Forbidden", format!("admission webhook \"{webhook}\" denied the request: {message}"))
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn no_such_path() -> Self {
        Self {
            details: json!({}),
            ..Self::new(404, "NotFound", "the server could not find the requested resource")
        }
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(404, "NotFound", message).about(kind, name)
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(409, "AlreadyExists", message).about(kind, name)
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(409, "Conflict", message).about(kind, name)
    }

    pub(super) fn modified(kind: &Kind, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    /// 422 for one field, as the server's validation reports it.
    pub(super) fn invalid(kind: &Kind, name: &str, field: &str, why: &str) -> Self {
        let message = format!("{} \"{name}\" is invalid: {field}: {why}", kind.qualified());
        let details = json!({
            "name": name,
            "group": kind.group,
            "kind": kind.kind,
            "causes": [{"reason": "FieldValueInvalid", "message": why, "field": field}],
        });
        Self { details, ..Self::new(422, "Invalid", message) }
    }

    /// 422 for an object of another kind than the URL's.
    pub(super) fn another_kind(kind: &Kind, given: &str, name: &str) -> Self {
        let given = Kind { kind: given.into(), ..kind.clone() };
        Self::invalid(
            &given,
            name,
            "kind",
            &format!("Invalid value: \"{}\": must be {}", given.kind, kind.kind),
        )
    }

    /// 422 for a patch that could not be applied: the same for a failed `test` and for a wrong path.
    pub(super) fn unprocessable(why: &str) -> Self {
        let message = "the server rejected our request due to an error in our request";
        let details = json!({"causes": [{"message": why}]});
        Self { details, ..Self::new(422, "Invalid", message) }
    }

    pub(super) fn unsupported_media_type(given: &str, supported: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format: {given} is not among {supported}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    /// What the server says of a version that is no number, without a reason and as if it were its own fault.
    pub(super) fn no_version(given: &str) -> Self {
        let why = format!("strconv.ParseUint: parsing \"{given}\": invalid syntax");
        Self::new(500, "", format!("resourceVersion: Invalid value: \"{given}\": {why}"))
    }

    /// The version that a watch wants to start from is no longer kept.
    pub(super) fn expired(wanted: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {wanted} ({oldest})"))
    }

    fn about(self, kind: &Kind, name: &str) -> Self {
        let mut details = json!({"name": name, "kind": kind.plural});
        if !kind.group.is_empty() {
            details["group"] = kind.group.clone().into();
        }
        Self { details, ..self }
    }

    /// The HTTP code; 500 should the number not be one.
    pub(crate) fn http_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The `Status` object.
    pub(crate) fn body(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.clone().into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}

//! The open inference protocol, version 2, over HTTP.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::{ANSWERED_BY, Inner, MODEL_INFER, grpc, lock};

type Predictor = State<Arc<Inner>>;

/// How long the answer was made to take, from the handler to the metrics.
#[derive(Clone, Copy)]
struct Took(Duration);

pub(super) fn router(inner: Arc<Inner>) -> Router {
    let counted = Router::new()
        .route("/v2", get(server))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/versions/{version}", get(model))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "Not Found") })
        .layer(middleware::from_fn_with_state(inner.clone(), count));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/v2/health/live", get(|| async { "" }))
        .route("/v2/health/ready", get(|State(inner): Predictor| async move { health(&inner) }))
        .route(MODEL_INFER, post(grpc::infer))
        .merge(counted)
        .with_state(inner)
}

async fn metrics(State(inner): Predictor) -> Response {
    let misbehaviour = lock(&inner.behaviour).metrics.clone();
    match misbehaviour {
        None => inner.exposition().into_response(),
        Some(how) => how.respond(|| Value::Null).await,
    }
}

/// Counts what MLServer's middleware counts.
async fn count(State(inner): Predictor, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_string());
    lock(&inner.metrics).begun(&method);
    let mut response = next.run(request).await;
    let took = response.extensions().get::<Took>().map_or(Duration::ZERO, |t| t.0);
    lock(&inner.metrics).ended(&method, &path, response.status().as_u16(), took);
    if let Ok(name) = HeaderValue::from_str(&inner.name()) {
        response.headers_mut().insert(ANSWERED_BY, name);
    }
    response
}

fn error(code: StatusCode, message: &str) -> Response {
    (code, Json(json!({"error": message}))).into_response()
}

fn health(inner: &Inner) -> StatusCode {
    if lock(&inner.behaviour).ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn server() -> Json<Value> {
    Json(json!({"name": "sluice-lab", "version": env!("CARGO_PKG_VERSION"), "extensions": []}))
}

/// Model, and version where the URL has one.
fn named(path: &[(String, String)]) -> (&str, Option<&str>) {
    let part = |name: &str| path.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    (part("model").unwrap_or_default(), part("version"))
}

impl Inner {
    fn serves(&self, model: &str, version: Option<&str>) -> bool {
        model == self.model && version.is_none_or(|v| v == self.version)
    }
}

fn unknown(model: &str) -> Response {
    error(StatusCode::NOT_FOUND, &format!("Model {model} not found"))
}

async fn model(State(inner): Predictor, Path(path): Path<Vec<(String, String)>>) -> Response {
    let (model, version) = named(&path);
    if !inner.serves(model, version) {
        return unknown(model);
    }
    let tensor = |name: &str| json!([{"name": name, "datatype": "FP64", "shape": [-1]}]);
    Json(json!({
        "name": inner.model, "versions": [inner.version], "platform": "sluice-lab",
        "inputs": tensor("input"), "outputs": tensor("output"),
    }))
    .into_response()
}

async fn model_ready(State(inner): Predictor, Path(path): Path<Vec<(String, String)>>) -> Response {
    let (model, version) = named(&path);
    if inner.serves(model, version) { health(&inner).into_response() } else { unknown(model) }
}

async fn infer(State(inner): Predictor, Path(path): Path<Vec<(String, String)>>, body: Bytes) -> Response {
    let (model, version) = named(&path);
    if !inner.serves(model, version) {
        return unknown(model);
    }
    let turn = inner.turn();
    if !turn.latency.is_zero() {
        tokio::time::sleep(turn.latency).await;
    }
    let mut response = match predict(&inner, &body) {
        Ok(_) if turn.fails => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "the model failed, as it was told to")
        }
        Ok(prediction) => Json(prediction).into_response(),
        Err(why) => error(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    response.extensions_mut().insert(Took(turn.latency));
    inner.answered(version, response.status().as_u16(), &turn);
    response
}

/// The sum of all inputs, times the number in the version: two versions answer differently, and one can see why.
fn predict(inner: &Inner, body: &[u8]) -> Result<Value, String> {
    let request: Value =
        serde_json::from_slice(body).map_err(|e| format!("not an inference request: {e}"))?;
    let inputs = request["inputs"].as_array().ok_or("not an inference request: inputs is missing")?;
    let sum: f64 = inputs.iter().map(|i| total(&i["data"])).sum();
    let digits: String = inner.version.chars().filter(char::is_ascii_digit).collect();
    let factor: f64 = digits.parse().unwrap_or(1.0);
    Ok(json!({
        "model_name": inner.model,
        "model_version": inner.version,
        "id": request["id"].as_str().unwrap_or_default(),
        "outputs": [{"name": "output", "datatype": "FP64", "shape": [1], "data": [sum * factor]}],
    }))
}

/// The sum of the numbers in a tensor, flat or nested.
fn total(data: &Value) -> f64 {
    match data {
        Value::Number(n) => n.as_f64().unwrap_or_default(),
        Value::Array(items) => items.iter().map(total).sum(),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Object(_) => 0.0,
    }
}

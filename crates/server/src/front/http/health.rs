//! `GET /healthz`, `GET /readyz` and `GET /metrics`: what machines want to know of the server.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::App;
use super::json::response;
use crate::engine::Engine;

/// How long the store may take to say anything.
const STORE_WITHIN: Duration = Duration::from_secs(2);

/// The content type of the Prometheus text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The reply to `GET /readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// Whether logins can succeed here now.
    pub ready: bool,
    /// What is wrong, in no particular order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<String>,
}

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it can do its work, or not, and why not.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let mut wrong = Vec::new();
    if app.stop.is_requested() {
        wrong.push("the server is stopping".to_owned());
    }
    if !store_answers(&app.engine).await {
        wrong.push("the account store is away".to_owned());
    }
    if app.engine.audit.health().is_some_and(|health| health.failing) {
        wrong.push("the audit record cannot be written".to_owned());
    }
    let code = if wrong.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    response(code, &Readiness { ready: wrong.is_empty(), wrong })
}

/// `GET /metrics`: the counters, in Prometheus' text format.
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let up = store_answers(&app.engine).await;
    let text = crate::metrics::text::exposition(&app.engine, up);
    ([(header::CONTENT_TYPE, HeaderValue::from_static(EXPOSITION))], text).into_response()
}

async fn store_answers(engine: &Engine) -> bool {
    let asked = tokio::time::timeout(STORE_WITHIN, engine.store.watch()).await;
    asked.is_ok_and(|answer| answer.is_ok())
}

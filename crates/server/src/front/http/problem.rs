//! Requests that are refused before anybody is asked, and what their peers are told.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// What is wrong with a request. Its text is about the request, never about a login.
#[derive(Debug)]
pub(super) struct Problem {
    code: StatusCode,
    error: Cow<'static, str>,
    node: Option<u16>,
    header: Option<(header::HeaderName, HeaderValue)>,
}

/// A problem as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemView {
    /// Always `error`.
    pub status: String,
    /// What is wrong, and what to do about it.
    pub error: String,
    /// With 421: the node that holds the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u16>,
}

impl Problem {
    pub(super) fn new(code: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        Self { code, error: error.into(), node: None, header: None }
    }

    /// 400: the request is not what it should be.
    pub(super) fn bad(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// 401: no session, or none any more. One text for every reason.
    pub(super) fn no_session() -> Self {
        let error = "this needs a session that is valid now: log in, and send its token as \
                     `Authorization: Bearer TOKEN`";
        Self::new(StatusCode::UNAUTHORIZED, error)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 431: more headers than any honest request has.
    pub(super) fn too_many_headers() -> Self {
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many headers")
    }

    /// 503: the deadline of the request passed.
    pub(super) fn too_slow() -> Self {
        Self::later("the request took too long; try later")
    }

    /// 503: something broke. What, is for the log.
    pub(super) fn later(error: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// 421: another node holds the login.
    pub(super) fn elsewhere(node: u16, error: String) -> Self {
        let problem = Self::new(StatusCode::MISDIRECTED_REQUEST, error);
        Self { node: Some(node), ..problem }
    }

    pub(super) fn code(&self) -> StatusCode {
        self.code
    }

    /// Its `Retry-After`, if it has one.
    pub(super) fn retry_after(&self) -> Option<HeaderValue> {
        let (name, value) = self.header.as_ref()?;
        (*name == header::RETRY_AFTER).then(|| value.clone())
    }

    /// The problem, with a header. It has room for one.
    pub(super) fn with(self, name: header::HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let Problem { code, error, node, header } = problem;
        let view = ProblemView { status: "error".to_owned(), error: error.into_owned(), node };
        let mut response = super::json::response(code, &view);
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.into()
    }
}

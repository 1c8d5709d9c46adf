//! Sessions: who is asking, and the end of a session.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use countersign::{Earlier, KindSet, Reason, World as _};
use countersign_store::{SessionRecord, StoreError};
use serde::{Deserialize, Serialize};

use super::json::response;
use super::problem::Problem;
use super::{App, Client};
use crate::identity::IdentityView;
use crate::sessions::{LiveSession, LoginData};

/// A session, as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionView {
    /// Who it is, with the groups of now if an account of the store let them in.
    pub identity: IdentityView,
    /// What for.
    pub service: String,
    /// When (RFC 3339).
    pub created: String,
    /// When it ends by itself (RFC 3339).
    pub expires: String,
}

/// The session that a request's bearer token names: good at this moment, see [`crate::sessions`].
pub(super) struct Holder(pub(super) Arc<LiveSession>);

/// The record of the same.
pub(super) struct Bearer(pub(super) SessionRecord);

impl FromRequestParts<App> for Holder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer_token(&parts.headers).ok_or_else(Problem::no_session)?;
        let engine = &app.engine;
        let found = engine.sessions.find(token, engine.world.now()).await.map_err(broken)?;
        found.map(Self).ok_or_else(Problem::no_session)
    }
}

impl FromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Holder(live) = Holder::from_request_parts(parts, app).await?;
        Ok(Self(live.record.clone()))
    }
}

/// Why a session is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    /// Another login, with more factors or by a person, would be.
    AnotherLogin,
    /// No login would be.
    NotAllowed,
}

/// Whether a session may be used for a service, from where its client is now: with the groups of now and the
/// factors that were proven at its login. Whatever the login was for: else the service that demands least would
/// open all others. A program's session is good for its own service alone.
pub(super) fn suffices(
    app: &App,
    client: &Client,
    live: &LiveSession,
    service: &str,
) -> Result<(), Short> {
    if live.login.program && *live.record.service != *service {
        return Err(Short::AnotherLogin);
    }
    let peer = client.peer(service, KindSet::none());
    let LoginData { checker, proofs, complete, .. } = &live.login;
    let login = Earlier { checker: checker.as_deref(), proofs, complete: *complete };
    let portal = app.engine.portal.load();
    portal.suffices(&peer, &live.who, login).map_err(|denial| match denial.reason {
        Reason::NotEnrolled => Short::AnotherLogin,
        _ => Short::NotAllowed,
    })
}

/// `GET /v1/session`.
pub(super) async fn show(Holder(live): Holder) -> Response {
    let session = &live.record;
    let view = SessionView {
        identity: live.identity.clone(),
        service: session.service.clone(),
        created: rfc3339(session.created),
        expires: rfc3339(session.expires),
    };
    response(StatusCode::OK, &view)
}

/// `DELETE /v1/session`.
pub(super) async fn end(
    State(app): State<App>,
    Bearer(session): Bearer,
) -> Result<StatusCode, Problem> {
    app.engine.store.end_session(&session.hash).await.map_err(broken)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Seconds since 1970 as RFC 3339, in UTC.
pub(super) fn rfc3339(unix: i64) -> String {
    let time = jiff::Timestamp::from_second(unix.clamp(MIN, MAX));
    // The range is within jiff's.
    time.map_or_else(|_| unix.to_string(), |time| time.to_string())
}

/// From 0001 to 9999, what RFC 3339 can write.
const MIN: i64 = -62_135_596_800;
const MAX: i64 = 253_402_207_200;

/// The store failed: for the log; the client hears only that now is not the time.
pub(super) fn broken(error: StoreError) -> Problem {
    tracing::warn!(%error, "the store failed an HTTP request");
    Problem::later("the account store is away; try later")
}

/// The token of a request's one bearer header (RFC 6750, section 2.1).
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty() && token.len() <= 512)
        .then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_800_000_000), "2027-01-15T08:00:00Z");
        assert!(rfc3339(i64::MAX).starts_with("9999-12-3"));
        assert!(rfc3339(i64::MIN).starts_with("0001-01-01"));
    }

    fn token_of(values: &[&str]) -> Option<String> {
        let mut request = axum::http::Request::builder();
        for value in values {
            request = request.header(header::AUTHORIZATION, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        bearer_token(&parts.headers).map(str::to_owned)
    }

    #[test]
    fn one_bearer_token_or_none() {
        assert_eq!(token_of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token_of(&["bearer  abc"]).as_deref(), Some("abc"));
        assert_eq!(token_of(&["Basic abc"]), None);
        assert_eq!(token_of(&["Bearer"]), None);
        assert_eq!(token_of(&["Bearer "]), None);
        assert_eq!(token_of(&["Bearer a", "Bearer b"]), None);
    }
}

//! Sessions: who is asking, and the end of a session.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Response;
use countersign::World as _;
use countersign_store::{SessionRecord, StoreError};
use serde::{Deserialize, Serialize};

use super::App;
use super::json::response;
use super::problem::Problem;
use crate::identity::IdentityView;
use crate::realm::token_hash;

/// A session, as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionView {
    /// Who logged in, as of then.
    pub identity: IdentityView,
    /// What for.
    pub service: String,
    /// When (RFC 3339).
    pub created: String,
    /// When it ends by itself (RFC 3339).
    pub expires: String,
}

/// The session that a request's bearer token names. It is looked up at every request, and so is its
/// account, if it is one of ours: it must be enabled and not expired now.
pub(super) struct Bearer(pub(super) SessionRecord);

impl FromRequestParts<App> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer_token(parts).ok_or_else(Problem::no_session)?;
        let store = &app.engine.store;
        let now = app.engine.world.now().unix;
        let found = store.session(&token_hash(token), now).await.map_err(broken)?;
        let session = found.ok_or_else(Problem::no_session)?;
        let account = store.account(&session.subject).await.map_err(broken)?;
        // None: another checker's user, of whom the store knows nothing.
        let usable = account
            .is_none_or(|account| account.enabled && account.expires.is_none_or(|end| end > now));
        if usable { Ok(Self(session)) } else { Err(Problem::no_session()) }
    }
}

/// `GET /v1/session`.
pub(super) async fn show(Bearer(session): Bearer) -> Result<Response, Problem> {
    let identity = serde_json::from_str(&session.data).map_err(|error| {
        tracing::error!(%error, "the identity of a session cannot be read from the store");
        Problem::later("the session cannot be read; log in again")
    })?;
    let view = SessionView {
        identity,
        service: session.service,
        created: rfc3339(session.created),
        expires: rfc3339(session.expires),
    };
    Ok(response(StatusCode::OK, &view))
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

fn bearer_token(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
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
        bearer_token(&parts).map(str::to_owned)
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

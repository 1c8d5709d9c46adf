//! `GET /v1/session/events`: what the holder of a session is told, as server-sent events (HTML, section
//! 9.2), for as long as the session lasts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign::{Level, World as _};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::administration::Administrator;
use super::cookie::{Cookies, SESSION};
use super::json::{Json, response};
use super::problem::Problem;
use super::session::{Holder, broken, rfc3339};
use super::{App, Client};
use crate::front::Stop;
use crate::minds::{Mind, News};
use crate::sessions::LiveSession;

/// A comment is sent when nothing else was for so long, so that both sides notice when the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long before its end a session is said to expire, in seconds.
const SOON: i64 = 5 * 60;
/// The longest message of an administrator, in bytes.
const TEXT_BYTES: usize = 1000;

/// The body of `POST /v1/notices`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewNotice {
    /// To whom; absent: everybody.
    pub user: Option<String>,
    /// `info`, `warning` or `error`.
    #[serde(default)]
    pub level: NoticeLevel,
    /// What to tell them, on one line.
    pub text: String,
}

/// How serious a notice is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeLevel {
    /// For information.
    #[default]
    Info,
    /// To be looked at.
    Warning,
    /// Something is wrong.
    Error,
}

/// The reply to `POST /v1/notices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// How many listening clients of this node were told.
    pub reached: usize,
}

/// The session of who wants to listen: of the bearer token, or of the browser's cookie, for an `EventSource`
/// cannot send a token. A cookie counts only for a page of this very origin, and only if the browser says that
/// it is one: a page of another host could use up the minds that its reader may have.
pub(super) struct Listener(Arc<LiveSession>);

impl FromRequestParts<App> for Listener {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let headers = &parts.headers;
        let secure = parts.extensions.get::<Client>().is_some_and(Client::secure);
        let cookies = Cookies { secure, domain: app.options.cookie_domain.as_ref() };
        let cookie = cookies.read(SESSION, headers).filter(|_| is_own_page(headers));
        let Some(token) = cookie.filter(|_| !headers.contains_key(header::AUTHORIZATION)) else {
            let Holder(live) = Holder::from_request_parts(parts, app).await?;
            return Ok(Self(live));
        };
        let engine = &app.engine;
        let found = engine.sessions.find(token, engine.world.now()).await.map_err(broken)?;
        found.map(Self).ok_or_else(Problem::no_session)
    }
}

/// Whether the browser says that a page of this very origin asks: by `Sec-Fetch-Site`, which no page can set,
/// or, where it does not know that yet, by `Origin`.
fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match text("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => text("origin").zip(text("host")).is_some_and(|(origin, host)| {
            let origin = origin.split_once("://").map(|(_, authority)| authority);
            origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        }),
    }
}

/// `GET /v1/session/events`.
pub(super) async fn listen(
    State(app): State<App>,
    Listener(live): Listener,
) -> Result<Response, Problem> {
    let record = &live.record;
    let Some(mind) = app.engine.minds.lend(&record.subject, &record.hash) else {
        let error = "as many clients listen as may; close one, or try later";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, error);
        return Err(problem.with(header::RETRY_AFTER, HeaderValue::from_static("30")));
    };
    // Lent first and looked at again: an end in between would otherwise be told to nobody.
    let now = app.engine.world.now();
    let still = app.engine.sessions.look_up(&record.hash, now).await;
    if still.map_err(super::session::broken)?.is_none() {
        return Err(Problem::no_session());
    }
    let left = |until: i64| {
        let seconds = u64::try_from(until.saturating_sub(now.unix)).unwrap_or(0);
        Instant::now() + Duration::from_secs(seconds)
    };
    let listening = Listening {
        mind,
        stop: app.stop.clone(),
        first: true,
        expires: record.expires,
        soon: Some(left(record.expires - SOON)),
        end: left(record.expires),
        heartbeat: HEARTBEAT,
        over: false,
    };
    let events = stream::unfold(listening, |mut listening| async move {
        let event = listening.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(event)), listening))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // nginx holds replies back otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// `POST /v1/notices`.
pub(super) async fn notify(
    State(app): State<App>,
    Administrator(admin): Administrator,
    Json(new): Json<NewNotice>,
) -> Result<Response, Problem> {
    let NewNotice { user, level, text } = new;
    if text.is_empty() || text.len() > TEXT_BYTES || text.chars().any(char::is_control) {
        let error = format!("`text` has 1 to {TEXT_BYTES} bytes on one line");
        return Err(Problem::bad(error));
    }
    if let Some(user) = &user {
        // Whoever mistypes a name hears of it.
        admin.user(user).await?;
    }
    let level = match level {
        NoticeLevel::Info => Level::Info,
        NoticeLevel::Warning => Level::Warning,
        NoticeLevel::Error => Level::Error,
    };
    admin.told(user.as_deref().unwrap_or("everybody"), &text).await;
    let reached = app.engine.minds.notify(user.as_deref(), level, &text);
    Ok(response(StatusCode::OK, &Reached { reached }))
}

/// A client that listens.
struct Listening {
    mind: Mind,
    stop: Stop,
    first: bool,
    expires: i64,
    /// When to say that the session expires; none: it is said.
    soon: Option<Instant>,
    end: Instant,
    heartbeat: Duration,
    over: bool,
}

impl Listening {
    /// The next event, or a comment. `None`: the end.
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        // So that the client knows at once that it is heard.
        if std::mem::take(&mut self.first) {
            return Some(": listening\n\n".to_owned());
        }
        let soon = self.soon.unwrap_or(self.end);
        tokio::select! {
            biased;
            () = self.stop.requested() => None,
            news = self.mind.news() => match news? {
                News::Revoked => {
                    self.over = true;
                    Some(event("revoked", &serde_json::json!({})))
                }
                News::Notice(level, text) => {
                    let level = match level {
                        Level::Info => "info",
                        Level::Warning => "warning",
                        Level::Error => "error",
                    };
                    Some(event("notice", &serde_json::json!({ "level": level, "text": &*text })))
                }
            },
            () = tokio::time::sleep_until(soon) => {
                if self.soon.take().is_none() {
                    self.over = true;
                    return Some(event("expired", &serde_json::json!({})));
                }
                let expires = rfc3339(self.expires);
                Some(event("expiring", &serde_json::json!({ "expires": expires })))
            }
            () = tokio::time::sleep(self.heartbeat) => Some(":\n\n".to_owned()),
        }
    }
}

/// JSON has no line ends outside of texts, and within them they are escaped: one line of data.
fn event(name: &str, data: &serde_json::Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::Stopper;
    use crate::minds::Minds;

    const LONG: Duration = Duration::from_secs(3600);

    fn listening(
        minds: &Arc<Minds>,
        stop: Stop,
        lasts: Duration,
        heartbeat: Duration,
    ) -> Listening {
        let (soon, end) = (Instant::now() + lasts, Instant::now() + lasts);
        Listening {
            mind: minds.lend("ada", "s").unwrap(),
            stop,
            first: true,
            expires: 1_800_000_000,
            soon: Some(soon),
            end,
            heartbeat,
            over: false,
        }
    }

    #[tokio::test]
    async fn a_session_that_expires() {
        let minds = Arc::new(Minds::default());
        let (_stopper, stop) = Stopper::new();
        let mut one = listening(&minds, stop, Duration::ZERO, LONG);
        let mut heard = Vec::new();
        while let Some(event) = one.next().await {
            heard.push(event);
        }
        assert_eq!(
            heard,
            [
                ": listening\n\n",
                "event: expiring\ndata: {\"expires\":\"2027-01-15T08:00:00Z\"}\n\n",
                "event: expired\ndata: {}\n\n",
            ]
        );
    }

    #[tokio::test]
    async fn news_heartbeats_and_the_stop() {
        let minds = Arc::new(Minds::default());
        let (stopper, stop) = Stopper::new();
        let mut one = listening(&minds, stop.clone(), LONG, Duration::ZERO);
        let mut two = listening(&minds, stop, LONG, LONG);
        assert!(one.next().await.unwrap().starts_with(':'));
        assert_eq!(one.next().await.as_deref(), Some(":\n\n"));
        minds.notify(None, Level::Warning, "soon \"down\"");
        let expected =
            "event: notice\ndata: {\"level\":\"warning\",\"text\":\"soon \\\"down\\\"\"}\n\n";
        assert_eq!(one.next().await.as_deref(), Some(expected));
        minds.revoke("s");
        assert_eq!(one.next().await.as_deref(), Some("event: revoked\ndata: {}\n\n"));
        assert_eq!(one.next().await, None);
        assert!(two.next().await.is_some());
        stopper.stop();
        assert_eq!(two.next().await, None);
    }
}

//! The one place that decides what a client learns about a login that came to nothing, and in which words.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign::{Denial, LoginError, Public};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::{Malformed, Scheme, Unproven};

/// What a client hears that is to come later without a time.
const LATER: Duration = Duration::from_secs(1);

/// Why a request does not get to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody has proven who they are: 401, with challenges.
    Unproven(Unproven),
    /// Known, and not allowed: 403.
    Forbidden,
    /// The password must be changed first: 403.
    ChangeNeeded,
    /// A secret over a connection that others may read: 403.
    Readable,
    /// A page of another site has made it: 403.
    FromElsewhere,
    /// Not now: 503.
    Later(Duration),
    /// 400.
    Malformed(&'static str),
    /// 413.
    TooLarge,
}

impl Refusal {
    /// What a portal's refusal comes to.
    pub(crate) fn of(error: &LoginError, scheme: Scheme) -> Self {
        let denial = match error {
            LoginError::Fault(fault) => {
                tracing::error!("a login could not be decided: {fault}");
                return Self::Later(LATER);
            }
            LoginError::Denied(denial) => denial,
        };
        match denial.public() {
            Public::Denied | Public::Unsupported if scheme == Scheme::Bearer => {
                Self::Unproven(Unproven::InvalidToken)
            }
            Public::Denied | Public::Unsupported => Self::Unproven(Unproven::Nobody),
            Public::ChangeNeeded => Self::ChangeNeeded,
            Public::TryLater => Self::later(denial),
        }
    }

    /// What a realm's refusal comes to: whoever hears it has proven who they are.
    pub(crate) fn of_realm(denial: &Denial) -> Self {
        match denial.public() {
            _ if denial.broken => Self::Later(LATER),
            Public::TryLater => Self::later(denial),
            Public::ChangeNeeded => Self::ChangeNeeded,
            Public::Denied | Public::Unsupported => Self::Forbidden,
        }
    }

    /// Too many sessions, or a check that takes too long.
    pub(crate) const LATER: Self = Self::Later(LATER);

    fn later(denial: &Denial) -> Self {
        Self::Later(denial.retry_after.unwrap_or(LATER))
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Unproven(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::ChangeNeeded | Self::Readable | Self::FromElsewhere => {
                StatusCode::FORBIDDEN
            }
            Self::Later(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    /// For people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Unproven(_) => "log in first",
            Self::Forbidden => "you may not use this",
            Self::ChangeNeeded => "the password must be changed first",
            Self::Readable => "passwords and tokens are not taken over this connection; use TLS",
            Self::FromElsewhere => "this was sent by a page of another site",
            Self::Later(_) => "not now; try again later",
            Self::Malformed(why) => why,
            Self::TooLarge => "the body is too long to be protected, or to be a form",
        }
    }

    /// The answer, to which challenges are still to be added.
    pub(crate) fn answer(self) -> Answer {
        let answer = Answer::text(self.status(), self.text());
        match self {
            // Rounded up: who comes early is refused again.
            Self::Later(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                answer.with(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
            }
            _ => answer,
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed("the header `Authorization` is malformed")
    }
}

/// An answer of ours, in place of the application's.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A line of text.
    pub(crate) fn text(status: StatusCode, line: &str) -> Self {
        const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
        Self::empty(status).with(header::CONTENT_TYPE, TEXT).saying(format!("{line}\n"))
    }

    /// A page.
    pub(crate) fn page(status: StatusCode, html: String) -> Self {
        const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
        Self::empty(status).with(header::CONTENT_TYPE, HTML).saying(html)
    }

    /// Nothing but a status. What is said to one is for nobody else.
    pub(crate) fn empty(status: StatusCode) -> Self {
        let answer = Self { status, headers: HeaderMap::new(), body: Bytes::new() };
        answer
            .with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
            .with(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
    }

    /// One more header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// A header of text of ours, which has no letters that none may have.
    pub(crate) fn with_text(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.with(name, value),
            Err(_) => self,
        }
    }

    fn saying(self, body: String) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) fn response<B: From<Bytes>>(self) -> Response<B> {
        let mut response = Response::new(B::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// What a handler answers that is for somebody, when nobody is there: 401 with the challenges of the layer, or the
/// way to its form. It is in a request's extensions where whoever comes is let through.
#[derive(Clone)]
pub struct Unanswered(pub(crate) Arc<dyn Fn() -> Answer + Send + Sync>);

impl Unanswered {
    /// The answer.
    pub fn response<B: From<Bytes>>(&self) -> Response<B> {
        (self.0)().response()
    }
}

impl fmt::Debug for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unanswered")
    }
}

#[cfg(test)]
mod tests {
    use countersign::{Fault, Reason};

    use super::*;

    #[test]
    fn each_public_word_has_one_status() {
        let of =
            |reason| Refusal::of(&LoginError::Denied(Denial::new(reason)), Scheme::Basic).status();
        for reason in [
            Reason::UnknownUser,
            Reason::WrongCredential,
            Reason::Disabled,
            Reason::Expired,
            Reason::NotAllowed,
            Reason::NotEnrolled,
            Reason::Unsupported,
        ] {
            assert_eq!(of(reason), 401, "{reason:?}");
        }
        assert_eq!(of(Reason::ChangeNeeded), 403);
        for reason in [Reason::TooMany, Reason::Throttled, Reason::TimedOut, Reason::Realm] {
            assert_eq!(of(reason), 503, "{reason:?}");
        }
        let fault = LoginError::Fault(Fault::unavailable("the directory is away"));
        assert_eq!(Refusal::of(&fault, Scheme::Digest).status(), 503);
    }

    #[test]
    fn a_realm_refuses_somebody_who_is_known() {
        let of = |denial: Denial| Refusal::of_realm(&denial).status();
        assert_eq!(of(Denial::new(Reason::NotAllowed)), 403);
        assert_eq!(of(Denial::new(Reason::Realm)), 503);
        assert_eq!(of(Denial::new(Reason::NotAllowed).broken()), 503);
    }

    #[test]
    fn a_time_to_wait_is_rounded_up() {
        let wait = |ms| {
            let denial = Denial::new(Reason::Throttled).retry_after(Duration::from_millis(ms));
            let answer = Refusal::of(&LoginError::Denied(denial), Scheme::Basic).answer();
            answer.headers[header::RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!([0, 1, 1000, 1001].map(wait), ["1", "1", "1", "2"]);
    }
}

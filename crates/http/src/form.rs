//! The two paths that the layer answers by itself: the login form, and the log-out.

use std::sync::Arc;

use countersign::Interface;
use countersign_sasl::digest::Asked;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use http_body::Body;

use crate::connection::is_from_here;
use crate::cookie::{FORM, Said};
use crate::layer::Visitor;
use crate::refusal::{Answer, Refusal};
use crate::sessions::Sessions;
use crate::{Authenticated, Cookie, Credentials, User};

impl<I: Interface<Mind = ()>> Authenticated<I>
where
    I::Avatar: Sync,
{
    /// `GET` and `POST` of the login page.
    pub(crate) async fn log_in_by_form<B>(
        &self,
        cookie: &Cookie,
        sessions: &Arc<Sessions<I>>,
        visitor: &Visitor,
        parts: &Parts,
        body: B,
    ) -> Answer
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !self.takes_secrets(visitor) {
            return Refusal::Readable.answer();
        }
        if matches!(parts.method, Method::GET | Method::HEAD) {
            let query = visitor.target.split_once('?').map_or("", |(_, query)| query);
            return cookie.form(&Said::return_to(query), "", None);
        }
        if parts.method != Method::POST {
            return wrong_method("GET, HEAD, POST");
        }
        if !is_from_here(&parts.headers, &parts.uri) {
            return Refusal::FromElsewhere.answer();
        }
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Answer::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "this takes a form");
        }
        let said = match self.whole(body, FORM).await {
            Ok(form) => Said::read(&form),
            Err(refusal) => return refusal.answer(),
        };
        let Some(said) = said else {
            return Refusal::Malformed("a login needs `username` and `password`").answer();
        };
        let name = said.username.clone();
        let credentials =
            Credentials::Basic { name: name.clone(), password: said.password.as_str().into() };
        let asked = Asked { method: "POST", target: &visitor.target, body: None };
        let proven = self.prove_by(credentials, visitor, &asked).await;
        let kept = proven.and_then(|(user, _)| sessions.keep(user).map_err(|_| Refusal::LATER));
        match kept {
            Err(refusal) => {
                let page = cookie.form(&said.return_to, &name, Some(refusal));
                let retry = refusal.answer().headers.remove(header::RETRY_AFTER);
                retry.into_iter().fold(page, |page, wait| page.with(header::RETRY_AFTER, wait))
            }
            Ok(token) => {
                // The session that the browser had before is its own no more.
                let before = cookie.token(&parts.headers, visitor.transport());
                drop(before.and_then(|token| sessions.take(token)).inspect(User::end));
                Answer::empty(StatusCode::SEE_OTHER)
                    .with_text(header::LOCATION, cookie.destination(&said.return_to))
                    .with_text(header::SET_COOKIE, &cookie.set(&token, visitor.transport()))
            }
        }
    }

    /// `POST` of the log-out, which waits until it is done.
    pub(crate) async fn log_out(
        &self,
        cookie: &Cookie,
        sessions: &Arc<Sessions<I>>,
        visitor: &Visitor,
        parts: &Parts,
    ) -> Answer {
        if parts.method != Method::POST {
            return wrong_method("POST");
        }
        if !is_from_here(&parts.headers, &parts.uri) {
            return Refusal::FromElsewhere.answer();
        }
        let token = cookie.token(&parts.headers, visitor.transport());
        if let Some(user) = token.and_then(|token| sessions.take(token)) {
            // What takes longer goes on without us.
            let _ = tokio::time::timeout(self.deadline, user.logout()).await;
        }
        Answer::empty(StatusCode::SEE_OTHER)
            .with_text(header::LOCATION, &cookie.home)
            .with_text(header::SET_COOKIE, &cookie.clear(visitor.transport()))
    }
}

fn wrong_method(allowed: &'static str) -> Answer {
    Answer::text(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method")
        .with(header::ALLOW, HeaderValue::from_static(allowed))
}

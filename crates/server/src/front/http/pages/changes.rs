//! What is changed from the page of an account: each by a form of its own, bound to the session.
//!
//! What proves somebody (password, factors) is changed only after a fresh login, so that a browser that was
//! left open is not enough. Ending sessions always is.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::{Secret, World as _};
#[cfg(feature = "passkeys")]
use countersign_checkers::factors::PendingPasskey;
use countersign_checkers::factors::{FactorError, NewAppPassword, PendingOtp};
use countersign_store::StoreError;
use minijinja::context;
use minijinja::value::{Serde, Value};

use super::super::problem::Problem;
use super::account::{Holder, page, problem, to_login};
use super::check::Bound;
use super::form::Form;
use super::round::Told;
use super::visit::{Page, Visit};
use crate::admin::{AdminError, Own, OwnError};

/// For how long a factor that is being enrolled is kept, in milliseconds.
const PATIENCE_MS: u64 = 10 * 60 * 1000;
/// How many are being enrolled at a time.
const ENROLLING: usize = 10_000;
/// How many wrong codes a generator may be tried with.
const TRIES: u8 = 5;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// Factors that are being enrolled on this node, one for each session.
#[derive(Debug, Default)]
pub(super) struct Enrolling(Mutex<HashMap<String, Waiting>>);

#[derive(Debug)]
struct Waiting {
    until_ms: u64,
    tries: u8,
    what: Pending,
}

/// What is waited for.
#[derive(Debug)]
enum Pending {
    Otp(PendingOtp),
    #[cfg(feature = "passkeys")]
    Passkey(PendingPasskey),
}

impl Enrolling {
    fn keep(&self, session: &str, waiting: Waiting, now_ms: u64) -> Result<(), Problem> {
        let mut all = self.all();
        all.retain(|_, waiting| waiting.until_ms > now_ms);
        if all.len() >= ENROLLING && !all.contains_key(session) {
            return Err(Problem::later("too many factors are being enrolled; try later"));
        }
        all.insert(session.to_owned(), waiting);
        Ok(())
    }

    fn take(&self, session: &str, now_ms: u64) -> Option<Waiting> {
        self.all().remove(session).filter(|waiting| waiting.until_ms > now_ms)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change that may be made.
struct Change {
    holder: Holder,
    own: Own,
    form: Form,
}

/// Checks a form of the account page and does what it says.
async fn change(
    visit: Visit,
    request: Request,
    needs_fresh: bool,
    work: impl AsyncFnOnce(&mut Visit, Change) -> Result<Response, Problem>,
) -> Response {
    visit
        .answer(async |visit| {
            let (form, same_origin) = visit.form(request).await?;
            let Some(mut holder) = Holder::of(visit).await? else { return Ok(to_login(visit)) };
            let bound = Bound::Session(&holder.live.record.hash);
            if !same_origin || !visit.has_token(&form, bound).await? {
                let text = visit.language.say("message.stale.text").into_owned();
                return refused(visit, &holder, text, StatusCode::FORBIDDEN).await;
            }
            if needs_fresh && !holder.fresh {
                let text = visit.language.say("account.not-fresh").into_owned();
                return refused(visit, &holder, text, StatusCode::FORBIDDEN).await;
            }
            let Some(own) = holder.own.clone() else {
                let text = visit.language.say("account.not-own").into_owned();
                holder.own = None;
                return refused(visit, &holder, text, StatusCode::FORBIDDEN).await;
            };
            work(visit, Change { holder, own, form }).await
        })
        .await
}

/// The page of the account, with what is wrong.
async fn refused(
    visit: &mut Visit,
    holder: &Holder,
    text: String,
    status: StatusCode,
) -> Result<Response, Problem> {
    page(visit, holder, vec![Told { level: "error", text }], status).await
}

/// The page of the account, with what was wrong with a change; what is broken is a problem.
async fn failed(visit: &mut Visit, holder: &Holder, error: OwnError) -> Result<Response, Problem> {
    let language = visit.language;
    let text = match &error {
        OwnError::Password(rule) => language.text(rule).to_owned(),
        OwnError::Factor(FactorError::WrongCode) => language.say("account.wrong-code").into(),
        OwnError::Factor(FactorError::Passkey(why)) => {
            tracing::info!(why, user = holder.live.record.subject, "a passkey was not enrolled");
            language.say("account.passkey-refused").into()
        }
        OwnError::Factor(FactorError::Invalid { .. }) => language.say("account.invalid").into(),
        // Its holder was shut out while this was under way.
        OwnError::Admin(AdminError::Store(StoreError::Overtaken { .. })) => {
            return Ok(to_login(visit));
        }
        _ => return Err(problem(error)),
    };
    refused(visit, holder, text, StatusCode::UNPROCESSABLE_ENTITY).await
}

/// `POST /account/password`.
pub(super) async fn password(visit: Visit, request: Request) -> Response {
    change(visit, request, true, async |visit, Change { holder, own, mut form }| {
        let mut given = form.answers();
        let new = given.answers.take("new-password");
        let (Some(countersign::Answer::Value(new)), None) = (new, given.differ) else {
            let text = visit.language.say("misuse.differ").into_owned();
            return refused(visit, &holder, text, StatusCode::UNPROCESSABLE_ENTITY).await;
        };
        if !holder.has_password {
            return Err(Problem::bad("another checker has the password"));
        }
        let hash = holder.live.record.hash.clone();
        // To its end, also when the browser leaves.
        let work = async move { own.change_password(new, &hash).await };
        match visit.app.see_through(work).await? {
            Ok(_) => Ok(visit.to("/account?done=password")),
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

/// `POST /account/otp`: a new generator, to be confirmed by a code of it.
pub(super) async fn begin_otp(visit: Visit, request: Request) -> Response {
    change(visit, request, true, async |visit, Change { holder, own, .. }| {
        match own.begin_otp(&visit.app.options.issuer) {
            Ok(pending) => show_otp(visit, &holder, pending, 0, None).await,
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

/// `POST /account/otp/confirm`.
pub(super) async fn confirm_otp(visit: Visit, request: Request) -> Response {
    change(visit, request, true, async |visit, Change { holder, own, mut form }| {
        let now_ms = visit.app.engine.world.now().steady_ms;
        let label = form.text("label").unwrap_or_default().to_owned();
        let code = form.answers().answers.take("otp");
        let hash = &holder.live.record.hash;
        let (Some(Waiting { tries, what: Pending::Otp(pending), .. }), Some(code)) =
            (visit.app.pages.enrolling.take(hash, now_ms), code)
        else {
            let text = visit.language.say("account.begin-again").into_owned();
            return refused(visit, &holder, text, StatusCode::GONE).await;
        };
        let code = match code {
            countersign::Answer::Value(code) => code,
            _ => Secret::default(),
        };
        match own.confirm_otp(&pending, &label, &code).await {
            Ok(()) => Ok(visit.to("/account?done=otp")),
            Err(OwnError::Factor(FactorError::WrongCode)) if tries + 1 < TRIES => {
                let error = visit.language.say("account.wrong-code").into_owned();
                show_otp(visit, &holder, pending, tries + 1, Some(error)).await
            }
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

async fn show_otp(
    visit: &mut Visit,
    holder: &Holder,
    pending: PendingOtp,
    tries: u8,
    error: Option<String>,
) -> Result<Response, Problem> {
    let uri = pending.uri();
    let image =
        qr(uri.expose()).map(|svg| format!("data:image/svg+xml;base64,{}", STANDARD.encode(svg)));
    let secret = pending.base32();
    // In groups of four, as people type it.
    let letters: Vec<_> = secret.to_str().unwrap_or_default().chars().collect();
    let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
    let hash = &holder.live.record.hash;
    let status = if error.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let context = context! {
        check => visit.token(Bound::Session(hash)).await?,
        image, secret => groups.join(" "), error,
    };
    let now_ms = visit.app.engine.world.now().steady_ms;
    let until_ms = now_ms.saturating_add(PATIENCE_MS);
    let waiting = Waiting { until_ms, tries, what: Pending::Otp(pending) };
    visit.app.pages.enrolling.keep(hash, waiting, now_ms)?;
    Ok(visit.page(Page { status, ..Page::new("otp.html", context) }))
}

/// A QR code as an SVG image. `None`: it does not fit, and there is the secret to be typed.
fn qr(text: &[u8]) -> Option<String> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::M).ok()?;
    Some(code.render::<qrcode::render::svg::Color<'_>>().min_dimensions(208, 208).build())
}

/// `POST /account/recovery`: a new set, shown once.
pub(super) async fn recovery(visit: Visit, request: Request) -> Response {
    change(visit, request, true, async |visit, Change { holder, own, .. }| {
        let work = async move { own.new_recovery_codes().await };
        match visit.app.see_through(work).await? {
            Ok(codes) => {
                let codes: Vec<_> = codes.iter().filter_map(Secret::to_str).collect();
                let (title, text) = (
                    visit.language.say("account.recovery.title"),
                    visit.language.say("account.recovery.keep"),
                );
                let context =
                    context! { heading => title, text, codes => Value::from(Serde(codes)) };
                Ok(visit.page(Page::new("secret.html", context)))
            }
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

/// `POST /account/app-passwords`: a new one, shown once.
pub(super) async fn add_app_password(visit: Visit, request: Request) -> Response {
    change(visit, request, true, async |visit, Change { holder, own, form }| {
        let services = form.text("services").unwrap_or_default();
        let services = services.split([' ', ',', ';']).filter(|name| !name.is_empty());
        let days = form.text("days").and_then(|days| days.parse::<i64>().ok());
        let now = visit.app.engine.world.now().unix;
        let wanted = NewAppPassword {
            label: form.text("label").unwrap_or_default().to_owned(),
            services: services.map(str::to_owned).collect(),
            expires: days
                .filter(|days| *days > 0)
                .map(|days| now.saturating_add(days.saturating_mul(DAY))),
        };
        let work = async move { own.add_app_password(&wanted).await };
        match visit.app.see_through(work).await? {
            Ok(secret) => {
                let (title, text) = (
                    visit.language.say("account.app.title"),
                    visit.language.say("account.app.keep"),
                );
                let context = context! { heading => title, text, secret => secret.to_str() };
                Ok(visit.page(Page::new("secret.html", context)))
            }
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

/// `POST /account/factors/remove`.
pub(super) async fn remove(visit: Visit, request: Request) -> Response {
    change(visit, request, true, async |visit, Change { holder, own, form }| {
        let Some(id) = form.text("id").and_then(|id| id.parse().ok()) else {
            return Err(Problem::bad("the form names no factor"));
        };
        let work = async move { own.remove(id).await };
        match visit.app.see_through(work).await? {
            Ok(()) => Ok(visit.to("/account?done=removed")),
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

/// `POST /account/sessions/end`: one of them, or all others.
pub(super) async fn end_sessions(visit: Visit, request: Request) -> Response {
    change(visit, request, false, async |visit, Change { holder, own, form }| {
        let keep = holder.live.record.hash.clone();
        let session = form.text("session").map(str::to_owned);
        let work = async move {
            match session {
                Some(hash) => own.end_session(&hash).await.map(u64::from),
                None => own.end_other_sessions(&keep).await,
            }
        };
        match visit.app.see_through(work).await? {
            Ok(_) => Ok(visit.to("/account?done=sessions")),
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

/// `POST /account/passkeys`: the challenge for a new one.
#[cfg(feature = "passkeys")]
pub(super) async fn begin_passkey(visit: Visit, request: Request) -> Response {
    change(visit, request, true, async |visit, Change { holder, own, .. }| {
        let Some(passkeys) = visit.app.options.passkeys.clone() else {
            return Err(Problem::bad("there are no passkeys here"));
        };
        match own.begin_passkey(&passkeys).await {
            Ok((options, pending)) => {
                let hash = &holder.live.record.hash;
                let now_ms = visit.app.engine.world.now().steady_ms;
                let until_ms = now_ms.saturating_add(PATIENCE_MS);
                let waiting = Waiting { until_ms, tries: 0, what: Pending::Passkey(pending) };
                visit.app.pages.enrolling.keep(hash, waiting, now_ms)?;
                let check = visit.token(Bound::Session(hash)).await?;
                let context = context! { check, options };
                Ok(visit.page(Page::new("passkey.html", context)))
            }
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

/// `POST /account/passkeys/finish`: what the browser answered.
#[cfg(feature = "passkeys")]
pub(super) async fn finish_passkey(visit: Visit, request: Request) -> Response {
    change(visit, request, true, async |visit, Change { holder, own, form }| {
        let now_ms = visit.app.engine.world.now().steady_ms;
        let hash = &holder.live.record.hash;
        let waiting = visit.app.pages.enrolling.take(hash, now_ms);
        let (Some(Waiting { what: Pending::Passkey(pending), .. }), Some(passkeys), Some(answer)) =
            (waiting, visit.app.options.passkeys.clone(), form.text("answer"))
        else {
            let text = visit.language.say("account.begin-again").into_owned();
            return refused(visit, &holder, text, StatusCode::GONE).await;
        };
        let (label, answer) =
            (form.text("label").unwrap_or_default().to_owned(), answer.to_owned());
        let work = async move { own.finish_passkey(&passkeys, pending, &label, &answer).await };
        match visit.app.see_through(work).await? {
            Ok(()) => Ok(visit.to("/account?done=passkey")),
            Err(error) => failed(visit, &holder, error).await,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_is_an_image() {
        let svg = qr(b"otpauth://totp/x:ada?secret=ABC").unwrap();
        assert!(svg.contains("<svg") && !svg.contains("<script"));
        assert!(qr(&[b'x'; 5000]).is_none());
    }
}

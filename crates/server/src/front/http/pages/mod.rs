//! The pages: logging in and one's own account, for people with a browser. The contract is the section
//! "Pages" of `docs/protocols/http.md`.
//!
//! A login here is the conversation of `POST /v1/login` in another dress: the same rounds, as forms without a
//! line of script. Only a passkey needs one, because browsers give it to scripts alone.

mod account;
mod changes;
mod check;
mod form;
mod language;
mod login;
mod round;
mod visit;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use countersign::Secret;
use tokio::sync::OnceCell;

use super::App;

/// A page: its path, and what answers there.
type Place = (&'static str, fn() -> MethodRouter<App>);

/// Everything that is served to browsers.
pub(super) const PAGES: &[Place] = &[
    ("/", || get(async || visit::see_other("/account"))),
    ("/login", || get(login::show).post(login::answer)),
    ("/login/back", || get(login::back)),
    ("/logout", || post(login::out)),
    ("/account", || get(account::show)),
    ("/account/password", || post(changes::password)),
    ("/account/otp", || post(changes::begin_otp)),
    ("/account/otp/confirm", || post(changes::confirm_otp)),
    ("/account/recovery", || post(changes::recovery)),
    ("/account/app-passwords", || post(changes::add_app_password)),
    ("/account/factors/remove", || post(changes::remove)),
    ("/account/sessions/end", || post(changes::end_sessions)),
    #[cfg(feature = "passkeys")]
    ("/account/passkeys", || post(changes::begin_passkey)),
    #[cfg(feature = "passkeys")]
    ("/account/passkeys/finish", || post(changes::finish_passkey)),
    ("/assets/style.css", || get(async || asset("text/css; charset=utf-8", STYLE))),
    ("/assets/theme.css", || get(theme)),
    ("/assets/passkey.js", || get(async || asset("text/javascript; charset=utf-8", PASSKEY))),
];

const STYLE: &str = include_str!("assets/style.css");
const PASSKEY: &str = include_str!("assets/passkey.js");

/// What the pages of a listener share.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// The deployment's key for tokens of forms, once it has been read.
    key: OnceCell<Secret>,
    /// Factors that are being enrolled.
    enrolling: changes::Enrolling,
}

async fn theme(axum::extract::State(app): axum::extract::State<App>) -> Response {
    match &app.options.theme {
        Some(theme) => asset("text/css; charset=utf-8", theme),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A file of the pages. Its address has a mark of its content (see [`mark`]), so it may be kept.
fn asset(kind: &'static str, text: &str) -> Response {
    let kept = HeaderValue::from_static("public, max-age=86400");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, kept),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, text.to_owned()).into_response()
}

/// A few letters that change with the text, for the address of a file.
fn mark(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

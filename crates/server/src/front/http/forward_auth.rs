//! Forward-auth: a proxy asks for every request of a site whether its client may, and who it is.
//!
//! One handler serves nginx's `auth_request`, Caddy's `forward_auth`, Traefik's `ForwardAuth` and Envoy's
//! HTTP authorization service: they differ in what they make of anything but 200, so a yes is exactly 200,
//! and only who asks for it in the address that the proxy is configured with gets redirects. What the proxy
//! is configured with is believed; what its client can write (a query behind Envoy's path prefix) is not.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use countersign::{Answers, Identity, KindSet, Known, Public, Reason, Verified, World};
use countersign_http::{Scheme, Unproven};
use percent_encoding::percent_decode_str;

use super::client::{FORWARDED_HOST, FORWARDED_PROTO, FORWARDED_URI, canonical_host};
use super::cookie::{Cookies, SESSION};
use super::credentials::{self, Original};
use super::identity_headers::FOR_NOBODY_ELSE;
use super::problem::Problem;
use super::session::{Short, bearer_token, broken, suffices};
use super::{App, Client, IdentityHeaders};
use crate::audit::Ledger;
use crate::engine::{Engine, Turn, Unsettled};
use crate::groups::{GroupRef, Groups};
use crate::identity::IdentityView;
use crate::realm::Decision;
use crate::sessions::LiveSession;

/// What a proxy's configuration asks for, in the address that it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted<'a> {
    /// What the login must be for.
    service: Cow<'a, str>,
    /// Groups of which one is enough; none: everybody.
    groups: Vec<Cow<'a, str>>,
    /// Whether a browser is sent to the login page.
    redirect: bool,
}

/// Who asks, as far as that is proven.
enum Asker {
    Session(Arc<LiveSession>),
    Proven(Box<Proven>),
}

/// Somebody who has logged in with this very request.
struct Proven {
    who: Verified<Identity>,
    headers: IdentityHeaders,
    /// What Digest's client is told (RFC 7616, section 3.5).
    info: Option<HeaderValue>,
}

/// A request, as a proxy has sent it.
#[derive(Clone, Copy)]
struct Sent<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    /// What of our own address the proxy has put before its client's.
    below: &'a str,
}

/// Why nobody gets through.
enum No {
    /// Nobody has proven who they are. Perhaps after so many seconds.
    Unknown(Option<u64>, Unproven),
    /// Known, and not allowed.
    Forbidden,
    /// Something is wrong here, or with the request.
    Problem(Problem),
}

impl No {
    /// Nobody has proven anything.
    const NOBODY: Self = Self::Unknown(None, Unproven::Nobody);
}

/// `GET /forward-auth`, with what is wanted in the query.
pub(super) async fn by_query(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response {
    direct(&app, &client, &request).await
}

/// The same, past the router.
pub(super) fn direct<'a, B>(
    app: &'a App,
    client: &'a Client,
    request: &'a Request<B>,
) -> impl Future<Output = Response> + use<'a, B> {
    let wanted = Wanted::parse(request.uri().query().unwrap_or_default());
    // Not held while this waits: bodies are not shared between threads.
    answer(app, client, Sent::of(request, ""), wanted)
}

/// `/forward-auth/…`, any method, for Envoy: what follows is its client's, and so is the query.
pub(super) async fn by_default(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response {
    let sent = Sent::of(&request, "/forward-auth");
    answer(&app, &client, sent, Ok(Wanted::default())).await
}

/// `/forward-auth-for/OPTIONS/…`, any method: what is wanted is in the prefix, which is the proxy's own.
pub(super) async fn by_prefix(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Path(options): Path<std::collections::HashMap<String, String>>,
    request: Request,
) -> Response {
    let options = options.get("options").map_or("", String::as_str);
    let wanted = Wanted::parse(options);
    // As it stands in the address: what is wanted has been decoded.
    let path = request.uri().path();
    let end = path.match_indices('/').nth(2).map_or(path.len(), |(at, _)| at);
    answer(&app, &client, Sent::of(&request, &path[..end]), wanted).await
}

async fn answer(
    app: &App,
    client: &Client,
    sent: Sent<'_>,
    wanted: Result<Wanted<'_>, Problem>,
) -> Response {
    let Sent { method, headers, .. } = sent;
    let decided = match &wanted {
        Ok(wanted) => decide(app, client, sent, wanted).await,
        // A proxy that is configured wrongly lets nobody through.
        Err(_) => Err(No::Forbidden),
    };
    let mut response: Response = match (decided, wanted) {
        (_, Err(problem)) => problem.into(),
        (Ok(asker), Ok(_)) => {
            let mut response = Response::new(Body::empty());
            *response.headers_mut() = match &asker {
                Asker::Session(live) => live.headers().reply(),
                Asker::Proven(proven) => proven.reply(),
            };
            return response;
        }
        (Err(No::Problem(problem)), _) => problem.into(),
        (Err(No::Forbidden), _) => {
            Problem::new(StatusCode::FORBIDDEN, "you may not use this").into()
        }
        (Err(No::Unknown(wait, why)), Ok(wanted)) => {
            match login_page(app, client, method, headers, &wanted) {
                Ok(Some(place)) => (StatusCode::FOUND, [(header::LOCATION, place)]).into_response(),
                Ok(None) => Box::pin(unauthorized(app, wait, why)).await,
                Err(problem) => problem.into(),
            }
        }
    };
    // nginx reads no body of this answer, and closes a connection on which one is left.
    if asks_as_nginx(headers) {
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    response.headers_mut().extend(FOR_NOBODY_ELSE);
    response
}

async fn decide(
    app: &App,
    client: &Client,
    sent: Sent<'_>,
    wanted: &Wanted<'_>,
) -> Result<Asker, No> {
    let asker = asker(app, client, sent, wanted).await?;
    let who = match &asker {
        Asker::Session(live) => {
            suffices(app, client, live, &wanted.service).map_err(|short| match short {
                Short::AnotherLogin => No::NOBODY,
                Short::NotAllowed => No::Forbidden,
            })?;
            &live.who
        }
        // The policy has just let it in.
        Asker::Proven(proven) => &proven.who,
    };
    for group in &wanted.groups {
        if is_in(&app.engine.groups, who, group).await? {
            return Ok(asker);
        }
    }
    if wanted.groups.is_empty() { Ok(asker) } else { Err(No::Forbidden) }
}

/// Whether somebody is in a group of this name, or in the one that is meant by a number or a star before it.
async fn is_in(groups: &Groups, who: &Identity, wanted: &str) -> Result<bool, No> {
    if who.groups.contains_key(wanted) {
        return Ok(true);
    }
    // Names of other checkers' groups need not be such as a reference has.
    let Ok(of) = wanted.parse::<GroupRef>() else { return Ok(false) };
    groups.holds(who, &of).await.map_err(|fault| {
        tracing::warn!(%fault, group = wanted, "forward-auth cannot tell who is in a group");
        No::Problem(Problem::later("groups cannot be looked up; try later"))
    })
}

/// Who asks. Credentials that the client chose to send come before a cookie, which browsers send by
/// themselves; a bearer token that cannot be one of ours is the site's own business.
async fn asker(
    app: &App,
    client: &Client,
    sent: Sent<'_>,
    wanted: &Wanted<'_>,
) -> Result<Asker, No> {
    let (engine, headers) = (&app.engine, sent.headers);
    let cookies = Cookies { secure: client.secure(), domain: app.options.cookie_domain.as_ref() };
    let scheme = app.scheme(headers);
    let token = bearer_token(headers).filter(|token| crate::sessions::is_token(token));
    if scheme.is_some() && token.is_none() {
        // Out of the way of the others, whose future would be as large.
        return Box::pin(by_credentials(app, client, sent, wanted)).await;
    }
    let Some(token) = token.or_else(|| cookies.read(SESSION, headers)) else {
        return Err(No::NOBODY);
    };
    match engine.sessions.find(token, engine.world.now()).await {
        Ok(Some(live)) => Ok(Asker::Session(live)),
        Ok(None) => Err(No::NOBODY),
        Err(error) => Err(No::Problem(broken(error))),
    }
}

/// A login of its own, in the record as any other. It runs to its end whether the proxy waits or not.
async fn by_credentials(
    app: &App,
    client: &Client,
    sent: Sent<'_>,
    wanted: &Wanted<'_>,
) -> Result<Asker, No> {
    let schemes = app.schemes().await.map_err(No::Problem)?;
    // What is meant to be a proof and is none: a cookie beside it does not count.
    let Ok(Some(credentials)) = schemes.read(sent.headers) else { return Err(No::NOBODY) };
    let scheme = credentials.own_scheme();
    let original = Original::of(client, sent.method, sent.headers, sent.uri, sent.below);
    let peer = client.peer(&wanted.service, KindSet::none());
    let engine = Arc::clone(&app.engine);
    let begun = schemes.begin(credentials, peer, &original.asked(), &engine.world);
    let attempt = begun.map_err(|refused| match refused.is_stale() {
        true => No::Unknown(None, Unproven::Stale),
        false => No::NOBODY,
    })?;
    let (request, answers, info) = (attempt.request, attempt.answers, attempt.info);
    let login = async move { known_login(&engine, request, answers).await };
    let decided = app.see_through(login).await.map_err(No::Problem)?;
    let who = decided.map_err(|no| match no {
        No::Unknown(wait, _) if scheme == Scheme::Bearer => {
            No::Unknown(wait, Unproven::InvalidToken)
        }
        no => no,
    })?;
    let headers = IdentityHeaders::of(&IdentityView::of(&who));
    let info = info.and_then(|info| HeaderValue::try_from(info.header()?).ok());
    Ok(Asker::Proven(Box::new(Proven { who, headers, info })))
}

/// A login whose answers are known, and who cannot be asked for more.
async fn known_login(
    engine: &Engine,
    request: countersign::Request,
    answers: Answers,
) -> Result<Verified<Identity>, No> {
    let mut known = Known::new(answers);
    let mut unsettled = engine.begin::<Decision>(request, ()).await;
    let unsettled = loop {
        match unsettled.asked() {
            Err(ended) => break ended,
            Ok((ask, login)) => match known.pick(&ask.round) {
                Some(answers) => unsettled = engine.answer(login, ask.number, answers, ()).await,
                // Nobody can be asked anything else here.
                None => break Unsettled::still_asked(ask, login),
            },
        }
    };
    let mut ledger = Ledger::default();
    let turn = match engine.settle(unsettled, &mut ledger) {
        Turn::Ask(_, login) => {
            engine.end(login, Reason::Unsupported, &mut ledger);
            Err(No::NOBODY)
        }
        Turn::Misuse(_, login) => {
            engine.end(login, Reason::Malformed, &mut ledger);
            Err(No::NOBODY)
        }
        Turn::Granted(who, _) => Ok(who),
        Turn::Denied(denial) => Err(refused(denial.public(), denial.retry_after)),
        Turn::Fault(_) => Err(No::Problem(Problem::later("the login failed; try later"))),
    };
    match engine.commit(&mut ledger) {
        Ok(()) => turn,
        Err(_) => Err(No::Problem(Problem::later(super::login::UNRECORDED))),
    }
}

/// The one place where the public word of a refusal becomes what a proxy can say: 429 would be an error to
/// nginx.
fn refused(word: Public, wait: Option<std::time::Duration>) -> No {
    match word {
        Public::Denied | Public::Unsupported => No::NOBODY,
        Public::TryLater => {
            No::Unknown(Some(wait.map_or(1, |wait| wait.as_secs() + 1)), Unproven::Nobody)
        }
        Public::ChangeNeeded => No::Forbidden,
    }
}

async fn unauthorized(app: &App, wait: Option<u64>, why: Unproven) -> Response {
    let mut response: Response = Problem::no_session().into();
    match app.challenges(why).await {
        Ok(challenges) => credentials::put(response.headers_mut(), challenges),
        Err(problem) => return problem.into(),
    }
    if let Some(seconds) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Whether the headers are there that are nginx's custom with `auth_request`.
fn asks_as_nginx(headers: &HeaderMap) -> bool {
    const ORIGINAL: [&str; 3] = ["x-original-uri", "x-original-url", "x-original-method"];
    ORIGINAL.iter().any(|name| headers.contains_key(*name))
}

/// Where a browser is sent to log in, if it is one that can be sent, and its proxy hands that on.
fn login_page(
    app: &App,
    client: &Client,
    method: &Method,
    headers: &HeaderMap,
    wanted: &Wanted<'_>,
) -> Result<Option<HeaderValue>, Problem> {
    const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
    let Some(page) = app.options.login_page.as_ref().filter(|_| wanted.redirect) else {
        return Ok(None);
    };
    // To nginx's auth_request a redirect is an error.
    if asks_as_nginx(headers) {
        return Ok(None);
    }
    let method = headers.get(METHOD).map_or(method.as_str().as_bytes(), |m| m.as_bytes());
    let reads = method == Method::GET.as_str().as_bytes() || method == b"HEAD";
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let shows = accepts.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/html")
    });
    if !reads || !shows {
        return Ok(None);
    }
    let address = return_address(app, client, headers)?;
    let place = page.returning_to(address.as_deref(), &wanted.service);
    let place = HeaderValue::try_from(place);
    place.map(Some).map_err(|_| Problem::bad("the address to return to cannot be written"))
}

/// The address that the client asked for, as a trusted proxy says, if a login may return there.
///
/// # Errors
///
/// 400 for what is no address.
fn return_address(
    app: &App,
    client: &Client,
    headers: &HeaderMap,
) -> Result<Option<String>, Problem> {
    let (host, uri) = (headers.get(FORWARDED_HOST), headers.get(FORWARDED_URI));
    let Some((host, uri)) = host.zip(uri).filter(|_| client.proxied) else { return Ok(None) };
    let host = canonical_host(host);
    let host = host.ok_or_else(|| Problem::bad("`X-Forwarded-Host` is no host"))?;
    let uri = uri.to_str().ok().filter(|uri| uri.starts_with('/'));
    let uri = uri.ok_or_else(|| Problem::bad("`X-Forwarded-Uri` is no path"))?;
    // Whatever the proxy called it: what matters to a browser is whether it is within TLS.
    let scheme = match headers.get(FORWARDED_PROTO) {
        Some(_) if client.secure() => "https",
        _ => "http",
    };
    let allowed = app.options.return_to.check(&format!("{scheme}://{host}{uri}"));
    Ok(allowed.map(|allowed| allowed.as_str().to_owned()))
}

impl<'a> Sent<'a> {
    fn of<B>(request: &'a Request<B>, below: &'a str) -> Self {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        Self { method, uri, headers, below }
    }
}

impl Proven {
    fn reply(&self) -> HeaderMap {
        const INFO: HeaderName = HeaderName::from_static("authentication-info");
        let mut headers = self.headers.reply();
        if let Some(info) = &self.info {
            headers.insert(INFO, info.clone());
        }
        headers
    }
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { service: Cow::Borrowed("web"), groups: Vec::new(), redirect: false }
    }
}

impl<'a> Wanted<'a> {
    /// From the form of a query: `service=wiki&group=staff&group=guests&flavour=redirect`.
    fn parse(text: &'a str) -> Result<Self, Problem> {
        let mut wanted = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.ok().filter(|v| !v.is_empty() && !v.chars().any(char::is_control));
            let value = value.filter(|value| value.len() <= super::answers::NAME_BYTES);
            let Some(value) = value else {
                return Err(Problem::bad(format!("`{key}` of forward-auth has no value")));
            };
            match (key, &*value) {
                ("service", _) => wanted.service = value,
                ("group", _) => wanted.groups.push(value),
                ("flavour", "redirect") => wanted.redirect = true,
                ("flavour", "status") => wanted.redirect = false,
                ("flavour", _) => {
                    return Err(Problem::bad(
                        "`flavour` of forward-auth is `status` or `redirect`",
                    ));
                }
                _ => {
                    return Err(Problem::bad(format!(
                        "forward-auth knows `service`, `group` and `flavour`, and no `{key}`"
                    )));
                }
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted() {
        let wanted = Wanted::parse("service=wiki&group=a%2Fb&group=c&flavour=redirect").unwrap();
        assert_eq!(wanted.service, "wiki");
        assert_eq!(wanted.groups, ["a/b", "c"]);
        assert!(wanted.redirect);
        assert_eq!(Wanted::parse("").unwrap(), Wanted::default());
        for bad in ["group", "group=", "group=%ff", "grp=x", "flavour=302", "service=%0a"] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
    }
}

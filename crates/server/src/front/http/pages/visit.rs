//! A request to a page: who asks, in which language, bound to what; and every page's frame and headers.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{Secret, World as _};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Value, context};

use super::super::client::Client;
use super::super::cookie::{AWAY, BEFORE, Cookies, LANGUAGE, SESSION};
use super::super::problem::Problem;
use super::super::session::broken;
use super::super::{App, json};
use super::check::{self, Bound};
use super::form::Form;
use super::language::{LANGUAGES, Language};
use super::{PASSKEY, STYLE, mark};
use crate::sessions::LiveSession;

/// A browser's request.
pub(super) struct Visit {
    pub(super) app: App,
    pub(super) client: Client,
    pub(super) language: &'static Language,
    /// The query string.
    pub(super) query: String,
    headers: HeaderMap,
    /// The cookie that forms before a login are bound to; made now if the browser has none.
    before: String,
    /// Cookies to be set, in order.
    cookies: Vec<HeaderValue>,
}

/// A page to be told: which template, with what.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) template: &'static str,
    pub(super) context: Value,
    /// Addresses of other sites that a form on it may lead to.
    pub(super) away: Vec<String>,
    /// Its address, if asking for it again changes its language.
    pub(super) again: Option<String>,
}

impl Page {
    pub(super) fn new(template: &'static str, context: Value) -> Self {
        Self { status: StatusCode::OK, template, context, away: Vec::new(), again: None }
    }
}

impl FromRequestParts<App> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let Some(client) = parts.extensions.get::<Client>().cloned() else {
            unreachable!("every request has its client");
        };
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let mut visit = Self {
            app: app.clone(),
            client,
            language: &LANGUAGES[0],
            query,
            headers: parts.headers.clone(),
            before: String::new(),
            cookies: Vec::new(),
        };
        let wished = visit.asked("lang");
        let wished = wished.as_deref().and_then(Language::of_list);
        let kept = visit.cookie(LANGUAGE);
        let accepted = visit.header(header::ACCEPT_LANGUAGE);
        visit.language = Language::choose([wished.map(|language| language.tag), kept], accepted);
        if let Some(language) = wished {
            visit.speak(language);
        }
        match visit.cookie(BEFORE).map(str::to_owned) {
            Some(before) => visit.before = before,
            None => visit.renew(),
        }
        Ok(visit)
    }
}

impl Visit {
    /// Runs a handler to its end, and makes a page of what went wrong.
    pub(super) async fn answer(
        mut self,
        work: impl AsyncFnOnce(&mut Self) -> Result<Response, Problem>,
    ) -> Response {
        match work(&mut self).await {
            Ok(response) => response,
            Err(problem) => {
                let status = problem.code();
                let wait = problem.retry_after();
                let mut response = if status.is_server_error() {
                    self.later()
                } else {
                    let say = |id| self.language.say(id);
                    let (title, text) = (say("message.bad.title"), say("message.bad.text"));
                    self.message(status, &title, &text)
                };
                if let Some(wait) = wait {
                    response.headers_mut().insert(header::RETRY_AFTER, wait);
                }
                response
            }
        }
    }

    /// The form of a request, checked to come from a page of ours in the same browser. `None`: it does not,
    /// and nothing may be done with it.
    pub(super) async fn form(&self, request: Request) -> Result<(Form, bool), Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let error = "send the form as `application/x-www-form-urlencoded`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        let form = Form::parse(&json::whole(request, &self.app).await?)?;
        Ok((form, check::same_origin(&self.headers, self.header(header::HOST))))
    }

    /// The token of forms that are bound to `bound`.
    pub(super) async fn token(&self, bound: Bound<'_>) -> Result<String, Problem> {
        Ok(check::token(self.key().await?, bound))
    }

    /// Whether a form has the token.
    pub(super) async fn has_token(&self, form: &Form, bound: Bound<'_>) -> Result<bool, Problem> {
        Ok(check::is_token(self.key().await?, bound, form.text("check")))
    }

    async fn key(&self) -> Result<&Secret, Problem> {
        let store = &self.app.engine.store;
        self.app.pages.key.get_or_try_init(|| store.secret("pages")).await.map_err(broken)
    }

    /// What forms before a login are bound to.
    pub(super) fn before(&self) -> Bound<'_> {
        Bound::Before(&self.before)
    }

    /// The session of the browser, if it has one that may be used now.
    pub(super) async fn session(&self) -> Result<Option<Arc<LiveSession>>, Problem> {
        let Some(token) = self.cookie(SESSION) else { return Ok(None) };
        let engine = &self.app.engine;
        engine.sessions.find(token, engine.world.now()).await.map_err(broken)
    }

    /// The token of the browser's session, whether there is one or not.
    pub(super) fn session_token(&self) -> Option<&str> {
        self.cookie(SESSION)
    }

    /// What the browser left behind when it was sent to another site.
    pub(super) fn left_behind(&self) -> Option<&str> {
        self.cookie(AWAY)
    }

    /// Cookies are set and read in one way.
    pub(super) fn jar(&self) -> Cookies<'_> {
        Cookies { secure: self.client.secure(), domain: self.app.options.cookie_domain.as_ref() }
    }

    /// A cookie for the reply.
    pub(super) fn set_cookie(&mut self, cookie: HeaderValue) {
        self.cookies.push(cookie);
    }

    /// From now on in this language.
    pub(super) fn speak(&mut self, language: &'static Language) {
        self.language = language;
        let cookie = self.jar().set(LANGUAGE, language.tag);
        self.set_cookie(cookie);
    }

    /// A new value for forms to be bound to: what was bound to the old one is void.
    pub(super) fn renew(&mut self) {
        let mut bytes = [0; 32];
        self.app.engine.world.fill(&mut bytes);
        self.before = URL_SAFE_NO_PAD.encode(bytes);
        let cookie = self.jar().set(BEFORE, &self.before);
        self.set_cookie(cookie);
    }

    /// The value of a field of the query string. The first counts.
    pub(super) fn asked(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)?;
        let value = value.replace('+', " ");
        let value = percent_encoding::percent_decode_str(&value).decode_utf8().ok()?;
        (!value.is_empty()).then(|| value.into_owned())
    }

    pub(super) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn cookie(&self, base: &str) -> Option<&str> {
        self.jar().read(base, &self.headers)
    }

    /// A page that says one thing.
    pub(super) fn message(&mut self, status: StatusCode, title: &str, text: &str) -> Response {
        let context = context! { heading => title, text };
        self.page(Page { status, ..Page::new("message.html", context) })
    }

    /// A page for what is broken: what it is, is for the log.
    pub(super) fn later(&mut self) -> Response {
        let (title, text) =
            (self.language.say("message.later.title"), self.language.say("message.later.text"));
        self.message(StatusCode::SERVICE_UNAVAILABLE, &title, &text)
    }

    /// The page as a reply, with every header that a page has.
    pub(super) fn page(&mut self, page: Page) -> Response {
        let language = self.language;
        let links = page.again.as_deref().map(|address| self.languages(address));
        let theme = self.app.options.theme.as_deref().map(mark);
        let frame = context! {
            lang => language.tag, dir => language.dir, languages => links,
            theme => theme, style_mark => mark(STYLE), script_mark => mark(PASSKEY),
        };
        let template = templates(language).get_template(page.template);
        let html =
            template.and_then(|template| template.render(context! { ..frame, ..page.context }));
        let html = match html {
            Ok(html) => html,
            Err(error) => {
                tracing::error!(%error, template = page.template, "a page cannot be made");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        };
        let mut response = (page.status, html).into_response();
        let headers = response.headers_mut();
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, html);
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag));
        headers.insert(header::CONTENT_SECURITY_POLICY, policy(&page.away));
        self.sealed(response)
    }

    /// A reply that sends the browser on, by GET.
    pub(super) fn to(&mut self, address: &str) -> Response {
        let response = see_other(address);
        self.sealed(response)
    }

    /// The headers and cookies of every reply.
    fn sealed(&mut self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.append(header::VARY, HeaderValue::from_static("accept-language, cookie"));
        if self.client.secure() {
            let year = HeaderValue::from_static("max-age=31536000");
            headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
        }
        for cookie in self.cookies.drain(..) {
            headers.append(header::SET_COOKIE, cookie);
        }
        response
    }

    /// A page in each language.
    fn languages(&self, page: &str) -> Vec<Value> {
        let and = if page.contains('?') { '&' } else { '?' };
        let link = |one: &'static Language| {
            context! { tag => one.tag, name => one.name, chosen => one.tag == self.language.tag,
            address => format!("{page}{and}lang={}", one.tag) }
        };
        LANGUAGES.iter().map(link).collect()
    }
}

/// 303: what comes next is fetched, never sent again.
pub(super) fn see_other(address: &str) -> Response {
    match HeaderValue::try_from(address) {
        Ok(address) => (StatusCode::SEE_OTHER, [(header::LOCATION, address)]).into_response(),
        // Addresses are checked, or ours.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What a page may load and do: what is ours, and nothing written into the page. A browser follows the
/// redirect after a form only to what `form-action` names.
fn policy(away: &[String]) -> HeaderValue {
    let mut policy = "default-src 'none'; style-src 'self'; script-src 'self'; \
                      img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
                      form-action 'self'"
        .to_owned();
    for address in away {
        let end = address.match_indices('/').nth(2).map_or(address.len(), |(end, _)| end);
        let origin = &address[..end];
        if origin.contains("://")
            && origin.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b',')
        {
            policy.push(' ');
            policy.push_str(origin);
        }
    }
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// The templates, each in every language.
fn templates(language: &Language) -> &'static Environment<'static> {
    static ALL: LazyLock<Vec<Arc<Environment<'static>>>> = LazyLock::new(|| {
        LANGUAGES.iter().map(|language| Arc::new(environment(language))).collect()
    });
    let at = LANGUAGES.iter().position(|one| one.tag == language.tag).unwrap_or(0);
    &ALL[at]
}

fn environment(language: &'static Language) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.unwrap_or_default());
    environment.add_function("t", |id: &str| language.say(id).into_owned());
    environment.add_function("t_of", |id: &str, what: Value| language.say_of(id, what));
    for (name, source) in [
        ("layout.html", include_str!("templates/layout.html")),
        ("fields.html", include_str!("templates/fields.html")),
        ("login.html", include_str!("templates/login.html")),
        ("message.html", include_str!("templates/message.html")),
        ("account.html", include_str!("templates/account.html")),
        ("otp.html", include_str!("templates/otp.html")),
        ("passkey.html", include_str!("templates/passkey.html")),
        ("secret.html", include_str!("templates/secret.html")),
    ] {
        environment
            .add_template(name, source)
            .unwrap_or_else(|error| unreachable!("the template `{name}` is wrong: {error}"));
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_sound_in_every_language() {
        for language in LANGUAGES.iter() {
            assert!(templates(language).get_template("layout.html").is_ok());
        }
    }

    #[test]
    fn forms_lead_to_named_origins_only() {
        let policy = |away: &[&str]| {
            let away: Vec<_> = away.iter().map(|&a| a.to_owned()).collect();
            policy(&away).to_str().unwrap().to_owned()
        };
        assert!(policy(&[]).ends_with("form-action 'self'"));
        let one = policy(&["https://wiki.example.com:8443/a?b;c", "/account"]);
        assert!(one.ends_with("form-action 'self' https://wiki.example.com:8443"), "{one}");
        assert!(policy(&["https://a; script-src *"]).ends_with("form-action 'self'"));
    }
}

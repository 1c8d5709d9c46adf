//! `/login`: the conversation as forms, and `/logout`.
//!
//! A first round is shown without a conversation behind it: whoever answers begins one with the answers. So
//! looking at the page keeps nothing, a form that was open for an hour still works, and any node can take it.

use std::sync::{Arc, PoisonError};

use axum::extract::Request as HttpRequest;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::{Answers, Ask, CredentialKind, Denial, Id, KindSet, NotPending, Public, Request};
use minijinja::context;
use minijinja::value::{Serde, Value};
use serde::{Deserialize, Serialize};

use super::super::answers::NAME_BYTES;
use super::super::cookie::AWAY;
use super::super::login::{self as conversation, First, Told as Reply};
use super::super::problem::Problem;
use super::super::return_to::Allowed;
use super::super::session::broken;
use super::round::{Context, Sheet, Told, elsewhere, wrong};
use super::visit::{Page, Visit};
use crate::realm::token_hash;

/// What a login is for when nobody says.
const SERVICE: &str = countersign_checkers::accounts::PEOPLE;

/// What somebody came for.
struct Errand {
    service: String,
    return_to: Option<Allowed>,
    /// The user name, as far as it has been said.
    user: Option<String>,
    notices: Vec<Told>,
    status: StatusCode,
    wait_s: Option<u64>,
}

/// A round on its way to the browser.
#[derive(Default)]
struct Screen<'a> {
    id: Option<Id>,
    error: Option<(&'a str, String)>,
    opened: Option<Option<usize>>,
}

/// `GET /login`.
pub(super) async fn show(visit: Visit) -> Response {
    visit
        .answer(async |visit| {
            let mut errand = Errand::new(
                visit,
                visit.asked("service").as_deref(),
                visit.asked("return_to").as_deref(),
                visit.asked("user"),
            );
            if let Some(session) = visit.session().await? {
                errand
                    .tell("info", visit.language.say_of("login.already", &session.record.subject));
            }
            fresh(visit, errand).await
        })
        .await
}

/// `POST /login`.
pub(super) async fn answer(visit: Visit, request: HttpRequest) -> Response {
    visit.answer(async |visit| answered(visit, request).await).await
}

async fn answered(visit: &mut Visit, request: HttpRequest) -> Result<Response, Problem> {
    let (mut form, same_origin) = visit.form(request).await?;
    let user = form.text("user").map(str::to_owned);
    let mut errand = Errand::new(visit, form.text("service"), form.text("return_to"), user);
    if !same_origin || !visit.has_token(&form, visit.before()).await? {
        errand.status = StatusCode::FORBIDDEN;
        errand.tell("warning", visit.language.say("login.stale"));
        return fresh(visit, errand).await;
    }
    let id = match form.text("login").map(str::parse::<Id>).transpose() {
        Ok(id) => id,
        Err(_) => return gone(visit, errand).await,
    };
    let number = form.text("round").and_then(|number| number.parse().ok()).unwrap_or(0);
    let opened = form.text("open").map(|group| group.parse().ok());
    let given = form.answers();
    if let Some(language) = given.language.as_deref().and_then(super::language::Language::of_list) {
        visit.speak(language);
    }
    if let Some(name) = given.answers.text("username").filter(|name| name.len() <= NAME_BYTES) {
        errand.user = Some(name.to_owned());
    }
    if opened.is_some() {
        return open(visit, errand, id, opened).await;
    }
    if let Some(question) = &given.differ {
        return differing(visit, errand, id, question).await;
    }
    let told = go_on(visit, &errand, id, number, given.answers).await?;
    tell(visit, errand, told).await
}

/// The reply of the conversation to answers.
async fn go_on(
    visit: &Visit,
    errand: &Errand,
    id: Option<Id>,
    number: u16,
    answers: Answers,
) -> Result<Result<Reply, NotPending>, Problem> {
    let engine = Arc::clone(&visit.app.engine);
    let request = errand.request(visit);
    let work = async move {
        match id {
            Some(id) => conversation::answered(&engine, id, number, answers).await,
            None => Ok(conversation::begun_at(&engine, request, Some(answers)).await),
        }
    };
    visit.app.see_through(work).await
}

/// Shows what is asked only when somebody wants it: a key's challenge, the way to another site.
async fn open(
    visit: &mut Visit,
    errand: Errand,
    id: Option<Id>,
    opened: Option<Option<usize>>,
) -> Result<Response, Problem> {
    let (engine, request) = (Arc::clone(&visit.app.engine), errand.request(visit));
    let work = async move {
        match id {
            Some(id) => conversation::open_round(&engine, id).map(|ask| Reply::Ask(id, ask)),
            None => Ok(conversation::begun_at(&engine, request, None).await),
        }
    };
    match visit.app.see_through(work).await? {
        Ok(Reply::Ask(id, ask)) => {
            if let Some((question, address)) = leads_away(&ask, opened.flatten()) {
                return away(visit, &errand, Away::new(&errand, id, ask.number, question), address);
            }
            let screen = Screen { id: Some(id), opened, ..Screen::default() };
            round(visit, &errand, &ask, screen).await
        }
        told => tell(visit, errand, told).await,
    }
}

/// The question of the opened alternative that is answered at another site, and where.
fn leads_away(ask: &Ask, opened: Option<usize>) -> Option<(&str, &str)> {
    let group = opened.and_then(|index| ask.round.groups.get(index)).map(|group| &*group.id);
    let mut opened =
        ask.round.questions.iter().filter(|question| question.group.as_deref() == group);
    opened.find_map(|question| Some((&*question.name, elsewhere(question)?)))
}

/// Sends the browser away, with a cookie that says what it left behind.
fn away(
    visit: &mut Visit,
    errand: &Errand,
    left: Away,
    address: &str,
) -> Result<Response, Problem> {
    let value = serde_json::to_vec(&left).map(|json| URL_SAFE_NO_PAD.encode(json));
    let value = value.map_err(|_| Problem::later("the login cannot be left"))?;
    // An address to return to may be long; without it the login still works.
    let value = if value.len() > AWAY_BYTES {
        let short = Away { return_to: None, ..left };
        tracing::debug!(
            service = errand.service,
            "the address to return to is too long to be kept"
        );
        serde_json::to_vec(&short).map(|json| URL_SAFE_NO_PAD.encode(json)).unwrap_or_default()
    } else {
        value
    };
    let cookie = visit.jar().set_for(AWAY, &value, AWAY_S);
    visit.set_cookie(cookie);
    Ok(visit.to(address))
}

/// `GET /login/back`: the browser comes back from another site, which has put its answer into the query string.
/// That it is the same browser, the cookie says; that it is an answer to what was asked there, who asked.
pub(super) async fn back(visit: Visit) -> Response {
    visit
        .answer(async |visit| {
            let left = visit.left_behind().and_then(|value| {
                let json = URL_SAFE_NO_PAD.decode(value).ok()?;
                serde_json::from_slice::<Away>(&json).ok()
            });
            let cookie = visit.jar().set_for(AWAY, "", 0);
            visit.set_cookie(cookie);
            let service = left.as_ref().map(|left| left.service.as_str());
            let return_to = left.as_ref().and_then(|left| left.return_to.as_deref());
            let errand = Errand::new(visit, service, return_to, None);
            let id = left.as_ref().and_then(|left| left.login.parse::<Id>().ok());
            let (Some(left), Some(id)) = (left, id) else { return gone(visit, errand).await };
            let answers = Answers::new().with(left.question, visit.query.clone());
            let told = go_on(visit, &errand, Some(id), left.round, answers).await?;
            tell(visit, errand, told).await
        })
        .await
}

/// What a browser leaves behind when it is sent to another site. It keeps it itself: what is in it is checked as
/// if it had come by a form.
#[derive(Debug, Serialize, Deserialize)]
struct Away {
    login: String,
    round: u16,
    question: String,
    service: String,
    return_to: Option<String>,
}

impl Away {
    fn new(errand: &Errand, id: Id, round: u16, question: &str) -> Self {
        Self {
            login: id.to_string(),
            round,
            question: question.to_owned(),
            service: errand.service.clone(),
            return_to: errand.return_to.as_ref().map(|allowed| allowed.as_str().to_owned()),
        }
    }
}

/// For how long a browser may be away, in seconds: as long as a login lasts.
const AWAY_S: i64 = 5 * 60;
/// How much a cookie takes, in bytes.
const AWAY_BYTES: usize = 3800;

/// Two new passwords that are not one: nothing is answered.
async fn differing(
    visit: &mut Visit,
    mut errand: Errand,
    id: Option<Id>,
    question: &str,
) -> Result<Response, Problem> {
    let Some(Ok((id, ask))) =
        id.map(|id| conversation::open_round(&visit.app.engine, id).map(|ask| (id, ask)))
    else {
        return gone(visit, errand).await;
    };
    errand.status = StatusCode::UNPROCESSABLE_ENTITY;
    let error = Some((question, visit.language.say("misuse.differ").into_owned()));
    round(visit, &errand, &ask, Screen { id: Some(id), error, opened: None }).await
}

/// A page for what the conversation says.
async fn tell(
    visit: &mut Visit,
    mut errand: Errand,
    told: Result<Reply, NotPending>,
) -> Result<Response, Problem> {
    match told {
        Err(_) | Ok(Reply::Misuse(_, None)) => gone(visit, errand).await,
        Ok(Reply::Ask(id, ask)) => {
            round(visit, &errand, &ask, Screen { id: Some(id), ..Screen::default() }).await
        }
        Ok(Reply::Misuse(misuse, Some((id, ask)))) => {
            errand.status = StatusCode::UNPROCESSABLE_ENTITY;
            let (question, text) = wrong(&misuse, visit.language);
            if question.is_none() {
                errand.tell("error", text.as_str());
            }
            let error = question.map(|question| (question, text));
            round(visit, &errand, &ask, Screen { id: Some(id), error, opened: None }).await
        }
        Ok(Reply::Denied(denial)) => {
            denied(visit, &mut errand, &denial);
            fresh(visit, errand).await
        }
        Ok(Reply::Fault) => {
            errand.status = StatusCode::SERVICE_UNAVAILABLE;
            errand.tell("error", visit.language.say("login.fault"));
            fresh(visit, errand).await
        }
        Ok(Reply::Granted(_, session)) => {
            // Whoever logs in anew leaves the session that this browser had.
            if let Some(old) = visit.session_token().map(token_hash) {
                visit.app.engine.store.end_session(&old).await.map_err(broken)?;
            }
            let cookie = {
                let session = session.lock().unwrap_or_else(PoisonError::into_inner);
                let lasting = session.avatar();
                // From here on the browser knows it.
                lasting.keep();
                let now = countersign::World::now(&visit.app.engine.world).unix;
                visit.jar().set_session(&lasting.token, lasting.expires.saturating_sub(now))
            };
            visit.set_cookie(cookie);
            // Forms from before the login are void.
            visit.renew();
            let address = errand.return_to.as_ref().map_or("/account", Allowed::as_str);
            Ok(visit.to(address))
        }
    }
}

/// What a refusal says: the same words for everybody, and how long to wait where that is so.
fn denied(visit: &Visit, errand: &mut Errand, denial: &Denial) {
    let language = visit.language;
    if errand.user.is_none() {
        errand.user = denial.claimed.as_deref().map(str::to_owned);
    }
    let word = denial.public();
    let (status, text) = match word {
        Public::Denied => (StatusCode::FORBIDDEN, language.say("login.denied")),
        Public::ChangeNeeded => (StatusCode::FORBIDDEN, language.say("login.change-needed")),
        Public::Unsupported => {
            (StatusCode::UNPROCESSABLE_ENTITY, language.say("login.unsupported"))
        }
        Public::TryLater => (StatusCode::TOO_MANY_REQUESTS, language.say("login.try-later")),
    };
    errand.status = status;
    let mut text = text.into_owned();
    if let (Public::TryLater, Some(wait)) = (word, denial.retry_after) {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        errand.wait_s = Some(seconds);
        text.push(' ');
        text.push_str(&match seconds {
            0..=1 => language.say("again.second").into_owned(),
            2..=90 => language.say_of("again.seconds", seconds),
            _ => language.say_of("again.minutes", seconds.div_ceil(60)),
        });
    }
    errand.tell("error", text);
}

/// The login that was answered waits no more.
async fn gone(visit: &mut Visit, mut errand: Errand) -> Result<Response, Problem> {
    errand.status = StatusCode::GONE;
    errand.tell("warning", visit.language.say("login.gone"));
    fresh(visit, errand).await
}

/// The first round, of a login that is not begun.
async fn fresh(visit: &mut Visit, errand: Errand) -> Result<Response, Problem> {
    let (engine, request) = (Arc::clone(&visit.app.engine), errand.request(visit));
    let work = async move { conversation::first_round(&engine, request).await };
    match visit.app.see_through(work).await? {
        First::Shown(ask) => round(visit, &errand, &ask, Screen::default()).await,
        First::End(Reply::Denied(denial)) if denial.public() == Public::Unsupported => {
            let say = |id| visit.language.say(id);
            let (title, text) = (say("message.unsupported.title"), say("message.unsupported.text"));
            Ok(visit.message(StatusCode::UNPROCESSABLE_ENTITY, &title, &text))
        }
        // A checker that lets in without a question does so for who asks for it by name, not here.
        First::End(_) => Ok(visit.later()),
    }
}

/// A round as a page.
async fn round(
    visit: &mut Visit,
    errand: &Errand,
    ask: &Ask,
    screen: Screen<'_>,
) -> Result<Response, Problem> {
    let user = errand.user.as_deref();
    let about =
        Context { user, error: screen.error, opened: screen.opened, waits: screen.id.is_some() };
    let sheet = Sheet::of(ask, visit.language, &about);
    let mut away = sheet.away.clone();
    away.extend(errand.return_to.as_ref().map(|allowed| allowed.as_str().to_owned()));
    let first = screen.id.is_none();
    let named = ask.round.question("username").is_some();
    let context = context! {
        opens => sheet.opens(&about),
        sheet => Value::from(Serde(&sheet)),
        check => visit.token(visit.before()).await?,
        login => screen.id.map(|id| id.to_string()),
        service => errand.service.as_str(), service_named => errand.service != SERVICE,
        return_to => errand.return_to.as_ref().map(Allowed::as_str),
        return_host => errand.return_to.as_ref().and_then(Allowed::host),
        again => errand.address(), first,
        user => user.filter(|_| !named),
        notices => Value::from(Serde(&errand.notices)),
    };
    let page = Page {
        status: errand.status,
        away,
        again: first.then(|| errand.address()),
        ..Page::new("login.html", context)
    };
    let mut response = visit.page(page);
    if let Some(wait) = errand.wait_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
    }
    Ok(response)
}

impl Errand {
    fn new(
        visit: &Visit,
        service: Option<&str>,
        return_to: Option<&str>,
        user: Option<String>,
    ) -> Self {
        let sound = |name: &&str| {
            (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        let allowed = return_to.and_then(|address| visit.app.options.return_to.check(address));
        let mut errand = Self {
            service: service.filter(sound).unwrap_or(SERVICE).to_owned(),
            return_to: allowed,
            user: user.filter(|name| sound(&name.as_str())),
            notices: Vec::new(),
            status: StatusCode::OK,
            wait_s: None,
        };
        if let (Some(address), None) = (return_to, &errand.return_to) {
            tracing::debug!(
                address,
                "a login does not return to an address that `return_to` does not list"
            );
            errand.tell("warning", visit.language.say("login.no-return"));
        }
        errand
    }

    fn tell(&mut self, level: &'static str, text: impl Into<String>) {
        self.notices.push(Told { level, text: text.into() });
    }

    /// A login to the service by this browser.
    fn request(&self, visit: &Visit) -> Request {
        Request::from_peer(Arc::new(visit.client.peer(&self.service, kinds())))
    }

    /// The page's own address, to begin again.
    fn address(&self) -> String {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let mut address = format!("/login?service={}", encode(&self.service));
        if let Some(allowed) = &self.return_to {
            address += &format!("&return_to={}", encode(allowed.as_str()));
        }
        address
    }
}

/// What a page can ask.
fn kinds() -> KindSet {
    let never = [CredentialKind::Token, CredentialKind::ClientNonce];
    CredentialKind::all().filter(|kind| !never.contains(kind)).collect()
}

/// `POST /logout`: ends the session of the browser.
pub(super) async fn out(visit: Visit, request: HttpRequest) -> Response {
    visit.answer(async |visit| left(visit, request).await).await
}

async fn left(visit: &mut Visit, request: HttpRequest) -> Result<Response, Problem> {
    let (form, same_origin) = visit.form(request).await?;
    let Some(session) = visit.session().await? else { return Ok(visit.to("/login")) };
    let bound = super::check::Bound::Session(&session.record.hash);
    if !same_origin || !visit.has_token(&form, bound).await? {
        let say = |id| visit.language.say(id);
        let (title, text) = (say("message.stale.title"), say("message.stale.text"));
        return Ok(visit.message(StatusCode::FORBIDDEN, &title, &text));
    }
    visit.app.engine.store.end_session(&session.record.hash).await.map_err(broken)?;
    let cookie = visit.jar().clear_session();
    visit.set_cookie(cookie);
    let say = |id| visit.language.say(id);
    let (title, text) = (say("message.out.title"), say("message.out.text"));
    Ok(visit.message(StatusCode::OK, &title, &text))
}

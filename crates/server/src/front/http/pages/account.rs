//! `/account`: what somebody can see and change of their own. The changes are in [`changes`](super::changes).

use axum::http::StatusCode;
use axum::response::Response;
use countersign::World as _;
use countersign_checkers::accounts::PEOPLE;
use countersign_checkers::factors::Factor;
use countersign_store::{CredentialType, SessionRecord};
use minijinja::context;
use minijinja::value::{Serde, Value};
use serde::Serialize;

use super::super::problem::Problem;
use super::super::session::{Short, broken, suffices};
use super::check::Bound;
use super::round::Told;
use super::visit::{Page, Visit};
use crate::admin::{Own, OwnError};
use crate::sessions::LiveSession;

/// For how many seconds after a login its holder may change what proves them.
const FRESH_S: i64 = 10 * 60;

/// Somebody on the page of their account.
pub(super) struct Holder {
    pub(super) live: std::sync::Arc<LiveSession>,
    pub(super) own: Option<Own>,
    /// Whether the login was just now, and a person's.
    pub(super) fresh: bool,
    /// Whether the account's password is kept here.
    pub(super) has_password: bool,
}

#[derive(Serialize)]
struct SessionLine {
    hash: String,
    service: String,
    peer: String,
    created: String,
    last_seen: String,
    here: bool,
}

#[derive(Serialize)]
struct FactorLine {
    id: i64,
    label: String,
    services: Option<String>,
    created: String,
    expires: Option<String>,
    last_used: Option<String>,
}

/// `GET /account`.
pub(super) async fn show(visit: Visit) -> Response {
    visit
        .answer(async |visit| {
            let Some(holder) = Holder::of(visit).await? else { return Ok(to_login(visit)) };
            let notices = visit.asked("done").as_deref().and_then(|done| done_text(visit, done));
            let notices = notices.map(|text| Told { level: "info", text }).into_iter().collect();
            page(visit, &holder, notices, StatusCode::OK).await
        })
        .await
}

/// What has just been done, in words.
fn done_text(visit: &Visit, done: &str) -> Option<String> {
    let say = |text: std::borrow::Cow<'_, str>| Some(text.into_owned());
    let language = visit.language;
    match done {
        "password" => say(language.say("account.done.password")),
        "otp" => say(language.say("account.done.otp")),
        "passkey" => say(language.say("account.done.passkey")),
        "removed" => say(language.say("account.done.removed")),
        "sessions" => say(language.say("account.done.sessions")),
        _ => None,
    }
}

pub(super) fn to_login(visit: &mut Visit) -> Response {
    visit.to("/login?return_to=%2Faccount")
}

impl Holder {
    /// Whoever the browser's session is of. `None`: it has none that is enough for this page.
    pub(super) async fn of(visit: &Visit) -> Result<Option<Self>, Problem> {
        let Some(live) = visit.session().await? else { return Ok(None) };
        // Whatever the login was for, it must be as good as one to this page.
        match suffices(&visit.app, &visit.client, &live, PEOPLE) {
            Ok(()) => {}
            Err(Short::AnotherLogin) => return Ok(None),
            Err(Short::NotAllowed) => {
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "this account may not use the page",
                ));
            }
        }
        let engine = &visit.app.engine;
        let now = engine.world.now().unix;
        let subject = &live.record.subject;
        let account = engine.store.account(subject).await.map_err(broken)?;
        // Somebody else may have vouched for the same name: then the account is another's.
        let checker = live.login.checker.as_deref().unwrap_or_default();
        let account = account.filter(|account| match account.driven_by() {
            None => checker.starts_with("accounts."),
            Some(driver) => checker == driver || checker.starts_with(&format!("{driver}.")),
        });
        let has_password = account.as_ref().is_some_and(|account| account.driven_by().is_none());
        let admin = visit.app.options.admin.as_ref();
        let own = account.and_then(|_| Some(admin?.own(subject)));
        let age = now.saturating_sub(live.record.created);
        // A program's password never changes what proves its person.
        let fresh = (0..=FRESH_S).contains(&age) && !live.login.program;
        Ok(Some(Self { live, own, fresh, has_password }))
    }
}

/// The page.
pub(super) async fn page(
    visit: &mut Visit,
    holder: &Holder,
    notices: Vec<Told>,
    status: StatusCode,
) -> Result<Response, Problem> {
    let record = &holder.live.record;
    let (mut factors, mut sessions) = (Vec::new(), Vec::new());
    if let Some(own) = &holder.own {
        factors = own.list().await.map_err(problem)?;
        sessions = own.sessions().await.map_err(problem)?;
    }
    let sessions: Vec<_> = sessions.iter().map(|one| session_line(one, &record.hash)).collect();
    let of = |kinds: &[CredentialType]| {
        let lines = factors.iter().filter(|factor| kinds.contains(&factor.kind));
        Value::from(Serde(lines.map(factor_line).collect::<Vec<_>>()))
    };
    let recovery = factors.iter().find(|factor| factor.kind == CredentialType::Recovery);
    let identity = &holder.live.identity;
    let groups: Vec<_> = identity.groups.iter().map(|group| group.name.as_str()).collect();
    let name =
        percent_encoding::utf8_percent_encode(&record.subject, percent_encoding::NON_ALPHANUMERIC);
    let context = context! {
        confirm => format!("/login?return_to=%2Faccount&user={name}"),
        user => record.subject.as_str(), groups => groups.join(", "),
        notices => Value::from(Serde(&notices)),
        check => visit.token(Bound::Session(&record.hash)).await?,
        own => holder.own.is_some(), fresh => holder.fresh, has_password => holder.has_password,
        passkeys => has_passkeys(visit),
        otp => of(&[CredentialType::Totp, CredentialType::Hotp]),
        keys => of(&[CredentialType::Passkey]),
        apps => of(&[CredentialType::AppPassword]),
        recovery => recovery.and_then(|factor| factor.left), recovery_id => recovery.map(|one| one.id),
        sessions => Value::from(Serde(&sessions)), others => sessions.len() > 1,
    };
    let again = Some("/account".to_owned());
    Ok(visit.page(Page { status, again, ..Page::new("account.html", context) }))
}

#[cfg(feature = "passkeys")]
pub(super) fn has_passkeys(visit: &Visit) -> bool {
    visit.app.options.passkeys.is_some()
}

#[cfg(not(feature = "passkeys"))]
pub(super) fn has_passkeys(_: &Visit) -> bool {
    false
}

fn session_line(session: &SessionRecord, here: &str) -> SessionLine {
    SessionLine {
        hash: session.hash.clone(),
        service: session.service.clone(),
        peer: session.peer.clone(),
        created: moment(session.created),
        last_seen: moment(session.last_seen),
        here: session.hash == here,
    }
}

fn factor_line(factor: &Factor) -> FactorLine {
    FactorLine {
        id: factor.id,
        label: factor.label.clone(),
        services: factor.services.as_ref().map(|services| services.join(", ")),
        created: moment(factor.created),
        expires: factor.expires.map(moment),
        last_used: factor.last_used.map(moment),
    }
}

/// A time for people everywhere: in UTC, and it says so.
pub(super) fn moment(unix: i64) -> String {
    let time = jiff::Timestamp::from_second(unix);
    time.map_or_else(|_| unix.to_string(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// What broke, of the store: for the log.
pub(super) fn problem(error: OwnError) -> Problem {
    use countersign_checkers::factors::FactorError;
    match error {
        OwnError::Admin(error) => error.into(),
        OwnError::Factor(FactorError::Store(error)) => broken(error),
        OwnError::Factor(error) => Problem::bad(error.to_string()),
        OwnError::Password(rule) => Problem::bad(rule.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people_everywhere() {
        assert_eq!(moment(1_800_000_000), "2027-01-15 08:00 UTC");
        assert_eq!(moment(i64::MAX), i64::MAX.to_string());
    }
}

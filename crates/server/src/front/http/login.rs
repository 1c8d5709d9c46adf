//! The conversation: begin, answer, cancel.
//!
//! The work of a request runs in a task of its own. A client that goes away in the middle thereby neither
//! leaves an attempt out of the record nor loses its login: it may ask for the last reply again. A session
//! that nobody was told of ends by itself.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use countersign::{
    Answers, Ask, Bounds, Denial, Halt, Id, Identity, Known, Misuse, NotPending, Peer, Public,
    Reason, Reply, Request, Session, Verified,
};

use super::answers::{AnswerMap, LoginRequest, NAME_BYTES, RoundAnswers};
use super::json::{Json, Path, response};
use super::problem::Problem;
use super::view::{LoginReply, RoundView, SessionToken};
use super::{App, Client, session};
use crate::audit::Ledger;
use crate::engine::{Engine, Login, Parked, Turn, Unsettled};
use crate::identity::IdentityView;
use crate::realm::{Begun, Lasting};

/// `POST /v1/login`.
pub(super) async fn begin(
    State(app): State<App>,
    Extension(client): Extension<Client>,
    Json(request): Json<LoginRequest>,
) -> Result<Told, Problem> {
    request.check()?;
    let peer = Arc::new(client.peer(&request.service, request.kinds()));
    let LoginRequest { mechanism, answers: AnswerMap(answers), .. } = request;
    let engine = Arc::clone(&app.engine);
    app.see_through(async move {
        let mut wanted = Request::from_peer(peer);
        wanted.mechanism = mechanism.map(Into::into);
        begun(&engine, wanted, answers).await
    })
    .await
}

/// `POST /v1/login/{id}`.
pub(super) async fn answer(
    State(app): State<App>,
    Path(id): Path<String>,
    Json(request): Json<RoundAnswers>,
) -> Result<Told, Problem> {
    let id = login_id(&id)?;
    let engine = Arc::clone(&app.engine);
    let RoundAnswers { round, answers: AnswerMap(answers) } = request;
    // No round takes a longer one; it is told apart from a mistake in the answers.
    if let Some(name) = answers.value("username").filter(|name| name.len() > NAME_BYTES) {
        let length = name.len();
        let error = format!("the user name has {length} bytes and may have {NAME_BYTES}");
        return Err(Problem::bad(error));
    }
    let told = app.see_through(async move { answered(&engine, id, round, answers).await }).await?;
    told.map_err(not_pending)
}

/// `DELETE /v1/login/{id}`.
pub(super) async fn cancel(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let engine = &app.engine;
    let (conversation, parked) =
        engine.pending.take(login_id(&id)?, &engine.world).map_err(not_pending)?;
    // An ended one is only forgotten: how it ended is in the record already.
    if !conversation.is_over() {
        let mut ledger = Ledger::default();
        engine.cancel(Login { conversation, note: parked.note }, &mut ledger);
        engine.commit(&mut ledger).map_err(|_| Problem::later(UNRECORDED))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The one place where the public word of a refusal becomes a status code.
pub fn status_of(word: Public) -> StatusCode {
    match word {
        Public::Denied => StatusCode::UNAUTHORIZED,
        Public::ChangeNeeded => StatusCode::FORBIDDEN,
        Public::TryLater => StatusCode::TOO_MANY_REQUESTS,
        Public::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// What the client is told when the record cannot be written.
pub(super) const UNRECORDED: &str = "the server cannot record this; try later";

/// What a request of the conversation came to. It is in the record.
pub(super) enum Told {
    Ask(Id, Ask),
    Granted(Verified<Identity>, Arc<Mutex<Session<Lasting>>>),
    Denied(Denial),
    Misuse(Misuse, Option<(Id, Ask)>),
    Fault,
}

/// The first round of a login that nobody has begun yet, or why there is none.
pub(super) enum First {
    Shown(Ask),
    End(Told),
}

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        match self {
            Self::Ask(id, ask) => {
                let reply = LoginReply::Ask { id: id.to_string(), round: RoundView::of(&ask) };
                response(StatusCode::OK, &reply)
            }
            Self::Granted(who, session) => {
                let session = session.lock().unwrap_or_else(PoisonError::into_inner);
                // From here on the client knows it.
                session.avatar().keep();
                let expires = session::rfc3339(session.avatar().expires);
                let session = SessionToken { token: session.avatar().token.to_string(), expires };
                let reply = LoginReply::Granted { session, identity: IdentityView::of(&who) };
                response(StatusCode::OK, &reply)
            }
            Self::Denied(denial) => {
                let word = denial.public();
                let mut response = refusal(status_of(word), word);
                let wait = denial.retry_after.filter(|_| word == Public::TryLater);
                if let Some(wait) = wait {
                    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                if word == Public::Denied {
                    let scheme = HeaderValue::from_static("Bearer");
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
                }
                response
            }
            Self::Misuse(misuse, open) => {
                let (id, ask) = open.unzip();
                let (id, round) = (id.map(|id| id.to_string()), ask.map(|ask| ask.number));
                let reply = LoginReply::Misuse { error: misuse.to_string(), id, round };
                response(StatusCode::UNPROCESSABLE_ENTITY, &reply)
            }
            Self::Fault => refusal(StatusCode::SERVICE_UNAVAILABLE, Public::TryLater),
        }
    }
}

fn refusal(code: StatusCode, word: Public) -> Response {
    response(code, &LoginReply::Denied { reason: word.word().to_owned() })
}

impl App {
    /// Runs the work of one request to its end, whether the client waits for it or not; a stop waits.
    pub(super) async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let stop = self.stop.clone();
        let task = tokio::spawn(async move {
            let _held = stop;
            work.await
        });
        // A panic ends its own request.
        task.await.map_err(|_| Problem::later("the request failed; try later"))
    }
}

async fn begun(engine: &Engine, request: Request, answers: Answers) -> Told {
    let mut ledger = Ledger::default();
    let mut known = Known::new(answers);
    let peer = Arc::clone(&request.peer);
    let mind = Begun { peer: Arc::clone(&peer), since: engine.store.revision() };
    let begun = engine.begin_within::<Lasting>(request, mind.clone(), Some(&Bounds::REQUESTS));
    let mut unsettled = begun.await;
    loop {
        let (ask, login) = match unsettled.asked() {
            Ok(asked) => asked,
            Err(end) => {
                let end = engine.settle(end, &mut ledger);
                return told(engine, None, end, None, &peer, ledger);
            }
        };
        // A round that needs no answer is for the client to see, not to be passed over.
        match known.pick(&ask.round).filter(|answers| !answers.is_empty()) {
            None => {
                let turn = engine.settle(Unsettled::still_asked(ask, login), &mut ledger);
                return told(engine, None, turn, None, &peer, ledger);
            }
            Some(answers) => {
                let mind = mind.at(&ask);
                unsettled = engine.answer::<Lasting>(login, ask.number, answers, mind).await;
            }
        }
    }
}

/// The first round, to be shown to somebody who may never answer it: nothing is kept, and looking at a form
/// is no attempt. Who answers begins with [`begun_at`].
pub(super) async fn first_round(engine: &Engine, request: Request) -> First {
    let peer = Arc::clone(&request.peer);
    let mind = Begun { peer: Arc::clone(&peer), since: engine.store.revision() };
    let begun = engine.begin_within::<Lasting>(request, mind, Some(&Bounds::REQUESTS));
    match begun.await.asked() {
        Ok((ask, _)) => First::Shown(ask),
        Err(end) => {
            let mut ledger = Ledger::default();
            let turn = engine.settle(end, &mut ledger);
            First::End(told(engine, None, turn, None, &peer, ledger))
        }
    }
}

/// Begins a login with the answers to its first round, of which the peer has seen the like. None: the round
/// is kept for the peer.
pub(super) async fn begun_at(engine: &Engine, request: Request, answers: Option<Answers>) -> Told {
    let mut ledger = Ledger::default();
    let peer = Arc::clone(&request.peer);
    let mind = Begun { peer: Arc::clone(&peer), since: engine.store.revision() };
    let begun = engine.begin_within::<Lasting>(request, mind.clone(), Some(&Bounds::REQUESTS));
    let unsettled = match (begun.await.asked(), answers) {
        (Ok((ask, login)), Some(answers)) => {
            engine.answer::<Lasting>(login, ask.number, answers, mind.at(&ask)).await
        }
        (Ok((ask, login)), None) => Unsettled::still_asked(ask, login),
        (Err(end), _) => end,
    };
    let turn = engine.settle(unsettled, &mut ledger);
    told(engine, None, turn, None, &peer, ledger)
}

/// The open round of a login that waits, which goes on waiting.
pub(super) fn open_round(engine: &Engine, id: Id) -> Result<Ask, NotPending> {
    let (conversation, parked) = engine.pending.take(id, &engine.world)?;
    let open = conversation.open();
    engine.pending.park(id, conversation, parked, &engine.world);
    open.ok_or(NotPending::Unknown)
}

pub(super) async fn answered(
    engine: &Engine,
    id: Id,
    round: u16,
    answers: Answers,
) -> Result<Told, NotPending> {
    let (mut conversation, parked) = engine.pending.take(id, &engine.world)?;
    if conversation.is_over() {
        let reply = conversation.answer(round, answers, &engine.world).await;
        let told = repeated(reply, &parked);
        engine.pending.park(id, conversation, parked, &engine.world);
        return Ok(told);
    }
    let peer = Arc::clone(conversation.peer());
    let mind = Begun { peer: Arc::clone(&peer), since: parked.note.since() };
    let mind = conversation.open().map_or_else(|| mind.clone(), |ask| mind.at(&ask));
    let login = Login { conversation, note: parked.note };
    let unsettled = engine.answer::<Lasting>(login, round, answers, mind).await;
    let mut ledger = Ledger::default();
    let (turn, ended) = engine.settle_resumable(unsettled, &mut ledger);
    Ok(told(engine, Some(id), turn, ended, &peer, ledger))
}

/// The last reply of a login that is over, for who gave its last answers again. Nobody is let in twice:
/// it is the same session.
fn repeated(reply: Result<Reply, Halt>, parked: &Parked) -> Told {
    match (reply, &parked.session) {
        (Ok(Reply::Granted(who)), Some(session)) => Told::Granted(who, Arc::clone(session)),
        (Ok(Reply::Denied(denial)), _) => Told::Denied(denial),
        (Err(Halt::Misuse(misuse)), _) => Told::Misuse(misuse, None),
        // An ended login asks nothing, and one that granted has its session.
        (Ok(Reply::Ask(_) | Reply::Granted(_)) | Err(Halt::Fault(_)), _) => Told::Fault,
    }
}

/// Writes the record, and puts the login away until the next request. `id`: under which it waited before.
fn told(
    engine: &Engine,
    id: Option<Id>,
    turn: Turn<Lasting>,
    ended: Option<Login>,
    peer: &Peer,
    mut ledger: Ledger,
) -> Told {
    if let Err(fault) = engine.commit(&mut ledger) {
        // The turn is dropped: its session ends, and nothing is left that could repeat its reply.
        tracing::error!(%fault, "a login is refused because it cannot be recorded");
        return Told::Fault;
    }
    let keep_end = |session| {
        if let (Some(id), Some(Login { conversation, note })) = (id, ended) {
            engine.pending.park(id, conversation, Parked { note, session }, &engine.world);
        }
    };
    match turn {
        Turn::Ask(ask, login) => match wait(engine, id, login) {
            Ok(id) => Told::Ask(id, ask),
            Err(full) => too_many(engine, full, peer, ledger),
        },
        Turn::Misuse(misuse, login) => {
            let Some(ask) = login.conversation.open() else {
                return Told::Misuse(misuse, None);
            };
            match wait(engine, id, login) {
                Ok(id) => Told::Misuse(misuse, Some((id, ask))),
                Err(full) => too_many(engine, full, peer, ledger),
            }
        }
        Turn::Granted(who, session) => {
            let session = Arc::new(Mutex::new(session));
            keep_end(Some(Arc::clone(&session)));
            Told::Granted(who, session)
        }
        Turn::Denied(denial) => {
            keep_end(None);
            Told::Denied(denial)
        }
        Turn::Fault(_) => Told::Fault,
    }
}

fn wait(engine: &Engine, id: Option<Id>, login: Login) -> Result<Id, NotPending> {
    let Login { conversation, note } = login;
    let parked = Parked { note, session: None };
    match id {
        None => engine.pending.insert(conversation, parked, &engine.world),
        Some(id) => {
            engine.pending.park(id, conversation, parked, &engine.world);
            Ok(id)
        }
    }
}

fn too_many(engine: &Engine, full: NotPending, peer: &Peer, mut ledger: Ledger) -> Told {
    let denial = Denial::new(Reason::TooMany).because(full.to_string());
    engine.refuse(peer, &denial, &mut ledger);
    match engine.commit(&mut ledger) {
        Ok(()) => Told::Denied(denial),
        Err(_) => Told::Fault,
    }
}

fn login_id(text: &str) -> Result<Id, Problem> {
    Id::from_str(text).map_err(not_pending)
}

fn not_pending(why: NotPending) -> Problem {
    match why {
        NotPending::Elsewhere { node } => Problem::elsewhere(node, why.to_string()),
        NotPending::Unknown | NotPending::Full => {
            Problem::new(StatusCode::NOT_FOUND, why.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_code_and_the_four_differ() {
        let words = [Public::Denied, Public::ChangeNeeded, Public::TryLater, Public::Unsupported];
        let codes: std::collections::BTreeSet<_> = words.map(status_of).into();
        assert_eq!(codes.len(), 4);
        assert!(codes.iter().all(StatusCode::is_client_error));
    }
}

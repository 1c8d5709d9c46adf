//! Logging in: a round, its answers, and so on until somebody is in, or not.
//!
//! How somebody proves who they are is nobody's business here: rounds go out and answers come in, whatever they are
//! about.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use capnp::Error;
use capnp_rpc::new_client_from_rc;
use countersign::{
    Answers, Challenge, Conversation, Denial, Fault, Halt, Misuse, Realm, Reason, Reply, Request,
    Secret,
};

use crate::connection::Connection;
use crate::desk::Objects;
use crate::objects_capnp::{self as schema, conversation, login, mind, step};
use crate::rounds;
use crate::seat::{Counted, too_much};

/// What a connection is given: the way in.
pub(crate) struct Login<R>(pub(crate) Rc<Connection<R>>);

/// A login under way.
struct Attempt<R> {
    connection: Rc<Connection<R>>,
    /// Taken out while it is worked on.
    waiting: RefCell<Option<Conversation>>,
    mind: Option<mind::Client>,
    /// Given back when it is over, whoever still holds the object.
    counted: Cell<Option<Counted>>,
}

impl<R: Realm<Objects> + 'static> login::Server for Login<R> {
    async fn offers(
        self: Rc<Self>,
        _: login::OffersParams,
        mut results: login::OffersResults,
    ) -> Result<(), Error> {
        let names = self.0.server.portal.begins(&self.0.peer);
        let mut to = results.get().init_mechanisms(u32::try_from(names.len()).unwrap_or(u32::MAX));
        for (at, name) in (0..).zip(&names) {
            to.set(at, name);
        }
        Ok(())
    }

    async fn begin(
        self: Rc<Self>,
        params: login::BeginParams,
        mut results: login::BeginResults,
    ) -> Result<(), Error> {
        let connection = &self.0;
        let _call = connection.calls.take().ok_or_else(too_much)?;
        let counted = connection.logins.take();
        let counted = counted.ok_or_else(|| Error::overloaded("too many logins at once".into()))?;
        if !connection.is_free().await {
            return Err(Error::failed("somebody is logged in on this connection: log out".into()));
        }
        let params = params.get()?;
        let mechanism = params.get_mechanism()?.to_str()?;
        let user = params.get_user()?.to_str()?;
        let mut peer = Arc::clone(&connection.peer);
        if params.has_supports() {
            Arc::make_mut(&mut peer).supports = rounds::kinds(params.get_supports()?)?;
        }
        let mut request = Request::from_peer(peer);
        if !mechanism.is_empty() {
            request = request.by(mechanism.to_owned());
        }
        request.claimed = (!user.is_empty()).then(|| user.into());
        let mind = if params.has_mind() { Some(params.get_mind()?) } else { None };
        let begun = connection.server.portal.begin(request, &*connection.server.world).await;
        let connection = Rc::clone(connection);
        let waiting = RefCell::new(None);
        let counted = Cell::new(Some(counted));
        let attempt = Rc::new(Attempt { connection, waiting, mind, counted });
        let to = results.get().init_step();
        match begun {
            Ok((conversation, reply)) => attempt.go_on(conversation, reply, to).await,
            Err(fault) => {
                attempt.broken(&fault, to);
                Ok(())
            }
        }
    }
}

impl<R: Realm<Objects> + 'static> conversation::Server for Attempt<R> {
    async fn answer(
        self: Rc<Self>,
        params: conversation::AnswerParams,
        mut results: conversation::AnswerResults,
    ) -> Result<(), Error> {
        let _call = self.connection.calls.take().ok_or_else(too_much)?;
        let params = params.get()?;
        let answers = rounds::read(params.get_answers()?)?;
        // One that is dropped half-way leaves none: a login is over when its client does not wait for it.
        let waiting = self.waiting.take();
        let mut waiting = waiting.ok_or_else(|| Error::failed(Misuse::Closed.to_string()))?;
        let world = &*self.connection.server.world;
        let to = results.get().init_step();
        match waiting.answer(params.get_round(), answers, world).await {
            Ok(reply) => self.go_on(waiting, reply, to).await,
            Err(Halt::Misuse(misuse)) => {
                self.waiting.replace(Some(waiting));
                Err(Error::failed(misuse.to_string()))
            }
            Err(Halt::Fault(fault)) => {
                self.broken(&fault, to);
                Ok(())
            }
        }
    }

    async fn cancel(
        self: Rc<Self>,
        _: conversation::CancelParams,
        _: conversation::CancelResults,
    ) -> Result<(), Error> {
        if let Some(mut waiting) = self.waiting.take() {
            self.refused(&waiting.cancel());
        }
        Ok(())
    }
}

impl<R: Realm<Objects> + 'static> Attempt<R> {
    async fn go_on(
        self: &Rc<Self>,
        mut conversation: Conversation,
        mut reply: Reply,
        mut to: step::Builder<'_>,
    ) -> Result<(), Error> {
        let mut told = Vec::new();
        let denial = loop {
            let ask = match reply {
                Reply::Ask(ask) => ask,
                Reply::Denied(denial) => break denial,
                Reply::Granted(who) => match self.connection.admit(who, self.mind.clone()).await {
                    Ok(session) => {
                        self.counted.take();
                        let mut to = to.init_granted();
                        to.set_session(session);
                        to.set_told(&told);
                        return Ok(());
                    }
                    Err(denial) => break denial,
                },
            };
            if ask.round.closing.is_none() {
                let mut to = to.init_ask();
                rounds::write(&ask, to.reborrow().init_round());
                to.set_conversation(new_client_from_rc(Rc::clone(self)));
                self.waiting.replace(Some(conversation));
                return Ok(());
            }
            // It is only told something more, which goes along with the success; its answer decides nothing.
            let mut answers = Answers::new();
            if let Some(question) = ask.round.questions.first() {
                if let Some(Challenge::Bytes(bytes)) = &question.challenge {
                    told.clone_from(bytes);
                }
                answers.push(question.name.clone(), Secret::default());
            }
            let world = &*self.connection.server.world;
            reply = match conversation.answer(ask.number, answers, world).await {
                Ok(reply) => reply,
                Err(Halt::Misuse(misuse)) => {
                    break Denial::new(Reason::Malformed).because(misuse.to_string());
                }
                Err(Halt::Fault(fault)) => {
                    self.broken(&fault, to);
                    return Ok(());
                }
            };
        };
        self.refused(&denial);
        to.set_refused(rounds::refusal(&denial));
        Ok(())
    }

    fn refused(&self, denial: &Denial) {
        self.counted.take();
        let remote = self.connection.peer.remote;
        match denial.broken {
            true => tracing::error!(?remote, "login refused: {denial}"),
            false => tracing::info!(?remote, "login refused: {denial}"),
        }
        self.connection.refused();
    }

    fn broken(&self, fault: &Fault, mut to: step::Builder<'_>) {
        self.counted.take();
        tracing::error!("a login could not be decided: {fault}");
        to.set_refused(schema::Refusal::TryLater);
    }
}

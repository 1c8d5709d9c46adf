//! Logging in over SSH's methods (RFC 4252, RFC 4256), as turns of one conversation with the portal.
//!
//! A turn is a request of the client's and what it is answered. What was proven lives in the conversation, which is
//! this connection's and this user's: another name begins with nothing.

use std::sync::Arc;

use countersign::{
    Answers, Ask, Conversation, CredentialKind, Denial, Fault, Halt, Identity, Mechanism,
    OfferedKey, Peer, ProvenKey, Question, Realm, Reason, Reply, Request, Round, Secret, Session,
    Verified,
};
use tokio::time::{Instant, timeout_at};

use crate::form::{Filled, Form, Prompts, typed};
use crate::server::Server;
use crate::shell::{SshShell, Teller};

/// A method of RFC 4252.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A key that signs.
    PublicKey,
    /// A password in one message.
    Password,
    /// Prompts (RFC 4256).
    KeyboardInteractive,
}

/// What a request is answered.
#[derive(Debug)]
pub enum Outcome {
    /// The user is in.
    In(Session<SshShell>),
    /// Not yet, or not so: the methods that can go on, and whether something was proven that stays so (RFC 4252
    /// §5.1).
    GoOn {
        /// The methods.
        methods: Vec<Method>,
        /// Whether this request proved something.
        partial: bool,
    },
    /// Prompts to be answered.
    Ask(Prompts),
}

/// Lets in whoever asks to be nobody in particular, where a checker for it is configured.
const ANONYMOUS: &str = "ANONYMOUS";

/// The logins of one connection.
pub struct Login<R> {
    server: Arc<Server<R>>,
    peer: Peer,
    teller: Teller,
    deadline: Instant,
    user: Option<Box<str>>,
    open: Option<Open>,
    /// What has signed for this user here.
    key: Option<ProvenKey>,
    requests: usize,
}

/// A conversation that waits for its peer.
struct Open {
    conversation: Conversation,
    ask: Ask,
    /// Whether the client has been told that something was proven.
    partial: bool,
    form: Option<Form>,
}

/// Whether a turn may ask by prompts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Prompts,
    OneMessage,
}

impl<R: Realm<SshShell>> Login<R> {
    /// Nobody is logged in, and nothing is proven.
    pub fn new(server: Arc<Server<R>>, peer: Peer, teller: Teller, deadline: Instant) -> Self {
        let (user, open, key, requests) = (None, None, None, 0);
        Self { server, peer, teller, deadline, user, open, key, requests }
    }

    /// `none`: which methods there are. `anonymous` is let in by it, where anybody may be.
    pub async fn none(&mut self, user: &str) -> Outcome {
        if !self.enter(user) {
            return self.over();
        }
        let mut peer = self.peer.clone();
        peer.supports = peer.supports.with(CredentialKind::Token);
        let begins = self.server.portal.begins(&peer);
        if user != "anonymous" || !begins.iter().any(|name| name == ANONYMOUS) {
            return self.go_on(false);
        }
        let mut request = Request::from_peer(Arc::new(peer)).by(ANONYMOUS);
        request.claimed = Some(user.into());
        let begun = self.begin(request).await;
        let Some(Reply::Ask(ask)) = begun else { return self.settle(begun, By::OneMessage).await };
        let name = ask.round.questions.first().map(|question| question.name.clone());
        let answers = Answers::new().with(name.unwrap_or_default(), user);
        self.answer(answers, By::OneMessage).await
    }

    /// Whether a key would do: to say yes lets nobody in.
    pub async fn offered(&mut self, user: &str, key: OfferedKey) -> bool {
        if !self.enter(user) || !self.methods().contains(&Method::PublicKey) {
            return false;
        }
        let Some(portal) = &self.server.offers else { return true };
        let peer = Arc::new(Server::<R>::with_key(&self.peer));
        let mut request = Request::from_peer(peer).by(Mechanism::PUBLIC_KEY);
        request.claimed = Some(user.into());
        let world = &*self.server.world;
        let asked = async {
            let (mut conversation, reply) = portal.begin(request, world).await?;
            let Reply::Ask(ask) = reply else { return Ok(false) };
            let answers = Answers::new().with("key", Secret::from(key.blob()));
            match conversation.answer(ask.number, answers, world).await {
                // It is listed, and is asked to sign: SSH has another form for that.
                Ok(Reply::Ask(_)) => Ok(true),
                Ok(Reply::Denied(denial)) => {
                    tracing::debug!(user, "the key is not wanted: {denial}");
                    Ok(false)
                }
                Ok(Reply::Granted(_)) | Err(Halt::Misuse(_)) => Ok(false),
                Err(Halt::Fault(fault)) => Err(fault),
            }
        };
        match timeout_at(self.deadline, asked).await {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(fault)) => {
                tracing::error!("a key could not be looked for: {fault}");
                false
            }
            Err(_) => false,
        }
    }

    /// `publickey`, with a signature that the library has verified.
    pub async fn proven(&mut self, user: &str, key: ProvenKey) -> Outcome {
        if !self.enter(user) {
            return self.over();
        }
        if !self.methods().contains(&Method::PublicKey) {
            return self.refuse("publickey is not asked for now");
        }
        if let Some(open) = self.open.as_mut().filter(|open| open.partial) {
            let asked = open.ask.round.questions.iter().find(|q| is_key(q));
            let Some(name) = asked.map(|question| question.name.clone()) else {
                return self.refuse("no key is asked for now");
            };
            let blob = Secret::from(key.key().blob());
            open.conversation.proves(key);
            return self.answer(Answers::new().with(name, blob), By::OneMessage).await;
        }
        self.open = None;
        self.key = Some(key);
        let begun = self.by_key().await;
        self.settle(begun, By::OneMessage).await
    }

    /// `password`.
    pub async fn password(&mut self, user: &str, password: Secret) -> Outcome {
        if !self.enter(user) {
            return self.over();
        }
        if !self.methods().contains(&Method::Password) {
            return self.refuse("password is not asked for now");
        }
        if !self.open.as_ref().is_some_and(|open| open.partial) {
            let begun = self.begin(self.request(user).by(Mechanism::PASSWORD)).await;
            let Some(Reply::Ask(_)) = begun else {
                return self.settle(begun, By::OneMessage).await;
            };
        }
        let round = self.open.as_ref().map(|open| Arc::clone(&open.ask.round));
        match round.and_then(|round| password_answers(&round, user, &password)) {
            Some(answers) => self.answer(answers, By::OneMessage).await,
            None => self.refuse("a password is not what is asked for"),
        }
    }

    /// `keyboard-interactive`, its beginning.
    pub async fn interactive(&mut self, user: &str) -> Outcome {
        if !self.enter(user) {
            return self.over();
        }
        if !self.methods().contains(&Method::KeyboardInteractive) {
            return self.refuse("keyboard-interactive is not asked for now");
        }
        match self.open.take().filter(|open| open.partial) {
            Some(open) => {
                let ask = open.ask.clone();
                self.open = Some(open);
                self.settle(Some(Reply::Ask(ask)), By::Prompts).await
            }
            None => {
                let begun = self.begin(self.request(user)).await;
                self.settle(begun, By::Prompts).await
            }
        }
    }

    /// `keyboard-interactive`, what was typed.
    pub async fn typed(&mut self, user: &str, typed: Vec<Secret>) -> Outcome {
        if !self.enter(user) {
            return self.over();
        }
        let form = self.open.as_mut().and_then(|open| open.form.as_mut());
        let Some(form) = form else { return self.refuse("nothing was asked") };
        match form.fill(typed) {
            Filled::Answers(answers) => self.answer(answers, By::Prompts).await,
            Filled::More(prompts) => Outcome::Ask(prompts),
            Filled::Unfit(why) => self.give_up(why),
        }
    }

    /// A name: another one begins with nothing. Whether its requests are still heard.
    fn enter(&mut self, user: &str) -> bool {
        if self.user.as_deref() != Some(user) {
            (self.open, self.key, self.user) = (None, None, Some(user.into()));
        }
        self.requests += 1;
        let is_name = !user.is_empty() && user.len() <= 255 && !user.chars().any(char::is_control);
        is_name && self.requests <= self.server.limits.requests && Instant::now() < self.deadline
    }

    fn request(&self, user: &str) -> Request {
        let mut request = Request::from_peer(Arc::new(self.peer.clone()));
        request.claimed = Some(user.into());
        request
    }

    /// Begins with the key that was proven.
    async fn by_key(&mut self) -> Option<Reply> {
        let (key, user) = (self.key.clone()?, self.user.clone()?);
        let mut peer = self.peer.clone();
        // Of this user: a proof that was made for another is refused.
        let mut request = self.request(&user).by(Mechanism::PUBLIC_KEY);
        peer.more.key = Some(key);
        request.peer = Arc::new(peer);
        self.begin(request).await
    }

    /// Begins a conversation. Nothing: it could not be decided.
    async fn begin(&mut self, request: Request) -> Option<Reply> {
        self.open = None;
        let begun = self.server.portal.begin(request, &*self.server.world);
        let begun = within(&self.server, self.deadline, begun).await?;
        let (conversation, reply) = begun.map_err(|fault| broken(&fault)).ok()?;
        if let Reply::Ask(ask) = &reply {
            let ask = ask.clone();
            self.open = Some(Open { conversation, ask, partial: false, form: None });
        }
        Some(reply)
    }

    /// Answers the open round, and whatever then needs no person.
    async fn answer(&mut self, answers: Answers, by: By) -> Outcome {
        let reply = self.reply(answers, by).await;
        match reply {
            Ok(reply) => self.settle(reply, by).await,
            Err(outcome) => outcome,
        }
    }

    async fn reply(&mut self, answers: Answers, by: By) -> Result<Option<Reply>, Outcome> {
        let Some(mut open) = self.open.take() else { return Err(self.refuse("nothing was asked")) };
        let answered = open.conversation.answer(open.ask.number, answers, &*self.server.world);
        // When time is over in the middle of it, the conversation is gone as well.
        let answered = within(&self.server, self.deadline, answered).await;
        match answered {
            None => Ok(None),
            Some(Err(Halt::Fault(fault))) => {
                broken(&fault);
                Ok(None)
            }
            Some(Err(Halt::Misuse(misuse))) => {
                let again = match (&mut open.form, by) {
                    (Some(form), By::Prompts) => {
                        form.again(&format!("That does not fit: {misuse}."))
                    }
                    _ => Filled::Unfit("an answer that does not fit"),
                };
                let over = open.conversation.is_over();
                self.open = Some(open);
                match again {
                    Filled::More(prompts) if !over => Err(Outcome::Ask(prompts)),
                    Filled::Unfit(why) if !over && by == By::OneMessage => Err(self.refuse(why)),
                    _ => Err(self.give_up("answers that do not fit")),
                }
            }
            Some(Ok(reply)) => {
                if let Reply::Ask(ask) = &reply {
                    (open.ask, open.form) = (ask.clone(), None);
                    self.open = Some(open);
                } else {
                    // For a first factor that need not be proven again.
                    self.denied_late(&reply, open.partial).await;
                }
                Ok(Some(reply))
            }
        }
    }

    /// A later factor was wrong, and the first was a key, which stays proven on this connection: begins again
    /// behind it.
    async fn denied_late(&mut self, reply: &Reply, partial: bool) {
        let Reply::Denied(denial) = reply else { return };
        let guess = matches!(denial.reason, Reason::WrongCredential | Reason::UnknownUser);
        if partial && guess && self.key.is_some() {
            let begun = self.by_key().await;
            if let (Some(Reply::Ask(_)), Some(open)) = (begun, &mut self.open) {
                open.partial = true;
            }
        }
    }

    /// What a reply is to the client.
    async fn settle(&mut self, reply: Option<Reply>, by: By) -> Outcome {
        let mut reply = reply;
        loop {
            let ask = match reply {
                None => return self.go_on(false),
                Some(Reply::Denied(denial)) => {
                    let user = self.user.as_deref().unwrap_or_default();
                    tracing::info!(user, remote = ?self.peer.remote, "login refused: {denial}");
                    return self.go_on(false);
                }
                Some(Reply::Granted(who)) => return self.admit(who).await,
                Some(Reply::Ask(ask)) => ask,
            };
            let user = self.user.clone().unwrap_or_default();
            let wrong = ask.round.feedback.is_some();
            let form = Form::new(Arc::clone(&ask.round), &user).filter(|_| by == By::Prompts);
            let Some(mut form) = form else {
                if methods_of(&ask.round).is_empty() {
                    return self.give_up("what is asked for next cannot be asked over SSH");
                }
                if let Some(open) = &mut self.open {
                    open.partial |= !wrong;
                }
                return self.go_on(!wrong);
            };
            if let Some(prompts) = form.prompts(None) {
                if let Some(open) = &mut self.open {
                    open.form = Some(form);
                }
                return Outcome::Ask(prompts);
            }
            // Nothing to say and nothing to ask: the next round, of which there is an end.
            let Filled::Answers(answers) = form.empty() else {
                return self.give_up("a round without prompts");
            };
            reply = match self.reply(answers, By::OneMessage).await {
                Ok(reply) => reply,
                Err(outcome) => return outcome,
            };
        }
    }

    async fn admit(&mut self, who: Verified<Identity>) -> Outcome {
        (self.open, self.key) = (None, None);
        let admitted = self.server.portal.realm().admit(&who, self.teller.clone());
        match within(&self.server, self.deadline, admitted).await {
            Some(Ok(session)) => return Outcome::In(session),
            Some(Err(denial)) => {
                tracing::info!(remote = ?self.peer.remote, "{} not admitted: {denial}", who.subject);
            }
            None => {}
        }
        self.go_on(false)
    }

    /// The methods that can go on from here.
    fn methods(&self) -> Vec<Method> {
        if let Some(open) = self.open.as_ref().filter(|open| open.partial) {
            return methods_of(&open.ask.round);
        }
        let portal = &self.server.portal;
        let peer = Server::<R>::with_key(&self.peer);
        let mut methods = Vec::new();
        if portal.offers_to(&peer, Mechanism::PUBLIC_KEY) {
            methods.push(Method::PublicKey);
        }
        // What can be typed; a method of opaque messages cannot.
        if !portal.mechanisms(&typed()).is_empty() {
            methods.push(Method::KeyboardInteractive);
        }
        if portal.offers_to(&self.peer, Mechanism::PASSWORD) {
            methods.push(Method::Password);
        }
        methods
    }

    /// Which methods can go on.
    pub fn go_on(&self, partial: bool) -> Outcome {
        Outcome::GoOn { methods: self.methods(), partial }
    }

    /// Refuses a request, and leaves what was proven before.
    fn refuse(&self, why: &str) -> Outcome {
        tracing::debug!(user = self.user.as_deref(), "a request is refused: {why}");
        self.go_on(false)
    }

    /// Ends the conversation.
    fn give_up(&mut self, why: &'static str) -> Outcome {
        if let Some(mut open) = self.open.take() {
            let denial = open.conversation.cancel().because(why);
            tracing::info!(remote = ?self.peer.remote, "login ended: {denial}");
        }
        self.go_on(false)
    }

    /// Nothing more is heard on this connection.
    fn over(&mut self) -> Outcome {
        self.open = None;
        let denial = Denial::new(Reason::TooMany);
        tracing::info!(remote = ?self.peer.remote, "login ended: {denial}");
        Outcome::GoOn { methods: Vec::new(), partial: false }
    }
}

/// The future, unless time is over or the server ends before it does: then it is dropped, and whoever it would have
/// let in is not in, or out again.
async fn within<R, F: Future>(
    server: &Server<R>,
    deadline: Instant,
    future: F,
) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = server.stopping() => None,
        () = tokio::time::sleep_until(deadline) => None,
    }
}

fn broken(fault: &Fault) {
    tracing::error!("a login could not be decided: {fault}");
}

fn is_key(question: &Question) -> bool {
    question.kind == CredentialKind::PUBLIC_KEY
}

fn is_name(question: &Question) -> bool {
    matches!(question.kind, CredentialKind::AuthName | CredentialKind::Username)
}

/// The methods that can answer a round.
fn methods_of(round: &Arc<Round>) -> Vec<Method> {
    let mut methods = Vec::new();
    let others = |q: &&Question| q.must_be_answered() && !is_key(q) && !is_name(q);
    let mut keys = round.questions.iter().filter(|question| is_key(question));
    let only_key = |key: &Question| {
        !round.questions.iter().filter(others).any(|q| q.group.is_none() || q.group == key.group)
    };
    if keys.any(only_key) {
        methods.push(Method::PublicKey);
    }
    if Form::new(Arc::clone(round), "").is_some() {
        methods.push(Method::KeyboardInteractive);
    }
    if password_answers(round, "", &Secret::default()).is_some() {
        methods.push(Method::Password);
    }
    methods
}

/// The answers to a round that asks for a password and nothing else but a name, or has such an alternative.
fn password_answers(round: &Round, user: &str, password: &Secret) -> Option<Answers> {
    let groups = round.groups.iter().map(|group| Some(&group.id));
    let groups: Vec<_> = if round.groups.is_empty() { vec![None] } else { groups.collect() };
    groups.into_iter().find_map(|group| {
        let mut answers = Answers::new();
        let mut asked = false;
        let here =
            round.questions.iter().filter(|q| q.group.is_none() || q.group.as_ref() == group);
        for question in here.filter(|question| question.must_be_answered()) {
            match question.kind {
                CredentialKind::Passphrase if !asked => {
                    asked = true;
                    answers.push(question.name.clone(), password.clone());
                }
                _ if is_name(question) => answers.push(question.name.clone(), user),
                _ => return None,
            }
        }
        asked.then_some(answers)
    })
}

#[cfg(test)]
mod tests;

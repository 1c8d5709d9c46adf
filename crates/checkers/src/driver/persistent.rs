//! A driver that stays: one process answers many logins, and may ask before it answers
//! (`docs/protocols/driver.md`).

mod link;
mod message;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::{
    Answer, Answers, BoxExchange, Checker, CredentialKind, Denial, Exchange, Fault, FaultKind,
    KindSet, Mechanism, PASSWORD, Reason, Round, Scene, Secret, Step, Verdict, login_name,
    not_offered, password_round,
};
use countersign_wire::one::{DriverName, UserName};
use countersign_worker::{Backoff, Launcher};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::DriverLimits;
use super::judged::{Belief, verdict};
use super::places::{Places, milliseconds};
use crate::one::{Attempt, Driver, Failure, Login, Outcome, StoredSecrets};
use link::Link;
use message::{Said, Told, names, values};

/// Which program, and how it is asked.
#[derive(Debug, Clone)]
pub struct PersistentSettings {
    /// The driver's executable: an absolute path.
    pub program: PathBuf,
    /// What the driver is called.
    pub name: DriverName,
    /// How much of it there may be. `processes` is the number of logins at a time: there is one process.
    pub limits: DriverLimits,
}

/// A driver that stays.
pub struct Persistent {
    settings: PersistentSettings,
    command: [OsString; 1],
    launcher: Arc<Launcher>,
    places: Places,
    life: Mutex<Life>,
    /// Held by whoever starts it.
    starting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Life {
    link: Option<Arc<Link>>,
    backoff: Backoff,
}

/// A login in flight. Dropped before the driver's last word, it is cancelled.
struct Dialogue {
    link: Arc<Link>,
    id: u64,
    next: Option<oneshot::Receiver<Said>>,
    time: Duration,
}

/// What a driver says next.
enum Turn {
    Attempt(Attempt),
    Ask(Round),
}

impl Persistent {
    /// A driver whose process the launcher starts when it is first needed, and anew, with pauses, when it ends.
    pub fn new(settings: PersistentSettings, launcher: Arc<Launcher>) -> Self {
        let places = Places::new(&settings.limits);
        let command = [settings.program.clone().into_os_string()];
        Self {
            settings,
            command,
            launcher,
            places,
            life: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
        }
    }

    /// Starts its process, if there is none.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ready(&self) -> Result<(), String> {
        self.link().await.map(drop)
    }

    async fn link(&self) -> Result<Arc<Link>, String> {
        if let Some(link) = self.open() {
            return Ok(link);
        }
        let _starting = self.starting.lock().await;
        if let Some(link) = self.open() {
            return Ok(link);
        }
        {
            let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((pause, why)) = life.backoff.pause() {
                let pause = milliseconds(pause);
                return Err(format!("it is started again in {pause} ms; before: {why}"));
            }
        }
        let DriverLimits { time, .. } = self.settings.limits;
        let name = self.settings.name.as_str();
        let opened = Link::open(&self.launcher, &self.command, name, time).await;
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        match opened {
            Ok(link) => {
                life.link = Some(Arc::clone(&link));
                Ok(link)
            }
            Err(why) => {
                life.backoff.failed(&why);
                Err(why)
            }
        }
    }

    fn open(&self) -> Option<Arc<Link>> {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        let link = life.link.take_if(|link| !link.is_open());
        if let Some(ended) = link {
            life.backoff.ended(ended.since.elapsed());
        }
        life.link.clone()
    }

    async fn begin(&self, login: Login<'_>, kinds: &KindSet) -> Result<Dialogue, Outcome> {
        let failed = |failure| Outcome::Failed(failure);
        if login.secret.is_empty() {
            return Err(Outcome::Refused("the secret is empty".into()));
        }
        let Some(secret) = login.secret.to_str() else {
            return Err(Outcome::Refused("cannot ask it: secret is not UTF-8".into()));
        };
        let stored = match login.stored.map(Secret::to_str) {
            Some(None) => {
                let why = "cannot ask it: stored password is not UTF-8".into();
                return Err(failed(Failure::Broken(why)));
            }
            Some(stored) => stored,
            None => None,
        };
        let place = self.places.enter().await.map_err(failed)?;
        let broken = |why| Outcome::Failed(Failure::Broken(why));
        let link = self.link().await.map_err(broken)?;
        let (id, next) = link.begin(place).map_err(broken)?;
        let dialogue = Dialogue { link, id, next: Some(next), time: self.settings.limits.time };
        let told = Told::Login {
            id,
            user: login.user.as_str(),
            stored,
            secret,
            now: login.now,
            asks: names(kinds),
        };
        dialogue.link.tell(&told).map_err(broken)?;
        Ok(dialogue)
    }

    fn turn(&self, user: &UserName, said: Said) -> Turn {
        let outcome = match said {
            Said::Accept { account, .. } => match account.reply(&self.settings.name, user) {
                Ok(reply) => Outcome::Accepted(reply),
                Err(why) => Outcome::Failed(Failure::Broken(format!("its answer is none: {why}"))),
            },
            Said::Refuse { reason, .. } => Outcome::Refused(clean(&reason)),
            Said::Fail { reason, .. } => Outcome::Failed(Failure::Broken(clean(&reason))),
            Said::Ask { round, .. } => match round.round() {
                Ok(round) => return Turn::Ask(round),
                Err(why) => Outcome::Failed(Failure::Broken(format!("its round is none: {why}"))),
            },
            Said::Cancelled { .. } | Said::Hello { .. } | Said::Log { .. } => {
                Outcome::Failed(Failure::Broken("it gave the login up".into()))
            }
        };
        Turn::Attempt(Attempt::of(outcome))
    }

    async fn whole(&self, login: Login<'_>) -> Attempt {
        let mut dialogue = match self.begin(login, &KindSet::none()).await {
            Ok(dialogue) => dialogue,
            Err(outcome) => return Attempt::of(outcome),
        };
        match dialogue.next().await {
            Ok(said) => match self.turn(login.user, said) {
                Turn::Attempt(attempt) => attempt,
                Turn::Ask(_) => Attempt::refused("it asks, and here nobody can answer"),
            },
            Err(failure) => Attempt::of(Outcome::Failed(failure)),
        }
    }
}

/// What a driver gives as its reason, for a line of a log.
fn clean(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000);
    let line: String = line.collect();
    match line.trim() {
        "" => "no reason given".into(),
        line => line.to_owned(),
    }
}

impl Driver for Persistent {
    fn authenticate<'a>(
        &'a self,
        login: Login<'a>,
    ) -> Pin<Box<dyn Future<Output = Attempt> + Send + 'a>> {
        Box::pin(self.whole(login))
    }

    fn describe(&self) -> String {
        format!("asks {}, which stays", self.settings.program.display())
    }
}

impl std::fmt::Debug for Persistent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Persistent").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Dialogue {
    /// The driver's next word. After anything but a question there is none.
    async fn next(&mut self) -> Result<Said, Failure> {
        let Some(next) = &mut self.next else {
            return Err(Failure::Broken("it was asked out of turn".into()));
        };
        match timeout(self.time, next).await {
            Ok(Ok(said)) => {
                self.next = None;
                Ok(said)
            }
            Ok(Err(_)) => Err(Failure::Broken("it ended before it answered".into())),
            Err(_) => Err(Failure::Late(milliseconds(self.time))),
        }
    }

    fn answer(&mut self, answers: &Answers) -> Result<(), String> {
        let answers = values(answers).ok_or("an answer is not UTF-8")?;
        self.next = Some(self.link.wait_again(self.id)?);
        self.link.tell(&Told::Answers { id: self.id, answers })
    }
}

impl Drop for Dialogue {
    /// Does nothing after the driver's last word: nobody knows the number any more.
    fn drop(&mut self) {
        self.link.cancel(self.id, self.time);
    }
}

/// Users whose passwords, and whatever else it asks for, a driver that stays verifies.
#[derive(Debug)]
pub struct PersistentChecker {
    name: String,
    mechanism: Mechanism,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    /// What the driver may ask.
    asks: KindSet,
    driver: Persistent,
    belief: Belief,
    stored: Option<Box<dyn StoredSecrets>>,
}

impl PersistentChecker {
    /// A checker of that name. The driver may ask what `asks` has, and nothing else; who cannot answer that is not
    /// offered a login by it.
    pub fn new(
        name: impl Into<String>,
        driver: Persistent,
        belief: Belief,
        stored: Option<Box<dyn StoredSecrets>>,
        asks: impl IntoIterator<Item = CredentialKind>,
    ) -> Self {
        let name = name.into();
        let mut mechanism = PASSWORD.clone();
        let mut may = KindSet::none();
        for kind in asks {
            mechanism.asks = mechanism.asks.with(kind.clone());
            may = may.with(kind);
        }
        let inner = Inner { name: name.clone(), asks: may, driver, belief, stored };
        Self { name, mechanism, inner: Arc::new(inner) }
    }
}

impl Checker for PersistentChecker {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&self.mechanism)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !PASSWORD.is(mechanism) {
            return Err(not_offered(&self.name, mechanism));
        }
        Ok(BoxExchange::new(Conversing { inner: Arc::clone(&self.inner), state: State::New }))
    }
}

/// One login.
struct Conversing {
    inner: Arc<Inner>,
    state: State,
}

enum State {
    New,
    Password,
    Asked(Box<(Dialogue, UserName)>),
}

impl Exchange for Conversing {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let (mut dialogue, user) = match std::mem::replace(&mut self.state, State::Password) {
            State::New => return Ok(Step::Ask(password_round(scene))),
            State::Password => match self.inner.begin(&answers, scene).await? {
                Ok(begun) => begun,
                Err(step) => return Ok(step),
            },
            State::Asked(asked) => {
                let (mut dialogue, user) = *asked;
                if let Err(why) = dialogue.answer(&answers) {
                    let fault = Fault::new(FaultKind::Protocol, why);
                    return Err(fault.claiming(user.as_str()));
                }
                (dialogue, user)
            }
        };
        let turn = match dialogue.next().await {
            Ok(said) => self.inner.driver.turn(&user, said),
            Err(failure) => Turn::Attempt(Attempt::of(Outcome::Failed(failure))),
        };
        match turn {
            Turn::Attempt(attempt) => self.inner.step(&user, attempt),
            Turn::Ask(round)
                if round.answerable_by(scene.supports())
                    && round.answerable_by(&self.inner.asks) =>
            {
                self.state = State::Asked(Box::new((dialogue, user)));
                Ok(Step::ask(round))
            }
            Turn::Ask(_) => {
                let denial = Denial::new(Reason::Unsupported).because(
                    "the driver asks what it may not (`asks`), or what this peer cannot answer",
                );
                Ok(Step::Deny(denial).claiming(user.as_str()))
            }
        }
    }
}

impl Inner {
    async fn begin(
        &self,
        answers: &Answers,
        scene: &Scene<'_>,
    ) -> Result<Result<(Dialogue, UserName), Step>, Fault> {
        let Some(login) = login_name(answers, scene) else {
            return Ok(Err(Step::deny(Reason::Malformed)));
        };
        let Some(Answer::Value(password)) = answers.find("password") else {
            return Ok(Err(Step::deny(Reason::Declined).claiming(login)));
        };
        // No driver can be asked about it.
        let Ok(user) = login.parse::<UserName>() else {
            return Ok(Err(Step::from(Verdict::UNKNOWN).claiming(login)));
        };
        let stored = match &self.stored {
            Some(stored) => stored.stored(&user).await?,
            None => None,
        };
        let asked = Login::new(&user, stored.as_ref(), password, scene.now.unix);
        let both = CredentialKind::all()
            .filter(|kind| self.asks.contains(kind) && scene.supports().contains(kind))
            .collect();
        match self.driver.begin(asked, &both).await {
            Ok(dialogue) => Ok(Ok((dialogue, user))),
            Err(outcome) => self.step(&user, Attempt::of(outcome)).map(Err),
        }
    }

    fn step(&self, user: &UserName, attempt: Attempt) -> Result<Step, Fault> {
        let verdict = verdict(&self.name, &self.belief, user, attempt);
        verdict
            .map(|verdict| Step::from(verdict).claiming(user.as_str()))
            .map_err(|fault| fault.claiming(user.as_str()))
    }
}

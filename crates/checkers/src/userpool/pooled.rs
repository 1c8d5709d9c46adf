//! A checker under the rules: one login, from the account to the identity.

use std::sync::Arc;

use countersign::{
    Answer, Answers, BoxExchange, Checker, CredentialKind, Denial, Exchange, Fault, FaultKind,
    Identity, Mechanism, PASSWORD, Reason, Scene, Secret, Step, Verified, login_name, not_offered,
    password_round,
};
use countersign_store::Account;
use countersign_wire::one::{Reply, ServerSession, Session, UserName};

use super::answer::{PRIMARY_GROUP, Said};
use super::rules::{Member, PUBLIC};
use super::{ACTING, Shared, acts_for_others, driver_credential, is_login_token};
use crate::accounts::{self, PEOPLE, store_fault};
use crate::one::{Driver, Failure, Login, Outcome};

/// Who is asked, under the rules.
pub(super) enum Asked {
    /// A checker, by an exchange of its own.
    Checker(Arc<dyn Checker>),
    /// A driver.
    Driver(Arc<dyn Driver>),
}

/// A checker under the rules.
pub(super) struct Pooled {
    inner: Arc<Inner>,
    mechanisms: Vec<Mechanism>,
}

struct Inner {
    shared: Arc<Shared>,
    member: Member,
    asked: Asked,
}

impl Pooled {
    pub(super) fn new(shared: Arc<Shared>, member: Member, asked: Asked) -> Result<Self, Fault> {
        let mechanisms = match &asked {
            Asked::Driver(_) => vec![PASSWORD.clone()],
            Asked::Checker(checker) => {
                let offered = checker.mechanisms().iter();
                // Of other mechanisms nobody could say whose account it is before it is asked.
                offered
                    .filter(|way| member.is_core() || way.is(Mechanism::PASSWORD))
                    .cloned()
                    .collect()
            }
        };
        if !mechanisms.iter().any(|way| way.is(Mechanism::PASSWORD)) {
            let name = &member.checker;
            let why = format!("`{name}` checks no passwords, and cannot be a driver of the pool");
            return Err(Fault::internal(why));
        }
        Ok(Self { inner: Arc::new(Inner { shared, member, asked }), mechanisms })
    }
}

impl Checker for Pooled {
    fn name(&self) -> &str {
        &self.inner.member.checker
    }

    fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    fn begin(&self, mechanism: &str, scene: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if PASSWORD.is(mechanism) {
            let waits_for = WaitsFor::Beginning;
            return Ok(BoxExchange::new(Attempt { inner: Arc::clone(&self.inner), waits_for }));
        }
        match &self.inner.asked {
            Asked::Checker(checker) if self.inner.member.is_core() => {
                checker.begin(mechanism, scene)
            }
            _ => Err(not_offered(self.name(), mechanism)),
        }
    }
}

/// One login by password.
struct Attempt {
    inner: Arc<Inner>,
    waits_for: WaitsFor,
}

enum WaitsFor {
    Beginning,
    Password,
    /// The checker has more to ask.
    Checker(BoxExchange, Whose),
}

/// Whose login a checker decides.
enum Whose {
    /// An account's with credentials of its own, or nobody's: its word is the last.
    Core,
    /// This account's.
    Account(Arc<Account>, Secret),
    /// Somebody's who has no account, by the name that was typed.
    Nobody(String),
}

impl Exchange for Attempt {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        match std::mem::replace(&mut self.waits_for, WaitsFor::Password) {
            WaitsFor::Beginning => Ok(Step::Ask(password_round(scene))),
            WaitsFor::Password => {
                let Some(login) = login_name(&answers, scene).map(str::to_owned) else {
                    return Ok(Step::deny(Reason::Malformed));
                };
                let Some(Answer::Value(password)) = answers.find("password").cloned() else {
                    return Ok(Step::deny(Reason::Declined).claiming(&login));
                };
                Ok(self.decide(&login, password, answers, scene).await?.claiming(&login))
            }
            WaitsFor::Checker(mut exchange, whose) => {
                let step = exchange.step(answers, &self.scene(&whose, scene)).await?;
                self.said(exchange, whose, step, scene).await
            }
        }
    }
}

impl Attempt {
    async fn decide(
        &mut self,
        login: &str,
        password: Secret,
        answers: Answers,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let inner = Arc::clone(&self.inner);
        let (shared, member) = (&inner.shared, &inner.member);
        let account = shared.store.account(login).await.map_err(store_fault)?;
        let Some(account) = account else {
            return self.unknown(login, password, answers, scene).await;
        };
        let driver = account.driven_by();
        if driver == Some(PUBLIC) {
            return deny(Reason::NotAllowed, "nobody logs in to an account of the driver `public`");
        }
        if !member.checks(&account) {
            if member.is_core() && !is_login_token(&password) {
                // It does not know the account, and takes its time to say so.
                return self.ask(Whose::Core, answers, scene).await;
            }
            let driver = driver.unwrap_or(Account::CORE);
            let why = format!("the driver `{driver}` vouches for this account");
            return deny(Reason::UnknownUser, why);
        }
        let rules = shared.rules.of(account.driver.as_deref());
        if is_login_token(&password) {
            if acts_for_others(member.driver.as_str()) {
                return deny(Reason::WrongCredential, "a server has no login tokens");
            }
            let found = shared.tokens.verify(&account, &password, &rules).await;
            return Ok(match found.map_err(store_fault)? {
                Ok(_) if scene.peer.service.eq_ignore_ascii_case(PEOPLE) => {
                    let why = "login tokens are for programs, and count for nothing at `web`";
                    Step::Deny(Denial::new(Reason::NotAllowed).because(why))
                }
                Ok(token) => granted_program(&account, token.group.as_deref(), scene),
                Err(denial) => Step::Deny(denial),
            });
        }
        if member.is_core() {
            return self.ask(Whose::Core, answers, scene).await;
        }
        // Nobody is asked about somebody who is not let in anyhow.
        if let Some(denial) = accounts::unusable(&account, scene.now.unix) {
            return Ok(Step::Deny(denial));
        }
        if password.is_empty() {
            return deny(Reason::WrongCredential, "an empty password");
        }
        if acts_for_others(member.driver.as_str()) {
            return inner.acting(&account, &password, scene).await;
        }
        if let Some(said) = shared.recent.recall(&account, &password, scene.now) {
            return Ok(granted(&account, said.as_deref()));
        }
        match &inner.asked {
            Asked::Checker(_) => self.ask(Whose::Account(account, password), answers, scene).await,
            Asked::Driver(driver) => {
                let Ok(user) = login.parse::<UserName>() else {
                    return deny(Reason::NotAllowed, "OpenNebula has no such names");
                };
                let stored = stored(&account);
                if stored.is_none() && rules.password_required {
                    let why = "nothing is stored for the account's driver (password_required)";
                    return deny(Reason::WrongCredential, why);
                }
                let asked = Login::new(&user, stored.as_ref(), &password, scene.now.unix);
                match verified(&**driver, asked).await? {
                    Ok(reply) => {
                        let said = reply.as_ref().map(Said::from);
                        inner.admitted(account, &password, said, scene).await
                    }
                    Err(denial) => Ok(Step::Deny(denial)),
                }
            }
        }
    }

    /// Somebody without an account: for one checker of the pool to know.
    async fn unknown(
        &mut self,
        login: &str,
        password: Secret,
        answers: Answers,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let inner = Arc::clone(&self.inner);
        let (shared, member) = (&inner.shared, &inner.member);
        if is_login_token(&password) {
            return deny(Reason::WrongCredential, "no account, and so no login token");
        }
        if member.is_core() {
            return self.ask(Whose::Core, answers, scene).await;
        }
        if shared.rules.default.as_ref() != Some(&member.checker) {
            return deny(Reason::UnknownUser, "no account, and this is not the default driver");
        }
        if password.is_empty() {
            return deny(Reason::WrongCredential, "an empty password");
        }
        match &inner.asked {
            Asked::Checker(_) => self.ask(Whose::Nobody(login.to_owned()), answers, scene).await,
            Asked::Driver(driver) => {
                let Ok(user) = login.parse::<UserName>() else {
                    return deny(Reason::UnknownUser, "OpenNebula has no such names");
                };
                match verified(&**driver, Login::new(&user, None, &password, scene.now.unix))
                    .await?
                {
                    Ok(Some(reply)) => inner.new_account(login, &Said::from(&reply), scene).await,
                    Ok(None) => deny(
                        Reason::NotAllowed,
                        "the driver says nothing of the account to be made",
                    ),
                    Err(denial) => Ok(Step::Deny(denial)),
                }
            }
        }
    }

    /// Asks the checker, by an exchange of its own that has asked what we have asked already.
    async fn ask(
        &mut self,
        whose: Whose,
        answers: Answers,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let Asked::Checker(checker) = &self.inner.asked else {
            return Err(Fault::internal("a driver is no checker"));
        };
        let theirs = self.scene(&whose, scene);
        let mut exchange = checker.begin(Mechanism::PASSWORD, &theirs)?;
        let step = match exchange.step(Answers::new(), &theirs).await? {
            Step::Ask(round) => {
                let known = |name: &str| answers.find(name).is_some();
                match round.questions.iter().all(|question| known(&question.name)) {
                    true => exchange.step(answers, &theirs).await?,
                    false => Step::Ask(round),
                }
            }
            end => end,
        };
        self.said(exchange, whose, step, scene).await
    }

    /// The scene as the checker sees it: whoever is an account's is the last to be asked.
    fn scene<'a>(&self, whose: &Whose, scene: &Scene<'a>) -> Scene<'a> {
        match whose {
            Whose::Account(..) => Scene { followed: false, ..*scene },
            _ => *scene,
        }
    }

    async fn said(
        &mut self,
        exchange: BoxExchange,
        whose: Whose,
        step: Step,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let inner = Arc::clone(&self.inner);
        let driver = inner.member.driver.as_str();
        match step {
            Step::Ask(round) => {
                let renews = |kind| kind == &CredentialKind::NewPassphrase;
                let renews = round.questions.iter().any(|question| renews(&question.kind));
                let may = inner.shared.rules.of(Some(driver)).password_change;
                if renews && !may {
                    let why = format!(
                        "passwords of the driver `{driver}` are not changed by their users"
                    );
                    return deny(Reason::ChangeNeeded, why);
                }
                self.waits_for = WaitsFor::Checker(exchange, whose);
                Ok(Step::Ask(round))
            }
            Step::Grant(who) => match whose {
                Whose::Core => Ok(Step::Grant(who)),
                Whose::Account(account, password) => {
                    let said = Said::by(&who.shared(), driver);
                    let same = said.as_ref().is_some_and(|said| said.name == account.name);
                    if !same {
                        let why = format!("`{}` proved {}", inner.member.checker, who.subject);
                        return deny(Reason::NotAllowed, why);
                    }
                    inner.admitted(account, &password, said, scene).await
                }
                Whose::Nobody(login) => match Said::by(&who.shared(), driver) {
                    Some(said) => inner.new_account(&login, &said, scene).await,
                    None => deny(Reason::NotAllowed, "nobody in particular has an account"),
                },
            },
            Step::Deny(denial) => Ok(Step::Deny(match whose {
                // Nobody else is to be asked with this password.
                Whose::Account(..) if denial.reason.is_unknown() => {
                    let why = format!("`{}` does not know the user", inner.member.checker);
                    Denial::new(Reason::WrongCredential).because(why)
                }
                _ => denial,
            })),
            other => Ok(other),
        }
    }
}

impl Inner {
    /// The driver of an account has let it in.
    async fn admitted(
        &self,
        account: Arc<Account>,
        password: &Secret,
        said: Option<Said>,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        // It took its time. The account must still be one of this driver's, and let somebody in.
        let current = self.shared.store.account(&account.name).await.map_err(store_fault)?;
        let still = current.filter(|now| {
            now.id == account.id && self.member.checks(now) && stored(now) == stored(&account)
        });
        let Some(mut account) = still else {
            return deny(Reason::WrongCredential, "the account was changed during this login");
        };
        if let Some(denial) = accounts::unusable(&account, scene.now.unix) {
            return Ok(Step::Deny(denial));
        }
        let rules = self.shared.rules.of(account.driver.as_deref());
        if let Some(said) = said.as_ref().filter(|_| rules.managed_groups) {
            let (groups, now) = (&said.groups, scene.now.unix);
            account = match self.shared.synchronised(account, groups, &rules, now).await? {
                Ok(account) => account,
                Err(denial) => return Ok(Step::Deny(denial)),
            };
        }
        let known = said.and_then(|said| said.identity);
        self.shared.recent.remember(&account, password, known.clone(), scene.now);
        Ok(granted(&account, known.as_deref()))
    }

    /// The default driver has let somebody in who has no account.
    async fn new_account(
        &self,
        login: &str,
        said: &Said,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let pool = &self.shared.rules;
        let driver = said.driver.as_str();
        let of_pool = pool.members.iter().find(|member| member.driver.as_str() == driver);
        // What a driver prints makes no account that acts for others or has a password here.
        let of_pool = of_pool.filter(|member| !member.is_core() && !acts_for_others(driver));
        let Some(of_pool) = of_pool else {
            let why = format!("the answer says the driver `{driver}`, which makes no accounts");
            return deny(Reason::NotAllowed, why);
        };
        let rules = pool.of(Some(driver));
        if !pool.create {
            return Ok(match self.shared.known(&said.groups, &rules).await? {
                Ok(known) => {
                    let mut who = Identity::named(said.name.as_str());
                    who.groups = known.into_iter().collect();
                    Step::Grant(Verified::vouch(with_said(who, said.identity.as_deref())))
                }
                Err(denial) => Step::Deny(denial),
            });
        }
        let account = match self.shared.created(login, said, &rules, scene.now.unix).await? {
            Ok(account) => account,
            Err(denial) => return Ok(Step::Deny(denial)),
        };
        if !of_pool.checks(&account) {
            let why = format!("the account `{}` is not the driver `{driver}`'s", said.name);
            return deny(Reason::NotAllowed, why);
        }
        if let Some(denial) = accounts::unusable(&account, scene.now.unix) {
            return Ok(Step::Deny(denial));
        }
        let account = match rules.managed_groups {
            true => {
                let now = scene.now.unix;
                match self.shared.synchronised(account, &said.groups, &rules, now).await? {
                    Ok(account) => account,
                    Err(denial) => return Ok(Step::Deny(denial)),
                }
            }
            false => account,
        };
        Ok(granted(&account, said.identity.as_deref()))
    }

    /// A server that acts for somebody: `target:token` or `target:group:token`. Never remembered.
    async fn acting(
        &self,
        server: &Account,
        password: &Secret,
        scene: &Scene<'_>,
    ) -> Result<Step, Fault> {
        let Asked::Driver(driver) = &self.asked else {
            return Err(Fault::internal("only a driver acts for others"));
        };
        let Ok(user) = server.name.parse::<UserName>() else {
            return deny(Reason::NotAllowed, "OpenNebula has no such names");
        };
        let session = Session { user: user.clone(), secret: password.clone() };
        let ServerSession { target, group, token } = match session.for_target() {
            Ok(session) => session,
            Err(error) => return deny(Reason::WrongCredential, error.to_string()),
        };
        if is_login_token(&token) {
            return deny(Reason::WrongCredential, "a server has no login tokens");
        }
        let stored = stored(server);
        let asked = Login::new(&user, stored.as_ref(), &token, scene.now.unix).acting_for(&target);
        if let Err(denial) = verified(&**driver, asked).await? {
            return Ok(Step::Deny(denial));
        }
        // Both as they are now that the driver has said yes.
        let store = &self.shared.store;
        let still = store.account(&server.name).await.map_err(store_fault)?;
        let still = still.filter(|now| now.id == server.id && self.member.checks(now));
        match still.as_deref().map(|now| accounts::unusable(now, scene.now.unix)) {
            Some(None) => {}
            Some(Some(denial)) => return Ok(Step::Deny(denial)),
            None => {
                return deny(Reason::WrongCredential, "the account was changed during this login");
            }
        }
        let refused = |why: String| deny(Reason::NotAllowed, why);
        let Some(target) = store.account(target.as_str()).await.map_err(store_fault)? else {
            return refused(format!("there is no account `{target}` to act for"));
        };
        if let Some(denial) = accounts::unusable(&target, scene.now.unix) {
            return refused(format!("the account `{}` to act for: {denial}", target.name));
        }
        let scope = match group {
            None => None,
            Some(gid) => {
                let mut groups = target.groups.iter();
                let Some(found) = groups.find(|member| member.gid == Some(gid.number())) else {
                    return refused(format!("`{}` is not in the group {gid}", target.name));
                };
                Some(found.group.as_str())
            }
        };
        let who = scoped(accounts::identity(&target), scope).with(ACTING, server.name.as_str());
        Ok(Step::Grant(Verified::vouch(who).of_program()))
    }
}

/// Asks a driver: yes, with what it says of the account, or no.
async fn verified(
    driver: &dyn Driver,
    login: Login<'_>,
) -> Result<Result<Option<Reply>, Denial>, Fault> {
    match driver.authenticate(login).await.outcome {
        Outcome::Accepted(reply) => Ok(Ok(reply)),
        Outcome::Refused(why) => Ok(Err(Denial::new(Reason::WrongCredential).because(why))),
        Outcome::Failed(failure) => {
            let kind = match failure {
                Failure::Late(_) | Failure::Waited(_) => FaultKind::Timeout,
                _ => FaultKind::Unavailable,
            };
            Err(Fault::new(kind, failure.to_string()))
        }
    }
}

/// What the account's driver compares with.
fn stored(account: &Account) -> Option<Secret> {
    account.credentials_of(&driver_credential()).next().map(|credential| credential.data.clone())
}

/// A login of the account, with what its checker knows beside it.
fn granted(account: &Account, said: Option<&Identity>) -> Step {
    Step::Grant(Verified::vouch(with_said(accounts::identity(account), said)))
}

/// A login of the account by a program, perhaps with the rights of one group alone.
fn granted_program(account: &Account, group: Option<&str>, scene: &Scene<'_>) -> Step {
    if let Some(denial) = accounts::unusable(account, scene.now.unix) {
        return Step::Deny(denial);
    }
    if account.must_change && account.driven_by().is_none() {
        let why = "the password must be changed before login tokens count again";
        return Step::Deny(Denial::new(Reason::ChangeNeeded).because(why));
    }
    Step::Grant(Verified::vouch(scoped(accounts::identity(account), group)).of_program())
}

/// Labels, and attributes that the account does not have itself. Groups are the store's.
fn with_said(mut who: Identity, said: Option<&Identity>) -> Identity {
    let Some(said) = said else { return who };
    who.labels.extend(said.labels.iter().cloned());
    for (name, values) in &said.attributes {
        who.attributes.entry(name.clone()).or_insert_with(|| values.clone());
    }
    who
}

/// The identity in this group alone.
fn scoped(mut who: Identity, group: Option<&str>) -> Identity {
    if let Some(group) = group {
        who.groups.retain(|name, _| name == group);
        who.attributes.insert(PRIMARY_GROUP.to_owned(), vec![group.to_owned()]);
    }
    who
}

fn deny(reason: Reason, why: impl Into<std::borrow::Cow<'static, str>>) -> Result<Step, Fault> {
    Ok(Step::Deny(Denial::new(reason).because(why)))
}

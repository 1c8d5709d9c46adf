//! The small traits behind most checkers: one joint, one method. And the password checker itself.

use std::future::Future;
use std::sync::{Arc, LazyLock};

use crate::{
    Answer, Answers, AtOnce, BoxExchange, Checker, CredentialKind, Denial, DigestAlgorithm,
    Exchange, Fault, Identity, KindSet, Mechanism, Need, Question, Reason, Round, Scene, Secret,
    Step, Verified,
};

/// What a store says about one proof.
///
/// There is no value for "nothing": a store that forgets to answer does not compile.
#[must_use]
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The proof is right, and this is who it proves.
    Is(Verified<Identity>),
    /// Refused. [`Reason::UnknownUser`] lets the next checker be asked.
    Not(Denial),
}

impl Verdict {
    /// The store does not know this user.
    pub const UNKNOWN: Self = Self::Not(Denial::new(Reason::UnknownUser));
    /// The proof is wrong.
    pub const WRONG: Self = Self::Not(Denial::new(Reason::WrongCredential));
}

impl From<Verdict> for Step {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Is(who) => Self::Grant(who),
            Verdict::Not(denial) => Self::Deny(denial),
        }
    }
}

/// Checks a password: the smallest backend.
///
/// ```
/// use countersign::{Fault, Identity, PasswordStore, Secret, Verdict, Verified};
///
/// struct One;
///
/// impl PasswordStore for One {
///     async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
///         if login != "ada" {
///             return Ok(Verdict::UNKNOWN);
///         }
///         if *password != Secret::from("countess") {
///             return Ok(Verdict::WRONG);
///         }
///         Ok(Verdict::Is(Verified::vouch(Identity::named("ada"))))
///     }
/// }
/// ```
pub trait PasswordStore: Send + Sync + 'static {
    /// Checks one password.
    fn check(
        &self,
        login: &str,
        password: &Secret,
    ) -> impl Future<Output = Result<Verdict, Fault>> + Send;

    /// [`PasswordStore::check`], where nothing need be waited for, and where an unknown user takes the work of a
    /// wrong password here (`spends`), that of [`PasswordStore::spend`] as well. To be written by stores that
    /// have everything in memory, for some passwords or all: it is asked first, and makes a login some times
    /// cheaper. Where it says nothing, the other two are asked.
    fn check_at_once(
        &self,
        login: &str,
        password: &Secret,
        spends: bool,
    ) -> Option<Result<Verdict, Fault>> {
        let _ = (login, password, spends);
        None
    }

    /// Does the work of a wrong password, for a user that [`PasswordStore::check`] did not know and that
    /// no other checker is asked for. To be written by stores whose `check` is quicker for unknown users
    /// than for known ones; the others need nothing.
    fn spend(
        &self,
        login: &str,
        password: &Secret,
    ) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = (login, password);
        std::future::ready(Ok(()))
    }
}

/// Finds a user by name alone, for a proof that something else made: a certificate that our TLS
/// verified, a mail server that is trusted to have verified one.
///
/// ```
/// use countersign::{Denial, Directory, Fault, Identity, Reason, Verdict, Verified};
///
/// struct Staff;
///
/// impl Directory for Staff {
///     async fn find(&self, login: &str) -> Result<Verdict, Fault> {
///         Ok(match login {
///             "ada" => Verdict::Is(Verified::vouch(Identity::named("ada"))),
///             "bob" => Verdict::Not(Denial::new(Reason::Disabled)),
///             _ => Verdict::UNKNOWN,
///         })
///     }
/// }
/// # let found = countersign::testing::now_or_never(Staff.find("ada")).unwrap();
/// # assert!(matches!(found, Ok(Verdict::Is(_))));
/// ```
pub trait Directory: Send + Sync + 'static {
    /// The identity of that name, as far as the account may be used at all.
    fn find(&self, login: &str) -> impl Future<Output = Result<Verdict, Fault>> + Send;
}

/// Gives passwords out, for mechanisms that cannot do without: CRAM-MD5, APOP, and SCRAM or Digest where no
/// keys of theirs are kept. Whoever reads such a store reads every password in it.
///
/// ```
/// use countersign::{Fault, Secret, TextStore};
///
/// struct Staff;
///
/// impl TextStore for Staff {
///     async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
///         Ok((login == "ada").then(|| Secret::from("countess")))
///     }
/// }
/// # use countersign::{Directory, Identity, Verdict, Verified};
/// # impl Directory for Staff {
/// #     async fn find(&self, login: &str) -> Result<Verdict, Fault> {
/// #         Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
/// #     }
/// # }
/// # let text = countersign::testing::now_or_never(Staff.password_text("ada")).unwrap();
/// # assert_eq!(text.unwrap(), Some(Secret::from("countess")));
/// ```
pub trait TextStore: Directory {
    /// The password of a user, if the user is known and the store has it readable.
    fn password_text(
        &self,
        login: &str,
    ) -> impl Future<Output = Result<Option<Secret>, Fault>> + Send;
}

/// SCRAM's server-side secrets (RFC 5802 §3).
#[derive(Clone, Debug)]
pub struct ScramKeys {
    /// The salt.
    pub salt: Vec<u8>,
    /// The iteration count.
    pub iterations: u32,
    /// `H(ClientKey)`.
    pub stored_key: Secret,
    /// `HMAC(SaltedPassword, "Server Key")`.
    pub server_key: Secret,
}

/// Keeps SCRAM keys.
///
/// ```
/// use std::collections::BTreeMap;
/// use countersign::{Fault, ScramKeys, ScramStore};
///
/// /// Keys that were made when the passwords were set; the passwords themselves are nowhere.
/// struct Staff(BTreeMap<&'static str, ScramKeys>);
///
/// impl ScramStore for Staff {
///     async fn keys(&self, login: &str, hash: &str) -> Result<Option<ScramKeys>, Fault> {
///         Ok(self.0.get(login).filter(|_| hash == "SHA-256").cloned())
///     }
/// }
/// # use countersign::{Directory, Identity, Verdict, Verified};
/// # impl Directory for Staff {
/// #     async fn find(&self, login: &str) -> Result<Verdict, Fault> {
/// #         Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
/// #     }
/// # }
/// # let none = countersign::testing::now_or_never(Staff(BTreeMap::new()).keys("ada", "SHA-256"));
/// # assert!(none.unwrap().unwrap().is_none());
/// ```
pub trait ScramStore: Directory {
    /// The keys of a user for a hash (`SHA-256`), if there are any.
    fn keys(
        &self,
        login: &str,
        hash: &str,
    ) -> impl Future<Output = Result<Option<ScramKeys>, Fault>> + Send;
}

/// Keeps HTTP Digest's keys: the hash of name, realm and password (RFC 7616 §3.4.2), which is as good as the
/// password for that realm.
///
/// ```
/// use countersign::{DigestAlgorithm, DigestStore, Fault, Secret};
///
/// struct Staff;
///
/// impl DigestStore for Staff {
///     async fn digest_key(
///         &self,
///         login: &str,
///         realm: &str,
///         algorithm: DigestAlgorithm,
///     ) -> Result<Option<Secret>, Fault> {
///         Ok(match (login, realm, algorithm) {
///             // printf 'ada:example.com:countess' | md5sum
///             ("ada", "example.com", DigestAlgorithm::Md5) => {
///                 Some(Secret::from("95af93d2e28fbaac134218f6e0ddc69f"))
///             }
///             _ => None,
///         })
///     }
/// }
/// # use countersign::{Directory, Identity, Verdict, Verified};
/// # impl Directory for Staff {
/// #     async fn find(&self, login: &str) -> Result<Verdict, Fault> {
/// #         Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
/// #     }
/// # }
/// # let key = Staff.digest_key("ada", "example.com", DigestAlgorithm::Md5);
/// # let key = countersign::testing::now_or_never(key).unwrap().unwrap().unwrap();
/// # assert_eq!(key.len(), DigestAlgorithm::Md5.digits());
/// ```
pub trait DigestStore: Directory {
    /// `H(A1)` without its `-sess` part, as lowercase hexadecimal digits, if the user is known and has one.
    fn digest_key(
        &self,
        login: &str,
        realm: &str,
        algorithm: DigestAlgorithm,
    ) -> impl Future<Output = Result<Option<Secret>, Fault>> + Send;

    /// Whose `H(name:realm)` this is, in lowercase hexadecimal digits: who hides its name behind it (RFC 7616
    /// §3.4.4) must be looked for. A store that cannot says nothing, and then nobody is found.
    fn unhashed(
        &self,
        userhash: &str,
        realm: &str,
        algorithm: DigestAlgorithm,
    ) -> impl Future<Output = Result<Option<String>, Fault>> + Send {
        let _ = (userhash, realm, algorithm);
        std::future::ready(Ok(None))
    }
}

/// Checks one-time codes. Accepting a code uses it up, for every node, before the answer is yes.
///
/// ```
/// use std::sync::Mutex;
/// use countersign::{Fault, Identity, OtpStore, Secret, Verdict, Verified};
///
/// /// Codes on paper, each good once.
/// struct Paper(Mutex<Vec<Secret>>);
///
/// impl OtpStore for Paper {
///     async fn check_code(&self, login: &str, code: &Secret, _: i64) -> Result<Verdict, Fault> {
///         let mut codes = self.0.lock().unwrap();
///         let Some(at) = codes.iter().position(|known| known == code) else {
///             return Ok(Verdict::WRONG);
///         };
///         codes.remove(at);
///         Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
///     }
/// }
///
/// # use countersign::testing::now_or_never;
/// let paper = Paper(Mutex::new(vec![Secret::from("4711")]));
/// let mut check = || now_or_never(paper.check_code("ada", &"4711".into(), 0)).unwrap().unwrap();
/// assert!(matches!(check(), Verdict::Is(_)));
/// assert!(matches!(check(), Verdict::Not(_)), "it is used up");
/// ```
pub trait OtpStore: Send + Sync + 'static {
    /// Checks one code at one time (seconds since 1970).
    fn check_code(
        &self,
        login: &str,
        code: &Secret,
        unix: i64,
    ) -> impl Future<Output = Result<Verdict, Fault>> + Send;
}

/// Offers the mechanism `password` on top of a [`PasswordStore`].
///
/// ```
/// use countersign::{Checker, Fault, Mechanism, Password, PasswordStore, Secret, Verdict};
///
/// struct Nobody;
/// impl PasswordStore for Nobody {
///     async fn check(&self, _: &str, _: &Secret) -> Result<Verdict, Fault> {
///         Ok(Verdict::UNKNOWN)
///     }
/// }
///
/// let checker = Password::new("nobody", Nobody);
/// assert!(checker.mechanisms()[0].is(Mechanism::PASSWORD));
/// ```
#[derive(Debug)]
pub struct Password<S> {
    name: String,
    store: Arc<S>,
}

impl<S: PasswordStore> Password<S> {
    /// A checker of that name.
    pub fn new(name: impl Into<String>, store: S) -> Self {
        Self { name: name.into(), store: Arc::new(store) }
    }

    /// The exchange alone, for a checker that offers `password` beside other mechanisms.
    pub fn exchange(store: Arc<S>) -> BoxExchange {
        BoxExchange::new(PasswordExchange { store, asked: false })
    }
}

impl<S: PasswordStore> Checker for Password<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&PASSWORD)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        if !PASSWORD.is(mechanism) {
            return Err(not_offered(&self.name, mechanism));
        }
        Ok(Self::exchange(Arc::clone(&self.store)))
    }

    fn at_once(
        &self,
        mechanism: &str,
        answers: Option<&Answers>,
        scene: &Scene<'_>,
    ) -> Option<Result<Step, Fault>> {
        if !PASSWORD.is(mechanism) {
            return None;
        }
        at_once(&*self.store, answers, scene)
    }
}

/// The fault of beginning a mechanism that a checker does not offer.
pub fn not_offered(checker: &str, mechanism: &str) -> Fault {
    Fault::internal(format!("checker `{checker}` does not offer the mechanism `{mechanism}`"))
}

/// The description of the mechanism `password`, for checkers that offer it themselves.
pub static PASSWORD: LazyLock<Mechanism> = LazyLock::new(|| Mechanism {
    name: Mechanism::PASSWORD.into(),
    asks: KindSet::none().with(CredentialKind::AuthName).with(CredentialKind::Passphrase),
    needs: &[Need::PasswordCheck],
    plaintext: true,
});

/// The first round of the mechanism `password`. Every login shares these two.
pub fn password_round(scene: &Scene<'_>) -> Arc<Round> {
    static BOTH: LazyLock<Arc<Round>> =
        LazyLock::new(|| Arc::new(Round::of([Question::username(), Question::password()])));
    static ONLY_PASSWORD: LazyLock<Arc<Round>> =
        LazyLock::new(|| Arc::new(Round::of([Question::password()])));
    Arc::clone(if known_name(scene).is_some() { &ONLY_PASSWORD } else { &BOTH })
}

/// The user name of an attempt: proven by an earlier factor, else answered, else claimed by the
/// protocol.
pub fn login_name<'a>(answers: &'a Answers, scene: &Scene<'a>) -> Option<&'a str> {
    known_name(scene).or_else(|| answers.text("username"))
}

fn known_name<'a>(scene: &Scene<'a>) -> Option<&'a str> {
    let proven = scene.proven.last().and_then(|who| who.subject.name());
    proven.or(scene.claimed)
}

struct PasswordExchange<S> {
    store: Arc<S>,
    asked: bool,
}

impl<S: PasswordStore> Exchange for PasswordExchange<S> {
    fn at_once(&mut self, answers: Answers, scene: &Scene<'_>) -> AtOnce {
        let asked = std::mem::replace(&mut self.asked, true);
        match at_once(&*self.store, asked.then_some(&answers), scene) {
            Some(step) => AtOnce::Done(step),
            None => AtOnce::Later(answers),
        }
    }

    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let (login, password) = match login_and_password(&answers, scene) {
            Ok(both) => both,
            Err(step) => return Ok(step),
        };
        let verdict = self.store.check(login, password).await?;
        let unknown = matches!(&verdict, Verdict::Not(denial) if denial.reason.is_unknown());
        if unknown && !scene.followed {
            self.store.spend(login, password).await?;
        }
        Ok(Step::from(verdict).claiming(login))
    }
}

/// The round, and what its answers come to where that can be said at once.
#[inline]
fn at_once(
    store: &impl PasswordStore,
    answers: Option<&Answers>,
    scene: &Scene<'_>,
) -> Option<Result<Step, Fault>> {
    let Some(answers) = answers else { return Some(Ok(Step::Ask(password_round(scene)))) };
    let (login, password) = match login_and_password(answers, scene) {
        Ok(both) => both,
        Err(step) => return Some(Ok(step)),
    };
    // Written once, and not moved from a verdict to a step to a step with a name.
    match store.check_at_once(login, password, !scene.followed)? {
        Ok(Verdict::Is(mut who)) => {
            who.claim(login);
            Some(Ok(Step::Grant(who)))
        }
        Ok(not) => Some(Ok(Step::from(not).claiming(login))),
        Err(fault) => Some(Err(fault)),
    }
}

/// What was answered to [`password_round`], or the step that this comes to without both.
fn login_and_password<'a>(
    answers: &'a Answers,
    scene: &Scene<'a>,
) -> Result<(&'a str, &'a Secret), Step> {
    let Some(login) = login_name(answers, scene) else {
        return Err(Step::deny(Reason::Malformed));
    };
    match answers.find("password") {
        Some(Answer::Value(password)) => Ok((login, password)),
        _ => Err(Step::deny(Reason::Declined).claiming(login)),
    }
}

use std::sync::Mutex;
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{
    BoxExchange, Checker, Exchange, Factor, Feedback, KeyStore, Level, Password, PasswordStore,
    Policy, Portal, PublicKey, Scene, Step, Terms, Text, Verdict,
};
use tokio::sync::watch;

use super::*;
use crate::realm::Shells;
use crate::server::Limits;

/// Everybody has the key and the password of their name.
struct Own;

impl PasswordStore for Own {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        Ok(match (login, *password == Secret::from(login)) {
            ("nobody", _) => Verdict::UNKNOWN,
            (_, true) => Verdict::Is(Verified::vouch(Identity::named(login))),
            (_, false) => Verdict::WRONG,
        })
    }
}

impl KeyStore for Own {
    async fn lists(
        &self,
        login: &str,
        key: &OfferedKey,
        _: &Scene<'_>,
    ) -> Result<Result<(), Denial>, Fault> {
        let listed = key.blob() == login.as_bytes() && login != "nobody";
        Ok(if listed { Ok(()) } else { Err(Denial::new(Reason::UnknownUser)) })
    }

    async fn check_key(&self, key: &ProvenKey, scene: &Scene<'_>) -> Result<Verdict, Fault> {
        Ok(match self.lists(key.user(), key.key(), scene).await? {
            Ok(()) => Verdict::Is(Verified::vouch(Identity::named(key.user()))),
            Err(denial) => Verdict::Not(denial),
        })
    }

    fn verify(&self, _: &str, _: &OfferedKey, _: &[u8], _: &[u8]) -> Option<ProvenKey> {
        None
    }
}

/// Codes: 123456, asked for up to three times, with a word about the last.
struct Codes;

struct Code(bool);

impl Checker for Codes {
    fn name(&self) -> &str {
        "codes"
    }

    fn mechanisms(&self) -> &[Mechanism] {
        static OTP: std::sync::LazyLock<Mechanism> = std::sync::LazyLock::new(|| Mechanism {
            name: Mechanism::OTP.into(),
            asks: countersign::KindSet::none().with(CredentialKind::Otp),
            needs: &[],
            plaintext: true,
        });
        std::slice::from_ref(&OTP)
    }

    fn begin(&self, _: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        Ok(BoxExchange::new(Code(false)))
    }
}

impl Exchange for Code {
    async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        let mut round =
            Round::of([Question::otp()]).notice(Level::Info, Text::verbatim("The code of today"));
        if std::mem::replace(&mut self.0, true) {
            let name = scene.proven.first().and_then(|who| who.subject.name()).unwrap_or("?");
            if answers.text("otp") == Some("123456") {
                return Ok(Step::Grant(Verified::vouch(Identity::named(name))));
            }
            let text = Text::verbatim("That was wrong");
            round.feedback = Some(Feedback { question: None, text, tries_left: None });
        }
        Ok(Step::ask(round))
    }
}

struct Stage {
    login: Login<Arc<Shells>>,
    shells: Arc<Shells>,
    stop: watch::Sender<bool>,
}

fn stage(require: &[&str]) -> Stage {
    stage_of(Portal::new(()), require)
}

fn stage_of(portal: Portal<()>, require: &[&str]) -> Stage {
    let plain = portal
        .checked_by(Password::new("passwords", Own))
        .checked_by(PublicKey::new("keys", Own))
        .checked_by(Codes);
    let require: Vec<Factor> = require.iter().map(|word| word.parse().unwrap()).collect();
    let require = (!require.is_empty()).then_some(require);
    let shells = Arc::new(Shells::new(None));
    let (stop, stopped) = watch::channel(false);
    let policy = Policy::of(Terms { require, ..Terms::default() });
    let server = Server {
        portal: plain.before(Arc::clone(&shells)).under(policy),
        offers: Some(plain.before(())),
        world: Arc::new(StillWorld::default()),
        limits: Limits::USUAL,
        stop: stopped,
    };
    let server = Arc::new(server);
    let peer = Server::<Arc<Shells>>::peer(None, None);
    let login = Login::new(Arc::clone(&server), peer, Teller::new(), server.login_by());
    Stage { login, shells, stop }
}

use Method::{KeyboardInteractive as KbdInt, Password as Pass, PublicKey as Key};

#[track_caller]
fn goes_on(outcome: Outcome, methods: &[Method], partial: bool) {
    match outcome {
        Outcome::GoOn { methods: can, partial: was } => {
            assert_eq!((can.as_slice(), was), (methods, partial));
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn asked(outcome: Outcome) -> Prompts {
    match outcome {
        Outcome::Ask(prompts) => prompts,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_in(outcome: Outcome) -> Session<SshShell> {
    match outcome {
        Outcome::In(session) => session,
        other => panic!("{other:?}"),
    }
}

fn key(name: &str) -> OfferedKey {
    OfferedKey::new(name.as_bytes())
}

fn proof(name: &str, user: &str) -> ProvenKey {
    ProvenKey::vouch(key(name), user)
}

fn typed_words(words: &[&str]) -> Vec<Secret> {
    words.iter().map(|word| Secret::from(*word)).collect()
}

#[tokio::test(start_paused = true)]
async fn any_one_method_is_enough_where_nothing_is_required() {
    let Stage { mut login, shells, .. } = stage(&[]);
    goes_on(login.none("ada").await, &[Key, KbdInt, Pass], false);
    assert!(login.offered("ada", key("ada")).await && !login.offered("ada", key("bob")).await);
    let session = is_in(login.proven("ada", proof("ada", "ada")).await);
    assert_eq!(shells.sessions(), 1);
    session.logout().await;
    assert_eq!(shells.sessions(), 0);
    goes_on(login.password("ada", "wrong".into()).await, &[Key, KbdInt, Pass], false);
    drop(is_in(login.password("ada", "ada".into()).await));
    let prompts = asked(login.interactive("ada").await);
    assert_eq!(prompts.prompts, [("Password: ".to_owned(), false)]);
    goes_on(login.typed("ada", typed_words(&["wrong"])).await, &[Key, KbdInt, Pass], false);
    goes_on(login.typed("ada", typed_words(&["ada"])).await, &[Key, KbdInt, Pass], false);
    asked(login.interactive("ada").await);
    drop(is_in(login.typed("ada", typed_words(&["ada"])).await));
}

#[tokio::test(start_paused = true)]
async fn users_that_do_not_exist_are_answered_like_those_that_do() {
    let Stage { mut login, .. } = stage(&[]);
    for user in ["ada", "nobody"] {
        goes_on(login.none(user).await, &[Key, KbdInt, Pass], false);
        assert!(!login.offered(user, key("other")).await);
        goes_on(login.proven(user, proof("other", user)).await, &[Key, KbdInt, Pass], false);
        goes_on(login.password(user, "wrong".into()).await, &[Key, KbdInt, Pass], false);
        let prompts = asked(login.interactive(user).await);
        assert_eq!(prompts.prompts, [("Password: ".to_owned(), false)]);
        goes_on(login.typed(user, typed_words(&["x"])).await, &[Key, KbdInt, Pass], false);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_and_then_a_password() {
    let Stage { mut login, .. } = stage(&["publickey", "password"]);
    goes_on(login.none("ada").await, &[Key], false);
    // The second factor by itself is nothing.
    goes_on(login.password("ada", "ada".into()).await, &[Key], false);
    goes_on(login.interactive("ada").await, &[Key], false);
    // An offer, and a key that is not listed, prove nothing.
    assert!(login.offered("ada", key("ada")).await);
    goes_on(login.proven("ada", proof("bob", "ada")).await, &[Key], false);
    goes_on(login.proven("ada", proof("ada", "ada")).await, &[KbdInt, Pass], true);
    // A wrong password leaves the key proven.
    goes_on(login.password("ada", "wrong".into()).await, &[KbdInt, Pass], false);
    goes_on(login.proven("ada", proof("ada", "ada")).await, &[KbdInt, Pass], false);
    let session = is_in(login.password("ada", "ada".into()).await);
    drop(session);
    // And by prompts.
    goes_on(login.proven("ada", proof("ada", "ada")).await, &[KbdInt, Pass], true);
    asked(login.interactive("ada").await);
    goes_on(login.typed("ada", typed_words(&["wrong"])).await, &[KbdInt, Pass], false);
    asked(login.interactive("ada").await);
    drop(is_in(login.typed("ada", typed_words(&["ada"])).await));
}

#[tokio::test(start_paused = true)]
async fn a_password_and_then_a_key() {
    let Stage { mut login, .. } = stage(&["password", "publickey"]);
    goes_on(login.proven("ada", proof("ada", "ada")).await, &[KbdInt, Pass], false);
    goes_on(login.password("ada", "ada".into()).await, &[Key], true);
    assert!(login.offered("ada", key("ada")).await && !login.offered("ada", key("bob")).await);
    drop(is_in(login.proven("ada", proof("ada", "ada")).await));
    // Another's key is none of this user's, and the password must be said again.
    goes_on(login.password("ada", "ada".into()).await, &[Key], true);
    goes_on(login.proven("ada", proof("bob", "ada")).await, &[KbdInt, Pass], false);
    // Prompts that a key must follow.
    asked(login.interactive("ada").await);
    goes_on(login.typed("ada", typed_words(&["ada"])).await, &[Key], true);
    drop(is_in(login.proven("ada", proof("ada", "ada")).await));
}

#[tokio::test(start_paused = true)]
async fn nothing_that_one_user_has_proven_is_anothers() {
    let Stage { mut login, .. } = stage(&["publickey", "password"]);
    goes_on(login.proven("ada", proof("ada", "ada")).await, &[KbdInt, Pass], true);
    goes_on(login.password("bob", "bob".into()).await, &[Key], false);
    // Neither is it ada's any more.
    goes_on(login.password("ada", "ada".into()).await, &[Key], false);
    // A proof says for whom it was made.
    goes_on(login.proven("bob", proof("ada", "ada")).await, &[Key], false);
}

#[tokio::test(start_paused = true)]
async fn prompts_go_on_for_as_many_rounds_as_it_takes() {
    let Stage { mut login, .. } = stage(&["password", "otp"]);
    asked(login.interactive("ada").await);
    let prompts = asked(login.typed("ada", typed_words(&["ada"])).await);
    assert_eq!(prompts.instruction, "The code of today");
    assert_eq!(prompts.prompts, [("One-time code: ".to_owned(), false)]);
    let prompts = asked(login.typed("ada", typed_words(&["000000"])).await);
    assert_eq!(prompts.instruction, "The code of today\nThat was wrong");
    drop(is_in(login.typed("ada", typed_words(&["123456"])).await));
    // A password in one message, and the code by prompts: partial success between them.
    goes_on(login.password("ada", "ada".into()).await, &[KbdInt], true);
    asked(login.interactive("ada").await);
    // What does not fit is said, and asked again; a wrong number of answers ends it.
    let prompts = asked(login.typed("ada", typed_words(&["12 34"])).await);
    assert!(prompts.instruction.contains("does not fit"), "{prompts:?}");
    goes_on(login.typed("ada", typed_words(&["1", "2"])).await, &[KbdInt, Pass], false);
}

#[tokio::test(start_paused = true)]
async fn one_of_two_may_be_the_second() {
    let Stage { mut login, .. } = stage(&["publickey", "password|otp"]);
    goes_on(login.proven("ada", proof("ada", "ada")).await, &[KbdInt, Pass], true);
    let prompts = asked(login.interactive("ada").await);
    assert!(prompts.instruction.ends_with("1) Password\n2) One-time code"), "{prompts:?}");
    asked(login.typed("ada", typed_words(&["2"])).await);
    drop(is_in(login.typed("ada", typed_words(&["123456"])).await));
    goes_on(login.proven("ada", proof("ada", "ada")).await, &[KbdInt, Pass], true);
    drop(is_in(login.password("ada", "ada".into()).await));
}

#[tokio::test(start_paused = true)]
async fn requests_and_time_have_an_end() {
    let Stage { mut login, .. } = stage(&[]);
    for _ in 0..Limits::USUAL.requests {
        login.none("ada").await;
    }
    goes_on(login.password("ada", "ada".into()).await, &[], false);
    let Stage { mut login, .. } = stage(&[]);
    asked(login.interactive("ada").await);
    tokio::time::advance(Limits::USUAL.login).await;
    goes_on(login.typed("ada", typed_words(&["ada"])).await, &[], false);
    for name in ["", "a\nb", &"a".repeat(256)] {
        let Stage { mut login, .. } = stage(&[]);
        goes_on(login.password(name, name.into()).await, &[], false);
    }
}

/// Never answers.
struct Slow(Mutex<Option<tokio::sync::oneshot::Sender<()>>>);

impl PasswordStore for Slow {
    async fn check(&self, _: &str, _: &Secret) -> Result<Verdict, Fault> {
        if let Some(begun) = self.0.lock().unwrap().take() {
            let _ = begun.send(());
        }
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_that_never_ends_is_given_up() {
    let slow = || {
        let (tell, begun) = tokio::sync::oneshot::channel();
        (Password::new("slow", Slow(Mutex::new(Some(tell)))), begun)
    };
    let (checker, _begun) = slow();
    let Stage { mut login, .. } = stage_of(Portal::new(()).checked_by(checker), &[]);
    let before = Instant::now();
    goes_on(login.password("ada", "ada".into()).await, &[Key, KbdInt, Pass], false);
    assert_eq!(before.elapsed(), Limits::USUAL.login);
    // And when the server ends.
    let (checker, begun) = slow();
    let Stage { mut login, stop, .. } = stage_of(Portal::new(()).checked_by(checker), &[]);
    let ending = async {
        begun.await.unwrap();
        stop.send_replace(true);
    };
    let (outcome, ()) = tokio::join!(login.password("ada", "ada".into()), ending);
    goes_on(outcome, &[Key, KbdInt, Pass], false);
    assert!(before.elapsed() < Limits::USUAL.login + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn anonymous_asks_for_it_by_name() {
    let Stage { mut login, .. } = stage(&[]);
    goes_on(login.none("anonymous").await, &[Key, KbdInt, Pass], false);
    let anonymous = countersign_checkers::kinds::Kinds::built_in();
    let parts = countersign_checkers::kinds::Parts::standalone().unwrap();
    let anonymous = anonymous.checker("anonymous", &parts).await.unwrap();
    let portal = Portal::new(()).checked_by_shared(anonymous);
    let Stage { mut login, shells, .. } = stage_of(portal, &[]);
    goes_on(login.none("ada").await, &[Key, KbdInt, Pass], false);
    let _session = is_in(login.none("anonymous").await);
    assert_eq!(shells.say(Some("anonymous"), "hello"), 0, "no shell is open");
    assert_eq!(shells.sessions(), 1);
}

//! The suite passes a good checker, and catches each of these, broken on purpose.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::{
    Answer, Answers, BoxExchange, Checker, CredentialKind, Denial, Exchange, Fault, Identity,
    KindSet, Mechanism, PASSWORD, Password, PasswordStore, Question, Reason, Round, Scene, Secret,
    Step, Text, Verdict, Verified, not_offered,
};
use countersign_testkit::{Attempt, Fixture, Proof, Rule, assert_conforms, conforms};

const RIGHT: &str = "correct horse";

/// How the users of [`Users`] are checked, right or wrong.
type Check = fn(known: Option<&str>, password: &Secret) -> Verdict;

/// A user database with one way to get it wrong.
struct Users {
    passwords: BTreeMap<&'static str, &'static str>,
    check: Check,
}

fn is(name: &str) -> Verdict {
    Verdict::Is(Verified::vouch(Identity::named(name)))
}

fn right(known: Option<&str>, password: &Secret) -> Verdict {
    match known {
        None => Verdict::UNKNOWN,
        Some(known) if Secret::from(known) == *password => is("ada"),
        Some(_) => Verdict::WRONG,
    }
}

impl PasswordStore for Users {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        if login == "disabled" {
            return Ok(Verdict::Not(Denial::new(Reason::Disabled)));
        }
        Ok((self.check)(self.passwords.get(login).copied(), password))
    }
}

fn users(check: Check) -> Password<Users> {
    Password::new("users", Users { passwords: BTreeMap::from([("ada", RIGHT)]), check })
}

fn login(user: &'static str, password: &'static str) -> Answers {
    Answers::new().with("username", user).with("password", password)
}

fn fixture() -> Fixture {
    Fixture::new().within(Duration::from_secs(120)).with(
        Proof::of("password", "ada", login("ada", RIGHT))
            .wrong(login("ada", "wrong horse"))
            .unknown(login("nobody", RIGHT))
            .disabled(login("disabled", RIGHT)),
    )
}

/// The suite must find this rule broken. Text and rule, so that a failure says which defect got away.
#[track_caller]
fn caught(checker: &dyn Checker, rule: Rule) {
    let report = conforms(checker, &fixture());
    assert!(report.breaks(rule), "{rule:?} was not found broken: {report}");
    assert!(!report.to_string().contains(RIGHT), "the report shows a secret: {report}");
}

#[test]
fn a_good_checker_conforms() {
    assert_conforms(&users(right), &fixture());
    assert!(conforms(&users(right), &fixture()).attempts > 50);
}

#[test]
fn a_fixture_that_does_not_fit_is_told() {
    assert!(conforms(&users(right), &Fixture::new()).breaks(Rule::Fixture));
    let strange = fixture().with(Proof::of("otp", "ada", Answers::new()).wrong(Answers::new()));
    assert!(conforms(&users(right), &strange).breaks(Rule::Fixture));
    let left_out = Fixture::new().leaving_out("PASSWORD");
    assert!(conforms(&users(right), &left_out).is_clean());
}

#[test]
fn an_empty_password_that_binds_anonymously_is_caught() {
    caught(
        &users(
            |known, password| if password.is_empty() { is("ada") } else { right(known, password) },
        ),
        Rule::OnlyRightProofGrants,
    );
}

#[test]
fn passwords_cut_at_a_nul_or_a_line_or_a_length_are_caught() {
    let cut: [Check; 3] = [
        |known, password| {
            let text = password.expose().split(|b| *b == 0).next().unwrap_or_default();
            right(known, &Secret::from(text))
        },
        |known, password| right(known, &Secret::from(password.expose().trim_ascii_end())),
        |known, password| {
            let eight = |bytes: &[u8]| Secret::from(&bytes[..bytes.len().min(8)]);
            match known {
                Some(known) if eight(known.as_bytes()) == eight(password.expose()) => is("ada"),
                other => right(other, password),
            }
        },
    ];
    for check in cut {
        caught(&users(check), Rule::OnlyRightProofGrants);
    }
}

#[test]
fn the_wrong_subject_or_an_empty_one_is_caught() {
    let admin: Check = |known, password| match right(known, password) {
        Verdict::Is(_) => is("root"),
        other => other,
    };
    caught(&users(admin), Rule::RightProofGrants);
    let empty: Check = |known, password| match right(known, password) {
        Verdict::Is(_) => is(""),
        other => other,
    };
    caught(&users(empty), Rule::OnlyRightProofGrants);
}

#[test]
fn telling_unknown_users_apart_is_caught() {
    let later: Check = |known, password| match known {
        None => Verdict::Not(Denial::new(Reason::TooMany)),
        known => right(known, password),
    };
    caught(&users(later), Rule::UnknownLooksWrong);
    let unknown: Check = |known, password| match right(known, password) {
        Verdict::Not(_) => Verdict::UNKNOWN,
        granted => granted,
    };
    caught(&users(unknown), Rule::UnknownLooksWrong);
}

#[test]
fn panics_are_caught() {
    let check: Check = |known, password| {
        assert!(password.to_str().is_some(), "a password must be UTF-8");
        right(known, password)
    };
    caught(&users(check), Rule::NeverPanics);
}

#[test]
fn secrets_in_refusals_are_caught() {
    let check: Check = |known, password| match right(known, password) {
        Verdict::Not(denial) => {
            Verdict::Not(denial.because(format!("tried {:?}", password.to_str())))
        }
        granted => granted,
    };
    caught(&users(check), Rule::SecretsStaySecret);
}

#[test]
fn what_the_fixture_prints_is_looked_at() {
    let printing = fixture().printing(|| format!("Users {{ ada: {RIGHT} }}"));
    assert!(conforms(&users(right), &printing).breaks(Rule::SecretsStaySecret));
}

/// A checker in one function of one attempt.
struct Odd<B> {
    mechanism: Mechanism,
    begin: B,
}

fn odd<B, E>(begin: B) -> Odd<B>
where
    B: Fn(&str) -> Result<E, Fault> + Send + Sync + 'static,
    E: Exchange,
{
    Odd { mechanism: PASSWORD.clone(), begin }
}

impl<B, E> Checker for Odd<B>
where
    B: Fn(&str) -> Result<E, Fault> + Send + Sync + 'static,
    E: Exchange,
{
    fn name(&self) -> &str {
        "odd"
    }

    fn mechanisms(&self) -> &[Mechanism] {
        std::slice::from_ref(&self.mechanism)
    }

    fn begin(&self, mechanism: &str, _: &Scene<'_>) -> Result<BoxExchange, Fault> {
        Ok(BoxExchange::new((self.begin)(mechanism)?))
    }
}

/// An exchange that asks `round` and then decides by a function.
struct Asks<D> {
    round: Arc<Round>,
    asked: bool,
    decide: D,
}

impl<D> Asks<D>
where
    D: FnMut(&Answers) -> Result<Step, Fault> + Send + 'static,
{
    fn new(round: Round, decide: D) -> Self {
        Self { round: Arc::new(round), asked: false, decide }
    }
}

impl<D> Exchange for Asks<D>
where
    D: FnMut(&Answers) -> Result<Step, Fault> + Send + 'static,
{
    async fn step(&mut self, answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
        if !std::mem::replace(&mut self.asked, true) {
            return Ok(Step::Ask(Arc::clone(&self.round)));
        }
        // A turn of the runtime, so that a dropped step is dropped in the middle.
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
        (self.decide)(&answers)
    }
}

fn both() -> Round {
    Round::of([Question::username(), Question::password()])
}

fn decide(answers: &Answers) -> Step {
    let known = answers.text("username").filter(|name| *name == "ada").map(|_| RIGHT);
    match answers.find("password") {
        Some(Answer::Value(password)) => right(known, password).into(),
        _ => Step::deny(Reason::Declined),
    }
}

fn offered(mechanism: &str) -> Result<(), Fault> {
    if PASSWORD.is(mechanism) { Ok(()) } else { Err(not_offered("odd", mechanism)) }
}

#[test]
fn an_exchange_by_hand_conforms() {
    assert_conforms(
        &odd(|mechanism| offered(mechanism).map(|()| Asks::new(both(), |a| Ok(decide(a))))),
        &fixture(),
    );
}

#[test]
fn an_exchange_with_several_rounds_and_computed_answers_conforms() {
    struct Two(Option<Answers>, bool);
    impl Exchange for Two {
        async fn step(&mut self, answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
            if !std::mem::replace(&mut self.1, true) {
                return Ok(Step::ask(Round::of([Question::username()])));
            }
            let Some(name) = self.0.take() else {
                self.0 = Some(answers);
                return Ok(Step::ask(Round::of([Question::password()])));
            };
            let password = answers.find("password").cloned().unwrap_or(Answer::Declined);
            let name = name.text("username").unwrap_or_default().to_owned();
            Ok(decide(&Answers::new().with("username", name).with("password", password)))
        }
    }
    let answers = |user: &'static str, password: &'static str| {
        Attempt::computed(move || {
            move |round: &Round| match &*round.questions[0].name {
                "username" => Answers::new().with("username", user),
                _ => Answers::new().with("password", password),
            }
        })
    };
    let fixture = Fixture::new().with(
        Proof::of("password", "ada", answers("ada", RIGHT))
            .wrong(answers("ada", "wrong horse"))
            .unknown(answers("nobody", RIGHT)),
    );
    assert_conforms(&odd(|mechanism| offered(mechanism).map(|()| Two(None, false))), &fixture);
}

#[test]
fn silence_taken_for_consent_is_caught() {
    let checker = odd(|mechanism| {
        offered(mechanism).map(|()| {
            Asks::new(both(), |answers| match answers.find("password") {
                None | Some(Answer::Declined) => Ok(is("ada").into()),
                _ => Ok(decide(answers)),
            })
        })
    });
    caught(&checker, Rule::SilenceIsNoProof);
}

#[test]
fn undeclared_kinds_are_caught() {
    // What a peer may leave out needs no declaration.
    let optional = odd(|mechanism| {
        let mut round = both();
        round.questions.push(Question::otp().optional());
        round.questions.push(Question::otp().with_default("1"));
        round.questions[3].name = "second".into();
        offered(mechanism).map(|()| Asks::new(round, |answers| Ok(decide(answers))))
    });
    assert_conforms(&optional, &fixture());
    let passphrase_only = KindSet::none().with(CredentialKind::Passphrase);
    let needy = Odd {
        mechanism: Mechanism { asks: passphrase_only, ..PASSWORD.clone() },
        begin: |mechanism: &str| {
            offered(mechanism).map(|()| Asks::new(both(), |answers| Ok(decide(answers))))
        },
    };
    caught(&needy, Rule::AsksDeclaredKinds);
}

#[test]
fn state_in_the_checker_is_caught() {
    // Remembers who was let in, for whoever comes next.
    let last = Arc::new(AtomicBool::new(false));
    let checker = odd(move |mechanism| {
        let last = Arc::clone(&last);
        offered(mechanism).map(|()| {
            Asks::new(both(), move |answers| {
                let step = decide(answers);
                if last.load(Ordering::SeqCst) && answers.is_empty() {
                    return Ok(is("ada").into());
                }
                last.store(matches!(step, Step::Grant(_)), Ordering::SeqCst);
                Ok(step)
            })
        })
    });
    caught(&checker, Rule::AttemptsAreSeparate);
}

#[test]
fn names_shared_between_attempts_are_caught() {
    // The classic: the last answers in a field of the module.
    let shared: Arc<Mutex<Answers>> = Arc::default();
    struct Leaky(Arc<Mutex<Answers>>, u8);
    impl Exchange for Leaky {
        async fn step(&mut self, answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
            self.1 += 1;
            match self.1 {
                1 => Ok(Step::ask(both())),
                2 => {
                    *self.0.lock().unwrap() = answers;
                    Ok(Step::ask(Round::of([Question::new(
                        "more",
                        CredentialKind::EchoPrompt,
                        Text::default(),
                    )
                    .optional()])))
                }
                _ => Ok(decide(&self.0.lock().unwrap())),
            }
        }
    }
    let checker = odd(move |mechanism| offered(mechanism).map(|()| Leaky(Arc::clone(&shared), 0)));
    caught(&checker, Rule::AttemptsAreSeparate);
}

#[test]
fn a_lock_that_a_dropped_attempt_keeps_is_caught() {
    let busy = Arc::new(AtomicBool::new(false));
    type Decide = fn(&Answers) -> Result<Step, Fault>;
    struct Busy(Arc<AtomicBool>, Asks<Decide>);
    impl Exchange for Busy {
        async fn step(&mut self, answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
            if answers.is_empty() {
                return self.1.step(answers, scene).await;
            }
            if self.0.swap(true, Ordering::SeqCst) {
                return Err(Fault::unavailable("the module is in use"));
            }
            let step = self.1.step(answers, scene).await;
            self.0.store(false, Ordering::SeqCst);
            step
        }
    }
    let checker = odd(move |mechanism| {
        offered(mechanism).map(|()| {
            let decide: Decide = |answers| Ok(decide(answers));
            Busy(Arc::clone(&busy), Asks::new(both(), decide))
        })
    });
    caught(&checker, Rule::DroppedLeavesUsable);
}

#[test]
fn any_mechanism_taken_is_caught_and_a_strict_case_too() {
    let any = odd(|_| Ok(Asks::new(both(), |answers| Ok(decide(answers)))));
    caught(&any, Rule::MechanismNames);
    let strict = odd(|mechanism| {
        if mechanism != "password" {
            return Err(not_offered("odd", mechanism));
        }
        Ok(Asks::new(both(), |answers| Ok(decide(answers))))
    });
    caught(&strict, Rule::MechanismNames);
}

#[test]
fn faults_for_wrong_passwords_are_caught() {
    let checker = odd(|mechanism| {
        offered(mechanism).map(|()| {
            Asks::new(both(), |answers| match decide(answers) {
                Step::Deny(_) => Err(Fault::unavailable("the backend said no")),
                step => Ok(step),
            })
        })
    });
    caught(&checker, Rule::RefusalIsNoFault);
}

#[test]
fn asking_for_ever_is_caught() {
    struct Asking;
    impl Exchange for Asking {
        async fn step(&mut self, _: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
            Ok(Step::ask(both()))
        }
    }
    caught(&odd(|mechanism| offered(mechanism).map(|()| Asking)), Rule::Ends);
}

#[test]
fn a_backend_that_never_answers_is_caught() {
    struct Hung;
    impl Exchange for Hung {
        async fn step(&mut self, _: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
            std::future::pending().await
        }
    }
    let fixture = fixture().within(Duration::from_millis(20));
    let report = conforms(&odd(|mechanism| offered(mechanism).map(|()| Hung)), &fixture);
    assert!(report.breaks(Rule::Ends), "{report}");
}

#[test]
fn other_rounds_for_unknown_users_are_caught() {
    // Asks the password only of users that exist.
    struct Polite(Option<bool>, bool);
    impl Exchange for Polite {
        async fn step(&mut self, answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
            if !std::mem::replace(&mut self.1, true) {
                return Ok(Step::ask(Round::of([Question::username()])));
            }
            match self.0 {
                None if answers.text("username") == Some("ada") => {
                    self.0 = Some(true);
                    Ok(Step::ask(Round::of([Question::password()])))
                }
                None => Ok(Step::deny(Reason::UnknownUser)),
                Some(_) => Ok(decide(&Answers::new().with("username", "ada").with(
                    "password",
                    answers.find("password").cloned().unwrap_or(Answer::Declined),
                ))),
            }
        }
    }
    let checker = odd(|mechanism| offered(mechanism).map(|()| Polite(None, false)));
    caught(&checker, Rule::UnknownLooksWrong);
}

#[test]
fn a_disabled_user_let_in_or_told_apart_is_caught() {
    struct Lax(Verdict);
    impl PasswordStore for Lax {
        async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
            if login == "disabled" {
                return Ok(self.0.clone());
            }
            Ok(right((login == "ada").then_some(RIGHT), password))
        }
    }
    caught(&Password::new("lax", Lax(is("disabled"))), Rule::DisabledIsRefused);
    let told = Verdict::Not(Denial::new(Reason::ChangeNeeded));
    caught(&Password::new("lax", Lax(told)), Rule::DisabledIsRefused);
}

#[test]
fn names_cut_at_a_nul_are_caught() {
    struct Cut;
    impl PasswordStore for Cut {
        async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
            let login = login.split('\0').next().unwrap_or_default();
            Ok(right((login == "ada").then_some(RIGHT), password))
        }
    }
    caught(&Password::new("cut", Cut), Rule::OnlyRightProofGrants);
}

#[test]
fn a_filter_in_a_name_is_caught() {
    struct Directory;
    impl PasswordStore for Directory {
        async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
            let matches = login == "ada" || login.contains('*');
            Ok(right(matches.then_some(RIGHT), password))
        }
    }
    caught(&Password::new("directory", Directory), Rule::OnlyRightProofGrants);
}

/// A good checker, but for what it says without an exchange.
struct Hasty<S>(Password<Users>, S);

impl<S> Checker for Hasty<S>
where
    S: Fn(Option<&Answers>, &Scene<'_>) -> Option<Step> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        "hasty"
    }

    fn mechanisms(&self) -> &[Mechanism] {
        self.0.mechanisms()
    }

    fn begin(&self, mechanism: &str, scene: &Scene<'_>) -> Result<BoxExchange, Fault> {
        self.0.begin(mechanism, scene)
    }

    fn at_once(
        &self,
        _: &str,
        answers: Option<&Answers>,
        scene: &Scene<'_>,
    ) -> Option<Result<Step, Fault>> {
        (self.1)(answers, scene).map(Ok)
    }
}

#[test]
fn what_is_said_at_once_is_looked_at() {
    let asks = |scene: &Scene<'_>| Step::Ask(countersign::password_round(scene));
    let fine = Hasty(users(right), move |answers: Option<&Answers>, scene: &Scene<'_>| {
        // The exchange is asked about the answers.
        answers.is_none().then(|| asks(scene))
    });
    assert_conforms(&fine, &fixture());
    let lets_everybody_in =
        Hasty(users(right), move |answers: Option<&Answers>, scene: &Scene<'_>| {
            Some(match answers {
                None => asks(scene),
                Some(_) => is("ada").into(),
            })
        });
    caught(&lets_everybody_in, Rule::AtOnceAgrees);
    caught(&lets_everybody_in, Rule::OnlyRightProofGrants);
    let knows_nobody = Hasty(users(right), move |answers: Option<&Answers>, scene: &Scene<'_>| {
        Some(match answers {
            None => asks(scene),
            Some(_) => Step::deny(Reason::WrongCredential),
        })
    });
    caught(&knows_nobody, Rule::AtOnceAgrees);
}

//! The conformance suite for checkers.

mod attempt;
mod fixture;
mod hostile;
mod report;

use countersign::{Answer, Answers, Checker, CredentialKind, Denial, Public, Reason, Round};

use self::attempt::{Bare, End, Seen, at_once, bare, converse};
use self::fixture::Answering;
use self::hostile::{NAMES, SECRETS, Wrong, is_name};
use crate::block_on;

pub use self::fixture::{Attempt, Fixture, Proof};
pub use self::report::{Failure, Report, Rule};

/// Tries a checker against every rule that portals rely on, on the calling thread.
///
/// A checker that needs a runtime is tried inside of it, with [`conforms_async`].
pub fn conforms(checker: &dyn Checker, fixture: &Fixture) -> Report {
    block_on(conforms_async(checker, fixture), fixture.patience).unwrap_or_else(|late| {
        let mut report = Report { checker: checker.name().to_owned(), ..Report::default() };
        report.fail(Rule::Ends, "", late.to_string());
        report
    })
}

/// [`conforms`], and a panic with the whole report when a rule is broken.
///
/// # Panics
///
/// When a rule is broken.
#[track_caller]
pub fn assert_conforms(checker: &dyn Checker, fixture: &Fixture) {
    let report = conforms(checker, fixture);
    assert!(report.is_clean(), "{report}");
}

/// Tries a checker against every rule that portals rely on, in the caller's runtime. The caller sets the
/// time limit.
pub async fn conforms_async(checker: &dyn Checker, fixture: &Fixture) -> Report {
    let mut report = Report { checker: checker.name().to_owned(), ..Report::default() };
    declarations(checker, fixture, &mut report);
    for proof in &fixture.proofs {
        let mut suite =
            Suite { checker, fixture, proof, report: &mut report, asks_for_a_name: false };
        suite.outcomes().await;
        suite.agrees_at_once().await;
        suite.silence().await;
        suite.hostile_secrets().await;
        suite.hostile_names().await;
        suite.interleaved().await;
        suite.dropped().await;
        // Last: everything before has left no trace.
        suite.good("after all other attempts").await;
    }
    report
}

/// What can be seen without an attempt.
fn declarations(checker: &dyn Checker, fixture: &Fixture, report: &mut Report) {
    if checker.name().is_empty() {
        report.fail(Rule::Fixture, "", "the checker has no name");
    }
    let mechanisms = checker.mechanisms();
    for (index, mechanism) in mechanisms.iter().enumerate() {
        let name = &*mechanism.name;
        if mechanisms.iter().take(index).any(|earlier| earlier.is(name)) {
            report.fail(Rule::MechanismNames, name, "it is declared twice");
        }
        let tested = fixture.proofs.iter().any(|proof| mechanism.is(&proof.mechanism));
        let left_out = fixture.untested.iter().any(|untested| mechanism.is(untested));
        if !tested && !left_out {
            report.fail(Rule::Fixture, name, "the fixture has no proof for it");
        }
    }
    for proof in &fixture.proofs {
        let name = &*proof.mechanism;
        if !mechanisms.iter().any(|mechanism| mechanism.is(name)) {
            report.fail(Rule::Fixture, name, "the checker does not declare it");
        }
        if proof.wrong.is_none() && proof.subject.name().is_some() {
            report.fail(Rule::Fixture, name, "the fixture has no wrong proof for it");
        }
    }
}

/// The rules for one mechanism.
struct Suite<'a> {
    checker: &'a dyn Checker,
    fixture: &'a Fixture,
    proof: &'a Proof,
    report: &'a mut Report,
    /// Whether the right attempt was asked for a name when none was claimed.
    asks_for_a_name: bool,
}

impl Suite<'_> {
    async fn outcomes(&mut self) {
        self.mechanism_names().await;
        self.good("at first").await;
        let proof = self.proof;
        let Some(wrong) = &proof.wrong else { return };
        // Right after a success: what let in once is not remembered for somebody else's attempt.
        let wrong = self.refused("a wrong proof", wrong, Rule::OnlyRightProofGrants).await;
        if let End::Denied(Denial { reason: Reason::UnknownUser, .. }) = wrong.end {
            self.fail(
                Rule::UnknownLooksWrong,
                "a wrong proof is called an unknown user, so the next checker would be asked",
            );
        }
        if let Some(unknown) = &proof.unknown {
            let unknown =
                self.refused("an unknown user", unknown, Rule::OnlyRightProofGrants).await;
            self.compare(&wrong, &unknown);
        }
        if let Some(disabled) = &proof.disabled {
            let disabled = self.refused("a disabled user", disabled, Rule::DisabledIsRefused).await;
            if word(&disabled.end) != word(&wrong.end) {
                let words = (word(&disabled.end), word(&wrong.end));
                self.fail(
                    Rule::DisabledIsRefused,
                    format!("the public word is {:?}, for a wrong proof {:?}", words.0, words.1),
                );
            }
        }
        self.good("after refusals").await;
    }

    async fn mechanism_names(&mut self) {
        let mechanism = &*self.proof.mechanism;
        let swapped: String = mechanism
            .chars()
            .map(|c| {
                if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }
            })
            .collect();
        if let Err(end) = Bare::begin(self.checker, &swapped, self.fixture, None) {
            self.fail(Rule::MechanismNames, format!("`{swapped}` is not found: {end:?}"));
        }
        for strange in ["no-such-mechanism", "", "*"] {
            let seen = bare(self.checker, strange, self.fixture, None, nothing()).await;
            self.report.attempts += 1;
            if !matches!(seen.end, End::Fault(_)) || !seen.rounds.is_empty() {
                self.fail(
                    Rule::MechanismNames,
                    format!("`{strange}` is not offered, yet beginning it is no fault"),
                );
            }
        }
    }

    async fn good(&mut self, when: &str) {
        let seen = self.converse(&self.proof.good).await;
        match &seen.end {
            End::Granted(who) if who.subject == self.proof.subject => {}
            End::Granted(who) => self.fail(
                Rule::RightProofGrants,
                format!("{when}: {} was proven, not {}", who.subject, self.proof.subject),
            ),
            other => self.fail(Rule::RightProofGrants, format!("{when}: {}", tell(other))),
        }
        self.asks_for_a_name = asks_for_a_name(&seen);
        self.look_at(&seen, when);
    }

    async fn refused(&mut self, what: &str, attempt: &Attempt, rule: Rule) -> Seen {
        let seen = self.converse(attempt).await;
        if seen.granted() {
            self.fail(rule, format!("{what} was let in"));
        }
        match &seen.end {
            End::Fault(text) => {
                self.fail(Rule::RefusalIsNoFault, format!("{what} is a fault: {text}"));
            }
            End::Misfit(text) => {
                self.fail(Rule::Fixture, format!("{what} does not fit its round: {text}"));
            }
            _ => {}
        }
        self.look_at(&seen, what);
        seen
    }

    fn compare(&mut self, wrong: &Seen, unknown: &Seen) {
        if wrong.outline() != unknown.outline() {
            self.fail(
                Rule::UnknownLooksWrong,
                format!(
                    "wrong proofs see the rounds {:?}, unknown users {:?}",
                    wrong.outline(),
                    unknown.outline()
                ),
            );
        }
        let words = (word(&wrong.end), word(&unknown.end));
        if words.0 != words.1 {
            self.fail(
                Rule::UnknownLooksWrong,
                format!("wrong proofs hear {:?}, unknown users {:?}", words.0, words.1),
            );
        }
    }

    /// The same attempts with an exchange and without one, as far as the checker can do without.
    async fn agrees_at_once(&mut self) {
        let proof = self.proof;
        let attempts = [
            ("the right proof", Some(&proof.good)),
            ("a wrong proof", proof.wrong.as_ref()),
            ("an unknown user", proof.unknown.as_ref()),
            ("a disabled user", proof.disabled.as_ref()),
        ];
        for (what, attempt) in attempts {
            let Some(attempt) = attempt else { continue };
            let (checker, mechanism, fixture) = (self.checker, &proof.mechanism, self.fixture);
            let slowly = bare(checker, mechanism, fixture, None, attempt.begin()).await;
            let quickly = at_once(checker, mechanism, fixture, None, attempt.begin()).await;
            self.report.attempts += 2;
            if slowly.outline() != quickly.outline() || outcome(&slowly) != outcome(&quickly) {
                self.fail(
                    Rule::AtOnceAgrees,
                    format!(
                        "{what}: {} without an exchange, {} with one",
                        tell(&quickly.end),
                        tell(&slowly.end)
                    ),
                );
            }
            self.look_at(&quickly, what);
        }
    }

    /// No answers at all, declined ones, and answers of the wrong shape.
    async fn silence(&mut self) {
        let good = &self.proof.good;
        let declined = |round: &Round| {
            round.questions.iter().map(|q| (q.name.clone(), Answer::Declined)).collect()
        };
        let secret = CredentialKind::secret;
        let silent = [
            ("no answers", Wrong::instead(|_| Answers::new())),
            ("everything declined", Wrong::instead(declined)),
            ("the secret declined", Wrong::changed(good, secret, |_| Answer::Declined)),
            ("yes for a secret", Wrong::changed(good, secret, |_| Answer::Confirmed(true))),
            ("an index for a secret", Wrong::changed(good, secret, |_| Answer::Choice(0))),
        ];
        for (what, wrong) in silent {
            self.never_grants(what, Rule::SilenceIsNoProof, None, wrong).await;
        }
    }

    async fn hostile_secrets(&mut self) {
        for twist in SECRETS {
            let wrong = Wrong::twisted(&self.proof.good, CredentialKind::secret, twist.make);
            self.never_grants(twist.what, Rule::OnlyRightProofGrants, None, wrong).await;
        }
    }

    async fn hostile_names(&mut self) {
        let right = self.proof.subject.name().unwrap_or_default().as_bytes();
        for twist in NAMES {
            let what = format!("as a name: {}", twist.what);
            let wrong = Wrong::twisted(&self.proof.good, is_name, twist.make);
            self.never_grants(&what, Rule::OnlyRightProofGrants, None, wrong).await;
            // The same name given by the protocol, before any question.
            let Ok(claimed) = String::from_utf8((twist.make)(right)) else { continue };
            let what = format!("as a claimed name: {}", twist.what);
            let wrong = Wrong::twisted(&self.proof.good, is_name, twist.make);
            let rule = Rule::OnlyRightProofGrants;
            self.never_grants(&what, rule, Some(&claimed), wrong).await;
        }
    }

    /// A bare attempt that must not let in. One that proves nothing lets everybody in.
    async fn never_grants(&mut self, what: &str, rule: Rule, claimed: Option<&str>, wrong: Wrong) {
        if self.proof.wrong.is_none() {
            return;
        }
        let differs = wrong.differs();
        let (mechanism, answering) = (&self.proof.mechanism, wrong.answering);
        // Each other one as a portal would: without an exchange where that can be.
        let seen = match self.report.attempts % 2 {
            0 => bare(self.checker, mechanism, self.fixture, claimed, answering).await,
            _ => at_once(self.checker, mechanism, self.fixture, claimed, answering).await,
        };
        self.report.attempts += 1;
        // A claimed name instead of the one that was asked for otherwise counts as an answer.
        let by_the_claim = claimed.is_some() && self.asks_for_a_name && !asks_for_a_name(&seen);
        if seen.granted() && (differs() || by_the_claim) {
            self.fail(rule, format!("{what} was let in"));
        }
        self.look_at(&seen, what);
    }

    /// Two attempts at once, step by step: each comes to its own end.
    async fn interleaved(&mut self) {
        let Some(wrong) = &self.proof.wrong else { return };
        for good_first in [true, false] {
            let begun = [&self.proof.good, wrong].map(|attempt| {
                let bare = Bare::begin(self.checker, &self.proof.mechanism, self.fixture, None);
                bare.map(|bare| (bare, attempt.begin()))
            });
            let [Ok(mut good), Ok(mut wrong)] = begun else {
                self.fail(Rule::AttemptsAreSeparate, "two attempts cannot be begun at once");
                return;
            };
            good.0.step(Answers::new(), self.fixture, None).await;
            wrong.0.step(Answers::new(), self.fixture, None).await;
            while !(good.0.is_over() && wrong.0.is_over())
                && good.0.rounds() + wrong.0.rounds() < 64
            {
                let order =
                    if good_first { [&mut good, &mut wrong] } else { [&mut wrong, &mut good] };
                for (attempt, answering) in order {
                    attempt.answer(answering, self.fixture, None).await;
                }
            }
            self.report.attempts += 2;
            let (good, wrong) = (good.0.seen(), wrong.0.seen());
            if wrong.granted() {
                self.fail(Rule::AttemptsAreSeparate, "a wrong proof was let in beside a right one");
            }
            if !good.granted() {
                let end = tell(&good.end);
                self.fail(
                    Rule::AttemptsAreSeparate,
                    format!("a right proof beside a wrong one: {end}"),
                );
            }
        }
        self.after_a_grant().await;
    }

    /// An attempt that is in its first round while another is let in, and then says nothing.
    async fn after_a_grant(&mut self) {
        let Ok(mut silent) = Bare::begin(self.checker, &self.proof.mechanism, self.fixture, None)
        else {
            return;
        };
        silent.step(Answers::new(), self.fixture, None).await;
        let _ = self.converse(&self.proof.good).await;
        let mut nothing = nothing();
        while !silent.is_over() && silent.rounds() < 64 {
            silent.answer(&mut nothing, self.fixture, None).await;
        }
        self.report.attempts += 1;
        if silent.seen().granted() {
            self.fail(
                Rule::AttemptsAreSeparate,
                "an attempt without answers was let in because another had been",
            );
        }
    }

    /// Attempts dropped in each round, before their answers and in the middle of the step.
    async fn dropped(&mut self) {
        for in_the_middle in [false, true] {
            let Ok(mut attempt) =
                Bare::begin(self.checker, &self.proof.mechanism, self.fixture, None)
            else {
                return;
            };
            attempt.step(Answers::new(), self.fixture, None).await;
            self.report.attempts += 1;
            if in_the_middle {
                attempt.abandon(&mut self.proof.good.begin(), self.fixture).await;
            } else {
                drop(attempt);
            }
            let seen = self.converse(&self.proof.good).await;
            if !seen.granted() {
                let end = tell(&seen.end);
                self.fail(
                    Rule::DroppedLeavesUsable,
                    format!("after a dropped attempt the right proof: {end}"),
                );
            }
        }
    }

    async fn converse(&mut self, attempt: &Attempt) -> Seen {
        self.report.attempts += 1;
        converse(self.checker, &self.proof.mechanism, self.fixture, attempt.begin()).await
    }

    /// The rules that hold for every attempt, however it ended.
    fn look_at(&mut self, seen: &Seen, what: &str) {
        let checker = self.checker;
        let declared =
            checker.mechanisms().iter().find(|mechanism| mechanism.is(&self.proof.mechanism));
        if let Some(declared) = declared {
            for question in seen.rounds.iter().flat_map(|round| &round.questions) {
                // A peer that lacks an optional kind leaves the question out.
                if question.must_be_answered() && !declared.asks.contains(&question.kind) {
                    self.fail(
                        Rule::AsksDeclaredKinds,
                        format!("`{}` is of the undeclared kind {}", question.name, question.kind),
                    );
                }
            }
        }
        match &seen.end {
            End::Panicked(text) => self.fail(Rule::NeverPanics, format!("{what}: {text}")),
            End::Endless => self.fail(Rule::Ends, format!("{what}: it asks and asks")),
            End::Granted(who) if who.subject.name() == Some("") => {
                self.fail(Rule::OnlyRightProofGrants, format!("{what}: the proven name is empty"));
            }
            _ => {}
        }
        if let Some(place) = seen.leak(self.fixture) {
            self.fail(Rule::SecretsStaySecret, format!("{what}: {place} shows the secret"));
        }
    }

    fn fail(&mut self, rule: Rule, what: impl Into<String>) {
        self.report.fail(rule, &self.proof.mechanism, what);
    }
}

/// What both ways must come to: who was let in, or why nobody was.
fn outcome(seen: &Seen) -> Result<String, Option<Reason>> {
    match &seen.end {
        End::Granted(who) => Ok(who.subject.to_string()),
        End::Denied(denial) => Err(Some(denial.reason)),
        _ => Err(None),
    }
}

fn nothing() -> Answering {
    Box::new(|_| Answers::new())
}

fn asks_for_a_name(seen: &Seen) -> bool {
    let mut questions = seen.rounds.iter().flat_map(|round| &round.questions);
    // A token may hold the name.
    questions.any(|question| is_name(&question.kind) || question.kind == CredentialKind::Token)
}

fn word(end: &End) -> Option<Public> {
    match end {
        End::Denied(denial) => Some(denial.public()),
        End::Fault(_) => Some(Public::TryLater),
        _ => None,
    }
}

fn tell(end: &End) -> String {
    match end {
        End::Granted(who) => format!("let in as {}", who.subject),
        End::Denied(denial) => format!("refused: {denial}"),
        End::Fault(text) => format!("a fault: {text}"),
        End::Panicked(text) => format!("a panic: {text}"),
        End::Misfit(text) => format!("the fixture's answers do not fit: {text}"),
        End::Endless => "it asks and asks".to_owned(),
    }
}

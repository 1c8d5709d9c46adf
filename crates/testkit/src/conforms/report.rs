//! What a conformance run found.

use std::fmt;

/// The rules, each of which a checker can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The fixture does not fit the checker: the run says little.
    Fixture,
    /// The right proof lets in, as the right subject.
    RightProofGrants,
    /// Nothing but the right proof lets in.
    OnlyRightProofGrants,
    /// Unknown users and wrong proofs look the same: rounds and public word.
    UnknownLooksWrong,
    /// A disabled user is refused, with the word of a wrong proof.
    DisabledIsRefused,
    /// Only declared kinds are asked for.
    AsksDeclaredKinds,
    /// No answer, or a declined one, is no proof.
    SilenceIsNoProof,
    /// No input makes it panic.
    NeverPanics,
    /// Attempts do not influence one another.
    AttemptsAreSeparate,
    /// A dropped attempt leaves the checker as it was.
    DroppedLeavesUsable,
    /// A mechanism that it does not offer is a fault; one that it offers is found whatever its case.
    MechanismNames,
    /// A wrong proof is a refusal and not a fault.
    RefusalIsNoFault,
    /// What it says without an exchange ([`Checker::at_once`](countersign::Checker::at_once)) is what its exchange says.
    AtOnceAgrees,
    /// It comes to an end.
    Ends,
    /// No secret is printed: in rounds, refusals, faults, identities, or what the fixture adds.
    SecretsStaySecret,
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which rule.
    pub rule: Rule,
    /// The mechanism in which it was broken; empty when it is about the checker.
    pub mechanism: String,
    /// What was tried and what happened. Holds no secret of the fixture.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rule)?;
        if !self.mechanism.is_empty() {
            write!(f, " ({})", self.mechanism)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What a conformance run found: how much was tried, and every broken rule.
#[must_use]
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The name of the checker.
    pub checker: String,
    /// How many attempts were made.
    pub attempts: usize,
    /// The broken rules, in the order found.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether no rule was broken.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether this rule was broken.
    pub fn breaks(&self, rule: Rule) -> bool {
        self.failures.iter().any(|failure| failure.rule == rule)
    }

    pub(super) fn fail(&mut self, rule: Rule, mechanism: &str, what: impl Into<String>) {
        let failure = Failure { rule, mechanism: mechanism.to_owned(), what: what.into() };
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (attempts, broken) = (self.attempts, self.failures.len());
        write!(f, "checker `{}`: {attempts} attempts, {broken} failures", self.checker)?;
        for failure in &self.failures {
            write!(f, "\n  {failure}")?;
        }
        Ok(())
    }
}

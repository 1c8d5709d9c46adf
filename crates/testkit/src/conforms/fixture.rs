//! What a conformance run needs to know about the checker under test.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{Answers, KindSet, Peer, Round, Subject, World};

/// Who may log in to the checker under test, and how.
///
/// The suite makes some fifty attempts for each proof, most of them wrong: switch throttles and lock-outs
/// off, and give slow hashes their cheapest setting.
#[derive(Clone)]
pub struct Fixture {
    pub(super) proofs: Vec<Proof>,
    pub(super) untested: Vec<String>,
    pub(super) peer: Arc<Peer>,
    pub(super) world: Arc<dyn World>,
    pub(super) patience: Duration,
    pub(super) printed: Vec<Arc<dyn Fn() -> String + Send + Sync>>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

impl Fixture {
    /// A fixture without proofs, for a peer that can answer everything, in a world that stands still.
    pub fn new() -> Self {
        Self {
            proofs: Vec::new(),
            untested: Vec::new(),
            peer: Arc::new(Peer::new("conformance", KindSet::all())),
            world: Arc::new(StillWorld::default()),
            patience: Duration::from_secs(60),
            printed: Vec::new(),
        }
    }

    /// The fixture with the proof of one more mechanism.
    #[must_use]
    pub fn with(mut self, proof: Proof) -> Self {
        self.proofs.push(proof);
        self
    }

    /// The fixture, leaving a mechanism out. Every other one that the checker declares needs a proof.
    #[must_use]
    pub fn leaving_out(mut self, mechanism: impl Into<String>) -> Self {
        self.untested.push(mechanism.into());
        self
    }

    /// The fixture with another peer: an address, a certificate, a local user id.
    #[must_use]
    pub fn from_peer(mut self, peer: Peer) -> Self {
        self.peer = Arc::new(peer);
        self
    }

    /// The fixture in another world, such as one whose time suits recorded codes.
    #[must_use]
    pub fn in_world(mut self, world: Arc<dyn World>) -> Self {
        self.world = world;
        self
    }

    /// The fixture with another limit to the time of the whole run (a minute).
    #[must_use]
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The fixture with something more that must never hold a secret, looked at after every attempt:
    /// `format!("{checker:?}")`, the text of a log.
    #[must_use]
    pub fn printing(mut self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.printed.push(Arc::new(text));
        self
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("proofs", &self.proofs).finish_non_exhaustive()
    }
}

/// One mechanism's ways in and ways out.
#[derive(Clone)]
pub struct Proof {
    pub(super) mechanism: String,
    pub(super) subject: Subject,
    pub(super) good: Attempt,
    pub(super) wrong: Option<Attempt>,
    pub(super) unknown: Option<Attempt>,
    pub(super) disabled: Option<Attempt>,
}

impl Proof {
    /// The right answers by question name, and the name that they prove.
    pub fn of(
        mechanism: impl Into<String>,
        subject: impl Into<Arc<str>>,
        good: impl Into<Attempt>,
    ) -> Self {
        Self {
            mechanism: mechanism.into(),
            subject: Subject::Named(subject.into()),
            good: good.into(),
            wrong: None,
            unknown: None,
            disabled: None,
        }
    }

    /// A mechanism that proves nothing and lets in as nobody in particular.
    pub fn anonymous(mechanism: impl Into<String>, good: impl Into<Attempt>) -> Self {
        Self { subject: Subject::Anonymous, ..Self::of(mechanism, "", good) }
    }

    /// The same user with a wrong proof. Needed of every mechanism that proves something.
    #[must_use]
    pub fn wrong(mut self, answers: impl Into<Attempt>) -> Self {
        self.wrong = Some(answers.into());
        self
    }

    /// A user that the checker does not know.
    #[must_use]
    pub fn unknown(mut self, answers: impl Into<Attempt>) -> Self {
        self.unknown = Some(answers.into());
        self
    }

    /// A user whose account is disabled, with the right proof.
    #[must_use]
    pub fn disabled(mut self, answers: impl Into<Attempt>) -> Self {
        self.disabled = Some(answers.into());
        self
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({} as {})", self.mechanism, self.subject)
    }
}

/// How one kind of attempt answers its rounds. Begun anew for every attempt.
#[derive(Clone)]
pub struct Attempt(Arc<dyn Fn() -> Answering + Send + Sync>);

pub(super) type Answering = Box<dyn FnMut(&Round) -> Answers + Send>;

impl Attempt {
    /// An attempt whose answers depend on what is asked: a SASL client, a fresh one-time code.
    pub fn computed<F>(begin: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: FnMut(&Round) -> Answers + Send + 'static,
    {
        Self(Arc::new(move || Box::new(begin())))
    }

    pub(super) fn begin(&self) -> Answering {
        (self.0)()
    }
}

/// The same answers each time, by question name; to a round goes what it asks for.
impl From<Answers> for Attempt {
    fn from(answers: Answers) -> Self {
        Self::computed(move || {
            let answers = answers.clone();
            move |round: &Round| {
                let asked = answers.iter().filter_map(|(name, answer)| {
                    Some((round.question(name)?.name.clone(), answer.clone()))
                });
                asked.collect()
            }
        })
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt")
    }
}

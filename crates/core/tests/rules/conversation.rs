//! Random rounds, answers and sequences of calls against a model of the conversation.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll, Waker};

use countersign::testing::StillWorld;
use countersign::{
    Answer, Answers, AtOnce, Bounds, BoxExchange, Conversation, Denial, Exchange, Fault, Feedback,
    Halt, Identity, KindSet, Misuse, Peer, Reason, Reply, Round, Scene, Step, Text, Verified,
};
use proptest::prelude::*;

use crate::rounds::{answers, fitting, rounds};
use crate::stage::{ready, turn};

/// What the exchange does at a step.
#[derive(Clone, Debug)]
enum Beat {
    Ask(Arc<Round>),
    Grant,
    Deny,
    Fault,
    /// Awaits a backend that does not answer in time.
    Hang,
}

fn beat() -> impl Strategy<Value = Beat> {
    prop_oneof![
        8 => (rounds(), prop::bool::weighted(0.3)).prop_map(|(mut round, again)| {
            let feedback = Feedback { question: None, text: Text::default(), tries_left: None };
            round.feedback = again.then_some(feedback);
            Beat::Ask(Arc::new(round))
        }),
        1 => Just(Beat::Grant),
        1 => Just(Beat::Deny),
        1 => Just(Beat::Fault),
        1 => Just(Beat::Hang),
    ]
}

/// What is done to the conversation.
#[derive(Clone, Debug)]
enum Call {
    /// Answers that were made for the open round, to a round that is so far from the open one.
    Fitting {
        seed: u64,
        off: i16,
    },
    Random {
        answers: Answers,
        off: i16,
    },
    /// The last answers that were sent, again.
    Again,
    /// Those, with something changed.
    AlmostAgain,
    Wait {
        milliseconds: u64,
    },
    Cancel,
}

fn call() -> impl Strategy<Value = Call> {
    let off = || prop_oneof![8 => Just(0i16), 1 => Just(-1), 1 => Just(1), 1 => Just(-100)];
    prop_oneof![
        12 => (any::<u64>(), off()).prop_map(|(seed, off)| Call::Fitting { seed, off }),
        3 => (answers(), off()).prop_map(|(answers, off)| Call::Random { answers, off }),
        3 => Just(Call::Again),
        2 => Just(Call::AlmostAgain),
        1 => (0u64..700).prop_map(|milliseconds| Call::Wait { milliseconds }),
        1 => Just(Call::Cancel),
    ]
}

/// Plays beats, and notes every set of answers that reaches it.
struct Playing {
    beats: std::vec::IntoIter<Beat>,
    told: Arc<Mutex<Vec<Answers>>>,
}

impl Exchange for Playing {
    async fn step(&mut self, answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
        self.told.lock().unwrap().push(answers);
        match self.beats.next().unwrap_or(Beat::Deny) {
            Beat::Ask(round) => Ok(Step::Ask(round)),
            Beat::Grant => Ok(Step::Grant(Verified::vouch(Identity::named("ada")))),
            Beat::Deny => Ok(Step::deny(Reason::WrongCredential)),
            Beat::Fault => Err(Fault::unavailable("the backend is away")),
            Beat::Hang => {
                turn().await;
                Ok(Step::Grant(Verified::vouch(Identity::named("too late"))))
            }
        }
    }
}

/// What a call comes to, as far as it can be compared.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Ask(u16, Arc<Round>),
    Granted,
    Denied(Reason),
    Misuse,
    Closed,
    Fault,
    /// The future was dropped half-way.
    Dropped,
}

fn heard(reply: &Result<Reply, Halt>) -> Heard {
    match reply {
        Ok(Reply::Ask(ask)) => Heard::Ask(ask.number, Arc::clone(&ask.round)),
        Ok(Reply::Granted(_)) => Heard::Granted,
        Ok(Reply::Denied(denial)) => Heard::Denied(denial.reason),
        Err(Halt::Misuse(Misuse::Closed)) => Heard::Closed,
        Err(Halt::Misuse(_)) => Heard::Misuse,
        Err(Halt::Fault(_)) => Heard::Fault,
    }
}

type Sorted = Vec<(String, Answer)>;

fn sorted(answers: &Answers) -> Sorted {
    let mut sorted: Sorted =
        answers.iter().map(|(name, answer)| (name.to_owned(), answer.clone())).collect();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    sorted
}

/// The conversation, said another way.
struct Model {
    beats: std::vec::IntoIter<Beat>,
    bounds: &'static Bounds,
    open: Option<Arc<Round>>,
    number: u16,
    tries: u8,
    mistakes: u8,
    now: u64,
    last: Option<(u16, Sorted, Heard)>,
    /// How often the exchange was stepped.
    steps: usize,
}

impl Model {
    fn step(&mut self) -> Heard {
        self.steps += 1;
        self.open = None;
        self.last = None;
        match self.beats.next().unwrap_or(Beat::Deny) {
            Beat::Grant => Heard::Granted,
            Beat::Deny => Heard::Denied(Reason::WrongCredential),
            Beat::Fault => Heard::Fault,
            Beat::Hang => Heard::Dropped,
            Beat::Ask(round) => {
                self.tries += u8::from(round.feedback.is_some());
                let too_many = self.number >= self.bounds.rounds
                    || round.feedback.is_some() && self.tries >= self.bounds.tries;
                if too_many {
                    return Heard::Denied(Reason::TooMany);
                }
                self.number += 1;
                self.open = Some(Arc::clone(&round));
                Heard::Ask(self.number, round)
            }
        }
    }

    fn answer(&mut self, number: u16, answers: &Answers) -> Heard {
        let given = sorted(answers);
        if let Some((last_number, last_given, reply)) = &self.last
            && *last_number == number
            && *last_given == given
        {
            return reply.clone();
        }
        let Some(round) = self.open.clone() else {
            self.mistakes += 1;
            if self.mistakes > self.bounds.mistakes {
                self.last = None;
            }
            return Heard::Closed;
        };
        if self.now > self.bounds.lifetime_ms {
            return self.over(Reason::TimedOut);
        }
        let fits = number == self.number
            && answers.size() <= self.bounds.bytes
            && round.accept(answers.clone()).is_ok();
        if !fits {
            self.mistakes += 1;
            if self.mistakes > self.bounds.mistakes {
                return self.over(Reason::TooMany);
            }
            return Heard::Misuse;
        }
        let heard = self.step();
        let is_reply = !matches!(heard, Heard::Fault | Heard::Dropped);
        if self.bounds.replay && is_reply {
            self.last = Some((number, given, heard.clone()));
        }
        heard
    }

    fn over(&mut self, reason: Reason) -> Heard {
        self.open = None;
        self.last = None;
        Heard::Denied(reason)
    }
}

static BOUNDS: LazyLock<Vec<Bounds>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for (rounds, tries, mistakes, bytes) in [(2, 2, 1, 20), (4, 3, 2, 1000), (32, 3, 100, 1000)] {
        for replay in [false, true] {
            all.push(Bounds { rounds, tries, mistakes, bytes, lifetime_ms: 1000, replay });
        }
    }
    all
});

/// Polls once and drops what is not ready.
fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 3000, ..Default::default() })]

    #[test]
    fn every_sequence_of_calls_is_as_the_model_says(
        beats in prop::collection::vec(beat(), 1..8),
        calls in prop::collection::vec(call(), 0..16),
        bounds in 0usize..6,
    ) {
        let bounds = &BOUNDS[bounds];
        let world = StillWorld::default();
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut model = Model {
            beats: beats.clone().into_iter(), bounds, open: None, number: 0, tries: 0,
            mistakes: 0, now: 0, last: None, steps: 0,
        };
        let exchange = Playing { beats: beats.into_iter(), told: Arc::clone(&told) };
        let peer = Arc::new(Peer::new("test", KindSet::all()));
        let begun = once(Conversation::begin(
            BoxExchange::new(exchange), peer, None, bounds, &world,
        ));
        let expected = model.step();
        let mut conversation = match begun {
            None => {
                prop_assert_eq!(expected, Heard::Dropped);
                return Ok(());
            }
            Some(Err(_)) => {
                prop_assert_eq!(expected, Heard::Fault);
                return Ok(());
            }
            Some(Ok((conversation, reply))) => {
                prop_assert_eq!(heard(&Ok(reply)), expected);
                conversation
            }
        };
        let mut sent = (1, Answers::new());
        let mut grants = 0;
        for call in calls {
            let answers = match &call {
                Call::Wait { milliseconds } => {
                    world.advance_ms(*milliseconds);
                    model.now += milliseconds;
                    continue;
                }
                Call::Cancel => {
                    prop_assert_eq!(conversation.cancel().reason, Reason::Cancelled);
                    let _ = model.over(Reason::Cancelled);
                    continue;
                }
                Call::Again => sent.clone(),
                Call::AlmostAgain => (sent.0, sent.1.clone().with("a", "almost")),
                Call::Fitting { seed, off } => {
                    let round = model.open.clone().unwrap_or_default();
                    (model.number.saturating_add_signed(*off), fitting(&round, *seed))
                }
                Call::Random { answers, off } => {
                    (model.number.saturating_add_signed(*off), answers.clone())
                }
            };
            sent = answers.clone();
            let reply = once(conversation.answer(answers.0, answers.1.clone(), &world));
            let got = reply.as_ref().map_or(Heard::Dropped, heard);
            let steps_before = model.steps;
            let expected = model.answer(answers.0, &answers.1);
            prop_assert_eq!(&got, &expected, "after {:?}", call);
            grants += usize::from(got == Heard::Granted && model.steps > steps_before);
            // What reached the exchange, and nothing after the end.
            prop_assert_eq!(told.lock().unwrap().len(), model.steps);
            prop_assert_eq!(conversation.is_over(), model.open.is_none());
            let open = conversation.open();
            prop_assert_eq!(open.as_ref().map(|ask| &ask.round), model.open.as_ref());
            if let Some(ask) = open {
                prop_assert_eq!(ask.number, model.number);
            }
        }
        prop_assert!(grants <= 1);
    }

    /// Whoever knows the number of the round but not the answers never hears the grant that they earned.
    #[test]
    fn only_the_very_same_answers_are_replayed(guess in "[a-z]{0,3}", number in 0u16..3) {
        let (mut conversation, world) = granted(&Bounds::REQUESTS);
        let reply = ready(conversation.answer(number, password(&guess), &world));
        let right = guess == "abc" && number == 1;
        prop_assert_eq!(matches!(reply, Ok(Reply::Granted(_))), right);
    }
}

fn password(text: &str) -> Answers {
    Answers::new().with("password", text)
}

/// A conversation whose one round was answered with `abc` and granted.
fn granted(bounds: &'static Bounds) -> (Conversation, StillWorld) {
    let world = StillWorld::default();
    let round = Arc::new(Round::of([countersign::Question::password()]));
    let exchange =
        Playing { beats: vec![Beat::Ask(round), Beat::Grant].into_iter(), told: Arc::default() };
    let peer = Arc::new(Peer::new("test", KindSet::all()));
    let begun = Conversation::begin(BoxExchange::new(exchange), peer, None, bounds, &world);
    let (mut conversation, _) = ready(begun).expect("no fault");
    let reply = ready(conversation.answer(1, password("abc"), &world));
    assert!(matches!(reply, Ok(Reply::Granted(_))));
    (conversation, world)
}

#[test]
fn a_grant_is_repeated_word_for_word_until_cancelled() {
    let (mut conversation, world) = granted(&Bounds::REQUESTS);
    for _ in 0..20 {
        let again = ready(conversation.answer(1, password("abc"), &world));
        assert!(matches!(again, Ok(Reply::Granted(_))));
    }
    assert_eq!(conversation.cancel().reason, Reason::Cancelled);
    let again = ready(conversation.answer(1, password("abc"), &world));
    assert!(matches!(again, Err(Halt::Misuse(Misuse::Closed))), "{again:?}");
}

#[test]
fn a_connection_repeats_nothing() {
    let (mut conversation, world) = granted(&Bounds::CONNECTION);
    let again = ready(conversation.answer(1, password("abc"), &world));
    assert!(matches!(again, Err(Halt::Misuse(Misuse::Closed))), "{again:?}");
}

#[test]
fn guessing_at_the_last_reply_ends_it() {
    let (mut conversation, world) = granted(&Bounds::REQUESTS);
    for guess in 0..=Bounds::REQUESTS.mistakes {
        let reply = ready(conversation.answer(1, password(&format!("guess {guess}")), &world));
        assert!(matches!(reply, Err(Halt::Misuse(Misuse::Closed))), "{reply:?}");
    }
    let reply = ready(conversation.answer(1, password("abc"), &world));
    assert!(matches!(reply, Err(Halt::Misuse(Misuse::Closed))), "{reply:?}");
}

#[test]
fn a_dropped_step_ends_the_login() {
    let world = StillWorld::default();
    let round = Arc::new(Round::of([countersign::Question::password()]));
    let beats = vec![Beat::Ask(round), Beat::Hang, Beat::Grant];
    let told = Arc::new(Mutex::new(Vec::new()));
    let exchange = Playing { beats: beats.into_iter(), told: Arc::clone(&told) };
    let peer = Arc::new(Peer::new("test", KindSet::all()));
    let begun =
        Conversation::begin(BoxExchange::new(exchange), peer, None, &Bounds::REQUESTS, &world);
    let (mut conversation, _) = ready(begun).expect("no fault");
    assert!(once(conversation.answer(1, password("abc"), &world)).is_none());
    assert!(conversation.is_over());
    for _ in 0..3 {
        let again = ready(conversation.answer(1, password("abc"), &world));
        assert!(matches!(again, Err(Halt::Misuse(Misuse::Closed))), "{again:?}");
    }
    assert_eq!(told.lock().unwrap().len(), 2, "the exchange was stepped after it was dropped");
}

#[test]
fn the_deadline_is_on_the_steady_clock() {
    let world = StillWorld::default();
    let begin = || {
        let round = Arc::new(Round::of([countersign::Question::password()]));
        let exchange = Playing {
            beats: vec![Beat::Ask(round), Beat::Grant].into_iter(),
            told: Arc::default(),
        };
        let peer = Arc::new(Peer::new("test", KindSet::all()));
        let bounds = &Bounds::CONNECTION;
        ready(Conversation::begin(BoxExchange::new(exchange), peer, None, bounds, &world))
    };
    let (mut stepped, _) = begin().expect("no fault");
    world.set_unix(i64::MAX / 2);
    let reply = ready(stepped.answer(1, password("abc"), &world));
    assert!(
        matches!(reply, Ok(Reply::Granted(_))),
        "a stepped wall clock ended a login: {reply:?}"
    );
    let (mut just_in_time, _) = begin().expect("no fault");
    world.advance_ms(Bounds::CONNECTION.lifetime_ms);
    let reply = ready(just_in_time.answer(1, password("abc"), &world));
    assert!(matches!(reply, Ok(Reply::Granted(_))), "{reply:?}");
    let (mut late, _) = begin().expect("no fault");
    world.advance_ms(Bounds::CONNECTION.lifetime_ms + 1);
    let reply = ready(late.answer(1, password("abc"), &world));
    let timed_out = matches!(reply, Ok(Reply::Denied(Denial { reason: Reason::TimedOut, .. })));
    assert!(timed_out, "{reply:?}");
    assert!(late.is_over());
}

#[test]
fn a_round_that_the_peer_cannot_answer_is_not_begun() {
    let world = StillWorld::default();
    let round = Arc::new(Round::of([countersign::Question::password()]));
    let exchange =
        Playing { beats: vec![Beat::Ask(round), Beat::Grant].into_iter(), told: Arc::default() };
    let peer = Arc::new(Peer::new("test", KindSet::none()));
    let bounds = &Bounds::CONNECTION;
    let begun = Conversation::begin(BoxExchange::new(exchange), peer, None, bounds, &world);
    let (conversation, reply) = ready(begun).expect("no fault");
    let refused = matches!(reply, Reply::Denied(Denial { reason: Reason::Unsupported, .. }));
    assert!(refused && conversation.is_over(), "{reply:?}");
}

#[test]
fn names_and_values_count_to_the_last_byte() {
    static BOUNDS: Bounds = Bounds { bytes: "password".len() + 3, ..Bounds::CONNECTION };
    for (text, fits) in [("abc", true), ("abcd", false)] {
        let world = StillWorld::default();
        let round = Arc::new(Round::of([countersign::Question::password()]));
        let beats = vec![Beat::Ask(round), Beat::Grant];
        let exchange = Playing { beats: beats.into_iter(), told: Arc::default() };
        let peer = Arc::new(Peer::new("test", KindSet::all()));
        let begun = Conversation::begin(BoxExchange::new(exchange), peer, None, &BOUNDS, &world);
        let (mut conversation, _) = ready(begun).expect("no fault");
        let reply = ready(conversation.answer(1, password(text), &world));
        assert_eq!(reply.is_ok(), fits, "{reply:?}");
        assert_eq!(conversation.is_over(), fits, "the round stays open for a better answer");
    }
}

/// Knows its first round at once, or says that it does not, and notes what it is called for.
struct Opening {
    at_once: bool,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

impl Exchange for Opening {
    fn at_once(&mut self, answers: Answers, _: &Scene<'_>) -> AtOnce {
        self.calls.lock().unwrap().push("at once?");
        match self.at_once && answers.is_empty() {
            true => AtOnce::Done(Ok(Step::ask(Round::of([countersign::Question::password()])))),
            false => AtOnce::Later(answers),
        }
    }

    async fn step(&mut self, answers: Answers, _: &Scene<'_>) -> Result<Step, Fault> {
        let first = answers.is_empty();
        self.calls.lock().unwrap().push(if first { "first" } else { "answered" });
        Ok(match first {
            true => Step::ask(Round::of([countersign::Question::password()])),
            false => Step::Grant(Verified::vouch(Identity::named("ada"))),
        })
    }
}

#[test]
fn what_is_known_at_once_takes_the_place_of_a_step() {
    for (at_once, expected) in [
        (true, &["at once?", "at once?", "answered"][..]),
        (false, &["at once?", "first", "at once?", "answered"]),
    ] {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let exchange = BoxExchange::new(Opening { at_once, calls: Arc::clone(&calls) });
        let world = StillWorld::default();
        let peer = Arc::new(Peer::new("test", KindSet::all()));
        let begun = Conversation::begin(exchange, peer, None, &Bounds::CONNECTION, &world);
        let (mut conversation, reply) = ready(begun).unwrap();
        let Reply::Ask(ask) = reply else { panic!("no round") };
        let reply = ready(conversation.answer(ask.number, password("x"), &world)).unwrap();
        assert!(matches!(reply, Reply::Granted(_)));
        assert_eq!(*calls.lock().unwrap(), expected);
    }
}

#[test]
fn a_peer_that_cannot_answer_is_refused_also_when_the_round_is_known_at_once() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let exchange = BoxExchange::new(Opening { at_once: true, calls });
    let peer = Arc::new(Peer::new("test", KindSet::none()));
    let world = StillWorld::default();
    let begun = Conversation::begin(exchange, peer, None, &Bounds::CONNECTION, &world);
    let (_, reply) = ready(begun).unwrap();
    assert!(matches!(reply, Reply::Denied(denial) if denial.reason == Reason::Unsupported));
}

//! Several mechanisms that ask side by side, in one round.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{
    Answers, BoxExchange, Denial, Exchange, Fault, Group, Question, Reason, Round, Scene, Step,
    Text,
};

/// One attempt in which the peer chooses the mechanism by answering its questions.
///
/// The first rounds of all mechanisms become one: a question that all ask alike (the user name) is asked
/// once, the others form one group a mechanism. Answering a group whole chooses its mechanism and drops
/// the others, so that answering the code never asks for the key's passphrase as well.
pub struct Alternatives {
    parts: Vec<Part>,
    merged: Option<Arc<Round>>,
    /// Which outer question is which inner one.
    names: Vec<Renamed>,
    chosen: Option<usize>,
}

struct Part {
    mechanism: Cow<'static, str>,
    exchange: BoxExchange,
}

struct Renamed {
    part: usize,
    outer: Cow<'static, str>,
    inner: Cow<'static, str>,
    group: Option<Cow<'static, str>>,
}

impl Alternatives {
    /// The mechanisms by name, most wanted first.
    pub fn new(parts: impl IntoIterator<Item = (Cow<'static, str>, BoxExchange)>) -> Self {
        let parts = parts.into_iter();
        Self {
            parts: parts.map(|(mechanism, exchange)| Part { mechanism, exchange }).collect(),
            merged: None,
            names: Vec::new(),
            chosen: None,
        }
    }

    async fn begin(&mut self, scene: &Scene<'_>) -> Result<Step, Fault> {
        let mut rounds = Vec::new();
        let mut denial = None;
        let mut index = 0;
        while let Some(part) = self.parts.get_mut(index) {
            match part.exchange.step(Answers::new(), scene).await? {
                Step::Ask(round) if round.answerable_by(scene.supports()) => {
                    rounds.push(round);
                    index += 1;
                    continue;
                }
                // That one is not enrolled must not hide that another is, and cannot be asked here.
                Step::Deny(why) if denial.as_ref().is_none_or(not_enrolled) => denial = Some(why),
                Step::Deny(_) => {}
                // One that lets in without a question is only for who asks for it by name; one that
                // this peer cannot answer is not offered.
                Step::Ask(_) | Step::Grant(_) => denial = Some(Denial::new(Reason::Unsupported)),
            }
            self.parts.remove(index);
        }
        match rounds.as_slice() {
            [] => Ok(Step::Deny(denial.unwrap_or(Denial::new(Reason::Unsupported)))),
            [only] => {
                self.chosen = Some(0);
                Ok(Step::Ask(Arc::clone(only)))
            }
            _ => {
                let merged = Arc::new(self.merge(&rounds));
                self.merged = Some(Arc::clone(&merged));
                Ok(Step::Ask(merged))
            }
        }
    }

    fn merge(&mut self, rounds: &[Arc<Round>]) -> Round {
        let mut merged = Round::default();
        let common =
            |q: &Question| q.group.is_none() && rounds.iter().all(|r| r.questions.contains(q));
        // A mechanism that asks nothing of its own could not be chosen: then each asks all of its own.
        let each_has_its_own = rounds.iter().all(|r| r.questions.iter().any(|q| !common(q)));
        let shared = |q: &Question| each_has_its_own && common(q);
        for (part, round) in rounds.iter().enumerate() {
            let mechanism = self.parts[part].mechanism.clone();
            merged.title = merged.title.take().or_else(|| round.title.clone());
            merged.instruction = merged.instruction.take().or_else(|| round.instruction.clone());
            merged.notices.extend(round.notices.iter().cloned());
            for question in round.questions.iter().filter(|q| shared(q)) {
                if part == 0 {
                    merged.questions.push(question.clone());
                }
                self.names.push(Renamed {
                    part,
                    outer: question.name.clone(),
                    inner: question.name.clone(),
                    group: None,
                });
            }
            // A mechanism with alternatives of its own contributes one group for each.
            let own = round.groups.iter().map(|group| Some(group.id.clone()));
            let groups: Vec<_> = if round.groups.is_empty() { vec![None] } else { own.collect() };
            for inner_group in groups {
                let id: Cow<'static, str> = match &inner_group {
                    None => mechanism.clone(),
                    Some(group) => format!("{mechanism}/{group}").into(),
                };
                let title = round.groups.iter().find(|g| Some(&g.id) == inner_group.as_ref());
                merged.groups.push(Group {
                    id: id.clone(),
                    title: title
                        .map_or_else(|| title_of(mechanism.clone()), |group| group.title.clone()),
                    mechanism: mechanism.clone(),
                });
                let in_it =
                    |q: &&Question| !shared(q) && (q.group.is_none() || q.group == inner_group);
                for question in round.questions.iter().filter(in_it) {
                    let mut outer = question.clone().in_group(id.clone());
                    if merged.question(&outer.name).is_some() {
                        outer.name = format!("{id}/{}", question.name).into();
                    }
                    self.names.push(Renamed {
                        part,
                        outer: outer.name.clone(),
                        inner: question.name.clone(),
                        group: Some(id.clone()),
                    });
                    merged.questions.push(outer);
                }
            }
        }
        merged
    }

    /// Gives the answers of the chosen group their own names back.
    fn choose(&mut self, mut answers: Answers) -> Option<(usize, Answers)> {
        let group = Some(self.merged.take()?.chosen(&answers)?.id.clone());
        let part = self.names.iter().find(|name| name.group == group)?.part;
        let mut inner = Answers::new();
        for name in self.names.iter().filter(|name| name.part == part) {
            if (name.group.is_none() || name.group == group)
                && let Some(answer) = answers.take(&name.outer)
            {
                inner.push(name.inner.clone(), answer);
            }
        }
        Some((part, inner))
    }
}

fn not_enrolled(denial: &Denial) -> bool {
    denial.reason == Reason::NotEnrolled
}

fn title_of(mechanism: Cow<'static, str>) -> Text {
    match &*mechanism {
        "password" => Text::message("group.password", "Password"),
        "otp" => Text::message("group.otp", "One-time code"),
        "passkey" => Text::message("group.passkey", "Passkey"),
        _ => Text::verbatim(mechanism),
    }
}

impl Exchange for Alternatives {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        if self.merged.is_none() && self.chosen.is_none() {
            return self.begin(scene).await;
        }
        let part = match self.chosen {
            Some(part) => part,
            None => {
                let Some((part, inner)) = self.choose(answers) else {
                    return Ok(Step::deny(Reason::Declined));
                };
                answers = inner;
                self.parts.swap(0, part);
                self.parts.truncate(1);
                self.chosen = Some(0);
                0
            }
        };
        match self.parts.get_mut(part) {
            Some(part) => part.exchange.step(answers, scene).await,
            None => Err(Fault::internal("no alternative is left")),
        }
    }
}

impl std::fmt::Debug for Alternatives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|part| &part.mechanism)).finish()
    }
}

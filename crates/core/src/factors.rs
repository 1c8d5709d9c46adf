//! Several factors, one after the other, as one exchange.

use std::sync::Arc;

use crate::chain::{Chain, Plan};
use crate::{
    Answers, BoxExchange, Denial, Exchange, Fault, Identity, Reason, Scene, Step, Verified,
};

/// One attempt that needs several proofs of one subject.
///
/// The first factor proves a subject; each next one begins with it ([`Scene::proven`]) and must prove the
/// same. All state is the attempt's: a password proven on one connection is worth nothing on another.
pub struct Factors {
    plans: Arc<[Arc<Plan>]>,
    current: BoxExchange,
    proven: Vec<Verified<Identity>>,
}

impl Factors {
    pub(crate) fn new(plans: Arc<[Arc<Plan>]>) -> Option<Self> {
        let first = Chain::new(Arc::clone(plans.first()?));
        Some(Self { plans, current: BoxExchange::new(first), proven: Vec::new() })
    }
}

impl Exchange for Factors {
    async fn step(&mut self, mut answers: Answers, scene: &Scene<'_>) -> Result<Step, Fault> {
        loop {
            let scene = Scene { proven: &self.proven, ..*scene };
            let who = match self.current.step(answers, &scene).await? {
                Step::Grant(who) => who,
                other => return Ok(other),
            };
            if let Some(first) = self.proven.first().filter(|first| first.subject != who.subject) {
                let detail =
                    format!("one factor proved {}, another {}", first.subject, who.subject);
                return Ok(Step::Deny(Denial::new(Reason::NotAllowed).because(detail)));
            }
            self.proven.push(who);
            let Some(next) = self.plans.get(self.proven.len()) else {
                return Ok(Step::Grant(self.joined()));
            };
            self.current = BoxExchange::new(Chain::new(Arc::clone(next)));
            answers = Answers::new();
        }
    }
}

impl Factors {
    fn joined(&mut self) -> Verified<Identity> {
        let mut factors = std::mem::take(&mut self.proven).into_iter();
        // Called only after the last factor was pushed, so there is a first.
        let first = factors.next().unwrap_or_else(|| unreachable!("no factor was proven"));
        let mut all = Identity::clone(&first);
        for factor in factors {
            all.merge(&factor);
        }
        first.refined(all)
    }
}

impl std::fmt::Debug for Factors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.plans.iter().map(|plan| &plan.mechanism)).finish()
    }
}

//! What a policy comes to for one peer: who is asked for which mechanism, and what is demanded then.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use crate::chain::{Asked, Chain, Plan};
use crate::checker::is;
use crate::identity::Vouched;
use crate::policy::{Factor, Plaintext, Policy};
use crate::{
    Alternatives, BoxExchange, Checker, CredentialKind, Denial, Guard, Identity, KindSet,
    Mechanism, Order, Peer, Reason, Results, Verified,
};

/// How many different ways are kept. Which rules match is decided by what peers say of themselves, so
/// there is a bound to what they can fill.
const KEPT: usize = 1024;

/// Everything that a portal's ways are made of.
pub(crate) struct Ways {
    pub(crate) checkers: Vec<(Arc<str>, Arc<dyn Checker>)>,
    pub(crate) order: Order,
    pub(crate) policy: Policy,
    pub(crate) guard: Option<Arc<dyn Guard>>,
    /// Where no rule matches: most portals have none.
    usual: Arc<Way>,
    others: RwLock<BTreeMap<u64, Arc<Way>>>,
}

/// A way, for as long as a login needs it.
pub(crate) enum Lent<'w> {
    Usual(&'w Arc<Way>),
    Chosen(Arc<Way>),
}

impl Deref for Lent<'_> {
    type Target = Arc<Way>;

    fn deref(&self) -> &Arc<Way> {
        match self {
            Self::Usual(way) => way,
            Self::Chosen(way) => way,
        }
    }
}

/// What holds for the peers that the same rules match.
pub(crate) struct Way {
    pub(crate) guard: Option<Arc<dyn Guard>>,
    pub(crate) plaintext: Plaintext,
    pub(crate) code_in_password: bool,
    mechanisms: Option<Vec<String>>,
    /// A handful: a list is the fastest map.
    plans: Vec<Arc<Plan>>,
    /// The mechanisms in the order of the checkers.
    offered: Vec<Mechanism>,
    first: FactorPlan,
    /// What each rule that matches says of what depends on who it is; the last speaks of everybody.
    says: Vec<Says>,
    /// Whether all is decided when the first factor is proven.
    is_simple: bool,
}

struct Says {
    rule: Cow<'static, str>,
    when: crate::When,
    allow: Option<bool>,
    require: Option<Vec<FactorPlan>>,
}

/// A factor, with who is asked for it.
#[derive(Clone)]
pub(crate) struct FactorPlan {
    pub(crate) factor: Factor,
    pub(crate) plans: Vec<Arc<Plan>>,
}

impl Ways {
    pub(crate) fn new(
        checkers: Vec<(Arc<str>, Arc<dyn Checker>)>,
        order: Order,
        policy: Policy,
        guard: Option<Arc<dyn Guard>>,
    ) -> Self {
        let usual = Arc::new(Way::new(&checkers, order, &policy, 0, guard.clone()));
        Self { checkers, order, policy, guard, usual, others: RwLock::default() }
    }

    pub(crate) fn to(&self, peer: &Peer) -> Arc<Way> {
        match self.one_for_all() {
            Some(way) => Arc::clone(way),
            None => self.of(self.policy.matching(peer)),
        }
    }

    /// The same, lent where no rule makes it another for anybody.
    pub(crate) fn lent_to(&self, peer: &Peer) -> Lent<'_> {
        match self.one_for_all() {
            Some(way) => Lent::Usual(way),
            None => Lent::Chosen(self.of(self.policy.matching(peer))),
        }
    }

    fn one_for_all(&self) -> Option<&Arc<Way>> {
        self.policy.rules.is_empty().then_some(&self.usual)
    }

    fn of(&self, bits: u64) -> Arc<Way> {
        if bits == 0 {
            return Arc::clone(&self.usual);
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = others.get(&bits) {
            return Arc::clone(way);
        }
        drop(others);
        let guard = self.guard.clone();
        let way = Arc::new(Way::new(&self.checkers, self.order, &self.policy, bits, guard));
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        if others.len() < KEPT {
            others.insert(bits, Arc::clone(&way));
        }
        way
    }

    /// The usual way, and one for each rule by itself: what could be offered to somebody.
    pub(crate) fn some(&self) -> impl Iterator<Item = Arc<Way>> {
        let rules = 0..self.policy.rules.len().min(Policy::RULES);
        std::iter::once(self.of(0)).chain(rules.map(|index| self.of(1 << index)))
    }
}

impl Way {
    fn new(
        all: &[(Arc<str>, Arc<dyn Checker>)],
        order: Order,
        policy: &Policy,
        bits: u64,
        guard: Option<Arc<dyn Guard>>,
    ) -> Self {
        let terms = policy.settled(bits);
        let find = |wanted: &Arc<str>| all.iter().find(|(name, _)| name == wanted);
        let asked: Vec<(&Arc<str>, &Arc<dyn Checker>, Results)> = match &terms.checkers {
            None => {
                let results = order.results();
                all.iter().map(|(name, checker)| (name, checker, results)).collect()
            }
            Some(wanted) => {
                let found = wanted.iter().filter_map(|(name, results)| {
                    let (name, checker) = find(name)?;
                    Some((name, checker, *results))
                });
                found.collect()
            }
        };
        let mut plans = Vec::<Arc<Plan>>::new();
        let mut offered = Vec::<Mechanism>::new();
        for (name, asked, results) in asked {
            for mechanism in asked.mechanisms() {
                let known = plans.iter().position(|plan| mechanism.is(&plan.mechanism));
                let place = known.unwrap_or_else(|| {
                    offered.push(mechanism.clone());
                    plans.push(Arc::new(Plan {
                        mechanism: mechanism.name.clone(),
                        plaintext: mechanism.plaintext,
                        second: mechanism.is(Mechanism::OTP)
                            && !mechanism.asks.contains(&CredentialKind::AuthName),
                        checkers: Vec::new(),
                    }));
                    plans.len() - 1
                });
                let plan = Arc::make_mut(&mut plans[place]);
                let (checker, mechanism) = (Arc::clone(name), plan.mechanism.clone());
                let vouched = Arc::new(Vouched { checker, mechanism });
                plan.checkers.push(Asked { vouched, checker: Arc::clone(asked), results });
            }
        }
        let planned = |factor: &Factor| FactorPlan {
            plans: factor.any_of.iter().filter_map(|name| plan(&plans, name).cloned()).collect(),
            factor: factor.clone(),
        };
        // A factor that nobody offers is one that nobody is enrolled for.
        let needed = |plan: &FactorPlan| !plan.factor.only_enrolled || !plan.plans.is_empty();
        let all_planned = |require: &[Factor]| -> Vec<FactorPlan> {
            require.iter().map(planned).filter(needed).collect()
        };
        let require = terms.require.clone().filter(|require| !require.is_empty());
        let require = require.unwrap_or_else(|| vec![Factor::ANY]);
        let mut says: Vec<Says> = policy
            .chosen(bits)
            .map(|rule| Says {
                rule: rule.name.clone(),
                when: rule.when.clone(),
                allow: rule.terms.allow,
                require: rule.terms.require.as_deref().map(all_planned),
            })
            .filter(|says| says.allow.is_some() || says.require.is_some())
            .collect();
        let require = all_planned(&require);
        let is_simple = says.is_empty() && require.len() == 1 && policy.terms.allow != Some(false);
        // What is demanded first cannot depend on who it is.
        let first = require.first().cloned().unwrap_or_else(|| planned(&Factor::ANY));
        says.push(Says {
            rule: "".into(),
            when: crate::When::default(),
            allow: policy.terms.allow,
            require: Some(require),
        });
        Self {
            guard,
            plaintext: terms.plaintext.unwrap_or_default(),
            code_in_password: terms.code_in_password.unwrap_or(false),
            mechanisms: terms.mechanisms,
            plans,
            offered,
            first,
            says,
            is_simple,
        }
    }

    /// Whether nothing is left to decide, or to count, when the first factor is proven.
    pub(crate) fn is_simple(&self) -> bool {
        self.is_simple && self.guard.is_none()
    }

    /// Refuses whom no rule could let in, whoever it is.
    pub(crate) fn open(&self) -> Result<(), Denial> {
        for says in &self.says {
            match says.allow {
                Some(true) => return Ok(()),
                Some(false) if says.when.groups.is_empty() => return Err(not_allowed(&says.rule)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a login may name this mechanism, or the carrier of this name.
    pub(crate) fn permits(&self, name: &str) -> bool {
        let listed = |all: &Vec<String>| all.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.mechanisms.as_ref().is_none_or(listed)
    }

    /// Whether a checker that is asked here has the mechanism.
    pub(crate) fn has(&self, mechanism: &str) -> bool {
        plan(&self.plans, mechanism).is_some()
    }

    /// Whether this checker is asked here for anything.
    pub(crate) fn asks(&self, checker: &str) -> bool {
        self.plans
            .iter()
            .any(|plan| plan.checkers.iter().any(|asked| *asked.vouched.checker == *checker))
    }

    /// The checkers of a mechanism that a login can begin with. To ask for a later factor is not to skip the
    /// first; and where a required one is offered by nobody, nobody gets in.
    pub(crate) fn begin(&self, mechanism: &str) -> Option<&Arc<Plan>> {
        let plan = plan(&self.plans, mechanism)?;
        self.begins(plan).then_some(plan)
    }

    fn begins(&self, plan: &Arc<Plan>) -> bool {
        let demanded = self.says.last().and_then(|says| says.require.as_ref());
        let whole = demanded.is_some_and(|all| all.iter().all(FactorPlan::can_be_asked));
        whole
            && if self.first.factor.any_of.is_empty() {
                !plan.second
            } else {
                self.first.plans.iter().any(|first| Arc::ptr_eq(first, plan))
            }
    }

    /// The checkers' own mechanisms that a peer can begin with by answering questions of these kinds. Those
    /// that speak in opaque tokens are for peers that name them.
    pub(crate) fn offered<'a>(
        &'a self,
        supports: &'a KindSet,
    ) -> impl Iterator<Item = &'a Mechanism> {
        self.offered.iter().filter(|mechanism| {
            supports.contains_all(&mechanism.asks)
                && !mechanism.asks.contains(&CredentialKind::Token)
                && self.begin(&mechanism.name).is_some()
        })
    }

    /// The checkers' own mechanisms.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Mechanism> {
        self.offered.iter()
    }

    /// What is demanded of this identity.
    ///
    /// # Errors
    ///
    /// The refusal of a rule.
    pub(crate) fn demands(&self, who: &Identity) -> Result<&[FactorPlan], Denial> {
        let mine = || self.says.iter().filter(|says| says.when.names(&who.groups));
        if let Some(says) = mine().find(|says| says.allow.is_some())
            && says.allow == Some(false)
        {
            return Err(not_allowed(&says.rule));
        }
        Ok(mine().find_map(|says| says.require.as_deref()).unwrap_or_default())
    }
}

impl FactorPlan {
    fn can_be_asked(&self) -> bool {
        self.factor.any_of.is_empty() || !self.plans.is_empty()
    }

    /// Whether these proofs are enough of it. See [`Verified::proofs`](crate::Verified::proofs) for the
    /// question mark.
    pub(crate) fn is_met<'a>(&self, mut proofs: impl Iterator<Item = &'a str> + Clone) -> bool {
        if self.factor.any_of.is_empty() {
            return proofs.next().is_some();
        }
        let met = |name: &str| proofs.clone().any(|proof| proof.eq_ignore_ascii_case(name));
        let excused = |name: &str| {
            let mut marks = proofs.clone().filter_map(|proof| proof.strip_suffix('?'));
            marks.any(|proof| proof.eq_ignore_ascii_case(name))
        };
        self.factor.any_of.iter().any(|name| met(name))
            || self.factor.only_enrolled && self.plans.iter().all(|plan| excused(&plan.mechanism))
    }

    /// Whether it is known already that this one has none of it, and need not: the only checker to be asked
    /// for it is the one that vouched, and has said so.
    pub(crate) fn excuses(&self, who: &Verified<Identity>) -> bool {
        let says_so = |plan: &Arc<Plan>| {
            matches!(&*plan.checkers, [only] if who.checker() == Some(&*only.vouched.checker))
                && who.lacks(&plan.mechanism)
        };
        self.factor.only_enrolled && !self.plans.is_empty() && self.plans.iter().all(says_so)
    }

    /// The exchange that asks for it.
    pub(crate) fn exchange(&self) -> Option<BoxExchange> {
        let chain = |plan: &Arc<Plan>| BoxExchange::new(Chain::new(Arc::clone(plan)));
        match self.plans.as_slice() {
            [] => None,
            [only] => Some(chain(only)),
            several => {
                let parts = several.iter().map(|plan| (plan.mechanism.clone(), chain(plan)));
                Some(BoxExchange::new(Alternatives::new(parts)))
            }
        }
    }

    /// Its checkers of one-time codes.
    pub(crate) fn codes(&self) -> Option<&Arc<Plan>> {
        self.plans.iter().find(|plan| plan.mechanism.eq_ignore_ascii_case(Mechanism::OTP))
    }
}

fn plan<'a>(plans: &'a [Arc<Plan>], mechanism: &str) -> Option<&'a Arc<Plan>> {
    plans.iter().find(|plan| is(&plan.mechanism, mechanism))
}

fn not_allowed(rule: &str) -> Denial {
    let denial = Denial::new(Reason::NotAllowed);
    match rule {
        "" => denial.because("the policy lets nobody in here"),
        rule => denial.because(format!("the policy's {rule} does not allow it")),
    }
}

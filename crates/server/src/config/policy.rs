//! `[policy]` and `[[policy.rules]]`: one table that says who may log in to what, how.
//!
//! The words are read here, with their places; what they mean is [`countersign::Policy`]. Contradictions
//! are refused: a rule that never decides anything, one that speaks before its condition can be known,
//! one under which nobody could log in.

mod words;

use std::ops::Range;
use std::sync::Arc;

use countersign::{
    Factor, Mechanism, Order, Peer, Plaintext, Policy, Portal, Results, Rule, Terms, Then,
    Transport, When,
};
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::ConfigError;
use crate::groups::GroupsSection;
pub use words::NetworkWord;
use words::{AskedWord, FactorWord, OneOrMore, OrderWord, PlaintextWord, TransportWord};

/// `[policy]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PolicySection {
    order: OrderWord,
    checkers: Option<Vec<Spanned<AskedWord>>>,
    allow: Option<Spanned<bool>>,
    mechanisms: Option<Spanned<Vec<Spanned<String>>>>,
    plaintext: Option<Spanned<PlaintextWord>>,
    require: Option<Spanned<Vec<Spanned<FactorWord>>>>,
    code_in_password: Option<Spanned<bool>>,
    rules: Vec<Spanned<RuleSection>>,
}

/// `[[policy.rules]]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RuleSection {
    name: Option<String>,
    service: Option<OneOrMore<String>>,
    network: Option<OneOrMore<NetworkWord>>,
    transport: Option<OneOrMore<TransportWord>>,
    group: Option<OneOrMore<String>>,
    checkers: Option<Spanned<Vec<Spanned<AskedWord>>>>,
    allow: Option<Spanned<bool>>,
    mechanisms: Option<Spanned<Vec<Spanned<String>>>>,
    plaintext: Option<Spanned<PlaintextWord>>,
    require: Option<Spanned<Vec<Spanned<FactorWord>>>>,
    code_in_password: Option<Spanned<bool>>,
}

/// The policy of a configuration, with the places of what it says.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) policy: Policy,
    pub(super) order: Order,
    pub(super) places: Places,
}

/// Where a policy says what, for contradictions that show when its checkers are there.
#[derive(Debug, Default, Clone)]
pub(super) struct Places {
    usual: Range<usize>,
    rules: Vec<Range<usize>>,
    mechanisms: Vec<(String, Range<usize>)>,
    factors: Vec<(String, Range<usize>, bool)>,
}

/// One row of the resulting table.
#[derive(Debug, Clone)]
pub struct PolicyRow {
    /// Its name, or what it is.
    pub name: String,
    /// When it holds; empty: always.
    pub when: When,
    /// What holds then, with all that it leaves open filled in.
    pub terms: Terms,
    /// The mechanisms that a login can begin with.
    pub begins: Vec<String>,
}

impl PolicySection {
    /// Reads the section. `known`: the checkers of the configuration, with their places.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub(super) fn read(self, known: &[(String, Range<usize>)]) -> Result<Read, ConfigError> {
        let order = Order::from(self.order);
        let mut places = Places::default();
        let checkers = usual_checkers(self.checkers, order, known)?;
        let mut asked: Vec<Arc<str>> = checkers.iter().map(|(name, _)| Arc::clone(name)).collect();
        let said = Said {
            checkers: None,
            allow: self.allow,
            mechanisms: self.mechanisms,
            plaintext: self.plaintext,
            require: self.require,
            code_in_password: self.code_in_password,
        };
        let default = Terms {
            plaintext: Some(Plaintext::Secured),
            require: Some(vec![Factor::ANY, second_of_the_enrolled()]),
            ..Terms::default()
        };
        let mut terms = said.terms(order, known, &mut places)?.or(&default);
        terms.checkers = Some(checkers);
        let mut policy = Policy::of(terms);
        for (index, rule) in self.rules.into_iter().enumerate() {
            if index == Policy::RULES {
                let message = format!("this is rule {}, and there may be {index}", index + 1);
                return Err(ConfigError::at(rule.span(), message).with_help("put rules together"));
            }
            places.rules.push(rule.span());
            let span = rule.span();
            let rule = rule.into_inner().read(index, order, known, &span, &mut places)?;
            not_in_vain(&policy, &rule, &span)?;
            asked.extend(rule.terms.checkers.iter().flatten().map(|(name, _)| Arc::clone(name)));
            policy.rules.push(rule);
        }
        if let Some((name, span)) =
            known.iter().find(|(name, _)| !asked.iter().any(|a| **a == **name))
        {
            let message = format!("nobody asks the checker `{name}`");
            let help = "add it to `policy.checkers` or to a rule's, or remove its table";
            return Err(ConfigError::at(span.clone(), message).with_help(help));
        }
        Ok(Read { policy, order, places })
    }
}

impl Read {
    /// Puts names in the place of numbers of groups: checkers tell groups by name.
    ///
    /// # Errors
    ///
    /// A number that has no name in the configuration.
    pub(super) fn name_groups(&mut self, groups: &GroupsSection) -> Result<(), ConfigError> {
        for (rule, span) in self.policy.rules.iter_mut().zip(&self.places.rules) {
            for group in &mut rule.when.groups {
                let Ok(number) = group.parse::<u32>() else { continue };
                let named = groups.map.iter().find(|(_, gid)| **gid == number);
                let Some((name, _)) = named else {
                    let message = format!("the group {number} has no name here");
                    let help = format!("write its name, or `[groups] map = {{ NAME = {number} }}`");
                    return Err(ConfigError::at(span.clone(), message).with_help(help));
                };
                group.clone_from(name);
            }
        }
        Ok(())
    }
}

/// What a section says, before it is understood.
struct Said {
    checkers: Option<Spanned<Vec<Spanned<AskedWord>>>>,
    allow: Option<Spanned<bool>>,
    mechanisms: Option<Spanned<Vec<Spanned<String>>>>,
    plaintext: Option<Spanned<PlaintextWord>>,
    require: Option<Spanned<Vec<Spanned<FactorWord>>>>,
    code_in_password: Option<Spanned<bool>>,
}

impl RuleSection {
    fn read(
        self,
        index: usize,
        order: Order,
        known: &[(String, Range<usize>)],
        span: &Range<usize>,
        places: &mut Places,
    ) -> Result<Rule, ConfigError> {
        let name = match self.name {
            Some(name) => format!("rule `{name}`"),
            None => format!("rule {}", index + 1),
        };
        let services = self.service.into_iter().flat_map(|services| services.0);
        let when = When {
            services: services.map(|service| service.to_ascii_lowercase().into()).collect(),
            networks: self.network.into_iter().flat_map(|all| all.0).map(|word| word.0).collect(),
            transports: self.transport.into_iter().flat_map(|all| all.0).map(Into::into).collect(),
            groups: self.group.into_iter().flat_map(|groups| groups.0).collect(),
        };
        let said = Said {
            checkers: self.checkers,
            allow: self.allow,
            mechanisms: self.mechanisms,
            plaintext: self.plaintext,
            require: self.require,
            code_in_password: self.code_in_password,
        };
        if !when.groups.is_empty()
            && let Some((key, span)) = said.of_the_beginning()
        {
            let message = format!("`{key}` must be known before it is known who somebody is");
            let help = "a rule with `group` says `allow` and `require`; say this in a rule without";
            return Err(ConfigError::at(span, message).with_help(help));
        }
        let terms = said.terms(order, known, places)?;
        if terms == Terms::default() {
            let help = "say what holds: `allow`, `require`, `mechanisms`, `plaintext`, `checkers`, \
                        `code_in_password`";
            return Err(ConfigError::at(span.clone(), "this rule says nothing").with_help(help));
        }
        if terms.allow == Some(false) && terms != (Terms { allow: Some(false), ..Terms::default() })
        {
            let message = "where nobody is let in, nothing else need be said";
            let help = "remove `allow = false`, or everything else of this rule";
            return Err(ConfigError::at(span.clone(), message).with_help(help));
        }
        Ok(Rule { name: name.into(), when, terms })
    }
}

impl Said {
    /// What is decided before anybody is proven.
    fn of_the_beginning(&self) -> Option<(&'static str, Range<usize>)> {
        let checkers = self.checkers.as_ref().map(|said| ("checkers", said.span()));
        let mechanisms = self.mechanisms.as_ref().map(|said| ("mechanisms", said.span()));
        let plaintext = self.plaintext.as_ref().map(|said| ("plaintext", said.span()));
        let code = self.code_in_password.as_ref().map(|said| ("code_in_password", said.span()));
        checkers.or(mechanisms).or(plaintext).or(code)
    }

    fn terms(
        self,
        order: Order,
        known: &[(String, Range<usize>)],
        places: &mut Places,
    ) -> Result<Terms, ConfigError> {
        let mechanisms = match self.mechanisms {
            None => None,
            Some(all) if all.get_ref().is_empty() => {
                let error = ConfigError::at(all.span(), "no mechanism is left to log in with");
                return Err(error.with_help("name some, or write `allow = false`"));
            }
            Some(all) => {
                let all = all.into_inner();
                places.mechanisms.extend(all.iter().map(|m| (m.get_ref().clone(), m.span())));
                Some(all.into_iter().map(Spanned::into_inner).collect())
            }
        };
        let require = self.require.map(|all| factors(all, places)).transpose()?;
        let checkers = match self.checkers {
            None => None,
            Some(all) if all.get_ref().is_empty() => {
                let message = "a rule that asks no checker lets nobody in";
                let help = "name some, or write `allow = false`";
                return Err(ConfigError::at(all.span(), message).with_help(help));
            }
            Some(all) => Some(asked(all.into_inner(), order, known)?),
        };
        Ok(Terms {
            allow: self.allow.map(Spanned::into_inner),
            mechanisms,
            plaintext: self.plaintext.map(|word| word.into_inner().into()),
            require,
            checkers,
            code_in_password: self.code_in_password.map(Spanned::into_inner),
        })
    }
}

fn factors(
    all: Spanned<Vec<Spanned<FactorWord>>>,
    places: &mut Places,
) -> Result<Vec<Factor>, ConfigError> {
    let span = all.span();
    let mut factors = Vec::new();
    for (index, word) in all.into_inner().into_iter().enumerate() {
        let span = word.span();
        let factor = word.into_inner().0;
        let wrong = match (&*factor.any_of, index) {
            ([], 1..) => Some(("`any` is what a login begins with", "put it first")),
            (_, 0) if factor.only_enrolled => Some((
                "the first factor is asked of everybody: nobody is known yet",
                "leave the question mark out",
            )),
            ([only], 0) if only.eq_ignore_ascii_case(Mechanism::OTP) => Some((
                "a code by itself does not say whose it is",
                "begin with another factor, such as `any` or `password`",
            )),
            _ => None,
        };
        if let Some((message, help)) = wrong {
            return Err(ConfigError::at(span, message).with_help(help));
        }
        let optional = factor.only_enrolled;
        let named = factor.any_of.iter().map(|name| (name.to_string(), span.clone(), optional));
        places.factors.extend(named);
        factors.push(factor);
    }
    match factors.is_empty() {
        true => Err(ConfigError::at(span, "no factor is required: everybody would be let in")
            .with_help("write `require = [\"any\"]` for any one proof")),
        false => Ok(factors),
    }
}

fn second_of_the_enrolled() -> Factor {
    let any_of = vec![Mechanism::OTP.into(), Mechanism::PASSKEY.into()];
    Factor { any_of, only_enrolled: true }
}

fn usual_checkers(
    said: Option<Vec<Spanned<AskedWord>>>,
    order: Order,
    known: &[(String, Range<usize>)],
) -> Result<Vec<(Arc<str>, Results)>, ConfigError> {
    match said {
        Some(said) if said.is_empty() => {
            Err(ConfigError::general("`policy.checkers` names no checker: nobody could log in"))
        }
        Some(said) => asked(said, order, known),
        None => {
            if let [_, (name, span), ..] = known {
                let message = format!("`{name}` is a second checker, and no order is given");
                let names = known.iter().map(|(name, _)| format!("{name:?}"));
                let names = names.collect::<Vec<_>>().join(", ");
                let help = format!("say who is asked first: [policy] checkers = [{names}]");
                return Err(ConfigError::at(span.clone(), message).with_help(help));
            }
            let all = known.iter().map(|(name, _)| (name.as_str().into(), order.results()));
            Ok(all.collect())
        }
    }
}

fn asked(
    said: Vec<Spanned<AskedWord>>,
    order: Order,
    known: &[(String, Range<usize>)],
) -> Result<Vec<(Arc<str>, Results)>, ConfigError> {
    let mut asked = Vec::<(Arc<str>, Results)>::new();
    for word in said {
        let span = word.span();
        let word = word.into_inner();
        if asked.iter().any(|(before, _)| **before == *word.checker) {
            let message = format!("`{}` is named twice", word.checker);
            return Err(ConfigError::at(span, message).with_help("name each checker once"));
        }
        if !known.iter().any(|(name, _)| *name == word.checker) {
            let known = known.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
            return Err(ConfigError::unknown(span, "checker", &word.checker, &known));
        }
        let usual = order.results();
        let results = Results {
            granted: word.granted.map_or(usual.granted, Into::into),
            wrong: word.wrong.map_or(usual.wrong, Into::into),
            unknown: word.unknown.map_or(usual.unknown, Into::into),
            refused: word.refused.map_or(usual.refused, Into::into),
            fault: word.fault.map_or(usual.fault, Into::into),
        };
        let wrong = match results {
            Results { granted: Then::Next, .. } => Some((
                "a proof that is right always counts",
                "write `granted = \"end\"` or `granted = \"count\"`",
            )),
            Results { fault: Then::Count, .. } => Some((
                "a checker that cannot be asked has said nothing that could count",
                "write `fault = \"end\"` or `fault = \"next\"`",
            )),
            _ => None,
        };
        if let Some((message, help)) = wrong {
            return Err(ConfigError::at(span, message).with_help(help));
        }
        asked.push((word.checker.into(), results));
    }
    Ok(asked)
}

/// Refuses a rule that never decides: an earlier one holds wherever it does, and says all that it says.
fn not_in_vain(policy: &Policy, rule: &Rule, span: &Range<usize>) -> Result<(), ConfigError> {
    let wider = policy.rules.iter().filter(|earlier| earlier.when.covers(&rule.when));
    let said = wider.clone().map(|earlier| &earlier.terms).fold(Terms::default(), Terms::or);
    let Terms { allow, mechanisms, plaintext, require, checkers, code_in_password } = &rule.terms;
    let decides = allow.is_some() && said.allow.is_none()
        || mechanisms.is_some() && said.mechanisms.is_none()
        || plaintext.is_some() && said.plaintext.is_none()
        || require.is_some() && said.require.is_none()
        || checkers.is_some() && said.checkers.is_none()
        || code_in_password.is_some() && said.code_in_password.is_none();
    if decides {
        return Ok(());
    }
    let names = wider.map(|earlier| &*earlier.name).collect::<Vec<_>>().join(", ");
    let message = format!("{} never decides: {names} holds wherever it does", rule.name);
    Err(ConfigError::at(span.clone(), message).with_help("put the narrower rule first"))
}

/// The table that a policy comes to: a row for each rule, and one for the rest.
pub fn table<R>(portal: &Portal<R>) -> Vec<PolicyRow> {
    let policy = portal.policy();
    let row = |name: &str, when: When, terms: Terms| {
        let begins = portal.begins(&representative(&when));
        PolicyRow { name: name.to_owned(), when, terms, begins }
    };
    let mut rows = Vec::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        // What it leaves open, the rules say that hold wherever it does: the wider ones, before and after.
        let wider = |other: &&Rule| other.when.covers(&rule.when);
        let before = policy.rules[..index].iter().filter(wider);
        let all = before.chain(policy.rules[index..].iter().filter(wider));
        let terms = all.map(|rule| &rule.terms).chain([&policy.terms]);
        rows.push(row(&rule.name, rule.when.clone(), terms.fold(Terms::default(), Terms::or)));
    }
    rows.push(row("otherwise", When::default(), policy.terms.clone()));
    rows
}

/// Somebody that a rule is about.
fn representative(when: &When) -> Peer {
    let service = when.services.first().cloned().unwrap_or_else(|| "\u{1}".into());
    let mut peer = Peer::new(service, countersign::KindSet::all());
    peer.remote = when.networks.first().map(IpNet::addr);
    peer.transport = when.transports.first().copied().unwrap_or(Transport::Tls);
    peer
}

impl Places {
    /// What contradicts itself when the checkers are there.
    ///
    /// # Errors
    ///
    /// A mechanism or factor that nobody offers; a rule under which nobody could log in.
    pub(super) fn check<R>(&self, portal: &Portal<R>) -> Result<(), ConfigError> {
        let known = portal.mechanism_names();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let is_known = |name: &str| known.iter().any(|known| known.eq_ignore_ascii_case(name));
        let needed = self.factors.iter().filter(|(_, _, optional)| !optional);
        let needed = needed.map(|(name, span, _)| (name, span));
        let named = self.mechanisms.iter().map(|(name, span)| (name, span));
        for (name, span) in named.chain(needed) {
            if !is_known(name) {
                let what = "mechanism of a configured checker";
                return Err(ConfigError::unknown(span.clone(), what, name, &known));
            }
        }
        let spans = self.rules.iter().chain([&self.usual]);
        for (row, span) in table(portal).into_iter().zip(spans) {
            let open = row.terms.allow != Some(false);
            if open && row.begins.is_empty() && row.when.groups.is_empty() {
                let message = format!(
                    "nobody could log in here ({}): no mechanism is left that the checkers offer, that \
                     `mechanisms` allows, that proves the first of `require`, and that `plaintext` \
                     lets through",
                    row.name
                );
                let help = "loosen one of these, or write `allow = false`";
                return Err(ConfigError::at(span.clone(), message).with_help(help));
            }
            let codes = row.terms.require.iter().flatten().any(|factor| {
                factor.any_of.iter().any(|name| name.eq_ignore_ascii_case(Mechanism::OTP))
            });
            let later = portal
                .policy()
                .rules
                .iter()
                .any(|rule| !rule.when.groups.is_empty() && rule.terms.require.is_some());
            if row.terms.code_in_password == Some(true) && !codes && !later {
                let message = format!("no code is required here ({})", row.name);
                let help = "remove `code_in_password`, or add `otp` to `require`";
                return Err(ConfigError::at(span.clone(), message).with_help(help));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! `[policy]` and `[[policy.rules]]`: one table that says who may log in to what, how.
//!
//! The words are read here, with their places; what they mean is [`countersign::Policy`]. Contradictions
//! are refused: a rule that never decides anything, one that speaks before its condition can be known,
//! one under which nobody could log in.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use countersign::{
    Factor, Mechanism, Order, Peer, Plaintext, Policy, Portal, Results, Rule, Terms, Then,
    Transport, When,
};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::ConfigError;

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

/// One value, or a list.
#[derive(Debug)]
struct OneOrMore<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reading<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reading<T> {
            type Value = OneOrMore<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let text = serde::de::value::StrDeserializer::new(text);
                Ok(OneOrMore(vec![T::deserialize(text)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                match all.is_empty() {
                    true => Err(A::Error::custom("an empty list matches nobody; leave it out")),
                    false => Ok(OneOrMore(all)),
                }
            }
        }
        from.deserialize_any(Reading(std::marker::PhantomData))
    }
}

/// A network, or one address.
#[derive(Debug, Clone, Copy)]
pub struct NetworkWord(pub IpNet);

impl<'de> Deserialize<'de> for NetworkWord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let network = text.parse::<IpNet>().ok();
        let network = network.or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        network.map(|network| Self(network.trunc())).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no network such as \"10.0.0.0/8\" or \"::1\""))
        })
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TransportWord {
    Plain,
    Local,
    Tls,
}

impl From<TransportWord> for Transport {
    fn from(word: TransportWord) -> Self {
        match word {
            TransportWord::Plain => Self::Plain,
            TransportWord::Local => Self::Local,
            TransportWord::Tls => Self::Tls,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PlaintextWord {
    Always,
    Secured,
    Never,
}

impl From<PlaintextWord> for Plaintext {
    fn from(word: PlaintextWord) -> Self {
        match word {
            PlaintextWord::Always => Self::Always,
            PlaintextWord::Secured => Self::Secured,
            PlaintextWord::Never => Self::Never,
        }
    }
}

/// `policy.order`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OrderWord {
    #[default]
    FirstKnown,
    FirstSuccess,
    All,
}

impl From<OrderWord> for Order {
    fn from(word: OrderWord) -> Self {
        match word {
            OrderWord::FirstKnown => Self::FirstKnown,
            OrderWord::FirstSuccess => Self::FirstSuccess,
            OrderWord::All => Self::All,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ThenWord {
    End,
    Next,
    Count,
}

impl From<ThenWord> for Then {
    fn from(word: ThenWord) -> Self {
        match word {
            ThenWord::End => Self::End,
            ThenWord::Next => Self::Next,
            ThenWord::Count => Self::Count,
        }
    }
}

/// A checker's name, or a table with it and with what its results come to.
#[derive(Debug)]
struct AskedWord {
    checker: String,
    granted: Option<ThenWord>,
    wrong: Option<ThenWord>,
    unknown: Option<ThenWord>,
    refused: Option<ThenWord>,
    fault: Option<ThenWord>,
}

impl<'de> Deserialize<'de> for AskedWord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            checker: String,
            granted: Option<ThenWord>,
            wrong: Option<ThenWord>,
            unknown: Option<ThenWord>,
            refused: Option<ThenWord>,
            fault: Option<ThenWord>,
        }
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = AskedWord;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a checker such as \"accounts.main\", or { checker = \"…\", unknown = \"next\" }",
                )
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(AskedWord {
                    checker: name.to_owned(),
                    granted: None,
                    wrong: None,
                    unknown: None,
                    refused: None,
                    fault: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let table = Table::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let Table { checker, granted, wrong, unknown, refused, fault } = table;
                Ok(AskedWord { checker, granted, wrong, unknown, refused, fault })
            }
        }
        from.deserialize_any(Reading)
    }
}

/// `"any"`, `"password"`, `"otp?"`, or a list of which any one will do.
#[derive(Debug)]
struct FactorWord(Factor);

impl<'de> Deserialize<'de> for FactorWord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = OneOrMore::<String>::deserialize(from)?;
        let words: Vec<_> =
            words.0.iter().flat_map(|word| word.split('|')).map(str::trim).collect();
        if words == ["any"] {
            return Ok(Self(Factor::ANY));
        }
        if words.iter().any(|word| word.is_empty() || *word == "?" || *word == "any") {
            return Err(D::Error::custom(
                "a factor is a mechanism such as \"password\", several of which one will do \
                 ([\"otp\", \"passkey\"]), or \"any\"",
            ));
        }
        let marked = words.iter().filter(|word| word.ends_with('?')).count();
        if marked != 0 && marked != words.len() {
            return Err(D::Error::custom(
                "either all or none of these have a question mark: whoever has one of them is asked \
                 for one of them",
            ));
        }
        let any_of = words.iter().map(|word| word.trim_end_matches('?').to_owned().into());
        Ok(Self(Factor { any_of: any_of.collect(), only_enrolled: marked != 0 }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::registry::Registry;

    fn parse(text: &str) -> Result<Config, String> {
        let registry = Registry::built_in();
        let path = Path::new("countersign.toml");
        Config::parse(text, Path::new("/etc"), Path::new("/data"), &registry)
            .map_err(|error| error.in_file(path, text).to_string())
    }

    #[test]
    fn what_nobody_says_is_safe() {
        let terms = parse("").unwrap().policy.terms;
        assert_eq!(terms.plaintext, Some(Plaintext::Secured));
        let require: Vec<_> = terms.require.iter().flatten().map(Factor::to_string).collect();
        assert_eq!(require, ["any", "otp?|passkey?"]);
        assert_eq!(terms.code_in_password, None);
    }

    #[test]
    fn the_words_of_a_table() {
        let text = r#"
            [checker.accounts.main]
            [checker.file.guests]
            path = "guests"
            [policy]
            checkers = ["accounts.main"]
            require = ["password", ["otp", "passkey"]]
            plaintext = "never"
            [[policy.rules]]
            name = "inside"
            service = ["IMAP", "pop3"]
            network = "10.1.2.3/8"
            transport = ["plain", "tls"]
            plaintext = "always"
            checkers = [{ checker = "accounts.main", fault = "next" }, "file.guests"]
            [[policy.rules]]
            group = "staff"
            require = ["password", "otp?"]
        "#;
        let policy = parse(text).unwrap().policy;
        let [inside, staff] = policy.rules.as_slice() else { panic!("{policy:?}") };
        assert_eq!(inside.name, "rule `inside`");
        assert_eq!(&*inside.when.services[0], "imap");
        assert_eq!(inside.when.networks[0].to_string(), "10.0.0.0/8");
        let checkers = inside.terms.checkers.as_ref().unwrap();
        assert_eq!(checkers[0].1.fault, Then::Next);
        assert_eq!(checkers[1].1, Order::FirstKnown.results());
        assert_eq!((&*staff.name, &*staff.when.groups), ("rule 2", &["staff".to_owned()][..]));
        let require = staff.terms.require.as_ref().unwrap();
        assert!(!require[0].only_enrolled && require[1].only_enrolled);
    }

    #[test]
    fn contradictions_are_shown_where_they_are() {
        let rule = |text: &str| format!("[[policy.rules]]\n{text}");
        for (text, expected) in [
            (rule("group = \"staff\"\nplaintext = \"always\""), [":3", "before it is known who"]),
            (rule("service = \"imap\""), [":1", "says nothing"]),
            (rule("allow = false\nplaintext = \"never\""), [":1", "nothing else need be said"]),
            (rule("require = []"), [":2", "no factor"]),
            (rule("require = [\"otp\"]"), [":2", "does not say whose"]),
            (rule("require = [\"password?\"]"), [":2", "first factor"]),
            (rule("require = [\"password\", \"any\"]"), [":2", "put it first"]),
            (rule("require = [\"password\", [\"otp?\", \"passkey\"]]"), [":2", "question mark"]),
            (rule("mechanisms = []"), [":2", "no mechanism"]),
            (rule("checkers = []"), [":2", "asks no checker"]),
            (rule("checkers = [\"acounts.main\"]"), [":2", "`accounts.main`"]),
            (rule("service = []\nallow = true"), [":2", "matches nobody"]),
            (rule("network = \"10.0.0.0/33\"\nallow = true"), [":2", "no network"]),
            (rule("transport = \"tsl\"\nallow = true"), [":2", "tls"]),
            (rule("alow = true"), [":2", "`allow`"]),
            (
                rule("checkers = [{ checker = \"accounts.main\", granted = \"next\" }]"),
                [":2", "always counts"],
            ),
            (
                rule("checkers = [{ checker = \"accounts.main\", fault = \"count\" }]"),
                [":2", "cannot be asked"],
            ),
            (
                format!(
                    "{}\n{}",
                    rule("service = [\"imap\", \"pop3\"]\nallow = false"),
                    rule("service = \"imap\"\nnetwork = \"10.0.0.0/8\"\nallow = true")
                ),
                [":4", "never decides"],
            ),
        ] {
            let error = parse(&text).unwrap_err();
            for part in expected {
                assert!(error.contains(part), "{text}\n{error}\n{part}");
            }
        }
        let many = rule("allow = true\n").repeat(2);
        assert!(parse(&many).unwrap_err().contains("never decides"));
        let many: String =
            (0..65).map(|i| rule(&format!("service = \"s{i}\"\nallow = true\n"))).collect();
        assert!(parse(&many).unwrap_err().contains("there may be 64"));
    }

    /// What shows only when it is known what the checkers offer.
    #[test]
    fn a_rule_under_which_nobody_could_log_in_is_refused() {
        use countersign::{Identity, Password, PasswordStore, Secret, Verdict, Verified};
        struct Anybody;
        impl PasswordStore for Anybody {
            async fn check(&self, login: &str, _: &Secret) -> Result<Verdict, countersign::Fault> {
                Ok(Verdict::Is(Verified::vouch(Identity::named(login))))
            }
        }
        let check = |text: &str| {
            let text = format!("[checker.accounts.main]\n{text}");
            let mut config = parse(&text).unwrap();
            config.file = Some(("countersign.toml".into(), text));
            let checker: Arc<dyn countersign::Checker> =
                Arc::new(Password::new("accounts.main", Anybody));
            config.portal((), [checker]).map(|portal| table(&portal)).map_err(|e| e.to_string())
        };
        let rows = check("[[policy.rules]]\nservice = \"imap\"\nmechanisms = [\"plain\"]").unwrap();
        assert_eq!(rows[0].begins, ["PLAIN"]);
        assert_eq!(rows[1].begins, ["password", "PLAIN", "LOGIN"]);
        assert_eq!(rows[0].terms.plaintext, Some(Plaintext::Secured), "filled in");
        for (text, expected) in [
            ("[policy]\nrequire = [\"password\", \"otp\"]", "`otp`"),
            ("[policy]\nmechanisms = [\"PLIAN\"]", "`PLAIN`"),
            ("[policy]\nplaintext = \"never\"", "nobody could log in"),
            ("[policy]\ncode_in_password = true\nrequire = [\"password\"]", "no code is required"),
            (
                "[[policy.rules]]\ntransport = \"plain\"\nmechanisms = [\"LOGIN\"]",
                "nobody could log in",
            ),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }
}

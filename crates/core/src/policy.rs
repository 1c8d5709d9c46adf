//! The rules of a portal: who may log in to what from where, by which mechanisms, with which factors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::{Order, Peer, Results, Transport};

/// What a portal demands.
///
/// Rules are looked at in order. For each thing that there is to say, the first rule decides that matches
/// and says something about it; where none does, the policy's own [`Terms`]; where these say nothing, the
/// defaults of [`Terms`].
///
/// ```
/// use countersign::{Plaintext, Policy, Terms};
///
/// // A password crosses no network readable.
/// let policy = Policy::of(Terms { plaintext: Some(Plaintext::Secured), ..Terms::default() });
/// # let _ = countersign::Portal::new(()).under(policy);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// What holds where no rule says otherwise.
    pub terms: Terms,
    /// At most [`Policy::RULES`].
    pub rules: Vec<Rule>,
}

/// One rule: under which conditions it says what.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// What the record calls it.
    pub name: Cow<'static, str>,
    /// When it matches.
    pub when: When,
    /// What then holds.
    pub terms: Terms,
}

/// Conditions; all that are given must hold, and any one of the values of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Service names.
    pub services: Vec<Arc<str>>,
    /// Networks that the peer is in. A peer whose address is not known is in none.
    pub networks: Vec<IpNet>,
    /// How the peer's secret reached us.
    pub transports: Vec<Transport>,
    /// Groups that the user is in. Known only when somebody has been proven, so that such a rule speaks
    /// only of [`Terms::allow`] and [`Terms::require`]; what else it says is not heard.
    pub groups: Vec<String>,
}

/// What holds; nothing said leaves it to the next rule that matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether anybody is let in at all. Default: yes.
    pub allow: Option<bool>,
    /// The mechanisms that may be used, carriers included. Default: all that the checkers offer.
    pub mechanisms: Option<Vec<String>>,
    /// Where a secret may cross a network readable. Default: everywhere, for the portal of a library cannot
    /// know how its secrets came.
    pub plaintext: Option<Plaintext>,
    /// The factors, one after the other. Default: any one mechanism.
    pub require: Option<Vec<Factor>>,
    /// Who is asked, in order, and what their results come to. Default: all, by the portal's [`Order`].
    pub checkers: Option<Vec<(Arc<str>, Results)>>,
    /// Whether a one-time code may follow the password in the same answer, after a comma, where the peer
    /// cannot be asked for it. Default: no.
    pub code_in_password: Option<bool>,
}

/// Where a mechanism may be used that sends its secret readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plaintext {
    /// Everywhere.
    #[default]
    Always,
    /// Over TLS, and on this machine.
    Secured,
    /// Nowhere.
    Never,
}

/// One factor: any one of these mechanisms proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Factor {
    /// Mechanisms. None: any that a login can begin with.
    pub any_of: Vec<Cow<'static, str>>,
    /// Only of those who have enrolled one of them.
    pub only_enrolled: bool,
}

impl Policy {
    /// How many rules there may be: which of them match is one word.
    pub const RULES: usize = 64;

    /// The policy whose terms are these, without rules.
    pub fn of(terms: Terms) -> Self {
        Self { terms, rules: Vec::new() }
    }

    /// Which rules match a peer, as far as can be known before anybody is proven: a bit for each. A rule
    /// about groups matches when all else about it does.
    pub(crate) fn matching(&self, peer: &Peer) -> u64 {
        let rules = self.rules.iter().take(Self::RULES).enumerate();
        rules.filter(|(_, rule)| rule.when.holds(peer)).fold(0, |bits, (i, _)| bits | 1 << i)
    }

    /// The rules of a set of bits, in order.
    pub(crate) fn chosen(&self, bits: u64) -> impl Iterator<Item = &Rule> {
        let rules = self.rules.iter().take(Self::RULES).enumerate();
        rules.filter(move |(i, _)| bits & (1 << i) != 0).map(|(_, rule)| rule)
    }

    /// What holds before anybody is proven, where the rules of these bits match.
    pub(crate) fn settled(&self, bits: u64) -> Terms {
        let known = self.chosen(bits).filter(|rule| rule.when.groups.is_empty());
        known.map(|rule| &rule.terms).chain([&self.terms]).fold(Terms::default(), Terms::or)
    }
}

impl When {
    fn holds(&self, peer: &Peer) -> bool {
        let is_named = |name: &Arc<str>| name.eq_ignore_ascii_case(&peer.service);
        let service = self.services.is_empty() || self.services.iter().any(is_named);
        let transport = self.transports.is_empty() || self.transports.contains(&peer.transport);
        // An IPv4 address within IPv6 is the address that it holds.
        let remote = peer.remote.map(|address| address.to_canonical());
        let in_any = |address| self.networks.iter().any(|network| network.contains(&address));
        service && transport && (self.networks.is_empty() || remote.is_some_and(in_any))
    }

    /// Whether somebody in these groups is meant.
    pub(crate) fn names(&self, groups: &BTreeMap<String, bool>) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|group| groups.contains_key(group))
    }

    /// Whether these conditions hold wherever the others do.
    pub fn covers(&self, other: &Self) -> bool {
        fn covers<T>(mine: &[T], theirs: &[T], has: impl Fn(&T, &T) -> bool) -> bool {
            mine.is_empty()
                || !theirs.is_empty() && theirs.iter().all(|b| mine.iter().any(|a| has(a, b)))
        }
        covers(&self.services, &other.services, PartialEq::eq)
            && covers(&self.networks, &other.networks, |a, b| a.contains(b))
            && covers(&self.transports, &other.transports, PartialEq::eq)
            && covers(&self.groups, &other.groups, PartialEq::eq)
    }
}

impl Terms {
    /// These terms, and the others for what they leave open.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            allow: self.allow.or(other.allow),
            mechanisms: self.mechanisms.or_else(|| other.mechanisms.clone()),
            plaintext: self.plaintext.or(other.plaintext),
            require: self.require.or_else(|| other.require.clone()),
            checkers: self.checkers.or_else(|| other.checkers.clone()),
            code_in_password: self.code_in_password.or(other.code_in_password),
        }
    }

    /// The terms with these checkers, by one of the usual orders.
    #[must_use]
    pub fn asking(mut self, names: impl IntoIterator<Item = Arc<str>>, order: Order) -> Self {
        self.checkers = Some(names.into_iter().map(|name| (name, order.results())).collect());
        self
    }
}

impl Plaintext {
    /// Whether a readable secret may come this way.
    pub fn allows(self, transport: Transport) -> bool {
        match self {
            Self::Always => true,
            Self::Secured => transport != Transport::Plain,
            Self::Never => false,
        }
    }
}

impl Factor {
    /// One mechanism, of everybody.
    pub fn of(mechanism: impl Into<Cow<'static, str>>) -> Self {
        Self { any_of: vec![mechanism.into()], only_enrolled: false }
    }

    /// Any mechanism that a login can begin with.
    pub const ANY: Self = Self { any_of: Vec::new(), only_enrolled: false };
}

impl std::fmt::Display for Factor {
    /// As in configuration: `password`, `otp|passkey`, `otp?`, `any`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.any_of.is_empty() {
            return f.write_str("any");
        }
        let mark = if self.only_enrolled { "?" } else { "" };
        for (index, name) in self.any_of.iter().enumerate() {
            let bar = if index == 0 { "" } else { "|" };
            write!(f, "{bar}{name}{mark}")?;
        }
        Ok(())
    }
}

/// What is no factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFactor(&'static str);

impl std::fmt::Display for NoFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NoFactor {}

impl FromStr for Factor {
    type Err = NoFactor;

    /// As it is shown.
    fn from_str(text: &str) -> Result<Self, NoFactor> {
        let words: Vec<_> = text.split('|').map(str::trim).collect();
        if words == ["any"] {
            return Ok(Self::ANY);
        }
        if words.iter().any(|word| word.is_empty() || *word == "?" || *word == "any") {
            return Err(NoFactor(
                "a factor is a mechanism such as \"password\", several of which one will do \
                 ([\"otp\", \"passkey\"]), or \"any\"",
            ));
        }
        let marked = words.iter().filter(|word| word.ends_with('?')).count();
        if marked != 0 && marked != words.len() {
            return Err(NoFactor(
                "either all or none of these have a question mark: whoever has one of them is asked \
                 for one of them",
            ));
        }
        let any_of = words.iter().map(|word| word.trim_end_matches('?').to_owned().into());
        Ok(Self { any_of: any_of.collect(), only_enrolled: marked != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KindSet;

    fn peer(service: &str, remote: &str, transport: Transport) -> Peer {
        let mut peer = Peer::new(service, KindSet::none());
        peer.remote = remote.parse().ok();
        peer.transport = transport;
        peer
    }

    fn when(service: &str, network: &str) -> When {
        When {
            services: vec![service.into()],
            networks: vec![network.parse().unwrap()],
            ..When::default()
        }
    }

    #[test]
    fn all_conditions_hold_and_any_value_of_each() {
        let mut inside = when("imap", "10.0.0.0/8");
        inside.services.push("pop3".into());
        assert!(inside.holds(&peer("pop3", "10.1.2.3", Transport::Plain)));
        assert!(!inside.holds(&peer("smtp", "10.1.2.3", Transport::Plain)));
        assert!(!inside.holds(&peer("imap", "11.1.2.3", Transport::Plain)));
        // Whose address is not known is in no network, not in every one.
        assert!(!inside.holds(&peer("imap", "", Transport::Plain)));
        assert!(When::default().holds(&peer("any", "", Transport::Plain)));
        let tls = When { transports: vec![Transport::Tls], ..When::default() };
        assert!(!tls.holds(&peer("imap", "", Transport::Local)));
    }

    #[test]
    fn the_first_that_says_something_decides() {
        let rule = |when, terms| Rule { name: "".into(), when, terms };
        let never = Terms { plaintext: Some(Plaintext::Never), ..Terms::default() };
        let no = Terms { allow: Some(false), plaintext: Some(Plaintext::Always), ..never.clone() };
        let staff = When { groups: vec!["staff".into()], ..When::default() };
        let policy = Policy {
            terms: Terms { code_in_password: Some(true), ..Terms::default() },
            rules: vec![
                rule(when("imap", "10.0.0.0/8"), never),
                rule(staff, Terms { allow: Some(true), ..Terms::default() }),
                rule(When { services: vec!["imap".into()], ..When::default() }, no),
            ],
        };
        let inside = policy.matching(&peer("imap", "10.0.0.1", Transport::Plain));
        assert_eq!(inside, 0b111);
        let settled = policy.settled(inside);
        assert_eq!(settled.plaintext, Some(Plaintext::Never));
        assert_eq!(settled.allow, Some(false), "nobody's groups are known yet");
        assert_eq!(settled.code_in_password, Some(true));
        let outside = policy.matching(&peer("imap", "192.0.2.1", Transport::Plain));
        assert_eq!(policy.settled(outside).plaintext, Some(Plaintext::Always));
        let elsewhere = policy.matching(&peer("smtp", "192.0.2.1", Transport::Plain));
        assert_eq!(policy.settled(elsewhere).allow, None);
    }

    #[test]
    fn wider_conditions_cover_narrower_ones() {
        let (wide, narrow) = (when("imap", "10.0.0.0/8"), when("imap", "10.1.0.0/16"));
        assert!(wide.covers(&narrow) && !narrow.covers(&wide));
        assert!(When::default().covers(&wide) && !wide.covers(&When::default()));
        assert!(!wide.covers(&when("smtp", "10.1.0.0/16")));
    }

    #[test]
    fn factors_are_shown_as_they_are_written() {
        let second = Factor { any_of: vec!["otp".into(), "passkey".into()], only_enrolled: true };
        assert_eq!(second.to_string(), "otp?|passkey?");
        assert_eq!(Factor::ANY.to_string(), "any");
        assert_eq!(Factor::of("password").to_string(), "password");
        for text in ["otp?|passkey?", "any", "password", "otp|publickey"] {
            assert_eq!(text.parse::<Factor>().unwrap().to_string(), text);
        }
        for text in ["", "?", "otp|", "otp|any", "otp?|passkey"] {
            assert!(text.parse::<Factor>().is_err(), "{text}");
        }
    }
}

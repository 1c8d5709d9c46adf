//! The words of the table, as they are written.

use std::fmt;

use countersign::{Factor, Order, Plaintext, Then, Transport};
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// One value, or a list.
#[derive(Debug)]
pub(super) struct OneOrMore<T>(pub(super) Vec<T>);

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
pub(super) enum TransportWord {
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
pub(super) enum PlaintextWord {
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
pub(super) enum OrderWord {
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
pub(super) enum ThenWord {
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
pub(super) struct AskedWord {
    pub(super) checker: String,
    pub(super) granted: Option<ThenWord>,
    pub(super) wrong: Option<ThenWord>,
    pub(super) unknown: Option<ThenWord>,
    pub(super) refused: Option<ThenWord>,
    pub(super) fault: Option<ThenWord>,
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
pub(super) struct FactorWord(pub(super) Factor);

impl<'de> Deserialize<'de> for FactorWord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = OneOrMore::<String>::deserialize(from)?;
        words.0.join("|").parse().map(Self).map_err(D::Error::custom)
    }
}

//! The types of this protocol in configuration files: as the text that they are read from.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::conf::TokenTime;
use super::{DriverName, Profile, UserName};

macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

as_text!(DriverName, UserName, Profile);

/// Seconds; 0 for none, -1 for no limit.
impl Serialize for TokenTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(match self {
            Self::Disabled => 0,
            Self::AtMost(seconds) => i64::from(*seconds),
            Self::Unlimited => -1,
        })
    }
}

impl<'de> Deserialize<'de> for TokenTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i64::deserialize(deserializer)? {
            -1 => Ok(Self::Unlimited),
            0 => Ok(Self::Disabled),
            seconds => u32::try_from(seconds).map(Self::AtMost).map_err(|_| {
                D::Error::custom(
                    "a number of seconds below 4294967296, 0 for no tokens, -1 for no limit",
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conf::DriverRules;
    use super::*;

    #[test]
    fn as_in_a_configuration() {
        assert_eq!(serde_json::from_str::<Profile>("\"6.8.1\"").unwrap(), Profile::V6_4);
        assert_eq!(serde_json::to_string(&Profile::V6_4).unwrap(), "\"6.4\"");
        let driver: DriverName = serde_json::from_str("\"ldap\"").unwrap();
        assert_eq!(serde_json::to_string(&driver).unwrap(), "\"ldap\"");
        let error = serde_json::from_str::<DriverName>("\"../x\"").unwrap_err().to_string();
        assert!(error.starts_with("'.' is not allowed in a name"), "{error}");
        assert!(serde_json::from_str::<UserName>("\"a b\"").is_err());
    }

    #[test]
    fn rules_of_a_driver() {
        let read = |text: &str| serde_json::from_str::<DriverRules>(text);
        assert_eq!(read("{}").unwrap(), DriverRules::default());
        let ldap = DriverRules::shipped(&"ldap".parse().unwrap()).unwrap();
        let text = serde_json::to_string(&ldap).unwrap();
        assert!(
            text.contains("\"managed_groups\":true") && text.contains("\"max_token_time\":86400")
        );
        assert_eq!(read(&text).unwrap(), ldap);
        for (number, time) in [("-1", TokenTime::Unlimited), ("0", TokenTime::Disabled)] {
            let rules = read(&format!("{{\"max_token_time\":{number}}}")).unwrap();
            assert_eq!(rules.max_token_time, time);
        }
        assert!(read("{\"max_token_time\":-2}").is_err());
        assert!(read("{\"managed_group\":true}").is_err(), "a name that nobody knows");
    }
}

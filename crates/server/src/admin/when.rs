//! Points in time as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in seconds since 1970, UTC. As text: RFC 3339, `2026-11-22T18:00:00Z`; read also from
/// a date alone, which means its beginning in UTC, and from a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct When(pub i64);

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(at.as_second()));
        }
        // Strictly a date: jiff would also take a date of a time without zone, and drop the time.
        let date = text.len() == "2026-11-22".len();
        if let (true, Ok(date)) = (date, text.parse::<jiff::civil::Date>())
            && let Ok(at) = date.to_zoned(jiff::tz::TimeZone::UTC)
        {
            return Ok(Self(at.timestamp().as_second()));
        }
        Err(format!("`{text}` is no point in time: write 2026-11-22 or 2026-11-22T18:00:00Z"))
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(at) => at.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Seconds(i64),
            Text(String),
        }
        let out_of_range = || serde::de::Error::custom("no such point in time");
        match Form::deserialize(from)? {
            Form::Seconds(at) => {
                jiff::Timestamp::from_second(at).map(|_| Self(at)).map_err(|_| out_of_range())
            }
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_seconds() {
        let at: When = "2026-11-22".parse().unwrap();
        assert_eq!(at.to_string(), "2026-11-22T00:00:00Z");
        let noon: When = "2026-11-22T13:00:00+01:00".parse().unwrap();
        assert_eq!(noon.0 - at.0, 12 * 3600);
        assert_eq!(serde_json::from_str::<When>("1795305600").unwrap().0, 1_795_305_600);
        assert_eq!(serde_json::to_string(&at).unwrap(), "\"2026-11-22T00:00:00Z\"");
        for wrong in ["", "tomorrow", "2026-13-01", "2026-11-22T18:00", "2026-11-22 18:00"] {
            assert!(wrong.parse::<When>().unwrap_err().contains("write 2026-11-22"), "{wrong}");
        }
        assert!(serde_json::from_str::<When>("9223372036854775807").is_err());
    }
}

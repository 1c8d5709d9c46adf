//! Who is slowed down, for administrators to see and to clear.

use countersign_store::ThrottleRow;
use serde::{Deserialize, Serialize};

use super::{Admin, AdminError, When};
use crate::throttle::{folded, source_of};

/// Failures that are held against a user, a source, or a user from a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleView {
    /// The name that was tried; `null`: whatever name.
    pub user: Option<String>,
    /// An address, or a network with its size; `null`: not known.
    pub source: Option<String>,
    /// How many wrong guesses count.
    pub failures: i64,
    /// Until when guesses are refused unseen; `null`: they are not.
    pub delayed_until: Option<When>,
    /// The last failure.
    pub last: When,
}

/// Which throttles: a page of them in byte order of user and source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleListing {
    /// Only those of this user.
    pub user: Option<String>,
    /// With `after_source`: only those after this pair, the last of the page before; empty: `null`.
    pub after_user: Option<String>,
    /// See `after_user`.
    pub after_source: Option<String>,
    /// At most so many; 1000 when left out, and at most.
    pub limit: Option<usize>,
}

/// Which throttles to clear: those of a user, a source, or a user from a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThrottleFilter {
    /// Those of this user.
    pub user: Option<String>,
    /// Those of this address or network.
    pub source: Option<String>,
    /// All, in the place of the other two.
    pub all: bool,
}

/// What clearing did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThrottlesCleared {
    /// How many there were in the store. What a node had not told it yet is forgotten as well.
    pub cleared: u64,
}

impl ThrottleFilter {
    /// The same with user and source as they are counted: whatever the capitals, and of IPv6 an address stands
    /// for its /64.
    ///
    /// # Errors
    /// [`AdminError`]: nothing is named, too much, or what is no address.
    pub fn checked(self) -> Result<Self, AdminError> {
        let named = self.user.is_some() || self.source.is_some();
        if named == self.all {
            let why = "name a user, a source or both, or else `all`";
            return Err(AdminError::invalid("all", why));
        }
        let user = self.user.as_deref().map(|user| folded(user).into_owned());
        let Some(text) = &self.source else { return Ok(Self { user, ..self }) };
        let source = source_of(text).ok_or_else(|| {
            let why =
                format!("`{text}` is no address or network such as 192.0.2.7 or 192.0.2.0/24");
            AdminError::invalid("source", why)
        })?;
        Ok(Self { user, source: Some(source), ..self })
    }
}

impl Admin {
    /// One page of the throttles, as all nodes have told the store: some seconds ago at most.
    ///
    /// # Errors
    /// What the store says.
    pub async fn throttles(
        &self,
        listing: ThrottleListing,
    ) -> Result<Vec<ThrottleView>, AdminError> {
        let ThrottleListing { user, after_user, after_source, limit } = listing;
        let limit = limit.unwrap_or(countersign_store::limits::PAGE);
        let after = match (&after_user, &after_source) {
            (None, None) => None,
            (user, source) => {
                Some((user.as_deref().unwrap_or_default(), source.as_deref().unwrap_or_default()))
            }
        };
        let rows = match &user {
            Some(user) => self.store.throttles_of(&folded(user), after, limit).await?,
            None => self.store.list_throttles(after, limit).await?,
        };
        let now = self.now();
        Ok(rows.into_iter().map(|row| ThrottleView::of(row, now)).collect())
    }

    /// Forgets failures, on every node.
    ///
    /// # Errors
    /// [`AdminError`]: the filter is none, or what the store says.
    pub async fn clear_throttles(
        &self,
        filter: ThrottleFilter,
    ) -> Result<ThrottlesCleared, AdminError> {
        let ThrottleFilter { user, source, .. } = filter.checked()?;
        let cleared = self.store.clear_throttles(user.as_deref(), source.as_deref()).await?;
        let detail = format!("{}: {cleared} cleared", source.as_deref().unwrap_or("every source"));
        self.record(user.as_deref().unwrap_or_default(), "throttles-clear", &detail).await;
        Ok(ThrottlesCleared { cleared })
    }
}

impl ThrottleView {
    fn of(row: ThrottleRow, now: i64) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        // The second in which it ends is still of the delay.
        let until = row.until_ms.div_euclid(1000) + i64::from(row.until_ms.rem_euclid(1000) > 0);
        Self {
            user: some(row.user),
            source: some(row.source),
            failures: row.failures,
            delayed_until: (until > now).then_some(When(until)),
            last: When(row.last_ms.div_euclid(1000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_must_be_named_and_not_too_much() {
        let filter = |user: Option<&str>, source: Option<&str>, all| {
            let (user, source) = (user.map(str::to_owned), source.map(str::to_owned));
            ThrottleFilter { user, source, all }.checked()
        };
        assert!(filter(None, None, false).is_err());
        assert!(filter(Some("ada"), None, true).is_err());
        assert!(filter(None, None, true).is_ok());
        assert_eq!(filter(Some("Ada"), None, false).unwrap().user.unwrap(), "ada");
        let source = |text| filter(None, Some(text), false).map(|filter| filter.source.unwrap());
        assert_eq!(source("192.0.2.7").unwrap(), "192.0.2.7");
        assert_eq!(source("::ffff:192.0.2.7").unwrap(), "192.0.2.7");
        assert_eq!(source("192.0.2.7/24").unwrap(), "192.0.2.0/24");
        assert_eq!(source("2001:db8:1:2::5").unwrap(), "2001:db8:1:2::/64");
        assert_eq!(source("2001:db8:1::/48").unwrap(), "2001:db8:1::/48");
        let error = source("example.org").unwrap_err().to_string();
        assert!(error.contains("no address"), "{error}");
    }

    #[test]
    fn a_delay_is_shown_while_it_lasts() {
        let row = |until_ms| ThrottleRow {
            user: "ada".into(),
            source: String::new(),
            failures: 5,
            until_ms,
            last_ms: 99_900,
        };
        let view = ThrottleView::of(row(101_500), 101);
        assert_eq!((view.delayed_until, view.last), (Some(When(102)), When(99)));
        assert_eq!((view.user.as_deref(), view.source), (Some("ada"), None));
        assert_eq!(ThrottleView::of(row(101_000), 101).delayed_until, None);
    }
}

//! Accounts in a database, and a copy of the busy ones in memory.
//!
//! A [`Store`] holds users with several credentials each, groups with administrators, labels, attributes,
//! login tokens, sessions and the recent audit, in one SQLite file. The schema and every statement above
//! `sql.rs` are written so that PostgreSQL takes them as they are.
//!
//! * Nothing is hashed or verified here: callers bring finished hash strings and hashes of tokens.
//! * Nothing here knows the time: callers say what `now` is, in unix seconds.
//! * Names are exact bytes: folding case is the caller's policy, see [`check_user_name`].
//! * A change is on the disk and out of the copy in memory before the call returns. A change by another
//!   process is seen at the next [`Store::refresh`] or [`Store::watch`].
//!
//! ```
//! use countersign::Secret;
//! use countersign_store::{CredentialType, NewAccount, NewCredential, OpenOptions, Store};
//!
//! # async fn example() -> Result<(), countersign_store::StoreError> {
//! let store = Store::open("accounts.db", OpenOptions::create()).await?;
//! let mut alice = NewAccount::new("alice");
//! let hash = Secret::from("$argon2id$v=19$m=19456,t=2,p=1$…");
//! alice.credentials.push(NewCredential::new(CredentialType::Password, hash));
//! store.add_account(&alice, 1_800_000_000).await?;
//!
//! let account = store.account("alice").await?.expect("just added");
//! assert!(account.enabled);
//! assert!(store.cached("alice").is_some(), "the second look needs no database");
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod accounts;
mod add;
mod audit;
mod beginnings;
mod cache;
mod change;
mod credentials;
mod error;
mod file;
mod groups;
mod location;
mod names;
mod records;
mod restore;
mod schema;
mod secrets;
mod sessions;
mod sql;
mod store;
mod throttles;
mod tokens;

pub use change::ADMINISTRATORS;
pub use error::StoreError;
pub use location::Location;
pub use names::{check_group_name, check_user_name, limits};
pub use records::{
    Account, AccountChange, AccountSummary, AccountUpdate, AuditEvent, AuditFilter, Changed,
    Changes, Credential, CredentialType, Group, GroupUpdate, Membership, NewAccount, NewCredential,
    NewToken, Page, SessionRecord, ThrottleRow, TokenRecord,
};
pub use restore::Restored;
pub use store::{OpenOptions, Store};

//! The first administrator of a new store.

use countersign::Secret;
use countersign_store::StoreError;

use super::{ADMINISTRATORS, Admin, AdminError, NewUser, password};
use crate::identity::GroupView;

/// The first administrator, just made. The password is told to one person, once, and never logged; it
/// must be changed at the first login.
#[derive(Debug)]
pub struct FirstAdministrator {
    /// Who.
    pub name: String,
    /// The one-time password.
    pub password: Secret,
}

impl Admin {
    /// On a store without any account: adds the user `admin`, in the group [`ADMINISTRATORS`], with a
    /// random password that must be changed at the first login. `None`: the store has accounts, or another
    /// server on the same store was quicker.
    ///
    /// # Errors
    /// What the store or the hasher says; there is then no new account.
    pub async fn ensure_first_administrator(
        &self,
    ) -> Result<Option<FirstAdministrator>, AdminError> {
        if self.store.count_accounts().await? > 0 {
            return Ok(None);
        }
        let name = "admin".to_owned();
        let password = password::one_time(&self.world);
        let new = NewUser {
            password: Some(password.clone()),
            groups: vec![GroupView { name: ADMINISTRATORS.to_owned(), admin: true }],
            create_groups: true,
            must_change: true,
            ..NewUser::named(name.as_str())
        };
        match self.add_user(new).await {
            Ok(_) => Ok(Some(FirstAdministrator { name, password })),
            Err(AdminError::Store(StoreError::Exists { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

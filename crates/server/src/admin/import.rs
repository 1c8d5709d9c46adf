//! Many users at once, from another system.

use countersign_store::{
    AccountUpdate, CredentialType, Group, NewAccount, Page, StoreError, limits,
};

use super::{Admin, AdminError};

/// What to do with users who are there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// They stay as they are, and are told as a mistake.
    #[default]
    Refuse,
    /// They stay as they are.
    Keep,
    /// Their password, attributes and groups become those that are imported; others stay. Nobody is
    /// enabled by an import.
    Update,
}

/// What became of an imported user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Is there now.
    Added,
    /// Was there, and has what was imported.
    Updated,
    /// Was there and stays as they are.
    Kept,
    /// Is not there, or not changed, for this reason.
    Refused(String),
}

impl Admin {
    /// Adds users with finished hashes, and gives what became of each, in their order. What can be added
    /// at once is added in one transaction.
    ///
    /// # Errors
    /// What the store says, if it is no one user's fault; of this call's users some may be there by then.
    pub async fn import(
        &self,
        accounts: &[NewAccount],
        existing: Existing,
    ) -> Result<Vec<Fate>, AdminError> {
        match self.store.add_accounts(accounts, self.now()).await {
            Ok(_) => return Ok(vec![Fate::Added; accounts.len()]),
            Err(error) if is_one_s_own(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let mut fates = Vec::with_capacity(accounts.len());
        for account in accounts {
            let fate = match self.store.add_account(account, self.now()).await {
                Ok(_) => Fate::Added,
                Err(StoreError::Exists { .. }) => match existing {
                    Existing::Keep => Fate::Kept,
                    Existing::Refuse => {
                        let why = "is there already; say --update or --skip";
                        Fate::Refused(why.to_owned())
                    }
                    Existing::Update => match self.bring_up_to(account).await {
                        Ok(()) => Fate::Updated,
                        Err(error) if is_one_s_own(&error) => Fate::Refused(error.to_string()),
                        Err(error) => return Err(error.into()),
                    },
                },
                Err(error) if is_one_s_own(&error) => Fate::Refused(error.to_string()),
                Err(error) => return Err(error.into()),
            };
            fates.push(fate);
        }
        Ok(fates)
    }

    /// The names of those that are there, for a look before an import.
    ///
    /// # Errors
    /// What the store says.
    pub async fn which_exist(&self, accounts: &[NewAccount]) -> Result<Vec<bool>, AdminError> {
        let mut there = Vec::with_capacity(accounts.len());
        for account in accounts {
            there.push(self.store.read_account(&account.name).await?.is_some());
        }
        Ok(there)
    }

    /// Makes sure that groups are there; gives the names of those that were not. A group that is there
    /// keeps its number, and is given one if it had none.
    ///
    /// # Errors
    /// A name that breaks a rule, a number that is another group's.
    pub async fn import_groups(&self, groups: &[Group]) -> Result<Vec<String>, AdminError> {
        let mut made = Vec::new();
        for group in groups {
            match self.store.group(&group.name).await? {
                None => {
                    self.store.add_group(group).await?;
                    made.push(group.name.clone());
                }
                Some(there) if there.gid.is_none() && group.gid.is_some() => {
                    let description = there.description;
                    let group = Group { description, ..group.clone() };
                    self.store.update_group(&group).await?;
                }
                Some(_) => {}
            }
        }
        Ok(made)
    }

    /// The names of groups by their numbers, as the store has them.
    ///
    /// # Errors
    /// What the store says.
    pub async fn numbered_groups(&self) -> Result<Vec<(u32, String)>, AdminError> {
        let mut page = Page { limit: limits::PAGE, ..Page::default() };
        let mut numbered = Vec::new();
        loop {
            let groups = self.store.groups(&page).await?;
            let Some(last) = groups.last() else { return Ok(numbered) };
            page.after = Some(last.name.clone());
            numbered.extend(groups.into_iter().filter_map(|group| Some((group.gid?, group.name))));
        }
    }

    /// Enters into the record what was done with the store as a whole: `import`, `backup`, `restore`.
    pub async fn record_of_store(&self, act: &str, detail: &str) {
        self.record("", act, detail).await;
    }

    async fn bring_up_to(&self, new: &NewAccount) -> Result<(), StoreError> {
        let name = new.name.as_str();
        let password = new.credentials.iter().find(|c| c.kind == CredentialType::Password);
        if let Some(password) = password {
            self.store.set_password(name, &password.data, new.must_change, self.now()).await?;
        }
        for (attribute, values) in &new.attributes {
            self.store.set_attribute(name, attribute, values).await?;
        }
        for (group, admin) in &new.groups {
            self.store.add_member(group, name, *admin).await?;
        }
        if !new.enabled || new.expires.is_some() {
            let enabled = (!new.enabled).then_some(false);
            let expires = new.expires.map(Some);
            let update = AccountUpdate { enabled, expires, ..AccountUpdate::default() };
            self.store.update_account(name, &update).await?;
        }
        // Whoever has a session has it by what was before.
        self.store.end_sessions_of(name).await?;
        Ok(())
    }
}

/// Whether an error is about one account, and not about the store.
fn is_one_s_own(error: &StoreError) -> bool {
    use StoreError::{Exists, Invalid, NotFound, TooMany};
    matches!(error, Exists { .. } | Invalid { .. } | NotFound { .. } | TooMany { .. })
}

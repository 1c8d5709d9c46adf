//! Administration: the one implementation behind the command line and the administrator's HTTP API.
//!
//! Both fill in the same requests ([`NewUser`], [`UserChange`]), which are checked here and nowhere else,
//! and show the same views ([`UserView`]). What was done is in the recent audit, with who did it
//! ([`Admin::by`]). A running server that shares the store notices within a second, or at once when it is
//! told through its control socket.

mod error;
mod factors;
mod first;
mod import;
mod own;
mod password;
mod requests;
mod throttles;
mod tokens;
mod views;
mod when;

use std::sync::Arc;

use countersign::{Secret, World};
use countersign_checkers::accounts::KeptKeys;
use countersign_checkers::hash::Recipe;
use countersign_checkers::pool::HashPool;
use countersign_checkers::userpool::PoolRules;
use countersign_store::{
    Account, AccountChange, AccountUpdate, AuditEvent, AuditFilter, Changes, CredentialType, Group,
    NewAccount, NewCredential, Page, Store, StoreError, check_group_name, check_user_name,
};

pub use error::{AdminError, AdminErrorKind};
pub use factors::{FactorAct, FactorView, FactorsRemoved};
pub use first::FirstAdministrator;
pub use import::{Existing, Fate};
pub use own::{Own, OwnError};
pub use password::check_new_password;
pub use requests::{AuditQuery, Listing, NewGroup, NewPassword, NewUser, UserChange};
pub use throttles::{ThrottleFilter, ThrottleListing, ThrottleView, ThrottlesCleared};
pub use tokens::TokenView;
pub use views::{AuditView, CredentialView, Done, GroupRecord, MemberView, UserLine, UserView};
pub use when::When;

use crate::audit::{Act, Audit};
use crate::identity::GroupView;
use crate::world::SystemWorld;

/// The group whose members may administer through the HTTP API.
pub use countersign_store::ADMINISTRATORS;

/// An administrator at work on a store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin {
    store: Store,
    hasher: Arc<HashPool>,
    recipe: Recipe,
    kept_keys: KeptKeys,
    world: SystemWorld,
    actor: Arc<str>,
    audit: Audit,
    rules: Option<Arc<PoolRules>>,
}

impl Admin {
    /// Somebody at work on this store; new passwords are hashed by `hasher` as `recipe` says.
    pub fn new(store: Store, hasher: Arc<HashPool>, recipe: Recipe, world: SystemWorld) -> Self {
        let (kept_keys, actor, audit) = (KeptKeys::default(), "server".into(), Audit::off());
        Self { store, hasher, recipe, kept_keys, world, actor, audit, rules: None }
    }

    /// The same, keeping keys for SCRAM of the passwords that it sets.
    #[must_use]
    pub fn keeping(self, kept_keys: KeptKeys) -> Self {
        Self { kept_keys, ..self }
    }

    /// The same, under the rules of a user pool: groups that a driver manages are not changed by hand, and users
    /// change their password where their driver's rules let them.
    #[must_use]
    pub fn under(self, rules: Option<PoolRules>) -> Self {
        Self { rules: rules.map(Arc::new), ..self }
    }

    /// The same, with every act in this record.
    #[must_use]
    pub fn recorded_in(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// The same, on behalf of somebody: a name for the audit, such as `cli uid 1000` or `http alice`.
    #[must_use]
    pub fn by(&self, actor: impl Into<Arc<str>>) -> Self {
        Self { actor: actor.into(), ..self.clone() }
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`AdminError`]: a rule is broken, the name is taken, a group is missing; nothing was added.
    pub async fn add_user(&self, new: NewUser) -> Result<Done, AdminError> {
        let NewUser { name, password, groups, create_groups, labels, attributes, .. } = new;
        check_name(&name)?;
        check_groups(&groups)?;
        if let Some(password) = &password {
            check_new_password(&name, password)?;
        }
        if self.store.read_account(&name).await?.is_some() {
            return Err(StoreError::Exists { what: "user", name }.into());
        }
        let mut account = NewAccount::new(name.as_str());
        account.enabled = new.enabled;
        account.expires = new.expires.map(|at| at.0);
        account.must_change = new.must_change;
        account.labels = labels;
        account.attributes = attributes;
        account.groups = groups.iter().map(|g| (g.name.clone(), g.admin)).collect();
        if let Some(password) = password {
            let hash = self.hash(&name, password.clone()).await?;
            account.credentials.push(NewCredential::new(CredentialType::Password, hash));
            account.credentials.extend(self.kept_keys.make(password, &self.world).await);
        }
        let accounts = std::slice::from_ref(&account);
        let done = match create_groups {
            true => self.store.add_accounts_and_groups(accounts, self.now()).await?,
            false => {
                self.store.add_account(&account, self.now()).await?;
                Changes::default()
            }
        };
        self.record(&name, "user-add", &told(&account)).await;
        Ok(done.into())
    }

    /// Changes a user: all of it or nothing.
    ///
    /// # Errors
    /// [`AdminError`]: the user, a group, a membership or a label is missing; a rule is broken; nobody
    /// would be left to administer.
    pub async fn change_user(&self, name: &str, change: UserChange) -> Result<Done, AdminError> {
        check_groups(&change.groups)?;
        let account = self.store.read_account(name).await?.ok_or_else(|| no_user(name))?;
        self.may_change_groups(&account, &change)?;
        // What can be known to fail is refused before anything is changed.
        for group in &change.remove_groups {
            if !account.groups.iter().any(|member| member.group == *group) {
                let why = format!("`{name}` is not in the group `{group}`");
                return Err(AdminError::invalid("remove_groups", why));
            }
        }
        for label in &change.remove_labels {
            if !account.labels.contains(label) {
                let why = format!("`{name}` does not have the label `{label}`");
                return Err(AdminError::invalid("remove_labels", why));
            }
        }
        let &UserChange { enabled, expires, must_change, create_groups, .. } = &change;
        let expires = expires.map(|expires| expires.map(|at| at.0));
        let wanted = AccountChange {
            fields: AccountUpdate { enabled, expires, must_change, driver: change.driver.clone() },
            groups: change.groups.iter().map(|g| (g.name.clone(), g.admin)).collect(),
            create_groups,
            remove_groups: change.remove_groups.clone(),
            labels: change.labels.clone(),
            remove_labels: change.remove_labels.clone(),
            attributes: change.attributes.clone(),
            ..AccountChange::default()
        };
        let done = self.store.change_account(name, &wanted, self.now()).await?;
        self.record(name, "user-set", &changed(&change)).await;
        Ok(done.into())
    }

    /// Whoever administers is nobody's to say but administrators', unless the pool says so.
    fn may_change_groups(&self, account: &Account, change: &UserChange) -> Result<(), AdminError> {
        let (Some(rules), Some(driver)) = (&self.rules, account.driven_by()) else { return Ok(()) };
        let named = change.groups.iter().map(|group| &group.name).chain(&change.remove_groups);
        let mut managed = named.filter(|name| rules.administrators || *name != ADMINISTRATORS);
        match rules.of(Some(driver)).managed_groups && managed.next().is_some() {
            true => {
                let why = format!("the driver `{driver}` manages the groups of `{}`", account.name);
                Err(AdminError::invalid("groups", why))
            }
            false => Ok(()),
        }
    }

    /// Whether the user may change the own password. Administrators always may.
    fn may_change_password(&self, account: &Account) -> Result<(), AdminError> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let administers = account.groups.iter().any(|member| member.group == ADMINISTRATORS);
        if administers || rules.of(account.driver.as_deref()).password_change {
            return Ok(());
        }
        let driver = account.driver.as_deref().unwrap_or(Account::CORE);
        let why = format!("passwords of the driver `{driver}` are not changed by their users");
        Err(AdminError::invalid("password", why))
    }

    /// Removes a user, with everything that belongs to them and their sessions.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user.
    pub async fn remove_user(&self, name: &str) -> Result<(), AdminError> {
        self.store.remove_account(name, self.now()).await?;
        self.record(name, "user-remove", "").await;
        Ok(())
    }

    /// Sets a user's password and ends their sessions: whoever sets a password for somebody may be
    /// shutting a thief out.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user, or a rule is broken; the old password stays.
    pub async fn set_password(&self, name: &str, new: NewPassword) -> Result<Done, AdminError> {
        if self.store.read_account(name).await?.is_none() {
            return Err(no_user(name));
        }
        check_new_password(name, &new.password)?;
        let hash = self.hash(name, new.password.clone()).await?;
        let must_change = Some(new.must_change);
        let wanted = AccountChange {
            fields: AccountUpdate { must_change, ..AccountUpdate::default() },
            password: Some(hash.clone()),
            ..AccountChange::default()
        };
        let done = self.store.change_account(name, &wanted, self.now()).await?;
        self.keep_keys(name, &hash, new.password).await;
        self.record(name, "password-set", "").await;
        Ok(done.into())
    }

    /// A user, as the store has them at this moment.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such user.
    pub async fn user(&self, name: &str) -> Result<UserView, AdminError> {
        let account = self.store.read_account(name).await?.ok_or_else(|| no_user(name))?;
        Ok(UserView::from(&account))
    }

    /// One page of the users.
    ///
    /// # Errors
    /// What the store says.
    pub async fn users(&self, listing: &Listing) -> Result<Vec<UserLine>, AdminError> {
        let page = page(listing);
        Ok(self.store.accounts(&page).await?.into_iter().map(UserLine::from).collect())
    }

    /// Adds a group.
    ///
    /// # Errors
    /// [`AdminError`]: the name or number is taken, or a rule is broken.
    pub async fn add_group(&self, new: NewGroup) -> Result<(), AdminError> {
        let NewGroup { name, gid, description } = new;
        check_group(&name)?;
        self.store.add_group(&Group { name: name.clone(), gid, description }).await?;
        self.record("", "group-add", &format!("group {name}")).await;
        Ok(())
    }

    /// Sets a group's number and description.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such group, the number is taken, or a rule is broken.
    pub async fn change_group(&self, group: NewGroup) -> Result<(), AdminError> {
        let NewGroup { name, gid, description } = group;
        self.store.update_group(&Group { name: name.clone(), gid, description }).await?;
        self.record("", "group-set", &format!("group {name}")).await;
        Ok(())
    }

    /// Removes a group and the memberships in it.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such group.
    pub async fn remove_group(&self, name: &str) -> Result<(), AdminError> {
        self.store.remove_group(name).await?;
        self.record("", "group-remove", &format!("group {name}")).await;
        Ok(())
    }

    /// One page of the groups.
    ///
    /// # Errors
    /// What the store says.
    pub async fn groups(&self, listing: &Listing) -> Result<Vec<GroupRecord>, AdminError> {
        let page = page(listing);
        Ok(self.store.groups(&page).await?.into_iter().map(GroupRecord::from).collect())
    }

    /// A group.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such group.
    pub async fn group(&self, name: &str) -> Result<GroupRecord, AdminError> {
        let group = self.store.group(name).await?;
        group.map(GroupRecord::from).ok_or_else(|| no_group(name))
    }

    /// One page of a group's members.
    ///
    /// # Errors
    /// [`AdminError`]: there is no such group.
    pub async fn members(
        &self,
        group: &str,
        listing: &Listing,
    ) -> Result<Vec<MemberView>, AdminError> {
        self.group(group).await?;
        let members = self.store.members(group, &page(listing)).await?;
        Ok(members.into_iter().map(|(name, admin)| MemberView { name, admin }).collect())
    }

    /// Recent audit events, newest first. The whole record is the audit file.
    ///
    /// # Errors
    /// [`AdminError`]: the outcome is none that there is.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditView>, AdminError> {
        let AuditQuery { user, since, outcome, before, limit } = query;
        const OUTCOMES: [&str; 4] = ["granted", "denied", "fault", CHANGED];
        if let Some(outcome) = &outcome
            && !OUTCOMES.contains(&&**outcome)
        {
            let why = format!("`{outcome}` is none of {}", OUTCOMES.join(", "));
            return Err(AdminError::invalid("outcome", why));
        }
        let since = since.map(|at| at.0);
        let filter = AuditFilter { user, since, outcome, after: None, before, limit };
        Ok(self.store.audit(&filter).await?.into_iter().map(AuditView::from).collect())
    }

    /// Keeps keys of a password that has just been set. Without them its user logs in by password once, which
    /// makes them.
    async fn keep_keys(&self, user: &str, hash: &Secret, password: Secret) {
        let kept = self.kept_keys.keep(&self.store, user, hash, password, &self.world).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "cannot keep keys for SCRAM");
        }
    }

    async fn hash(&self, user: &str, password: Secret) -> Result<Secret, AdminError> {
        let mut salt = [0; 16];
        self.world.fill(&mut salt);
        let hash = self.hasher.create(self.recipe, password, salt, user).await?;
        Ok(Secret::from(hash.expose_text()))
    }

    /// Enters an act into the record, and into its recent part in the store. The act is done by now: that
    /// it could not be recorded is for the log, not a failure of the act.
    /// Records that somebody was told something, before it is done.
    pub async fn told(&self, whom: &str, text: &str) {
        self.record(whom, "notice", text).await;
    }

    async fn record(&self, user: &str, act: &str, detail: &str) {
        let line = Act { actor: &self.actor, act, target: user, detail };
        if let Err(fault) = self.audit.act(&line) {
            tracing::error!(%fault, act, user, "an administrator's act is in no record");
        }
        let event = AuditEvent {
            at: self.now(),
            claimed: user.to_owned(),
            service: "admin".to_owned(),
            peer: self.actor.to_string(),
            outcome: CHANGED.to_owned(),
            reason: act.to_owned(),
            detail: detail.to_owned(),
            ..AuditEvent::default()
        };
        // How many are kept is the server's affair.
        if let Err(error) = self.store.record_audit(&[event], usize::MAX).await {
            tracing::warn!(%error, act, user, "an administrator's act is not in the recent audit");
        }
    }

    fn now(&self) -> i64 {
        self.world.now().unix
    }
}

/// The outcome of an administrator's act in the audit.
const CHANGED: &str = "changed";

fn page(listing: &Listing) -> Page {
    let Listing { prefix, after, limit } = listing.clone();
    let limit = limit.unwrap_or(countersign_store::limits::PAGE);
    Page { prefix, after, limit }
}

fn check_name(name: &str) -> Result<(), AdminError> {
    check_user_name(name).map_err(|error| field("name", error))
}

fn check_group(name: &str) -> Result<(), AdminError> {
    check_group_name(name).map_err(|error| field("groups", error))
}

fn check_groups(groups: &[GroupView]) -> Result<(), AdminError> {
    for (index, group) in groups.iter().enumerate() {
        check_group(&group.name)?;
        if groups[..index].iter().any(|earlier| earlier.name == group.name) {
            let why = format!("`{}` is named twice; name it once", group.name);
            return Err(AdminError::invalid("groups", why));
        }
    }
    Ok(())
}

fn field(field: &'static str, error: StoreError) -> AdminError {
    match error {
        StoreError::Invalid { what, why } => AdminError::invalid(field, format!("{what} {why}")),
        other => other.into(),
    }
}

fn no_user(name: &str) -> AdminError {
    StoreError::NotFound { what: "user", name: name.to_owned() }.into()
}

fn no_group(name: &str) -> AdminError {
    StoreError::NotFound { what: "group", name: name.to_owned() }.into()
}

/// A new account, for the record.
fn told(account: &NewAccount) -> String {
    let mut parts = Vec::new();
    for (group, admin) in &account.groups {
        parts.push(format!("{} {group}", if *admin { "administrator of" } else { "in" }));
    }
    parts.extend(account.labels.iter().map(|label| format!("label {label}")));
    if account.credentials.is_empty() {
        parts.push("no password".to_owned());
    }
    parts.join(", ")
}

/// A change, for the record: which fields, and their new values where they decide about access.
fn changed(change: &UserChange) -> String {
    let mut parts = Vec::new();
    if let Some(enabled) = change.enabled {
        parts.push(if enabled { "enabled".to_owned() } else { "disabled".to_owned() });
    }
    match change.expires {
        Some(Some(at)) => parts.push(format!("expires {at}")),
        Some(None) => parts.push("expires never".to_owned()),
        None => {}
    }
    if let Some(must_change) = change.must_change {
        parts.push(format!("must change: {must_change}"));
    }
    match &change.driver {
        Some(Some(driver)) => parts.push(format!("driver {driver}")),
        Some(None) => parts.push("no driver".to_owned()),
        None => {}
    }
    for group in &change.groups {
        let place = if group.admin { "administrator of" } else { "in" };
        parts.push(format!("{place} {}", group.name));
    }
    parts.extend(change.remove_groups.iter().map(|group| format!("out of {group}")));
    parts.extend(change.labels.iter().map(|label| format!("label {label}")));
    parts.extend(change.remove_labels.iter().map(|label| format!("no label {label}")));
    parts.extend(change.attributes.keys().map(|name| format!("attribute {name}")));
    parts.join(", ")
}

#[cfg(test)]
mod tests;

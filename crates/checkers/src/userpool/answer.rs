//! What whoever verified a login says of its account, and what becomes of that.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign::{Denial, Fault, Identity, Reason, Secret};
use countersign_store::{
    ADMINISTRATORS, Account, AccountChange, NewAccount, NewCredential, StoreError,
};
use countersign_wire::one::conf::DriverRules;
use countersign_wire::one::{GroupEntry, Reply};

use super::{Shared, driver_credential};
use crate::accounts::store_fault;

/// The attribute that names an account's first group.
pub const PRIMARY_GROUP: &str = "primary-group";
/// How often an account is looked at anew because somebody else changed it meanwhile.
const LOOKS: usize = 3;

/// What is said of an account.
pub(super) struct Said {
    /// The name that it is to have.
    pub(super) name: String,
    /// The driver that it is to have.
    pub(super) driver: String,
    /// What is to be stored.
    pub(super) stored: Option<Secret>,
    /// Its groups, the first one first.
    pub(super) groups: Groups,
    /// What else a checker knows of whom it let in.
    pub(super) identity: Option<Arc<Identity>>,
}

/// Groups as they are said.
pub(super) enum Groups {
    /// By number: each must be there.
    Numbers(Vec<GroupEntry>),
    /// By name: those that are there count.
    Names(Vec<(String, bool)>),
}

impl From<&Reply> for Said {
    fn from(reply: &Reply) -> Self {
        Self {
            name: reply.user().as_str().to_owned(),
            driver: reply.driver().as_str().to_owned(),
            stored: Some(reply.stored().clone()),
            groups: Groups::Numbers(reply.groups().to_vec()),
            identity: None,
        }
    }
}

impl Said {
    /// What a checker says by whom it lets in. Nothing of nobody in particular.
    pub(super) fn by(identity: &Arc<Identity>, driver: &str) -> Option<Self> {
        let groups = identity.groups.iter().map(|(name, admin)| (name.clone(), *admin)).collect();
        Some(Self {
            name: identity.subject.name()?.to_owned(),
            driver: driver.to_owned(),
            stored: None,
            groups: Groups::Names(groups),
            identity: Some(Arc::clone(identity)),
        })
    }
}

/// Groups of the store, each with the admin mark, the first one first.
type Known = Vec<(String, bool)>;

impl Shared {
    /// The groups of the store that are said.
    pub(super) async fn known(
        &self,
        groups: &Groups,
        rules: &DriverRules,
    ) -> Result<Result<Known, Denial>, Fault> {
        let mut known = Known::new();
        let refused = |why: String| Ok(Err(Denial::new(Reason::NotAllowed).because(why)));
        match groups {
            Groups::Numbers(entries) => {
                for GroupEntry { group, admin } in entries {
                    let gid = group.number();
                    let found = self.store.group_by_gid(gid).await.map_err(store_fault)?;
                    let Some(found) = found else {
                        return refused(format!(
                            "the driver's answer has the group {gid}, which is none"
                        ));
                    };
                    if (gid == 0 || found.name == ADMINISTRATORS) && !self.rules.administrators {
                        let why = "the driver's answer makes an administrator, which needs \
                                   `administrators = true`";
                        return refused(why.to_owned());
                    }
                    known.push((found.name, *admin && rules.managed_group_admin));
                }
            }
            Groups::Names(names) => {
                for (name, admin) in names {
                    let allowed = self.rules.administrators || name != ADMINISTRATORS;
                    let there = self.store.group(name).await.map_err(store_fault)?.is_some();
                    if allowed && there {
                        known.push((name.clone(), *admin && rules.managed_group_admin));
                    }
                }
            }
        }
        if known.is_empty()
            && let Some(default) = &self.rules.default_group
        {
            if self.store.group(default).await.map_err(store_fault)?.is_none() {
                return Err(Fault::internal(format!(
                    "there is no group `{default}` (default_group)"
                )));
            }
            known.push((default.clone(), false));
        }
        Ok(Ok(known))
    }

    /// The account of a user who had none: a new one, or that which another login has just made of the same name.
    pub(super) async fn created(
        &self,
        login: &str,
        said: &Said,
        rules: &DriverRules,
        now: i64,
    ) -> Result<Result<Arc<Account>, Denial>, Fault> {
        let known = match self.known(&said.groups, rules).await? {
            Ok(known) => known,
            Err(denial) => return Ok(Err(denial)),
        };
        let mut new = NewAccount::new(said.name.as_str());
        new.driver = Some(said.driver.clone());
        if let Some(stored) = &said.stored {
            new.credentials.push(NewCredential::new(driver_credential(), stored.clone()));
        }
        if let Some((first, _)) = known.first() {
            new.attributes.insert(PRIMARY_GROUP.to_owned(), vec![first.clone()]);
        }
        new.groups = known;
        let refused = |why: String| Ok(Err(Denial::new(Reason::NotAllowed).because(why)));
        match self.store.add_account(&new, now).await {
            Ok(_) => {
                tracing::info!(
                    account = said.name,
                    driver = said.driver,
                    "a login made an account"
                );
            }
            // Of two at once, one makes it. An answer that names anybody else's would let anybody in as anybody.
            Err(StoreError::Exists { .. }) if login.to_lowercase() == said.name.to_lowercase() => {}
            Err(StoreError::Exists { .. }) => {
                return refused(format!("the answer is of `{}`, who is somebody else", said.name));
            }
            Err(error @ (StoreError::Invalid { .. } | StoreError::TooMany { .. })) => {
                return refused(format!("no account can be made of the answer: {error}"));
            }
            Err(error @ StoreError::NotFound { .. }) => {
                return refused(format!("no account can be made of the answer: {error}"));
            }
            Err(error) => return Err(store_fault(error)),
        }
        let Some(account) = self.store.account(&said.name).await.map_err(store_fault)? else {
            return refused("the account that was made is gone".to_owned());
        };
        Ok(Ok(account))
    }

    /// The account with the groups that its driver says: those that it does not say are left, those that it says
    /// are joined. The first group stays the first while it is one of them.
    pub(super) async fn synchronised(
        &self,
        mut account: Arc<Account>,
        said: &Groups,
        rules: &DriverRules,
        now: i64,
    ) -> Result<Result<Arc<Account>, Denial>, Fault> {
        if matches!(said, Groups::Numbers(numbers) if numbers.is_empty()) {
            // It says nothing of groups.
            return Ok(Ok(account));
        }
        let known = match self.known(said, rules).await? {
            Ok(known) => known,
            Err(denial) => return Ok(Err(denial)),
        };
        for _ in 0..LOOKS {
            let Some(change) = self.difference(&account, &known, rules) else {
                return Ok(Ok(account));
            };
            let name = &account.name;
            match self.store.change_account(name, &change, now).await {
                Ok(_) => {}
                // Another login of the same user was quicker, or somebody else.
                Err(StoreError::NotFound { .. }) => {}
                Err(error @ (StoreError::LastAdministrator | StoreError::TooMany { .. })) => {
                    let why = format!("the groups that the driver says: {error}");
                    return Ok(Err(Denial::new(Reason::NotAllowed).because(why)));
                }
                Err(error) => return Err(store_fault(error)),
            }
            let now_there = self.store.read_account(name).await.map_err(store_fault)?;
            let Some(there) = now_there.filter(|there| there.id == account.id) else {
                let denial = Denial::new(Reason::WrongCredential);
                return Ok(Err(denial.because("the account was removed during this login")));
            };
            account = Arc::new(there);
        }
        match self.difference(&account, &known, rules) {
            None => Ok(Ok(account)),
            Some(_) => Err(Fault::unavailable("the groups of an account change all the time")),
        }
    }

    /// What is to change for an account to be in these groups and no others.
    fn difference(
        &self,
        account: &Account,
        known: &Known,
        rules: &DriverRules,
    ) -> Option<AccountChange> {
        // Who administers is nobody else's to say, nor to unsay.
        let managed = |group: &str| self.rules.administrators || group != ADMINISTRATORS;
        let mut change = AccountChange::default();
        for (group, admin) in known {
            let member = account.groups.iter().find(|member| member.group == *group);
            let same = match member {
                Some(member) => member.admin == *admin || !rules.managed_group_admin,
                None => false,
            };
            if !same {
                change.groups.push((group.clone(), *admin));
            }
        }
        let wanted: BTreeSet<&str> = known.iter().map(|(group, _)| group.as_str()).collect();
        let leaves = account.groups.iter().map(|member| &member.group);
        let leaves = leaves.filter(|group| managed(group) && !wanted.contains(group.as_str()));
        change.remove_groups = leaves.cloned().collect();
        let first = account.attributes.get(PRIMARY_GROUP).and_then(|values| values.first());
        let stays = first.is_some_and(|first| wanted.contains(first.as_str()));
        if !stays {
            let next: Vec<_> = known.first().map(|(group, _)| group.clone()).into_iter().collect();
            if next.first() != first {
                change.attributes.insert(PRIMARY_GROUP.to_owned(), next);
            }
        }
        (change != AccountChange::default()).then_some(change)
    }
}

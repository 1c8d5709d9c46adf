//! `unix`: the users of passwd(5) and shadow(5).

mod account;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::{
    Denial, Directory, Fault, Identity, Password, PasswordStore, Reason, Secret, Verdict, Verified,
    World,
};

use crate::file::commonest_of;
use crate::hash::{Accept, Cost, Hash};
use crate::pool::{HashPool, Match};
use crate::watched::Watched;
use account::{Aging, Field, User, lines};

/// A day in seconds.
const DAY_S: i64 = 24 * 60 * 60;

/// The users of a machine, from `passwd`, `shadow` and `group` in one folder. Each is read again when it
/// changes. Users that come from elsewhere (NSS) are not known.
///
/// Locked, expired and aged accounts are treated as shadow(5) says; a password that is too old is refused with
/// "change needed". A login shell says nothing here: that is the service's business.
pub struct Unix {
    passwd: Watched<HashMap<Box<str>, User>>,
    shadow: Watched<Shadow>,
    group: Option<Watched<Groups>>,
    pool: Arc<HashPool>,
    world: Arc<dyn World>,
}

struct Shadow {
    users: HashMap<Box<str>, (Field, Aging)>,
    /// What an unknown user's password is compared with.
    decoy: Option<Hash>,
}

#[derive(Default)]
struct Groups {
    by_number: BTreeMap<u32, Box<str>>,
    of_user: HashMap<Box<str>, Vec<Box<str>>>,
}

impl Unix {
    /// Reads the files of a folder (`/etc`). Blocks; later readings happen beside the runtime.
    ///
    /// # Errors
    ///
    /// A fault that names the file that cannot be read: `shadow` can only be by root and its group.
    pub fn open(folder: &Path, pool: Arc<HashPool>, world: Arc<dyn World>) -> Result<Self, Fault> {
        let passwd = Watched::open("users' file", folder.join("passwd"), |path, data| {
            lines(path, data, User::read)
                .into_iter()
                .map(|(name, (user, _))| (name, user))
                .collect()
        })?;
        let shadow = Self::shadow(folder.join("shadow"))?;
        let group = folder.join("group");
        // A folder without groups is one whose users are in none.
        let group = match group.exists() {
            true => Some(Watched::open("groups' file", group, |_, data| Groups::read(data))?),
            false => None,
        };
        Ok(Self { passwd, shadow, group, pool, world })
    }

    fn shadow(path: PathBuf) -> Result<Watched<Shadow>, Fault> {
        if let Err(error) = std::fs::File::open(&path)
            && let Some(fault) = forbidden(&path, &error)
        {
            return Err(fault);
        }
        Watched::open("shadow file", path, |path, data| {
            let users = lines(path, data, account::shadow);
            let hashes = users.values().filter_map(|((field, _), line)| match field {
                Field::Hash(hash) => Some((*line, hash.scheme(), hash)),
                _ => None,
            });
            let decoy = commonest_of(hashes).cloned();
            let users = users.into_iter().map(|(name, (entry, _))| (name, entry)).collect();
            Shadow { users, decoy }
        })
    }

    /// The checker of that name over these users.
    pub fn checker(self, name: impl Into<String>) -> Password<Self> {
        Password::new(name, self)
    }

    async fn identity(&self, login: &str, user: &User) -> Result<Identity, Fault> {
        let mut identity = Identity::named(login);
        for (name, value) in user.attributes() {
            if !value.is_empty() {
                identity = identity.with(name, value);
            }
        }
        if let Some(group) = &self.group {
            let groups = group.current().await?;
            let first = user.gid().and_then(|gid| groups.by_number.get(&gid));
            let more = groups.of_user.get(login).into_iter().flatten();
            for group in first.into_iter().chain(more) {
                identity = identity.in_group(&**group, false);
            }
        }
        Ok(identity)
    }

    async fn verify(&self, hash: &Hash, login: &str, password: &Secret) -> Result<bool, Fault> {
        if hash.cost() == Cost::Cheap {
            return Ok(hash.verify(password));
        }
        let verified = self.pool.verify(hash, password, login).await;
        verified.map(Match::is_right).map_err(|error| {
            error.fault(format!("verifying a password of {}", self.shadow.path().display()))
        })
    }

    async fn vouch(&self, login: &str, user: &User, aging: &Aging) -> Result<Verdict, Fault> {
        Ok(match aging.refusal(self.world.now().unix.div_euclid(DAY_S)) {
            Some(denial) => Verdict::Not(denial),
            None => Verdict::Is(Verified::vouch(self.identity(login, user).await?)),
        })
    }
}

impl PasswordStore for Unix {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        let (passwd, shadow) = (self.passwd.current().await?, self.shadow.current().await?);
        let Some(user) = passwd.get(login) else { return Ok(Verdict::UNKNOWN) };
        let (field, aging) = match (&user.password, shadow.users.get(login)) {
            (Field::Shadowed, Some((field, aging))) => (field, aging),
            (Field::Shadowed, None) => {
                (&Field::Locked("it has no line in the shadow file"), &Aging::NONE)
            }
            // As before shadow files: the hash is in passwd.
            (field, aging) => (field, aging.map_or(&Aging::NONE, |(_, aging)| aging)),
        };
        match field {
            Field::Hash(hash) if self.verify(hash, login, password).await? => {
                self.vouch(login, user, aging).await
            }
            Field::Hash(_) => Ok(Verdict::WRONG),
            Field::Locked(why) | Field::Unusable(why) => {
                self.spend(login, password).await?;
                Ok(Verdict::Not(Denial::new(Reason::Disabled).because(*why)))
            }
            Field::Shadowed => {
                self.spend(login, password).await?;
                let why = "its line in the shadow file points to the shadow file";
                Ok(Verdict::Not(Denial::new(Reason::Disabled).because(why)))
            }
        }
    }

    async fn spend(&self, login: &str, password: &Secret) -> Result<(), Fault> {
        let shadow = self.shadow.current().await?;
        if let Some(decoy) = &shadow.decoy {
            // Somebody's hash: what it says of this password is nobody's business.
            let _ = self.verify(decoy, login, password).await?;
        }
        Ok(())
    }
}

impl Directory for Unix {
    /// A locked password does not keep a key away, an expired account does (as sshd has it).
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        let (passwd, shadow) = (self.passwd.current().await?, self.shadow.current().await?);
        let Some(user) = passwd.get(login) else { return Ok(Verdict::UNKNOWN) };
        let aging = shadow.users.get(login).map_or(&Aging::NONE, |(_, aging)| aging);
        self.vouch(login, user, aging).await
    }
}

impl std::fmt::Debug for Unix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unix").field("passwd", &self.passwd.path()).finish_non_exhaustive()
    }
}

impl Groups {
    /// Reads group(5): `name:password:number:member,member`. A line that is none is skipped.
    fn read(data: &[u8]) -> Self {
        let mut groups = Self::default();
        for line in String::from_utf8_lossy(data).lines() {
            let mut fields = line.split(':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            groups.by_number.entry(number).or_insert_with(|| name.into());
            let members = fields.next().unwrap_or_default().split(',').filter(|m| !m.is_empty());
            for member in members {
                groups.of_user.entry(member.into()).or_default().push(name.into());
            }
        }
        groups
    }
}

/// Who may read passwords, for who may not.
fn forbidden(path: &Path, error: &std::io::Error) -> Option<Fault> {
    (error.kind() == std::io::ErrorKind::PermissionDenied).then(|| {
        Fault::unavailable(format!(
            "cannot read {}, which holds the passwords: run as root, or in the group that may read it",
            path.display()
        ))
    })
}

/// What is accepted of hashes: all that crypt(3) knows.
fn accepted() -> Accept {
    Accept { allow_weak: true, ..Accept::default() }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn who_may_not_read_the_shadow_file_is_told_who_may() {
        let path = Path::new("/etc/shadow");
        let fault = forbidden(path, &Error::from(ErrorKind::PermissionDenied)).unwrap();
        assert!(fault.to_string().contains("/etc/shadow"), "{fault}");
        assert!(fault.to_string().contains("run as root"), "{fault}");
        assert!(forbidden(path, &Error::from(ErrorKind::NotFound)).is_none());
    }

    #[test]
    fn groups_are_by_number_and_by_member() {
        let data = b"root:x:0:\nstaff:x:50:ada,bob\nops:x:51:ada\nbroken\n+:::\n";
        let groups = Groups::read(data);
        assert_eq!(groups.by_number.get(&50).map(|name| &**name), Some("staff"));
        assert_eq!(
            groups.of_user["ada"].iter().map(|g| &**g).collect::<Vec<_>>(),
            ["staff", "ops"]
        );
        assert_eq!(groups.of_user["bob"].len(), 1);
        assert!(!groups.of_user.contains_key(""));
    }
}

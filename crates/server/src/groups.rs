//! One table for groups: their names, their numbers, and the groups of the system.
//!
//! A header, a policy and a driver may each call the same group something else: `staff`, `100`, or `*100`
//! for "an administrator of 100". [`GroupRef`] reads all of these, and [`Groups`] knows what they stand for.
//! Three sources are asked in this order: the configuration (`[groups] map`), the account store, and, where
//! the configuration says so, the system's own groups (NSS). A later source never contradicts an earlier
//! one: a number that the system gives to a name which has another number here is nobody's number.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use countersign::{Fault, Identity};
use countersign_store::{Page, Store, check_group_name, limits};
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Answers that are remembered, found and not found alike.
const REMEMBERED: usize = 4096;
/// How long an answer of the system counts. NSS has no way to say that something changed.
const SYSTEM_FOR: Duration = Duration::from_secs(60);
/// How long the system may take: with a directory behind NSS that is away it may take for ever.
const SYSTEM_WITHIN: Duration = Duration::from_secs(3);
/// Threads that wait for the system at a time.
const SYSTEM_THREADS: usize = 4;

/// A group by name or by number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GroupId {
    /// `staff`.
    Name(Box<str>),
    /// `100`: digits only are always a number.
    Gid(u32),
}

/// A group as people and protocols write it: `staff`, `100`, and with a star before it, its administrators.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupRef {
    /// Which group.
    pub id: GroupId,
    /// Whether its administrators alone are meant.
    pub admin: bool,
}

/// A text that names no group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no group: write a name (`staff`), a number (`100`), or `*` and one of these for its administrators"
)]
pub struct NoGroup(String);

/// A group, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEntry {
    /// Its name.
    pub name: Box<str>,
    /// Its number, if it has one.
    pub gid: Option<u32>,
}

/// What the configuration says about groups: `[groups]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupsSection {
    /// Whether the system's own groups count, by name and number.
    pub system: bool,
    /// Numbers of groups, by name. They win over every other source.
    pub map: BTreeMap<String, u32>,
}

/// The system's groups, or something in their place.
type System = Arc<dyn Fn(&GroupId) -> Result<Option<(String, u32)>, String> + Send + Sync>;

/// The one table. Clones are the same table.
#[derive(Clone)]
pub struct Groups(Arc<Inner>);

struct Inner {
    store: Store,
    by_name: BTreeMap<String, u32>,
    by_gid: BTreeMap<u32, String>,
    system: Option<System>,
    /// What was found, at which revision of the store (any change there makes it worthless), and until when
    /// it counts.
    found: Cache<GroupId, (i64, Instant, Option<GroupEntry>)>,
    /// What the system said, and until when that counts.
    heard: Cache<GroupId, (Instant, Option<(String, u32)>)>,
    threads: Arc<Semaphore>,
}

impl GroupsSection {
    /// What is wrong with it, and what to do.
    ///
    /// # Errors
    /// A sentence that names the group.
    pub fn check(&self) -> Result<(), String> {
        let mut numbers = BTreeMap::new();
        for (name, gid) in &self.map {
            check_group_name(name).map_err(|error| format!("groups.map: `{name}`: {error}"))?;
            if name.bytes().all(|byte| byte.is_ascii_digit()) || name.starts_with('*') {
                return Err(format!(
                    "groups.map: `{name}` would be read as a number or as administrators; give it a name"
                ));
            }
            if let Some(other) = numbers.insert(gid, name) {
                return Err(format!(
                    "groups.map: `{other}` and `{name}` both have the number {gid}; give one of them another"
                ));
            }
        }
        Ok(())
    }
}

impl Groups {
    /// The table of a store, as the configuration completes it.
    pub fn new(store: Store, section: &GroupsSection) -> Self {
        Self::with_system(store, section, section.system.then(|| Arc::new(nss) as System))
    }

    fn with_system(store: Store, section: &GroupsSection, system: Option<System>) -> Self {
        Self(Arc::new(Inner {
            store,
            by_name: section.map.clone(),
            by_gid: section.map.iter().map(|(name, gid)| (*gid, name.clone())).collect(),
            system,
            found: Cache::new(REMEMBERED),
            heard: Cache::new(REMEMBERED),
            threads: Arc::new(Semaphore::new(SYSTEM_THREADS)),
        }))
    }

    /// The group that is meant. `None`: nobody knows such a group.
    ///
    /// # Errors
    /// The store or the system cannot be asked. A caller that decides about access refuses then.
    pub async fn entry(&self, id: &GroupId) -> Result<Option<GroupEntry>, Fault> {
        let inner = &*self.0;
        let revision = inner.store.revision();
        if let Some((of, until, found)) = inner.found.get(id)
            && of == revision
            && until > Instant::now()
        {
            return Ok(found);
        }
        let until = Instant::now() + SYSTEM_FOR;
        let found = match id {
            GroupId::Name(name) => inner.by_name(name).await?,
            GroupId::Gid(gid) => inner.by_gid(*gid).await?,
        };
        inner.found.insert(id.clone(), (revision, until, found.clone()));
        Ok(found)
    }

    /// The name of a number.
    ///
    /// # Errors
    /// As [`Groups::entry`].
    pub async fn name_of(&self, gid: u32) -> Result<Option<Box<str>>, Fault> {
        Ok(self.entry(&GroupId::Gid(gid)).await?.map(|group| group.name))
    }

    /// The number of a name.
    ///
    /// # Errors
    /// As [`Groups::entry`].
    pub async fn gid_of(&self, name: &str) -> Result<Option<u32>, Fault> {
        Ok(self.entry(&GroupId::Name(name.into())).await?.and_then(|group| group.gid))
    }

    /// Whether somebody is what `of` says: a member of the group, or one of its administrators.
    ///
    /// # Errors
    /// As [`Groups::entry`]; a group that is written by name needs nobody to be asked.
    pub async fn holds(&self, who: &Identity, of: &GroupRef) -> Result<bool, Fault> {
        let role = match &of.id {
            GroupId::Name(name) => who.groups.get(&**name),
            GroupId::Gid(gid) => match self.name_of(*gid).await? {
                Some(name) => who.groups.get(&*name),
                None => None,
            },
        };
        Ok(role.is_some_and(|admin| *admin || !of.admin))
    }

    /// Where the sources contradict each other, in sentences with a remedy: for `check-config`. Looks at
    /// every group of the store, page by page.
    ///
    /// # Errors
    /// As [`Groups::entry`].
    pub async fn conflicts(&self) -> Result<Vec<String>, Fault> {
        let inner = &*self.0;
        let mut conflicts = Vec::new();
        let mut differ = |name: &str, here: u32, of: &str, there: u32| {
            conflicts.push(format!(
                "the group `{name}` has the number {here} {of}, and {there} in the configuration's \
                 `groups.map`; make them the same"
            ));
        };
        for (name, gid) in &inner.by_name {
            if let Some((_, there)) = inner.heard(&GroupId::Name(name.as_str().into())).await?
                && there != *gid
            {
                differ(name, there, "on this system", *gid);
            }
        }
        let mut page = Page { limit: limits::PAGE, ..Page::default() };
        loop {
            let groups = inner.store.groups(&page).await.map_err(away)?;
            let Some(last) = groups.last() else { return Ok(conflicts) };
            page.after = Some(last.name.clone());
            for group in &groups {
                let Some(gid) = group.gid else { continue };
                if let Some(mapped) =
                    inner.by_name.get(&group.name).filter(|mapped| **mapped != gid)
                {
                    conflicts.push(format!(
                        "the group `{}` has the number {gid} in the account store, and {mapped} in the \
                         configuration's `groups.map`; make them the same",
                        group.name
                    ));
                }
                if let Some(other) = inner.by_gid.get(&gid).filter(|other| **other != group.name) {
                    conflicts.push(format!(
                        "the number {gid} is the group `{}` in the account store, and `{other}` in the \
                         configuration's `groups.map`; give one of them another",
                        group.name
                    ));
                }
                let named = inner.heard(&GroupId::Name(group.name.as_str().into())).await?;
                if let Some((_, there)) = named.filter(|(_, there)| *there != gid) {
                    conflicts.push(format!(
                        "the group `{}` has the number {gid} in the account store, and {there} on this \
                         system; make them the same, or say `groups.system = false`",
                        group.name
                    ));
                }
                let numbered = inner.heard(&GroupId::Gid(gid)).await?;
                if let Some((other, _)) = numbered.filter(|(other, _)| *other != group.name) {
                    conflicts.push(format!(
                        "the number {gid} is the group `{}` in the account store, and `{other}` on this \
                         system; give it another, or say `groups.system = false`",
                        group.name
                    ));
                }
            }
        }
    }
}

impl Inner {
    async fn by_name(&self, name: &str) -> Result<Option<GroupEntry>, Fault> {
        let entry = |gid| Some(GroupEntry { name: name.into(), gid });
        if let Some(gid) = self.by_name.get(name) {
            return Ok(entry(Some(*gid)));
        }
        let here = self.store.group(name).await.map_err(away)?;
        if let Some(gid) = here.as_ref().and_then(|group| group.gid) {
            // The configuration gave the number away: then this group has none.
            return Ok(entry(Some(gid).filter(|gid| !self.by_gid.contains_key(gid))));
        }
        let there = self.heard(&GroupId::Name(name.into())).await?;
        let gid = match there {
            Some((_, gid)) if !self.is_taken(gid).await? => Some(gid),
            _ => None,
        };
        Ok(if here.is_some() || gid.is_some() { entry(gid) } else { None })
    }

    async fn by_gid(&self, gid: u32) -> Result<Option<GroupEntry>, Fault> {
        let entry = |name: &str| Some(GroupEntry { name: name.into(), gid: Some(gid) });
        if let Some(name) = self.by_gid.get(&gid) {
            return Ok(entry(name));
        }
        if let Some(group) = self.store.group_by_gid(gid).await.map_err(away)? {
            let free = !self.by_name.contains_key(&group.name);
            return Ok(free.then(|| entry(&group.name)).flatten());
        }
        let Some((name, _)) = self.heard(&GroupId::Gid(gid)).await? else { return Ok(None) };
        // A name that has another number here is another group.
        let known = self.by_name.contains_key(&name);
        let here = self.store.group(&name).await.map_err(away)?;
        let other = here.is_some_and(|group| group.gid.is_some());
        Ok(if known || other { None } else { entry(&name) })
    }

    /// Whether a number belongs to somebody whom the system does not decide about.
    async fn is_taken(&self, gid: u32) -> Result<bool, Fault> {
        Ok(self.by_gid.contains_key(&gid)
            || self.store.group_by_gid(gid).await.map_err(away)?.is_some())
    }

    /// What the system says, if it is asked at all: in a thread of its own, of which there are few.
    async fn heard(&self, id: &GroupId) -> Result<Option<(String, u32)>, Fault> {
        let Some(system) = &self.system else { return Ok(None) };
        if let Some((until, heard)) = self.heard.get(id)
            && until > Instant::now()
        {
            return Ok(heard);
        }
        let asking = async {
            let slot = Arc::clone(&self.threads).acquire_owned().await;
            let (system, asked) = (Arc::clone(system), id.clone());
            let task = tokio::task::spawn_blocking(move || {
                // Held by the thread: one that hangs keeps its place, and not a further thread.
                let _slot = slot;
                system(&asked)
            });
            task.await.unwrap_or_else(|_| Err("looking it up failed".to_owned()))
        };
        let heard = tokio::time::timeout(SYSTEM_WITHIN, asking).await;
        let heard = heard.unwrap_or_else(|_| Err(format!("no answer within {SYSTEM_WITHIN:?}")));
        let heard = heard.map_err(|why| {
            Fault::unavailable(format!("the system's groups cannot be asked: {why}"))
        })?;
        self.heard.insert(id.clone(), (Instant::now() + SYSTEM_FOR, heard.clone()));
        Ok(heard)
    }
}

/// getgrnam(3), getgrgid(3).
fn nss(id: &GroupId) -> Result<Option<(String, u32)>, String> {
    let found = match id {
        GroupId::Name(name) if name.contains('\0') => return Ok(None),
        GroupId::Name(name) => nix::unistd::Group::from_name(name),
        GroupId::Gid(gid) => nix::unistd::Group::from_gid((*gid).into()),
    };
    let found = found.map_err(|error| error.to_string())?;
    Ok(found.map(|group| (group.name, group.gid.as_raw())))
}

fn away(error: countersign_store::StoreError) -> Fault {
    Fault::unavailable("groups cannot be looked up in the account store").caused_by(error)
}

impl FromStr for GroupRef {
    type Err = NoGroup;

    fn from_str(text: &str) -> Result<Self, NoGroup> {
        let (admin, id) = match text.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let no_group = || NoGroup(text.to_owned());
        let id = if id.bytes().all(|byte| byte.is_ascii_digit()) {
            GroupId::Gid(id.parse().map_err(|_| no_group())?)
        } else {
            check_group_name(id).map_err(|_| no_group())?;
            GroupId::Name(id.into())
        };
        Ok(Self { id, admin })
    }
}

impl fmt::Display for GroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.admin { "*" } else { "" };
        match &self.id {
            GroupId::Name(name) => write!(f, "{star}{name}"),
            GroupId::Gid(gid) => write!(f, "{star}{gid}"),
        }
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { by_name, system, .. } = &*self.0;
        f.debug_struct("Groups")
            .field("map", by_name)
            .field("system", &system.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use countersign_store::{Group, OpenOptions};

    use super::*;

    async fn store(folder: &tempfile::TempDir, groups: &[(&str, Option<u32>)]) -> Store {
        let path = folder.path().join("a.db");
        let store = Store::open(path, OpenOptions::create()).await.unwrap();
        for (name, gid) in groups {
            let group = Group { name: (*name).to_owned(), gid: *gid, description: String::new() };
            store.add_group(&group).await.unwrap();
        }
        store
    }

    fn section(map: &[(&str, u32)]) -> GroupsSection {
        let map = map.iter().map(|(name, gid)| ((*name).to_owned(), *gid)).collect();
        GroupsSection { system: false, map }
    }

    /// A system with these groups, and how often it was asked.
    fn system(groups: &'static [(&'static str, u32)]) -> (System, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let system = move |id: &GroupId| {
            count.fetch_add(1, Ordering::Relaxed);
            let found = groups.iter().find(|(name, gid)| match id {
                GroupId::Name(wanted) => **wanted == **name,
                GroupId::Gid(wanted) => wanted == gid,
            });
            Ok(found.map(|(name, gid)| ((*name).to_owned(), *gid)))
        };
        (Arc::new(system), asked)
    }

    #[test]
    fn names_numbers_and_stars() {
        let staff = GroupRef { id: GroupId::Name("staff".into()), admin: false };
        assert_eq!("staff".parse(), Ok(staff));
        assert_eq!("*100".parse(), Ok(GroupRef { id: GroupId::Gid(100), admin: true }));
        for text in ["staff", "*staff", "100", "*100", "mail users"] {
            assert_eq!(text.parse::<GroupRef>().unwrap().to_string(), text);
        }
        for text in ["", "*", "4294967296", "a,b", " a", "a\n"] {
            assert!(text.parse::<GroupRef>().is_err(), "{text:?}");
        }
        assert!("**a".parse::<GroupRef>().is_ok(), "a name may begin with a star of its own");
    }

    #[tokio::test]
    async fn an_earlier_source_wins_and_a_later_one_never_contradicts() {
        let folder = tempfile::tempdir().unwrap();
        let here = [("staff", Some(100)), ("ops", None), ("web", Some(200))];
        let store = store(&folder, &here).await;
        let (system, _) = system(&[("staff", 50), ("ops", 27), ("disk", 6), ("other", 200)]);
        let map = section(&[("ops", 300), ("dba", 6)]);
        let groups = Groups::with_system(store, &map, Some(system));
        for (name, gid) in
            [("staff", Some(100)), ("ops", Some(300)), ("web", Some(200)), ("dba", Some(6))]
        {
            assert_eq!(groups.gid_of(name).await.unwrap(), gid, "{name}");
            let gid = gid.unwrap();
            assert_eq!(groups.name_of(gid).await.unwrap().as_deref(), Some(name), "{gid}");
        }
        // The system's numbers of names that have another one here are nobody's.
        for gid in [50, 27, 999] {
            assert_eq!(groups.name_of(gid).await.unwrap(), None, "{gid}");
        }
        for name in ["disk", "other", "none"] {
            assert_eq!(groups.gid_of(name).await.unwrap(), None, "{name}");
        }
        let conflicts = groups.conflicts().await.unwrap();
        assert_eq!(conflicts.len(), 3, "{conflicts:#?}");
        assert!(conflicts[0].contains("`ops` has the number 27 on this system, and 300"));
        assert!(conflicts[1].contains("`staff` has the number 100 in the account store, and 50"));
        assert!(
            conflicts[2].contains("200 is the group `web`") && conflicts[2].contains("`other`")
        );
    }

    #[tokio::test]
    async fn the_same_group_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder, &[("staff", Some(100)), ("ops", Some(101))]).await;
        let groups = Groups::new(store.clone(), &GroupsSection::default());
        let ada = Identity::named("ada").in_group("staff", true).in_group("ops", false);
        for (text, holds) in [
            ("staff", true),
            ("100", true),
            ("*100", true),
            ("*staff", true),
            ("101", true),
            ("*101", false),
            ("*ops", false),
            ("102", false),
            ("web", false),
        ] {
            let of = text.parse().unwrap();
            assert_eq!(groups.holds(&ada, &of).await.unwrap(), holds, "{text}");
        }
        // A change in the store counts at once.
        let moved = Group { name: "ops".into(), gid: Some(102), description: String::new() };
        store.update_group(&moved).await.unwrap();
        assert!(!groups.holds(&ada, &"101".parse().unwrap()).await.unwrap());
        assert!(groups.holds(&ada, &"102".parse().unwrap()).await.unwrap());
    }

    #[tokio::test]
    async fn the_system_is_asked_once_for_each_name() {
        let folder = tempfile::tempdir().unwrap();
        let (system, asked) = system(&[("disk", 6)]);
        let store = store(&folder, &[]).await;
        let groups = Groups::with_system(store, &GroupsSection::default(), Some(system));
        for _ in 0..5 {
            assert_eq!(groups.name_of(6).await.unwrap().as_deref(), Some("disk"));
            assert_eq!(groups.name_of(7).await.unwrap(), None);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_system_that_is_broken_is_a_fault_and_not_a_no() {
        let folder = tempfile::tempdir().unwrap();
        let system: System = Arc::new(|_| Err("the directory is away".to_owned()));
        let store = store(&folder, &[("staff", Some(100))]).await;
        let groups = Groups::with_system(store, &GroupsSection::default(), Some(system));
        assert_eq!(groups.name_of(100).await.unwrap().as_deref(), Some("staff"));
        let fault = groups.name_of(6).await.unwrap_err();
        assert!(fault.to_string().contains("directory is away"), "{fault}");
    }

    #[test]
    fn the_system_is_really_asked() {
        assert_eq!(nss(&GroupId::Gid(0)).unwrap(), Some(("root".to_owned(), 0)));
        assert_eq!(nss(&GroupId::Name("root".into())).unwrap(), Some(("root".to_owned(), 0)));
        assert_eq!(nss(&GroupId::Name("no such group".into())).unwrap(), None);
    }

    #[test]
    fn a_contradiction_within_the_map_is_refused() {
        assert!(section(&[("a", 1), ("b", 2)]).check().is_ok());
        assert!(
            section(&[("a", 1), ("b", 1)]).check().unwrap_err().contains("both have the number 1")
        );
        for name in ["100", "*a", "a,b", ""] {
            assert!(section(&[(name, 1)]).check().is_err(), "{name:?}");
        }
    }
}

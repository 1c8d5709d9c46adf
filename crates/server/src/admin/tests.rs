//! The administrator on a store of its own. Password hashes are as cheap as argon2 goes.

use countersign_checkers::hash::{Accept, Hash};
use countersign_checkers::pool::PoolOptions;
use countersign_store::{OpenOptions, SessionRecord};

use super::*;

/// A store that goes away at the end.
pub(super) struct Place {
    _folder: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) admin: Admin,
}

pub(super) async fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(folder.path().join("accounts.db"), OpenOptions::create()).await.unwrap();
    let hasher = HashPool::start(&PoolOptions::default()).unwrap();
    let recipe = Recipe::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };
    let admin = Admin::new(store.clone(), Arc::new(hasher), recipe, SystemWorld::new());
    Place { _folder: folder, store, admin: admin.by("test") }
}

fn group(name: &str, admin: bool) -> GroupView {
    GroupView { name: name.into(), admin }
}

fn ada() -> NewUser {
    NewUser {
        password: Some(Secret::from("analytical engine")),
        groups: vec![group("staff", false), group("ops", true)],
        create_groups: true,
        labels: vec!["secret".into()],
        attributes: [("mail".to_owned(), vec!["ada@example.org".to_owned()])].into(),
        ..NewUser::named("ada")
    }
}

async fn verifies(store: &Store, user: &str, password: &str) -> bool {
    let account = store.read_account(user).await.unwrap().unwrap();
    let mut hashes = account.credentials_of(&CredentialType::Password);
    let hash = hashes.next().unwrap().data.to_str().unwrap().to_owned();
    assert!(hashes.next().is_none());
    Hash::parse(&hash, &Accept::default()).unwrap().verify(&Secret::from(password))
}

pub(super) async fn session(store: &Store, user: &str, now: i64) {
    let session = SessionRecord {
        hash: format!("hash of {user}"),
        subject: user.into(),
        service: "http".into(),
        peer: String::new(),
        data: String::new(),
        created: now,
        last_seen: now,
        expires: now + 60,
    };
    store.create_session(&session, 10, i64::MAX).await.unwrap();
}

#[tokio::test]
async fn a_user_is_added_shown_changed_and_removed() {
    let Place { store, admin, .. } = &place().await;
    let done = admin.add_user(ada()).await.unwrap();
    assert_eq!(done.created_groups, ["staff", "ops"]);
    let view = admin.user("ada").await.unwrap();
    assert_eq!(view.groups, [group("ops", true), group("staff", false)]);
    assert_eq!((view.labels[0].as_str(), view.attributes["mail"].len()), ("secret", 1));
    assert_eq!(view.credentials[0].scheme.as_deref(), Some("ARGON2ID"));
    assert!(verifies(store, "ada", "analytical engine").await);
    let json = serde_json::to_string(&view).unwrap();
    assert!(!json.contains("argon2id$") && !json.contains("engine"), "{json}");

    session(store, "ada", admin.now()).await;
    let change: UserChange = serde_json::from_str(
        r#"{"enabled":false,"expires":"2030-01-01","must_change":true,"groups":[{"name":"staff","admin":true}],
            "remove_groups":["ops"],"labels":["top"],"remove_labels":["secret"],
            "attributes":{"mail":[],"shell":["/bin/sh"]}}"#,
    )
    .unwrap();
    let done = admin.change_user("ada", change).await.unwrap();
    assert_eq!(done.ended_sessions, 1);
    let view = admin.user("ada").await.unwrap();
    assert!(!view.enabled && view.must_change);
    assert_eq!(view.expires.unwrap().to_string(), "2030-01-01T00:00:00Z");
    assert_eq!(view.groups, [group("staff", true)]);
    assert_eq!(view.labels, ["top"]);
    assert_eq!(view.attributes.keys().collect::<Vec<_>>(), ["shell"]);

    let names: Vec<_> = admin.users(&Listing::default()).await.unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!(admin.members("staff", &Listing::default()).await.unwrap()[0].name, "ada");
    admin.remove_user("ada").await.unwrap();
    let error = admin.user("ada").await.unwrap_err();
    assert_eq!(error.kind(), AdminErrorKind::NotFound);
    assert_eq!(admin.remove_user("ada").await.unwrap_err().kind(), AdminErrorKind::NotFound);

    let audit = admin.audit(AuditQuery::default()).await.unwrap();
    let acts: Vec<_> = audit.iter().map(|e| (&*e.reason, &*e.claimed, &*e.peer)).collect();
    let acts_of = ["user-remove", "user-set", "user-add"].map(|act| (act, "ada", "test"));
    assert_eq!(acts, acts_of);
    assert!(audit[1].detail.contains("disabled, expires 2030-01-01T00:00:00Z"), "{audit:?}");
}

#[tokio::test]
async fn a_new_password_replaces_the_old_and_ends_sessions() {
    let Place { store, admin, .. } = &place().await;
    admin.add_user(ada()).await.unwrap();
    session(store, "ada", admin.now()).await;
    let new = |password: &str| NewPassword { password: Secret::from(password), must_change: true };
    let done = admin.set_password("ada", new("difference engine")).await.unwrap();
    assert_eq!(done.ended_sessions, 1);
    assert!(verifies(store, "ada", "difference engine").await);
    assert!(!verifies(store, "ada", "analytical engine").await);
    assert!(admin.user("ada").await.unwrap().must_change);

    let weak = admin.set_password("ada", new("short")).await.unwrap_err();
    assert_eq!(weak.kind(), AdminErrorKind::Invalid);
    assert!(verifies(store, "ada", "difference engine").await);
    let nobody = admin.set_password("bob", new("difference engine")).await.unwrap_err();
    assert_eq!(nobody.kind(), AdminErrorKind::NotFound);
}

#[tokio::test]
async fn mistakes_are_refused_and_change_nothing() {
    let Place { store, admin, .. } = &place().await;
    admin.add_user(ada()).await.unwrap();
    let before = store.revision();
    for (wrong, kind, part) in [
        (ada(), AdminErrorKind::Exists, "already a user `ada`"),
        (NewUser::named(" bob"), AdminErrorKind::Invalid, "name: "),
        (NewUser::named(""), AdminErrorKind::Invalid, "empty"),
        (
            NewUser { groups: vec![group("wheel", false)], ..NewUser::named("bob") },
            AdminErrorKind::NotFound,
            "no group `wheel`: add it first",
        ),
        (
            NewUser { groups: vec![group("a,b", false)], ..NewUser::named("bob") },
            AdminErrorKind::Invalid,
            "comma",
        ),
        (
            NewUser {
                groups: vec![group("ops", true), group("ops", false)],
                ..NewUser::named("bob")
            },
            AdminErrorKind::Invalid,
            "named twice",
        ),
        (
            NewUser { password: Some(Secret::from("bobbobbob")), ..NewUser::named("BobBobBob") },
            AdminErrorKind::Invalid,
            "user name",
        ),
    ] {
        let error = admin.add_user(wrong).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    for wrong in [
        UserChange {
            remove_groups: vec!["wheel".into()],
            enabled: Some(false),
            ..Default::default()
        },
        UserChange {
            remove_labels: vec!["top".into()],
            enabled: Some(false),
            ..Default::default()
        },
        UserChange {
            groups: vec![group("wheel", true)],
            enabled: Some(false),
            ..Default::default()
        },
    ] {
        let error = admin.change_user("ada", wrong).await.unwrap_err().to_string();
        assert!(error.contains("`wheel`") || error.contains("`top`"), "{error}");
    }
    assert_eq!(store.revision(), before);
    let query = AuditQuery { outcome: Some("refused".into()), ..AuditQuery::default() };
    assert!(admin.audit(query).await.unwrap_err().to_string().contains("granted, denied"));
}

#[tokio::test]
async fn groups_are_kept() {
    let Place { admin, .. } = &place().await;
    let ops = NewGroup { name: "ops".into(), gid: Some(100), description: "on call".into() };
    admin.add_group(ops.clone()).await.unwrap();
    assert_eq!(admin.add_group(ops.clone()).await.unwrap_err().kind(), AdminErrorKind::Exists);
    admin.change_group(NewGroup { gid: None, ..ops }).await.unwrap();
    assert_eq!(admin.group("ops").await.unwrap().gid, None);
    assert_eq!(admin.groups(&Listing::default()).await.unwrap().len(), 1);
    admin.remove_group("ops").await.unwrap();
    let gone = admin.members("ops", &Listing::default()).await.unwrap_err();
    assert_eq!(gone.kind(), AdminErrorKind::NotFound);
}

#[tokio::test]
async fn the_first_administrator_is_made_once() {
    let Place { store, admin, .. } = &place().await;
    let first = admin.ensure_first_administrator().await.unwrap().unwrap();
    assert!(verifies(store, &first.name, first.password.to_str().unwrap()).await);
    let view = admin.user("admin").await.unwrap();
    assert!(view.must_change && view.enabled);
    assert_eq!(view.groups, [group(ADMINISTRATORS, true)]);
    assert!(admin.ensure_first_administrator().await.unwrap().is_none());

    let other = place().await;
    other.admin.add_user(NewUser::named("ada")).await.unwrap();
    assert!(other.admin.ensure_first_administrator().await.unwrap().is_none());
}

/// OpenNebula's rules, where a pool has some.
#[tokio::test]
async fn a_driver_that_manages_groups_and_passwords_has_them_for_itself() {
    use countersign_checkers::userpool::PoolRules;
    let place = place().await;
    let managed = PoolRules::default();
    assert!(managed.of(Some("ldap")).managed_groups && !managed.of(Some("x509")).password_change);
    let admin = place.admin.clone().under(Some(managed.clone()));
    let in_group = |name: &str| UserChange {
        groups: vec![group(name, false)],
        create_groups: true,
        ..UserChange::default()
    };
    let driver =
        |name: &str| UserChange { driver: Some(Some(name.into())), ..UserChange::default() };
    admin.add_user(ada()).await.unwrap();
    admin.change_user("ada", in_group("others")).await.unwrap();
    admin.change_user("ada", driver("ldap")).await.unwrap();
    let leave = UserChange { remove_groups: vec!["others".into()], ..UserChange::default() };
    for change in [in_group("more"), leave.clone()] {
        let error = admin.change_user("ada", change).await.unwrap_err().to_string();
        assert!(error.contains("the driver `ldap` manages the groups of `ada`"), "{error}");
    }
    // Who administers is not the driver's to say; nor is it all a driver's where there are no rules.
    admin.change_user("ada", in_group(ADMINISTRATORS)).await.unwrap();
    place.admin.change_user("ada", leave).await.unwrap();

    let new = || Secret::from("difference engine");
    session(&place.store, "ada", admin.now()).await;
    let strict = |password_change| {
        let mut rules = managed.clone();
        let core = countersign_wire::one::conf::DriverRules { password_change, ..rules.of(None) };
        rules.drivers.insert("core".parse().unwrap(), core);
        place.admin.clone().under(Some(rules)).own("ada")
    };
    let nobody = UserChange { driver: Some(None), ..UserChange::default() };
    admin.change_user("ada", nobody).await.unwrap();
    strict(false).change_password(new(), "hash of ada").await.unwrap();
    let out = UserChange { remove_groups: vec![ADMINISTRATORS.into()], ..UserChange::default() };
    admin
        .add_user(NewUser { groups: vec![group(ADMINISTRATORS, false)], ..NewUser::named("bob") })
        .await
        .unwrap();
    admin.change_user("ada", out).await.unwrap();
    let refused = strict(false).change_password(new(), "hash of ada").await.unwrap_err();
    assert!(format!("{refused:?}").contains("not changed by their users"), "{refused:?}");
    strict(true).change_password(new(), "hash of ada").await.unwrap();
}

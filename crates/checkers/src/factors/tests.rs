//! Enrolling, listing and removing, on a real store.

use countersign::testing::StillWorld;
use countersign_store::{NewAccount, OpenOptions, SessionRecord};

use super::*;

async fn place() -> (tempfile::TempDir, Factors) {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(folder.path().join("accounts.db"), OpenOptions::create()).await.unwrap();
    store.add_account(&NewAccount::new("ada"), 0).await.unwrap();
    (folder, Factors::new(store, Arc::new(StillWorld::default())))
}

#[tokio::test]
async fn what_is_enrolled_is_listed_without_secrets() {
    let (_folder, factors) = place().await;
    let pending = factors.begin_otp("ada", "Example", OtpSettings::default()).unwrap();
    factors.enrol_unconfirmed(&pending, "telephone").await.unwrap();
    let codes = factors.new_recovery_codes("ada").await.unwrap();
    assert_eq!(codes.len(), 10);
    let wanted = NewAppPassword {
        label: "mail".into(),
        services: vec!["imap".into(), "smtp".into()],
        expires: None,
    };
    let (password, added) = factors.add_app_password("ada", &wanted).await.unwrap();
    let listed = factors.list("ada").await.unwrap();
    let kinds: Vec<_> = listed.iter().map(|factor| factor.kind.as_str()).collect();
    assert_eq!(kinds, ["totp", "recovery", "app-password"]);
    assert_eq!((listed[1].left, &listed[0].label), (Some(10), &"telephone".to_owned()));
    assert_eq!(listed[2], added);
    assert_eq!(listed[2].services.as_deref(), Some(&["imap".to_owned(), "smtp".into()][..]));
    let text = format!("{listed:?} {factors:?} {pending:?} {password:?}");
    for secret in [&pending.base32(), &password, &codes[0]] {
        assert!(!text.contains(secret.to_str().unwrap()));
    }
    let account = factors.store.account("ada").await.unwrap().unwrap();
    assert!(!format!("{account:?}").contains(pending.base32().to_str().unwrap()));
}

#[tokio::test]
async fn new_recovery_codes_replace_the_old() {
    let (_folder, factors) = place().await;
    let old = factors.new_recovery_codes("ada").await.unwrap();
    let new = factors.new_recovery_codes("ada").await.unwrap();
    assert!(old.iter().all(|old| !new.contains(old)));
    assert_eq!(factors.list("ada").await.unwrap()[0].left, Some(10));
    assert!(factors.new_recovery_codes("nobody").await.is_err());
}

#[tokio::test]
async fn removing_and_resetting() {
    let (_folder, factors) = place().await;
    let pending = factors.begin_otp("ada", "Example", OtpSettings::counted()).unwrap();
    let hotp = factors.enrol_unconfirmed(&pending, "token").await.unwrap();
    factors.new_recovery_codes("ada").await.unwrap();
    let codes = factors.list("ada").await.unwrap()[1].id;
    assert_eq!(factors.remove("ada", hotp.id).await.unwrap().label, "token");
    // One of the codes stands for the set.
    factors.remove("ada", codes + 3).await.unwrap();
    assert!(factors.list("ada").await.unwrap().is_empty());
    assert!(factors.remove("ada", hotp.id).await.is_err());

    factors.enrol_unconfirmed(&pending, "token").await.unwrap();
    factors.new_recovery_codes("ada").await.unwrap();
    let reset = factors.reset("ada", Some(&CredentialType::Hotp)).await.unwrap();
    assert_eq!(reset, Reset { removed: 1, ended_sessions: 0 });
    let session = SessionRecord {
        hash: "s".into(),
        subject: "ada".into(),
        service: "web".into(),
        peer: String::new(),
        data: "{}".into(),
        created: 0,
        last_seen: 0,
        expires: i64::MAX,
    };
    factors.enrol_unconfirmed(&pending, "token").await.unwrap();
    factors.store.create_session(&session, 9, i64::MAX).await.unwrap();
    let before = factors.store.revision();
    let reset = factors.reset("ada", None).await.unwrap();
    assert_eq!(reset, Reset { removed: 2, ended_sessions: 1 });
    // One change: nobody sees some of it, and whoever logs in meanwhile gets no session.
    assert_eq!(factors.store.revision(), before + 1);
    assert!(factors.list("ada").await.unwrap().is_empty());
    assert!(factors.reset("ada", Some(&CredentialType::Password)).await.is_err());
    assert!(factors.reset("nobody", None).await.is_err());
}

/// The password is no factor: removing it here would be a way around the rules for passwords.
#[tokio::test]
async fn the_password_is_not_removed_here() {
    let (_folder, factors) = place().await;
    let password = NewCredential::new(CredentialType::Password, "x".into());
    let id = factors.store.add_credential("ada", &password, 0).await.unwrap();
    assert!(factors.remove("ada", id).await.is_err());
    factors.reset("ada", None).await.unwrap();
    assert_eq!(factors.store.account("ada").await.unwrap().unwrap().credentials.len(), 1);
}

#[tokio::test]
async fn numbers_and_labels_are_bounded() {
    let (_folder, factors) = place().await;
    let pending = factors.begin_otp("ada", "Example", OtpSettings::default()).unwrap();
    for _ in 0..limits::OTP {
        factors.enrol_unconfirmed(&pending, "").await.unwrap();
    }
    let error = factors.enrol_unconfirmed(&pending, "").await.unwrap_err();
    assert!(error.to_string().contains("remove one"), "{error}");
    let labelled = |label: &str| NewAppPassword {
        label: label.to_owned(),
        services: vec!["*".into()],
        expires: None,
    };
    for label in ["a\nb", &"x".repeat(65)] {
        assert!(factors.add_app_password("ada", &labelled(label)).await.is_err());
    }
    factors.add_app_password("ada", &labelled(&"ü".repeat(64))).await.unwrap();
    let past = NewAppPassword { expires: Some(0), ..labelled("late") };
    assert!(factors.add_app_password("ada", &past).await.is_err());
}

#[tokio::test]
async fn settings_that_no_app_reads_are_refused() {
    let (_folder, factors) = place().await;
    let usual = OtpSettings::default();
    for wrong in [
        OtpSettings { digits: 5, ..usual },
        OtpSettings { digits: 9, ..usual },
        OtpSettings { moving: Moving::Time { period: 0 }, ..usual },
        OtpSettings { moving: Moving::Time { period: 301 }, ..usual },
    ] {
        assert!(factors.begin_otp("ada", "Example", wrong).is_err(), "{wrong:?}");
    }
    for issuer in ["", "a:b", "a\n"] {
        assert!(factors.begin_otp("ada", issuer, usual).is_err(), "{issuer:?}");
    }
}

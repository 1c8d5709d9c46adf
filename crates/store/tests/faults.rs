//! A store that is missing, foreign, newer, damaged, locked, full or exposed: each a clear error, and
//! nothing lost.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::*;
use countersign_store::*;

async fn refused(place: &Place, options: OpenOptions) -> (StoreError, String) {
    let error = Store::open(&place.path, options).await.expect_err("must not open");
    let said = error.to_string();
    assert!(said.contains("accounts.db"), "names the place: {said}");
    (error, said)
}

#[tokio::test]
async fn missing_is_not_made_by_accident() {
    let place = Place::file();
    let (error, said) = refused(&place, OpenOptions::default()).await;
    assert!(matches!(error, StoreError::Missing { .. }), "{said}");
    assert!(said.contains("start the server once"), "{said}");
    assert!(!place.path.exists());
    let nowhere = place.folder.path().join("no/accounts.db");
    let error = Store::open(&nowhere, OpenOptions::create()).await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    let error = Store::open(place.folder.path(), OpenOptions::create()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
}

#[tokio::test]
async fn files_are_for_their_owner() {
    let place = Place::file();
    let store = place.open().await;
    add(&store, &["alice"]).await;
    for suffix in ["", "-wal", "-shm"] {
        let file = place.folder.path().join(format!("accounts.db{suffix}"));
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{suffix}");
    }
    let copy = place.folder.path().join("copy.db");
    store.backup(&copy).await.unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    store.close().await;
    assert!(matches!(store.read_account("alice").await, Err(StoreError::Closed)));

    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o644)).unwrap();
    let (error, said) = refused(&place, OpenOptions::default()).await;
    assert!(matches!(error, StoreError::Exposed { mode: 0o644, .. }), "{said}");
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o640)).unwrap();
    Store::open(&place.path, OpenOptions::default()).await.unwrap();
}

fn write(place: &Place, content: &[u8]) {
    fs::write(&place.path, content).unwrap();
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn another_kind_of_file() {
    let place = Place::file();
    write(&place, "alice:{PLAIN}secret\n".repeat(100).as_bytes());
    let before = fs::read(&place.path).unwrap();
    let (error, said) = refused(&place, OpenOptions::create()).await;
    assert!(matches!(error, StoreError::NotAStore { .. }), "{said}");
    assert!(said.contains("not a SQLite database"), "{said}");
    assert_eq!(fs::read(&place.path).unwrap(), before, "left alone");
}

#[tokio::test]
async fn another_programs_database() {
    let place = Place::file();
    let mut other = raw(&place).await;
    sqlx::query("CREATE TABLE accounts (name TEXT)").execute(&mut other).await.unwrap();
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600)).unwrap();
    let (_, said) = refused(&place, OpenOptions::create()).await;
    assert!(said.contains("another program's database"), "{said}");
}

#[tokio::test]
async fn an_empty_file_is_a_new_store_only_when_asked() {
    let place = Place::file();
    write(&place, b"");
    let (_, said) = refused(&place, OpenOptions::default()).await;
    assert!(said.contains("it is empty"), "{said}");
    Store::open(&place.path, OpenOptions::create()).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let place = Place::file();
    place.open().await.close().await;
    let mut raw = raw(&place).await;
    let newer = "INSERT INTO schema_versions (version, program) VALUES (99, '9.9')";
    sqlx::query(newer).execute(&mut raw).await.unwrap();
    let (error, said) = refused(&place, OpenOptions::create()).await;
    let StoreError::Newer { found: 99, known, .. } = error else { panic!("{said}") };
    let words =
        format!("was written by a newer Countersign (schema 99, this one knows {known}): upgrade");
    assert!(said.contains(&words), "{said}");
}

#[tokio::test]
async fn a_damaged_file() {
    let place = Place::file();
    let store = place.open().await;
    let many: Vec<_> = (0..500).map(|n| user(&format!("user{n}"))).collect();
    store.add_accounts(&many, NOW).await.unwrap();
    store.close().await;
    let mut content = fs::read(&place.path).unwrap();
    // All pages but the first, which says what tables there are.
    content[4096..].fill(0xa5);
    write(&place, &content);
    let (error, said) = refused(&place, OpenOptions::default()).await;
    assert!(matches!(error, StoreError::NotAStore { .. }), "{said}");
    assert!(said.contains("damaged") && said.contains("restore a backup"), "{said}");
}

#[tokio::test]
async fn locked_for_longer_than_the_deadline() {
    let place = Place::file();
    place.open().await.close().await;
    let options = OpenOptions::create().deadline(Duration::from_millis(50));
    let store = Store::open(&place.path, options).await.unwrap();
    add(&store, &["alice"]).await;
    let mut other = raw(&place).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let error = store.add_account(&user("bob"), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    assert!(error.is_temporary());
    assert!(error.to_string().contains("50ms"), "{error}");
    // Readers do not wait for a writer.
    assert!(store.read_account("alice").await.unwrap().is_some());
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    store.add_account(&user("bob"), NOW).await.unwrap();
}

#[tokio::test]
async fn locked_when_opening() {
    let place = Place::file();
    let mut other = raw(&place).await;
    sqlx::query("CREATE TABLE t (a)").execute(&mut other).await.unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut other).await.unwrap();
    fs::set_permissions(&place.path, fs::Permissions::from_mode(0o600)).unwrap();
    let options = OpenOptions::create().deadline(Duration::from_millis(50));
    let (error, said) = refused(&place, options).await;
    assert!(matches!(error, StoreError::Busy { .. }), "{said}");
}

#[tokio::test]
async fn a_change_that_fails_half_way_leaves_nothing() {
    let place = Place::file();
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let mut other = raw(&place).await;
    sqlx::query(
        "CREATE TRIGGER fail BEFORE INSERT ON labels WHEN NEW.label = 'boom' \
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .execute(&mut other)
    .await
    .unwrap();
    let revision = store.revision();
    let mut new = user("bob");
    new.labels = vec!["fine".into(), "boom".into()];
    assert!(matches!(store.add_account(&new, NOW).await, Err(StoreError::Database { .. })));
    assert!(store.account("bob").await.unwrap().is_none());
    assert!(!store.watch().await.unwrap());
    new.labels = vec!["fine".into()];
    assert_eq!(store.add_account(&new, NOW).await.unwrap(), revision + 1);
}

/// A caller that goes away at any await leaves all of a change or nothing, and never an old copy.
#[tokio::test]
async fn a_caller_that_goes_away_leaves_all_or_nothing() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    let place = Place::file();
    let store = place.open().await;
    store.add_group(&group("staff", None)).await.unwrap();
    let mut finished = false;
    for polls in 1..500 {
        let name = format!("user{polls}");
        let mut new = user(&name);
        new.groups = vec![("staff".into(), true)];
        new.labels = vec!["a".into(), "b".into()];
        assert!(store.account(&name).await.unwrap().is_none());
        {
            let mut call = pin!(store.add_account(&new, NOW));
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if let Poll::Ready(done) = call.as_mut().poll(&mut cx) {
                    done.unwrap();
                    finished = true;
                    break;
                }
                // Lets the database's thread and the runtime's tasks get on.
                tokio::task::yield_now().await;
                std::thread::yield_now();
            }
        }
        // Waits for its turn behind whatever is left of the call.
        store.add_account(&NewAccount::new(format!("turn{polls}")), NOW).await.unwrap();
        let stored = store.read_account(&name).await.unwrap();
        if let Some(account) = &stored {
            assert_eq!((account.groups.len(), account.labels.len()), (1, 2));
        }
        assert_eq!(store.account(&name).await.unwrap().as_deref(), stored.as_ref(), "{polls}");
        if finished && polls > 100 {
            break;
        }
    }
    assert!(finished);
}

/// Moved away while it is open: what would be written there is lost to everybody else.
#[tokio::test]
async fn gone_and_back() {
    let place = Place::file();
    let store = place.open().await;
    add(&store, &["alice"]).await;
    let away = place.folder.path().join("away");
    for another in [false, true] {
        fs::rename(&place.path, &away).unwrap();
        if another {
            write(&place, b"");
        }
        for error in [
            store.watch().await.unwrap_err(),
            store.read_account("alice").await.unwrap_err(),
            store.add_account(&user("bob"), NOW).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
            assert!(
                error.is_temporary() && error.to_string().contains("moved or replaced"),
                "{error}"
            );
        }
        fs::rename(&away, &place.path).unwrap();
        store.watch().await.unwrap();
        assert!(store.read_account("alice").await.unwrap().is_some());
    }
    add(&store, &["bob"]).await;
}

const VICTIM: &str = "COUNTERSIGN_STORE_VICTIM";

/// Two roles of one program: the test starts itself as a writer, and kills it in the middle of its work.
#[tokio::test]
async fn a_writer_that_is_killed_keeps_what_it_promised() {
    use std::io::{BufRead, Write};

    if let Some(path) = std::env::var_os(VICTIM) {
        let store = Store::open(std::path::Path::new(&path), OpenOptions::create()).await.unwrap();
        let start = store.count_accounts().await.unwrap();
        let mut out = std::io::stdout();
        for n in start.. {
            let mut new = user(&format!("user{n}"));
            new.labels = vec!["a".into(), "b".into(), "c".into()];
            store.add_account(&new, NOW).await.unwrap();
            writeln!(out, "\nkept {}", new.name).unwrap();
            out.flush().unwrap();
        }
    }
    let place = Place::file();
    let mut all = Vec::new();
    for kept in [1, 2, 7, 30, 50] {
        let mut writer = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_writer_that_is_killed_keeps_what_it_promised", "--nocapture"])
            .env(VICTIM, &place.path)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(writer.stdout.take().unwrap()).lines();
        let promised = lines.by_ref().map_while(Result::ok);
        let promised = promised.filter_map(|l| l.strip_prefix("kept ").map(str::to_owned));
        all.extend(promised.take(kept));
        // SIGKILL, most likely in the middle of the next one.
        writer.kill().unwrap();
        all.extend(
            lines.map_while(Result::ok).filter_map(|l| l.strip_prefix("kept ").map(str::to_owned)),
        );
        writer.wait().unwrap();

        let store = place.open().await;
        for name in &all {
            let account = store.read_account(name).await.unwrap().expect("it was promised");
            assert_eq!((account.labels.len(), account.credentials.len()), (3, 1));
        }
        // At most the one under way is there besides, and whole.
        let count = store.count_accounts().await.unwrap() as usize;
        assert!(count == all.len() || count == all.len() + 1, "{count} of {}", all.len());
        let torn = "SELECT COUNT(*) FROM accounts a WHERE \
                    (SELECT COUNT(*) FROM labels l WHERE l.account = a.id) <> 3";
        assert_eq!(place.number(torn).await, 0);
        if count > all.len() {
            all.push(format!("user{}", count - 1));
        }
        store.close().await;
    }
}

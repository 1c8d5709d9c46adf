//! A PostgreSQL server that is stopped, started, killed, refuses, or is not there: each a clear error, and
//! nothing lost. It is a private one, made for each test.
#![cfg(feature = "postgres")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use countersign_interop::{Outcome, Postgres, Trouble};
use countersign_store::*;

/// The server of one test, or nothing where there is no PostgreSQL.
fn server(test: &str, made: Outcome<Postgres>) -> Option<Postgres> {
    match made {
        Ok(server) => Some(server),
        Err(Trouble::NotRun(why)) => {
            not_run(test, &why);
            None
        }
        Err(trouble) => panic!("{trouble}"),
    }
}

async fn open(url: &str) -> Store {
    let options = OpenOptions::create().deadline(Duration::from_secs(5));
    Store::open(url, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restart_under_load_loses_nothing_that_was_promised() {
    let Some(mut postgres) = server("a_restart_under_load", Postgres::start()) else { return };
    let url = postgres.database().unwrap();
    let nodes = [open(&url).await, open(&url).await];
    let stop = Arc::new(AtomicBool::new(false));
    let promised = Arc::new(AtomicI64::new(0));
    let refused = Arc::new(AtomicI64::new(0));
    let mut tasks = Vec::new();
    for writer in 0..6 {
        let (store, stop) = (nodes[writer % 2].clone(), stop.clone());
        let (promised, refused) = (promised.clone(), refused.clone());
        tasks.push(tokio::spawn(async move {
            let mut kept = Vec::new();
            let mut n = 0;
            while !stop.load(Ordering::Acquire) {
                n += 1;
                let mut new = user(&format!("w{writer}-{n}"));
                new.labels = vec!["a".into(), "b".into()];
                match store.add_account(&new, NOW).await {
                    Ok(_) => {
                        promised.fetch_add(1, Ordering::AcqRel);
                        kept.push(new.name);
                    }
                    Err(error) => {
                        assert!(error.is_temporary(), "{error}");
                        refused.fetch_add(1, Ordering::AcqRel);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            kept
        }));
    }
    let more = |than: i64, of: Arc<AtomicI64>| async move {
        let end = Instant::now() + Duration::from_secs(30);
        while of.load(Ordering::Acquire) <= than {
            assert!(Instant::now() < end, "nothing goes on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    for immediate in [false, true] {
        more(promised.load(Ordering::Acquire) + 20, promised.clone()).await;
        let failures = refused.load(Ordering::Acquire);
        postgres = tokio::task::spawn_blocking(move || {
            postgres.stop(immediate).unwrap();
            postgres
        })
        .await
        .unwrap();
        more(failures, refused.clone()).await;
        // Nobody gets an answer that nobody can know, and nobody waits for it.
        for store in &nodes {
            let error = store.read_account("w0-1").await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
            let said = error.to_string();
            assert!(said.contains("127.0.0.1") && !said.contains(Postgres::PASSWORD), "{said}");
            assert!(store.watch().await.is_err());
        }
        postgres = tokio::task::spawn_blocking(move || {
            postgres.resume().unwrap();
            postgres
        })
        .await
        .unwrap();
    }
    more(promised.load(Ordering::Acquire) + 20, promised.clone()).await;
    stop.store(true, Ordering::Release);
    for task in tasks {
        for name in task.await.unwrap() {
            let account = nodes[0].read_account(&name).await.unwrap();
            assert_eq!(account.expect("it was promised").labels, ["a", "b"]);
        }
    }
    // What was cut off in the middle is whole or not there.
    let whole = "SELECT COUNT(*) FROM accounts a WHERE \
                 (SELECT COUNT(*) FROM labels l WHERE l.account = a.id) <> 2 OR \
                 (SELECT COUNT(*) FROM credentials c WHERE c.account = a.id) <> 1";
    assert_eq!(Place::at(&*url).number(whole).await, 0);
    for store in &nodes {
        store.refresh().await.unwrap();
    }
    assert_eq!(nodes[0].revision(), nodes[1].revision());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_is_cut_off_believes_its_copy_no_longer() {
    let Some(mut postgres) = server("a_node_that_is_cut_off", Postgres::start()) else { return };
    let url = postgres.database().unwrap();
    let options = OpenOptions::create().stale_after(Duration::ZERO);
    let strict = Store::open(&*url, options).await.unwrap();
    let lenient = open(&url).await;
    add(&strict, &["alice"]).await;
    for store in [&strict, &lenient] {
        assert!(store.account("alice").await.unwrap().is_some());
    }
    postgres.stop(false).unwrap();
    assert!(lenient.account("alice").await.unwrap().is_some());
    assert_eq!(strict.cached("alice"), None);
    let error = strict.account("alice").await.unwrap_err();
    assert!(error.is_temporary(), "{error}");
    assert!(strict.account("a\tb").await.unwrap().is_none(), "nobody has such a name, ever");
    postgres.resume().unwrap();
    assert!(strict.account("alice").await.unwrap().is_some());
}

#[tokio::test]
async fn refusals_name_the_reason_and_never_the_password() {
    let Some(postgres) = server("refusals_name_the_reason", Postgres::start()) else { return };
    let url = postgres.database().unwrap();
    let refused = async |url: &str| {
        let error = Store::open(url, OpenOptions::default()).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains("127.0.0.1"), "{said}");
        assert!(!said.contains(Postgres::PASSWORD) && !said.contains("wr0ng"), "{said}");
        (error, said)
    };
    let (error, said) = refused(&url).await;
    assert!(matches!(error, StoreError::Missing { .. }), "{said}");
    let (error, said) = refused(&url.replace(Postgres::PASSWORD, "wr0ng")).await;
    assert!(matches!(error, StoreError::Refused { .. }), "{said}");
    assert!(said.contains("authentication failed"), "{said}");
    let (error, said) = refused(&postgres.url("nowhere")).await;
    assert!(matches!(error, StoreError::Refused { .. }), "{said}");
    assert!(said.contains("\"nowhere\" does not exist"), "{said}");
    let (error, said) = refused(&url.replace(&format!(":{}/", postgres.port), ":1/")).await;
    assert!(matches!(error, StoreError::Unavailable { .. }), "{said}");
    // No TLS on this server, and the URL insists.
    let (error, said) = refused(&format!("{url}?sslmode=require")).await;
    assert!(matches!(error, StoreError::Unavailable { .. }), "{said}");
    assert!(said.contains("TLS") && said.contains("sslmode"), "{said}");

    postgres.sql("postgres", "CREATE DATABASE foreign_one").unwrap();
    postgres.sql("foreign_one", "CREATE TABLE accounts (name TEXT)").unwrap();
    let (error, said) = refused(&postgres.url("foreign_one")).await;
    assert!(matches!(error, StoreError::NotAStore { .. }), "{said}");
    assert!(said.contains("another program's database"), "{said}");

    let store = open(&url).await;
    let said = store.backup("copy.db").await.unwrap_err().to_string();
    assert!(said.contains("pg_dump"), "{said}");
    let name = url.rsplit_once('/').unwrap().1;
    postgres.sql(name, "INSERT INTO schema_versions VALUES (99, '9.9')").unwrap();
    let (error, said) = refused(&url).await;
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_locked_and_stuck() {
    let Some(postgres) = server("slow_locked_and_stuck", Postgres::start()) else { return };
    let url = postgres.database().unwrap();
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    let options = OpenOptions::create().deadline(Duration::from_millis(200));
    let store = Store::open(&*url, options).await.unwrap();
    add(&store, &["alice"]).await;
    use sqlx::{Connection, Executor};
    let mut other = sqlx::PgConnection::connect(&url).await.unwrap();
    other
        .execute("BEGIN; UPDATE counters SET value = value WHERE name = 'revision'")
        .await
        .unwrap();
    let error = store.add_account(&user("bob"), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    // Readers do not wait for a writer.
    assert!(store.read_account("alice").await.unwrap().is_some());
    other.execute("ROLLBACK").await.unwrap();
    store.add_account(&user("bob"), NOW).await.unwrap();
    // A table that nobody may read for now.
    other.execute("BEGIN; LOCK TABLE accounts").await.unwrap();
    let error = store.read_account("alice").await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error}");
    other.execute("ROLLBACK").await.unwrap();
    assert!(store.read_account("alice").await.unwrap().is_some());

    // The connections are ended one by one, by whoever administers the server.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE application_name = 'countersign' AND pid <> pg_backend_pid()";
    for _ in 0..3 {
        postgres.sql(&name, end).unwrap();
        assert!(store.read_account("alice").await.unwrap().is_some());
        postgres.sql(&name, end).unwrap();
        store.add_label("alice", "x").await.unwrap();
    }

    // A standby reads and refuses to change, for now.
    postgres
        .sql("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))
        .unwrap();
    postgres.sql(&name, end).unwrap();
    assert!(store.read_account("alice").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_as_the_url_says() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let made = Postgres::start_with(|folder| {
        let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
        std::fs::write(&certificate, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let setting = |name: &str, path: &std::path::Path| format!("{name}={}", path.display());
        Ok(vec![
            "ssl=on".into(),
            setting("ssl_cert_file", &certificate),
            setting("ssl_key_file", &key),
        ])
    });
    let Some(postgres) = server("tls_as_the_url_says", made) else { return };
    let folder = tempfile::tempdir().unwrap();
    let authority_file = folder.path().join("authority.pem");
    std::fs::write(&authority_file, certified.cert.pem()).unwrap();
    let url = postgres.database().unwrap().replace("127.0.0.1", "localhost");
    let encrypted = "SELECT COUNT(*) FROM pg_stat_ssl s JOIN pg_stat_activity a ON a.pid = s.pid \
                     WHERE a.application_name = 'countersign' AND s.ssl";
    let name = url.rsplit_once('/').unwrap().1.to_owned();
    let count = || postgres.sql(&name, encrypted).unwrap().trim().parse::<u32>().unwrap();

    let store = open(&format!("{url}?sslmode=disable")).await;
    assert_eq!(count(), 0);
    store.close().await;
    let root = format!("sslrootcert={}", authority_file.display());
    let store = open(&format!("{url}?sslmode=verify-full&{root}")).await;
    assert!(count() > 0);
    store.close().await;
    // A certificate that nobody we know has signed, and one for another name.
    for wrong in [
        format!("{url}?sslmode=verify-full"),
        format!("{}?sslmode=verify-full&{root}", url.replace("localhost", "127.0.0.1")),
    ] {
        let error = Store::open(&*wrong, OpenOptions::create()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

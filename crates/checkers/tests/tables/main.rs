//! The `sql` checker and real servers: PostgreSQL and MariaDB.
#![cfg(all(feature = "postgres", feature = "mysql"))]

use std::sync::Arc;
use std::time::Duration;

use countersign::testing::StillWorld;
use countersign::{Answers, Fault, FaultKind, PasswordStore, Reason, Secret, Verdict};
use countersign_checkers::hash::{Accept, Hash, Recipe};
use countersign_checkers::pool::{HashPool, PoolOptions};
use countersign_checkers::sql::{Sql, SqlError, SqlOptions, SqlParts};
use countersign_interop::{Mariadb, Outcome, Postgres, Trouble};
use countersign_testkit::{Fixture, Proof, conforms_async};

/// Nothing here takes a second; a machine that is busy may.
const PATIENCE: Duration = Duration::from_secs(60);
const RECIPE: Recipe = Recipe::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };

/// The server of one test, or nothing where there is none.
fn server<T>(test: &str, made: Outcome<T>) -> Option<T> {
    match made {
        Ok(server) => Some(server),
        Err(Trouble::NotRun(why)) => {
            not_run(test, &why);
            None
        }
        Err(trouble) => panic!("{trouble}"),
    }
}

/// Says that a test could not run, to people and to `cargo xtask test`.
fn not_run(name: &str, why: &str) {
    use std::io::Write;
    eprintln!("not run: {name}: {why}");
    if let Some(file) = std::env::var_os("COUNTERSIGN_NOT_RUN") {
        let mut file = std::fs::File::options().append(true).open(file).unwrap();
        writeln!(file, "{name}\t{why}").unwrap();
    }
}

fn hashed(recipe: Recipe) -> String {
    Hash::create(&recipe, &Secret::from("right"), [7; 16]).unwrap().expose_text()
}

/// Tables that both databases understand.
fn tables() -> String {
    let right = hashed(RECIPE);
    let old = hashed(Recipe::Sha512Crypt { rounds: 1000 });
    format!(
        "CREATE TABLE users (login VARCHAR(100) PRIMARY KEY, mail VARCHAR(100), hash VARCHAR(300),
           active BOOLEAN NOT NULL, until BIGINT);
         CREATE TABLE member (login VARCHAR(100), team VARCHAR(100), lead BOOLEAN);
         INSERT INTO users VALUES ('ada', 'ada@x', '{right}', TRUE, NULL),
           ('locked', 'l@x', '{right}', FALSE, NULL), ('old', 'o@x', '{right}', TRUE, 1),
           ('void', 'v@x', NULL, TRUE, NULL), ('weak', 'w@x', '{old}', TRUE, NULL);
         INSERT INTO member VALUES ('ada', 'staff', FALSE), ('ada', 'ops', TRUE);"
    )
}

fn options(url: &str) -> SqlOptions {
    let text = |text: &str| Some(text.to_owned());
    SqlOptions {
        url: Secret::from(url),
        query: "SELECT login AS name, hash, active AS enabled, until AS expires FROM users \
                WHERE login = :login"
            .into(),
        groups: text("SELECT team AS name, lead AS admin FROM member WHERE login = :name"),
        labels: text("SELECT team AS name FROM member WHERE login = :name AND lead"),
        attributes: text("SELECT 'mail' AS name, mail AS value FROM users WHERE login = :name"),
        update: text("UPDATE users SET hash = :hash WHERE login = :name AND hash = :old"),
        aliases: false,
        accept: Accept::default(),
        timeout: Duration::from_secs(5),
        connections: 4,
        idle: PATIENCE,
    }
}

fn store(options: SqlOptions) -> Result<Sql, SqlError> {
    let pool = Arc::new(HashPool::start(&PoolOptions::default()).unwrap());
    let world = Arc::new(StillWorld::default());
    world.set_unix(1000);
    Sql::new(options, SqlParts { pool, world, recipe: RECIPE })
}

async fn login(sql: &Sql, user: &str, password: &str) -> Result<Verdict, Fault> {
    let password = Secret::from(password);
    tokio::time::timeout(PATIENCE, sql.check(user, &password)).await.expect("in time")
}

#[track_caller]
fn reason(verdict: Result<Verdict, Fault>) -> Reason {
    let Ok(Verdict::Not(denial)) = verdict else { panic!("{verdict:?}") };
    denial.reason
}

/// What holds on every database.
async fn holds(url: &str) {
    let sql = store(options(url)).unwrap();
    sql.prepare().await.unwrap();
    let Ok(Verdict::Is(who)) = login(&sql, "ada", "right").await else { panic!() };
    assert_eq!(who.subject.name(), Some("ada"));
    assert_eq!(who.groups, [("ops".into(), true), ("staff".into(), false)].into());
    assert_eq!(who.labels, ["ops".into()].into());
    assert_eq!(who.attribute("mail"), Some("ada@x"));
    for (user, password, expected) in [
        ("ada", "wrong", Reason::WrongCredential),
        ("ada", "", Reason::WrongCredential),
        ("locked", "right", Reason::Disabled),
        ("locked", "wrong", Reason::WrongCredential),
        ("old", "right", Reason::Expired),
        ("void", "", Reason::WrongCredential),
        ("nobody", "right", Reason::UnknownUser),
    ] {
        assert_eq!(reason(login(&sql, user, password).await), expected, "{user} {password}");
    }
    let long = "a".repeat(4096);
    for typed in [
        "' or 1=1--",
        "' OR ''='",
        "ada'--",
        "ada' #",
        "\\' or 1=1 #",
        "*)(uid=*",
        "%u%u",
        "a%",
        "_da",
        "ada\0",
        "ada\nx",
        "ada;",
        "\u{feff}ada",
        "ada\u{301}x",
        "'; DROP TABLE users; --",
        &long,
    ] {
        assert_eq!(reason(login(&sql, typed, "right").await), Reason::UnknownUser, "{typed:?}");
        sql.spend(typed, &Secret::from("right")).await.unwrap();
    }
    assert!(matches!(login(&sql, "weak", "right").await, Ok(Verdict::Is(_))));

    let checker = store(options(url)).unwrap().checker("site");
    let shown = format!("{checker:?}");
    let answers = |user: &str, password: &str| {
        Answers::new().with("username", user.to_owned()).with("password", password.to_owned())
    };
    let fixture = Fixture::new().within(PATIENCE).printing(move || shown.clone()).with(
        Proof::of("password", "ada", answers("ada", "right"))
            .wrong(answers("ada", "wrong"))
            .unknown(answers("nobody", "right"))
            .disabled(answers("locked", "right")),
    );
    let report = conforms_async(&checker, &fixture).await;
    assert!(report.is_clean(), "{report}");

    for (key, part, change) in [
        ("query", "does not take", "SELECT hash FROM nowhere WHERE login = :login"),
        (
            "query",
            "nobody reads",
            "SELECT login AS name, hash, active AS enbled FROM users WHERE login = :login",
        ),
        ("query", "`hash`", "SELECT login AS name FROM users WHERE login = :login"),
    ] {
        let wrong = SqlOptions { query: change.into(), ..options(url) };
        let error = store(wrong).unwrap().prepare().await.unwrap_err();
        assert!(error.key == key && error.what.contains(part), "{error}");
    }
}

/// Waits until the hash of `weak` is of the new kind.
async fn is_rehashed(mut stored: impl FnMut() -> String) {
    let waiting = async {
        while !stored().contains("argon2id") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
}

#[tokio::test]
async fn on_postgres() {
    let Some(mut postgres) = server("on_postgres", Postgres::start()) else { return };
    let url = postgres.database().unwrap();
    postgres.sql("d0", &tables()).unwrap();
    holds(&url).await;
    is_rehashed(|| postgres.sql("d0", "SELECT hash FROM users WHERE login = 'weak'").unwrap())
        .await;

    let sql = store(options(&url)).unwrap();
    assert_eq!(reason(login(&sql, "ADA", "right").await), Reason::UnknownUser);
    let writes = "WITH w AS (UPDATE users SET active = FALSE WHERE login = :login RETURNING hash) \
                  SELECT hash FROM w";
    let writes = store(SqlOptions { query: writes.into(), ..options(&url) }).unwrap();
    let fault = login(&writes, "ada", "right").await.unwrap_err();
    assert!(fault.to_string().contains("read-only"), "{fault}");

    // Gone, and back: connections from before are replaced.
    assert!(matches!(login(&sql, "ada", "right").await, Ok(Verdict::Is(_))));
    postgres.stop(true).unwrap();
    let fault = login(&sql, "ada", "right").await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Unavailable, "{fault}");
    postgres.resume().unwrap();
    assert!(matches!(login(&sql, "ada", "right").await, Ok(Verdict::Is(_))));
}

#[tokio::test]
async fn on_mariadb() {
    let Some(mut mariadb) = server("on_mariadb", Mariadb::start()) else { return };
    let url = mariadb.url();
    mariadb.sql(&format!("USE site; {}", tables())).unwrap();
    holds(&url).await;
    is_rehashed(|| mariadb.sql("SELECT hash FROM site.users WHERE login = 'weak';").unwrap()).await;

    // It finds `ada` for all of these; the user is called what the table says.
    let sql = store(options(&url)).unwrap();
    for typed in ["ADA", "ada ", "Ada  "] {
        let Ok(Verdict::Is(who)) = login(&sql, typed, "right").await else { panic!("{typed:?}") };
        assert_eq!(who.subject.name(), Some("ada"));
    }
    // Another name for people, and the same for the database.
    assert_eq!(reason(login(&sql, "ädä", "right").await), Reason::NotAllowed);
    let nameless = "SELECT hash FROM users WHERE login = :login".to_owned();
    let nameless = store(SqlOptions { query: nameless, ..options(&url) }).unwrap();
    let error = nameless.prepare().await.unwrap_err();
    assert!(error.what.contains("`name`") && error.what.contains("`ADA`"), "{error}");

    mariadb.stop().unwrap();
    let fault = login(&sql, "ada", "right").await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Unavailable, "{fault}");
    mariadb.resume().unwrap();
    let back = login(&sql, "ada", "right").await;
    assert!(matches!(&back, Ok(Verdict::Is(_))), "{back:?}");
}

/// It accepts and never answers.
#[tokio::test]
async fn a_database_that_hangs_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["postgres", "mysql"] {
        let url = format!("{scheme}://u:s3cret@127.0.0.1:{port}/d");
        let timeout = Duration::from_millis(100);
        let sql = store(SqlOptions { timeout, ..options(&url) }).unwrap();
        let fault = login(&sql, "ada", "right").await.unwrap_err();
        assert!(matches!(fault.kind(), FaultKind::Timeout | FaultKind::Unavailable), "{fault}");
        assert!(!fault.to_string().contains("s3cret"), "{fault}");
        sql.prepare().await.unwrap();
    }
}

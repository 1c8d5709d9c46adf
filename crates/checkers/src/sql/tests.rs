//! On SQLite, which is always there. The others are in `tests/directory`.

use std::path::Path;

use countersign::FaultKind;
use countersign::testing::StillWorld;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::*;
use crate::pool::PoolOptions;

const PATIENCE: Duration = Duration::from_secs(60);
const RECIPE: Recipe = Recipe::Argon2id { memory_kib: 8, passes: 1, lanes: 1 };

fn hashed(recipe: Recipe, password: &str) -> String {
    Hash::create(&recipe, &Secret::from(password), [7; 16]).unwrap().expose_text()
}

async fn run(path: &Path, sql: &str) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    connection.close().await.unwrap();
}

struct Stage {
    folder: tempfile::TempDir,
    world: Arc<StillWorld>,
}

impl Stage {
    async fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap(), world: Arc::default() };
        stage.world.set_unix(1000);
        let right = hashed(RECIPE, "right");
        let sql = format!(
            "CREATE TABLE users (login TEXT, mail TEXT, hash TEXT, active INT, until INT);
             CREATE TABLE member (login TEXT, team TEXT, lead INT);
             CREATE TABLE more (login TEXT, k TEXT, v TEXT);
             INSERT INTO users VALUES ('ada', 'ada@x', '{right}', 1, NULL),
               ('off', 'off@x', '{right}', 0, NULL), ('old', 'old@x', '{right}', 1, 1000),
               ('void', 'v@x', NULL, 1, NULL), ('blank', 'b@x', '', 1, NULL),
               ('twin', 't@x', '{right}', 1, NULL), ('twin', 't@x', '{right}', 1, NULL),
               ('odd', 'o@x', '{{NOPE}}x', 1, NULL), ('Åsa', 'a@x', '{right}', 1, NULL);
             INSERT INTO member VALUES ('ada', 'staff', 0), ('ada', 'ops', 1);
             INSERT INTO more VALUES ('ada', 'home', '/home/ada'), ('ada', 'shell', NULL);"
        );
        run(&stage.path(), &sql).await;
        stage
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("site.db")
    }

    fn options(&self) -> SqlOptions {
        let text = |text: &str| Some(text.to_owned());
        SqlOptions {
            url: Secret::from(format!("sqlite:{}", self.path().display())),
            query: "SELECT login AS name, hash, active AS enabled, until AS expires FROM users \
                    WHERE login = :login"
                .into(),
            groups: text("SELECT team AS name, lead AS admin FROM member WHERE login = :name"),
            labels: text("SELECT 'team-' || team AS name FROM member WHERE login = :login"),
            attributes: text("SELECT k AS name, v AS value FROM more WHERE login = :name"),
            update: None,
            aliases: false,
            accept: Accept::default(),
            timeout: PATIENCE,
            connections: 2,
            idle: PATIENCE,
        }
    }

    fn store(&self, options: SqlOptions) -> Result<Sql, SqlError> {
        let pool = Arc::new(HashPool::start(&PoolOptions::default()).unwrap());
        let world: Arc<dyn World> = self.world.clone();
        Sql::new(options, SqlParts { pool, world, recipe: RECIPE })
    }

    async fn prepared(&self, change: impl FnOnce(&mut SqlOptions)) -> Result<Sql, SqlError> {
        let mut options = self.options();
        change(&mut options);
        let sql = self.store(options)?;
        sql.prepare().await?;
        Ok(sql)
    }
}

async fn login(sql: &Sql, user: &str, password: &str) -> Result<Verdict, Fault> {
    let password = Secret::from(password);
    tokio::time::timeout(PATIENCE, sql.check(user, &password)).await.expect("in time")
}

#[track_caller]
fn refused(verdict: Result<Verdict, Fault>, reason: Reason, part: &str) {
    let Ok(Verdict::Not(denial)) = verdict else { panic!("{verdict:?}") };
    assert!(denial.reason == reason && denial.detail.contains(part), "{denial}");
}

#[tokio::test]
async fn who_is_in_the_table_gets_in_with_all_that_it_tells() {
    let stage = Stage::new().await;
    let sql = stage.prepared(|_| ()).await.unwrap();
    let Ok(Verdict::Is(who)) = login(&sql, "ada", "right").await else { panic!() };
    assert_eq!(who.subject.name(), Some("ada"));
    assert_eq!(who.groups, [("ops".into(), true), ("staff".into(), false)].into());
    assert_eq!(who.labels, ["team-ops".into(), "team-staff".into()].into());
    assert_eq!(who.attribute("home"), Some("/home/ada"));
    assert_eq!(who.attribute("shell"), None);
}

#[tokio::test]
async fn who_cannot_get_in_is_told_why() {
    let stage = Stage::new().await;
    let sql = stage.prepared(|_| ()).await.unwrap();
    refused(login(&sql, "ada", "wrong").await, Reason::WrongCredential, "");
    refused(login(&sql, "ada", "").await, Reason::WrongCredential, "");
    refused(login(&sql, "off", "right").await, Reason::Disabled, "");
    refused(login(&sql, "off", "wrong").await, Reason::WrongCredential, "");
    refused(login(&sql, "old", "right").await, Reason::Expired, "");
    refused(login(&sql, "void", "").await, Reason::WrongCredential, "no password");
    refused(login(&sql, "blank", "").await, Reason::WrongCredential, "no password");
    refused(login(&sql, "twin", "right").await, Reason::NotAllowed, "several rows");
    stage.world.set_unix(999);
    assert!(matches!(login(&sql, "old", "right").await, Ok(Verdict::Is(_))));
    let fault = login(&sql, "odd", "right").await.unwrap_err();
    assert!(fault.kind() == FaultKind::Internal && fault.to_string().contains("`odd`"), "{fault}");
}

#[tokio::test]
async fn no_name_is_more_than_a_name() {
    let stage = Stage::new().await;
    let sql = stage.prepared(|_| ()).await.unwrap();
    let long = "a".repeat(4096);
    for name in
        ["", " ", "*", "' or 1=1--", "ada'--", "%u", "_da", "ada\0", "a\nda", "ada;", "ADA", &long]
    {
        refused(login(&sql, name, "right").await, Reason::UnknownUser, "");
    }
    sql.spend("nobody", &Secret::from("right")).await.unwrap();
}

#[tokio::test]
async fn the_name_is_the_table_s() {
    let stage = Stage::new().await;
    let lax = |o: &mut SqlOptions| {
        o.query =
            "SELECT login AS name, hash FROM users WHERE login = trim(:login) COLLATE NOCASE \
                   OR mail = :login"
                .into();
    };
    let sql = stage.prepared(lax).await.unwrap();
    for typed in ["ada", "ADA", " ada "] {
        let Ok(Verdict::Is(who)) = login(&sql, typed, "right").await else { panic!("{typed}") };
        assert_eq!(who.subject.name(), Some("ada"));
        assert_eq!(who.groups.len(), 2, "groups go by the table's name");
    }
    refused(login(&sql, "ada@x", "right").await, Reason::NotAllowed, "aliases");
    refused(login(&sql, "ada@x", "wrong").await, Reason::WrongCredential, "");
    let sql = stage.prepared(|o| {
        lax(o);
        o.aliases = true;
    });
    let Ok(Verdict::Is(who)) = login(&sql.await.unwrap(), "ada@x", "right").await else { panic!() };
    assert_eq!(who.subject.name(), Some("ada"));
}

#[tokio::test]
async fn a_mistake_in_a_query_is_told_at_the_start() {
    type Change = fn(&mut SqlOptions);
    let cases: &[(&str, &str, Change)] = &[
        ("query", "`hash`", |o| {
            o.query = "SELECT login AS name FROM users WHERE login = :login".into()
        }),
        ("query", "nobody reads", |o| {
            o.query = "SELECT hash, active AS enbled FROM users WHERE login = :login".into();
        }),
        ("query", "two columns", |o| {
            o.query = "SELECT hash, hash FROM users WHERE login = :login".into()
        }),
        ("query", "no such table", |o| {
            o.query = "SELECT hash FROM user WHERE login = :login".into()
        }),
        ("query", "counts", |o| {
            o.query = "SELECT hash FROM users WHERE login = :login AND mail = @mail".into();
        }),
        ("query", "no `:login`", |o| o.query = "SELECT hash FROM users".into()),
        ("query", "`:name` is not known", |o| {
            o.query = "SELECT hash FROM users WHERE login = :name".into()
        }),
        ("groups", "`name`", |o| {
            o.groups = Some("SELECT team FROM member WHERE login = :name".into())
        }),
        ("labels", "several", |o| o.labels = Some("SELECT :name AS name; DROP TABLE users".into())),
        ("attributes", "`value`", |o| o.attributes = Some("SELECT :name AS name".into())),
        ("update", "no `:hash`", |o| {
            o.update = Some("UPDATE users SET hash = 1 WHERE login = :login".into())
        }),
        ("update", "no `:old`", |o| {
            o.update = Some("UPDATE users SET hash = :hash WHERE login = :login".into())
        }),
        ("url", "begins with none", |o| o.url = Secret::from("/s3cret/path")),
        ("url", "begins with none", |o| o.url = Secret::from("oracle://u:s3cret@h")),
    ];
    let stage = Stage::new().await;
    for (key, part, change) in cases {
        let error = stage.prepared(change).await.unwrap_err();
        assert!(error.key == *key && error.what.contains(part), "{error}");
        assert!(!error.to_string().contains("s3cret"));
    }
}

#[tokio::test]
async fn a_build_without_a_database_says_so() {
    let stage = Stage::new().await;
    for (feature, there, url) in [
        ("postgres", cfg!(feature = "postgres"), "postgres://u:s3cret@127.0.0.1/d"),
        ("mysql", cfg!(feature = "mysql"), "mysql://u:s3cret@127.0.0.1/d"),
    ] {
        let made = stage.store(SqlOptions { url: Secret::from(url), ..stage.options() });
        match made {
            Ok(_) => assert!(there),
            Err(error) => {
                assert!(!there && error.what.contains(&format!("--features {feature}")), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_query_cannot_change_anything() {
    let stage = Stage::new().await;
    let sql = stage.store(SqlOptions {
        query: "UPDATE users SET active = 0 WHERE login = :login RETURNING hash".into(),
        ..stage.options()
    });
    let fault = login(&sql.unwrap(), "ada", "right").await.unwrap_err();
    assert!(fault.to_string().contains("readonly"), "{fault}");
}

#[tokio::test]
async fn a_database_that_is_away_lets_nobody_in_and_may_come_back() {
    let stage = Stage::new().await;
    let (path, aside) = (stage.path(), stage.folder.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    let sql = stage.prepared(|o| o.timeout = Duration::from_millis(200)).await.unwrap();
    assert!(login(&sql, "ada", "right").await.is_err());
    assert!(!path.exists(), "an empty database was made");
    std::fs::rename(&aside, &path).unwrap();
    assert!(matches!(login(&sql, "ada", "right").await, Ok(Verdict::Is(_))));
}

#[tokio::test]
async fn an_old_hash_is_replaced_where_the_site_says_how() {
    let stage = Stage::new().await;
    let old = hashed(Recipe::Sha512Crypt { rounds: 1000 }, "right");
    let (_, bare) = old.split_once('}').unwrap();
    run(&stage.path(), &format!("UPDATE users SET hash = '{bare}' WHERE login = 'ada'")).await;
    let sql = stage.prepared(|o| {
        o.update = Some("UPDATE users SET hash = :hash WHERE login = :name AND hash = :old".into());
    });
    let sql = sql.await.unwrap();
    assert!(matches!(login(&sql, "ada", "right").await, Ok(Verdict::Is(_))));
    let done = async {
        while !sql.inner.rehashing().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("in time");
    let values = [(Place::Login, "ada")];
    let rows = sql.inner.rows(&sql.inner.query, &values, 2).await.unwrap();
    let Some(Value::Text(new)) = column(&rows[0], "hash") else { panic!("{rows:?}") };
    assert!(new.starts_with("$argon2id$"), "{new}: written as the old one was");
    assert!(matches!(login(&sql, "ada", "right").await, Ok(Verdict::Is(_))));
}

#[tokio::test]
async fn nothing_prints_the_address() {
    let stage = Stage::new().await;
    let sql = stage.store(stage.options()).unwrap();
    let text = format!("{sql:?} {:?}", stage.options());
    assert!(!text.contains("site.db"), "{text}");
}

//! The server over a site's own directory and tables: who is there logs in through Postfix and over HTTP,
//! with nothing in our store.

use countersign_interop::runner::Case;
use countersign_interop::{
    Attempt, Context, Countersign, Mariadb, Mechanism, Outcome, Postfix, Postgres, Slapd, Stage,
    ensure, eventually, swaks,
};
use serde_json::json;

use crate::http::begin;
use crate::reference::right_and_wrong;

pub(crate) const CASES: &[Case] = &[
    slow("postfix_and_curl_over_slapd", over_slapd),
    slow("postfix_and_curl_over_postgresql_tables", over_postgres),
    slow("postfix_and_curl_over_mariadb_tables", over_mariadb),
];

const PASSWORD: &str = "correct horse battery";
/// The same, as `openssl passwd -6` hashes it.
const HASH: &str = "$6$saltsalt$G9wFFnnUFCPffgjGaIp8t6onbqx3zGbMIn93ecLfBFGJpBV3/0HPLZ17qYbjb.WJDtXbmuMlQ9NnvzVms5ZXj.";

/// A database server takes its time to start.
const fn slow(name: &'static str, play: fn(&Stage) -> Outcome) -> Case {
    Case { name, deadline: std::time::Duration::from_secs(180), play }
}

/// Serves one checker and tries it: `ada` (groups `staff`), and `eve` who is disabled where that can be.
fn tried(stage: &Stage, name: &str, checker: &str) -> Outcome<(Countersign, Postfix)> {
    let socket = stage.folder("sockets")?.join("auth");
    let config = format!(
        "{checker}\n[policy]\ncheckers = [{name:?}]\n\n[listen.http.main]\naddress = \"127.0.0.1:0\"\n\n\
         [listen.dovecot.mail]\npath = {socket:?}\nmode = \"0666\"\non_fault = \"close\"\n"
    );
    let server = Countersign::start_full(stage, &config)?;
    let postfix = Postfix::start(stage, &socket)?;
    right_and_wrong(postfix.port, "ada", PASSWORD)?;
    let (status, body) = begin(&server, json!({ "username": "ada", "password": PASSWORD }))?;
    ensure!(status == 200 && body["status"] == "granted", "over HTTP: {status} {body}");
    let groups = &body["identity"]["groups"];
    ensure!(groups.to_string().contains("staff"), "the groups over HTTP: {body}");
    let (status, wrong) = begin(&server, json!({ "username": "ada", "password": "wrong" }))?;
    let (other, unknown) = begin(&server, json!({ "username": "nobody", "password": "wrong" }))?;
    ensure!(status == 401 && other == 401, "wrong: {status}, unknown: {other}");
    ensure!(wrong["reason"] == unknown["reason"], "they can be told apart: {wrong} {unknown}");
    let (status, body) = begin(&server, json!({ "username": "ada", "password": "" }))?;
    ensure!(status == 401, "an empty password: {status} {body}");
    Ok((server, postfix))
}

/// The backend is away: nobody gets in, and mail programs are told to come again.
fn away(server: &Countersign, postfix: &Postfix) -> Outcome {
    let attempt = Attempt {
        port: postfix.port,
        mechanism: Mechanism::Plain,
        user: "ada",
        password: PASSWORD,
    };
    let answer = swaks(&attempt)?;
    ensure!(answer == 454, "Postfix, while the backend is away: {answer}");
    let (status, body) = begin(server, json!({ "username": "ada", "password": PASSWORD }))?;
    ensure!(status == 503, "HTTP, while the backend is away: {status} {body}");
    Ok(())
}

fn over_slapd(stage: &Stage) -> Outcome {
    let ldif = format!(
        "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n\n\
         dn: ou=people,dc=example\nobjectClass: organizationalUnit\nou: people\n\n\
         dn: uid=ada,ou=people,dc=example\nobjectClass: inetOrgPerson\nuid: ada\ncn: Ada\nsn: L\n\
         userPassword: {PASSWORD}\n\n\
         dn: ou=groups,dc=example\nobjectClass: organizationalUnit\nou: groups\n\n\
         dn: cn=staff,ou=groups,dc=example\nobjectClass: groupOfNames\ncn: staff\n\
         member: uid=ada,ou=people,dc=example\n"
    );
    let mut directory = Slapd::start(&ldif, None)?;
    let checker = format!(
        "[checker.ldap.corp]\nservers = [{:?}]\nbase = \"ou=people,dc=example\"\nfilter = \"(uid={{login}})\"\n\
         groups = {{ base = \"ou=groups,dc=example\", filter = \"(member={{dn}})\" }}\n",
        directory.url()
    );
    let (server, postfix) = tried(stage, "ldap.corp", &checker)?;
    directory.stop()?;
    away(&server, &postfix)?;
    directory.resume()?;
    back(&postfix)
}

/// The backend is there again: soon everything is as before.
fn back(postfix: &Postfix) -> Outcome {
    let attempt = Attempt {
        port: postfix.port,
        mechanism: Mechanism::Plain,
        user: "ada",
        password: PASSWORD,
    };
    eventually("ada being let in again", || swaks(&attempt).is_ok_and(|answer| answer == 235))?;
    right_and_wrong(postfix.port, "ada", PASSWORD)
}

/// The tables of a site, in the words of every database here.
fn tables() -> String {
    format!(
        "CREATE TABLE users (login VARCHAR(64) PRIMARY KEY, password VARCHAR(255), active INT NOT NULL);
         CREATE TABLE members (login VARCHAR(64), team VARCHAR(64));
         INSERT INTO users VALUES ('ada', '{HASH}', 1), ('eve', '{HASH}', 0);
         INSERT INTO members VALUES ('ada', 'staff');"
    )
}

fn sql(url: &str) -> String {
    format!(
        "[checker.sql.site]\nurl = {url:?}\n\
         query = \"SELECT login AS name, password AS hash, active AS enabled FROM users WHERE login = :login\"\n\
         groups = \"SELECT team AS name FROM members WHERE login = :name\"\n"
    )
}

/// Right or not, who is disabled hears the same as who guesses.
fn eve_stays_out(server: &Countersign) -> Outcome {
    let (status, body) = begin(server, json!({ "username": "eve", "password": PASSWORD }))?;
    ensure!(status == 401, "a disabled user: {status} {body}");
    Ok(())
}

fn over_postgres(stage: &Stage) -> Outcome {
    let mut database = Postgres::start()?;
    let url = database.database()?;
    let name = url.rsplit('/').next().during("the database's name")?;
    database.sql(name, &tables())?;
    let (server, postfix) = tried(stage, "sql.site", &sql(&url))?;
    eve_stays_out(&server)?;
    database.stop(true)?;
    away(&server, &postfix)?;
    database.resume()?;
    back(&postfix)
}

fn over_mariadb(stage: &Stage) -> Outcome {
    let mut database = Mariadb::start()?;
    database.sql(&format!("USE site; {}", tables()))?;
    let (server, postfix) = tried(stage, "sql.site", &sql(&database.url()))?;
    eve_stays_out(&server)?;
    database.stop()?;
    away(&server, &postfix)?;
    database.resume()?;
    back(&postfix)
}

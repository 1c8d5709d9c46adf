//! Two servers on one PostgreSQL: what is changed through one holds on the other.

pub(crate) mod client;
mod faults;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_interop::runner::Case;
use countersign_interop::{
    Context, Countersign, Finished, Outcome, Postgres, Profile, Stage, command, ensure, eventually,
    wait_for,
};
use serde_json::json;

use self::client::{
    Mail, Ready, Reply, all_at_once, attempt, call, forward_auth, login, mail_login,
};

pub(crate) const CASES: &[Case] = &[
    long("postgres_nodes_hear_of_changes_within_a_second", changes),
    long("postgres_nodes_take_a_one_time_code_once", codes),
    long("postgres_nodes_throttle_together", guesses),
    long("postgres_stopped_under_load_and_back", faults::stopped_under_load),
    long("postgres_node_that_is_cut_off", faults::cut_off),
];

/// A database server and two of ours take some seconds to start.
const fn long(name: &'static str, play: fn(&Stage) -> Outcome) -> Case {
    Case { name, deadline: Duration::from_secs(180), play }
}

const PASSWORD: &str = "correct horse battery";
/// How soon a node knows what another one was told: docs/guide/postgresql.md.
const PROMISE: Duration = Duration::from_secs(1);

/// Two nodes and their database.
struct Site {
    a: Countersign,
    b: Countersign,
    stage: PathBuf,
    // Last, so that it ends last.
    postgres: Postgres,
    database: String,
}

impl Site {
    /// `throttle`: whether wrong guesses are slowed down. `route` gives the port through which the second
    /// node reaches the database.
    fn new(
        stage: &Stage,
        throttle: bool,
        route: impl FnOnce(u16) -> Outcome<u16>,
    ) -> Outcome<Self> {
        let postgres = Postgres::start()?;
        let url = postgres.database()?;
        let (_, database) = url.rsplit_once('/').during("a URL")?;
        let database = database.to_owned();
        let own = format!(":{}/", postgres.port);
        let routed = format!(":{}/", route(postgres.port)?);
        let a = node(stage, "a", &url, throttle)?;
        let b = node(stage, "b", &url.replace(&own, &routed), throttle)?;
        Ok(Self { a, b, stage: stage.path().to_owned(), postgres, database })
    }

    /// A command on a node's folder. The node is told when it is through; the other has to find out.
    fn run(&self, node: &str, words: &[&str], input: &str) -> Outcome<Finished> {
        let config = self.stage.join(format!("{node}.toml")).display().to_string();
        let data = self.stage.join(format!("{node}.data")).display().to_string();
        let place = ["--config", &config, "--data", &data];
        command(Profile::Debug, &[words, &place].concat(), input)
    }

    fn add(&self, user: &str, more: &[&str]) -> Outcome {
        let words = ["user", "add", user, "--password-stdin"];
        self.run("a", &[&words, more].concat(), &format!("{PASSWORD}\n")).map(drop)
    }

    fn mail(&self, node: &str, user: &str, password: &str) -> Outcome<Mail> {
        mail_login(&self.stage.join(format!("{node}.auth")), user, password)
    }
}

fn node(stage: &Stage, name: &str, url: &str, throttle: bool) -> Outcome<Countersign> {
    let file = stage.file(&format!("{name}.url"), &format!("{url}\n"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).during(file.display())?;
    let config = format!(
        "[store]\nurl_file = {file:?}\n\n[listen.http.main]\naddress = \"127.0.0.1:0\"\n\n\
         [listen.dovecot.mail]\npath = {socket:?}\n\n[throttle]\nenabled = {throttle}\n",
        socket = stage.at(format!("{name}.auth")),
    );
    let node = Countersign::node(stage, name, Profile::Debug, &config)?;
    ensure!(!node.log().contains(Postgres::PASSWORD), "the log tells the password: {}", node.log());
    Ok(node)
}

/// Looks until it is so, for as long as is promised.
fn promised(what: &str, mut so: impl FnMut() -> Outcome<bool>) -> Outcome {
    wait_for(what, PROMISE, || match so() {
        Ok(false) => None,
        said => Some(said.map(drop)),
    })?
}

fn changes(stage: &Stage) -> Outcome {
    let site = Site::new(stage, true, Ok)?;
    site.add("ada", &[])?;
    let (a, b) = (&site.a, &site.b);
    let enter = |node| login(node, "ada", PASSWORD)?.token();
    // On both, so that both have their copies of everything.
    let tokens = [enter(a)?, enter(b)?];
    for token in &tokens {
        ensure!(forward_auth(a, token)? == 200 && forward_auth(b, token)? == 200, "a session");
    }
    for node in ["a", "b"] {
        ensure!(site.mail(node, "ada", PASSWORD)? == Mail::Ok, "at {node}, by mail");
    }

    site.run("a", &["user", "set", "ada", "--disable"], "")?;
    promised("a disabled user's login refused", || Ok(login(b, "ada", PASSWORD)?.denied()))?;
    promised("and by mail", || Ok(site.mail("b", "ada", PASSWORD)? == Mail::No))?;
    for token in &tokens {
        promised("and their sessions", || Ok(forward_auth(b, token)? == 401))?;
    }

    site.run("b", &["user", "set", "ada", "--enable"], "")?;
    promised("let in again", || Ok(login(a, "ada", PASSWORD)?.granted()))?;
    ensure!(forward_auth(a, &tokens[0])? == 401, "an ended session is back");

    let token = enter(a)?;
    ensure!(forward_auth(b, &token)? == 200, "a session of the other node's");
    let new = "another battery horse";
    site.run("a", &["user", "passwd", "ada", "--password-stdin"], &format!("{new}\n"))?;
    promised("the old password", || Ok(site.mail("b", "ada", PASSWORD)? == Mail::No))?;
    ensure!(site.mail("b", "ada", new)? == Mail::Ok, "the new password");
    ensure!(login(b, "ada", PASSWORD)?.denied(), "the old password");
    ensure!(forward_auth(b, &token)? == 401, "a session from before the new password");

    let token = login(b, "ada", new)?.token()?;
    ensure!(forward_auth(a, &token)? == 200 && forward_auth(b, &token)? == 200, "a session");
    let ended = call(a, "DELETE", "/v1/session", Some(&token), None)?;
    ensure!(ended.status == 204 && forward_auth(a, &token)? == 401, "the end of a session");
    promised("its end on the other node", || Ok(forward_auth(b, &token)? == 401))?;

    site.run("b", &["user", "remove", "ada"], "")?;
    promised("a removed user", || Ok(site.mail("a", "ada", new)? == Mail::No))
}

/// An app or device that shows codes, of a user who has just enrolled it.
struct App(totp_rs::Totp);

impl App {
    fn of(site: &Site, user: &str, more: &[&str]) -> Outcome<Self> {
        let words = ["user", "otp", user, "--unconfirmed"];
        let out = site.run("a", &[&words, more].concat(), "")?.out;
        let secret = out.lines().find_map(|line| line.strip_prefix("secret")).during("a secret")?;
        let secret = totp_rs::Secret::try_from_base32(secret.trim()).during("a secret")?;
        let by = totp_rs::Builder::new().with_secret(secret.as_bytes());
        // By counter is by time with a second for each code.
        let step = if more.contains(&"--hotp") { 1 } else { 30 };
        Ok(Self(by.with_step_duration(step).build_noncompliant()))
    }

    fn code(&self, at: u64) -> String {
        self.0.generate(at).to_string()
    }
}

/// A login whose password was right and that waits for a code: the answer, ready to be sent.
fn with_code(node: &Countersign, user: &str, code: &str) -> Outcome<Ready> {
    let asked = login(node, user, PASSWORD)?;
    let id = asked.body["id"].as_str().during(format!("a second question: {asked:?}"))?;
    let body = json!({ "round": asked.body["round"]["number"], "answers": { "otp": code } });
    Ready::to(node, "POST", &format!("/v1/login/{id}"), None, Some(&body))
}

/// Sends the same code to both nodes at the same moment: one of them lets in.
fn at_once(site: &Site, user: &str, code: &str) -> Outcome {
    let both = vec![with_code(&site.a, user, code)?, with_code(&site.b, user, code)?];
    let replies = all_at_once(both)?;
    let granted = replies.iter().filter(|reply| reply.granted()).count();
    let denied = replies.iter().filter(|reply| reply.denied()).count();
    ensure!((granted, denied) == (1, 1), "the code {code} of {user}: {replies:?}");
    Ok(())
}

fn codes(stage: &Stage) -> Outcome {
    let site = Site::new(stage, false, Ok)?;
    for user in ["ada", "ben", "eve"] {
        site.add(user, &[])?;
    }
    let device = App::of(&site, "ada", &["--hotp"])?;
    for counter in 0..50 {
        at_once(&site, "ada", &device.code(counter))?;
    }
    // One after the other: used here, it is used there.
    let fresh = with_code(&site.a, "ada", &device.code(50))?.send()?;
    ensure!(fresh.granted(), "a fresh code: {fresh:?}");
    ensure!(with_code(&site.b, "ada", &device.code(50))?.send()?.denied(), "a used code");
    ensure!(with_code(&site.b, "ada", &device.code(49))?.send()?.denied(), "an older code");

    let app = App::of(&site, "ben", &[])?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).during("the time")?.as_secs();
    at_once(&site, "ben", &app.code(now))?;

    let out = site.run("a", &["user", "recovery", "eve"], "")?.out;
    ensure!(out.lines().count() == 10, "recovery codes: {out}");
    for code in out.lines() {
        at_once(&site, "eve", code)?;
    }
    Ok(())
}

fn guesses(stage: &Stage) -> Outcome {
    let site = Site::new(stage, true, Ok)?;
    for user in ["ada", "ben"] {
        site.add(user, &[])?;
    }
    // At the same time, so that all are looked at: the last of them earns a long delay.
    let guess = |number: usize| attempt(&site.a, "ada", &format!("guess number {number}"));
    for reply in all_at_once((0..12).map(guess).collect::<Outcome<_>>()?)? {
        ensure!(reply.denied() || reply.status == 429, "a wrong guess: {reply:?}");
    }
    let refused = |reply: &Reply| reply.status == 429 && reply.body["reason"] == "try-later";
    // The same guess each time counts once, and tells when the other node knows.
    eventually("the delay on the other node", || {
        login(&site.b, "ada", "guess number 0").is_ok_and(|reply| refused(&reply))
    })?;
    let right = login(&site.b, "ada", PASSWORD)?;
    ensure!(refused(&right) && right.head.contains("\nretry-after: "), "the right one: {right:?}");
    ensure!(login(&site.b, "ben", PASSWORD)?.granted(), "another user from there");

    let list = site.run("b", &["throttle", "list", "--user", "ada"], "")?.out;
    ensure!(list.contains("ada") && list.contains("127.0.0.1"), "the list: {list}");
    let cleared = site.run("b", &["throttle", "clear", "--user", "ada"], "")?.out;
    ensure!(cleared.contains("cleared 1 throttle"), "clearing: {cleared}");
    for node in [&site.a, &site.b] {
        promised("an end of the delay", || Ok(login(node, "ada", PASSWORD)?.granted()))?;
    }
    let list = site.run("a", &["throttle", "list", "--user", "ada"], "")?.out;
    ensure!(!list.contains("127.0.0.1"), "after clearing: {list}");
    Ok(())
}

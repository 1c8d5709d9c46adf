//! A server with every front end, a log that can be read, and clients of each protocol.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_server::config::Config;
use countersign_server::registry;
use countersign_server::run::Server;
use countersign_server::world::SystemWorld;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tracing::subscriber::DefaultGuard;

use crate::support::PATIENCE;
use crate::support::browser::{Browser, Page};
use crate::support::http::{Reply, Served, raw};
use crate::support::whole;

/// Everybody's.
pub(crate) const PASSWORD: &str = "countess of lovelace";

/// `imap` needs nothing but the account, `vpn` a code as well, `relay` no account at all.
const CONFIG: &str = r#"
[accounts]
argon2_memory_kib = 64
argon2_passes = 1

[checker.accounts.main]

[checker.file.relay]
path = "passwd"
allow_plain = true

[policy]
checkers = ["accounts.main"]

[[policy.rules]]
service = "vpn"
require = ["password", "otp"]

[[policy.rules]]
service = "relay"
checkers = ["file.relay"]

[listen.http.main]
address = "127.0.0.1:0"

[listen.dovecot.main]
path = "auth"

[listen.saslauthd.main]
path = "mux"
"#;

pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Server,
    pub(crate) codes: Vec<String>,
    log: Log,
    _logging: DefaultGuard,
}

/// What the server logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::with("", SystemWorld::new()).await
    }

    /// Users: `ada`, `bob`; `eve`, who is disabled; `grace`, with a generator of codes by counter; `hal`, in a file.
    /// Guesses are not slowed down unless `more` says so.
    pub(crate) async fn with(more: &str, world: SystemWorld) -> Self {
        Self::prepared(more, world, |_| {}).await
    }

    /// The same, in a folder in which something is done first.
    pub(crate) async fn prepared(more: &str, world: SystemWorld, prepare: fn(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        std::fs::write(folder.path().join("passwd"), format!("hal:{{PLAIN}}{PASSWORD}\n")).unwrap();
        let config = config(folder.path(), more);
        let names = ["ada", "bob", "eve", "grace"];
        let pending = whole::enrol(&config, world, &names, PASSWORD).await;
        let secret = pending.base32();
        let secret = totp_rs::Secret::try_from_base32(secret.to_str().unwrap()).unwrap();
        let codes = totp_rs::Builder::new().with_secret(secret.as_bytes()).with_step_duration(1);
        let codes = codes.build().unwrap();
        let codes = (0..20).map(|counter| codes.generate(counter).to_string()).collect();

        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let server = Server::start_in(world, config).await.unwrap();
        Self { folder, server, codes, log, _logging: logging }
    }

    /// Has the server go over to another end of its configuration.
    pub(crate) async fn reload(&self, more: &str) {
        let config = config(self.folder.path(), more);
        self.server.live().reload(Ok(config)).await.unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What was logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.0.lock().unwrap()).into_owned()
    }

    /// Another program's connection to the store's file.
    pub(crate) async fn intruder(&self) -> sqlx::SqliteConnection {
        let url = format!("sqlite://{}", self.path("accounts.db").display());
        sqlx::SqliteConnection::connect(&url).await.unwrap()
    }

    /// Every record: each line must be whole.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("audit.jsonl")).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "a torn line");
        let record = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        text.lines().map(record).collect()
    }

    /// PLAIN by Dovecot's protocol: the reply, without its id.
    pub(crate) async fn dovecot(&self, service: &str, user: &str, password: &str) -> String {
        let message = STANDARD.encode(format!("\0{user}\0{password}"));
        let line = format!("AUTH\t1\tPLAIN\tservice={service}\tsecured\tresp={message}");
        whole::dovecot(&self.path("auth"), &line).await.trim_end().to_owned()
    }

    /// The reply at saslauthd's socket; empty: closed without a word, which means "later".
    pub(crate) async fn saslauthd(&self, service: &str, user: &str, password: &str) -> String {
        let reply = whole::saslauthd(&self.path("mux"), service, user, password).await;
        String::from_utf8(reply.get(2..).unwrap_or_default().to_vec()).unwrap()
    }

    /// One request over HTTP, with a body of JSON unless it is null.
    pub(crate) async fn http(&self, method: &str, path: &str, token: &str, body: Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        if !token.is_empty() {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        if !body.is_empty() {
            head += "content-type: application/json\r\n";
        }
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        raw(self.address(), request.as_bytes()).await
    }

    /// A login with a password for a session.
    pub(crate) async fn login(&self, service: &str, user: &str, password: &str) -> Reply {
        let answers = json!({"username": user, "password": password});
        let body = json!({"service": service, "mechanism": "password", "answers": answers});
        self.http("POST", "/v1/login", "", body).await
    }

    /// The token of a login that must succeed.
    pub(crate) async fn token(&self, user: &str) -> String {
        let reply = self.login("imap", user, PASSWORD).await;
        token(&reply)
    }

    /// The open round of grace's login to `vpn`, for a code.
    pub(crate) async fn asked_for_a_code(&self) -> (String, u64) {
        let reply = self.login("vpn", "grace", PASSWORD).await;
        let said = reply.json();
        assert_eq!(said["round"]["questions"][0]["name"], "otp", "{reply:?}");
        (said["id"].as_str().unwrap().to_owned(), said["round"]["number"].as_u64().unwrap())
    }

    /// A login with a code.
    pub(crate) async fn code(&self, code: &str) -> Reply {
        let (id, round) = self.asked_for_a_code().await;
        self.answer(&id, round, code).await
    }

    pub(crate) async fn answer(&self, id: &str, round: u64, code: &str) -> Reply {
        let body = json!({"round": round, "answers": {"otp": code}});
        self.http("POST", &format!("/v1/login/{id}"), "", body).await
    }

    /// What a proxy is told of a session.
    pub(crate) async fn session(&self, token: &str) -> u16 {
        self.http("GET", "/v1/session", token, Value::Null).await.status
    }

    /// What the login page shows after a try.
    pub(crate) async fn page(&self, user: &str, password: &str) -> Page {
        let mut browser = Browser::default();
        let page = browser.get(self, "/login").await;
        let fields = [("-.v.username", user), ("-.v.password", password)];
        browser.submit(self, &page, "/login", &fields).await
    }

    /// Nobody who should not, whatever is broken: refused, or told to try later.
    pub(crate) async fn keeps_out(&self, when: &str) {
        for (user, password) in [("eve", PASSWORD), ("ada", "wrong"), ("nobody", PASSWORD)] {
            let dovecot = self.dovecot("imap", user, password).await;
            assert!(dovecot.starts_with("FAIL\t1"), "{when}: {user}: {dovecot}");
            let saslauthd = self.saslauthd("imap", user, password).await;
            assert!(["", "NO"].contains(&&*saslauthd), "{when}: {user}: {saslauthd}");
            let http = self.login("imap", user, password).await;
            assert!([401, 503].contains(&http.status), "{when}: {user}: {http:?}");
            let page = self.page(user, password).await;
            assert!([403, 503].contains(&page.status()), "{when}: {user}: {page:?}");
        }
    }

    /// Everything works, by every protocol; takes a code that was not used.
    pub(crate) async fn works(&self, when: &str, code: &str) {
        assert_eq!(self.dovecot("imap", "ada", PASSWORD).await, "OK\t1\tuser=ada", "{when}");
        assert_eq!(self.saslauthd("imap", "ada", PASSWORD).await, "OK", "{when}");
        let token = self.token("ada").await;
        assert_eq!(self.session(&token).await, 200, "{when}");
        assert_eq!(self.page("ada", PASSWORD).await.status(), 303, "{when}");
        assert_eq!(self.code(code).await.status, 200, "{when}");
        let again = self.code(code).await;
        assert_eq!(again.status, 401, "{when}: a used code: {again:?}");
        self.keeps_out(when).await;
    }

    /// The words for "something is broken on our side", over HTTP.
    pub(crate) fn is_later(reply: &Reply) {
        assert_eq!(reply.status, 503, "{reply:?}");
        let said = reply.json();
        assert_eq!((&said["status"], &said["reason"]), (&"denied".into(), &"try-later".into()));
        assert!(!reply.body.contains("accounts.db"), "what is ours to know: {reply:?}");
    }

    /// And on the page.
    pub(crate) fn page_is_later(page: &Page) {
        assert_eq!(page.status(), 503, "{page:?}");
        page.must_say("Something is broken on our side, and nobody has been logged in.");
    }
}

fn config(folder: &Path, more: &str) -> Config {
    let file = folder.join("countersign.toml");
    let throttle = if more.contains("[throttle]") { "" } else { "[throttle]\nenabled = false\n" };
    std::fs::write(&file, format!("{CONFIG}\n{throttle}\n{more}")).unwrap();
    Config::load(&file, folder, &registry::built_in()).unwrap()
}

/// Of Dovecot's protocol.
pub(crate) const LATER: &str = "FAIL\t1\treason=Try again later\tcode=temp_fail\ttemp";

pub(crate) fn token(reply: &Reply) -> String {
    let token = reply.json()["session"]["token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("{reply:?}"))
}

/// Looks until it is so.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

impl Served for Site {
    fn address(&self) -> SocketAddr {
        self.server.http_address().unwrap()
    }
}

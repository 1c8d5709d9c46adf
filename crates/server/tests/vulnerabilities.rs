//! Classes of `docs/vulnerabilities.md` that show only in a whole server: what names tell apart, and where
//! a secret could turn up.

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::Secret;
use countersign_server::admin::NewPassword;
use countersign_server::config::Config;
use countersign_server::front::http::{HttpOptions, MailSection, TrustedProxies};
use countersign_server::registry;
use countersign_server::run::Server;
use countersign_server::world::SystemWorld;
use serde_json::{Value, json};
use support::browser::Browser;
use support::http::Running;
use support::{PATIENCE, Place, Wishes, whole};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What must be nowhere: nothing else looks like it, and it is the same in every encoding of text.
const CANARY: &str = "canary-7d1f3b9a5c";

const CONFIG: &str = r#"
[accounts]
argon2_memory_kib = 64
argon2_passes = 1
[limits]
verified_cache = 0
[throttle]
enabled = false
[policy]
code_in_password = true
[listen.dovecot.main]
path = "auth"
[listen.saslauthd.main]
path = "mux"
[listen.http.main]
address = "127.0.0.1:0"
"#;

/// A server as `serve` starts it, with accounts: `ada`, `grace` who has one-time codes, and `eve` who is
/// disabled. Everybody's password is the canary.
struct Whole {
    folder: tempfile::TempDir,
    server: Server,
}

impl Whole {
    async fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("countersign.toml");
        std::fs::write(&file, config).unwrap();
        let config = Config::load(&file, folder.path(), &registry::built_in()).unwrap();
        let names = ["ada", "grace", "eve"];
        whole::enrol(&config, SystemWorld::new(), &names, CANARY).await;
        Self { folder, server: Server::start(config).await.unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `PLAIN` of Dovecot's protocol: the reply, without its id.
    async fn dovecot(&self, service: &str, user: &str, password: &str) -> String {
        let message = STANDARD.encode(format!("\0{user}\0{password}"));
        self.dovecot_line(&format!("AUTH\t1\tPLAIN\tservice={service}\tsecured\tresp={message}"))
            .await
    }

    async fn dovecot_line(&self, line: &str) -> String {
        whole::dovecot(&self.path("auth"), line).await
    }

    async fn saslauthd(&self, user: &str, password: &str) -> Vec<u8> {
        whole::saslauthd(&self.path("mux"), "imap", user, password).await
    }

    async fn http(&self, body: &str) -> String {
        let request = format!(
            "POST /v1/login HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let talk = async {
            let address = self.server.http_address().unwrap();
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await.unwrap();
            reply
        };
        tokio::time::timeout(PATIENCE, talk).await.unwrap()
    }

    /// How many hashes were computed.
    fn hashes(&self) -> u64 {
        self.server.engine().pool.as_ref().unwrap().statistics().computed
    }
}

fn answers(user: &str, password: &str) -> String {
    json!({"mechanism": "password", "answers": {"username": user, "password": password}})
        .to_string()
}

/// A reply without what differs from request to request.
fn alike(reply: &str) -> String {
    let keep = |line: &&str| !line.to_ascii_lowercase().starts_with("date:");
    let mut text = reply.lines().filter(keep).collect::<Vec<_>>().join("\n");
    if let Some(at) = text.find("\"id\":\"") {
        text.replace_range(at..at + 46, "");
    }
    text
}

/// Unknown, disabled, with and without a second factor: a wrong password has the same words, the same size,
/// the same number of rounds, and the work of one hash.
#[tokio::test]
async fn nothing_tells_a_user_from_nobody() {
    let whole = Whole::new(CONFIG).await;
    let users = ["nobody", "ada", "grace", "eve"];
    let mut seen = Vec::new();
    for user in users {
        let before = whole.hashes();
        let plain = whole.dovecot("imap", user, "guess").await.replace(user, "USER");
        let work = whole.hashes() - before;
        let saslauthd = whole.saslauthd(user, "guess").await;
        let http = alike(&whole.http(&answers(user, "guess")).await);
        let first = alike(&whole.http(r#"{"service": "imap"}"#).await);
        seen.push((plain, work, saslauthd, http, first));
    }
    for other in &seen[1..] {
        assert_eq!(*other, seen[0]);
    }
    let (plain, work, ..) = &seen[0];
    assert!(plain.starts_with("FAIL\t1") && *work == 1, "{plain} {work}");
    // The right password of a disabled account, and a wrong code behind a right one, are no better than a
    // wrong one. Only who has proven the password may learn that something else is needed.
    let before = whole.hashes();
    let disabled = whole.dovecot("imap", "eve", CANARY).await.replace("eve", "USER");
    assert_eq!((&disabled, whole.hashes() - before), (plain, 1));
    let code = whole.dovecot("imap", "grace", &format!("{CANARY},000000")).await;
    assert_eq!(code.replace("grace", "USER"), *plain);
    assert_eq!(whole.saslauthd("eve", CANARY).await, seen[0].2);
    assert_ne!(whole.dovecot("imap", "grace", CANARY).await.replace("grace", "USER"), *plain);
    assert!(whole.dovecot("imap", "ada", CANARY).await.starts_with("OK\t1"));
    whole.server.stop().await;
}

/// The same backend twice, with other settings: each by its own name, never by what it is made of.
#[tokio::test]
async fn the_same_backend_twice_is_two_checkers() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users"), "ada:{PLAIN}countess\n").unwrap();
    let config = format!(
        "{CONFIG}
        [[policy.rules]]
        service = \"lax\"
        checkers = [\"file.lax\"]
        [[policy.rules]]
        service = \"strict\"
        checkers = [\"file.strict\"]
        [checker.accounts.main]
        [checker.file.strict]
        path = \"{0}/users\"
        [checker.file.lax]
        path = \"{0}/users\"
        allow_plain = true
        ",
        folder.path().display()
    );
    let config = config.replace("[policy]", "[policy]\ncheckers = [\"accounts.main\"]");
    let whole = Whole::new(&config).await;
    assert!(whole.dovecot("lax", "ada", "countess").await.starts_with("OK"));
    assert!(whole.dovecot("strict", "ada", "countess").await.starts_with("FAIL"));
    assert!(whole.dovecot("Strict", "ada", "countess").await.starts_with("FAIL"), "class 15");
    assert!(whole.dovecot("imap", "ada", "countess").await.starts_with("FAIL"));
    whole.server.stop().await;
    let record = std::fs::read_to_string(whole.folder.path().join("audit.jsonl")).unwrap();
    let first: Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    assert_eq!(first["checker"], "file.lax", "{record}");
}

/// Everything that is logged, at the finest level, by every task of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Fails where a secret is, as it is or as it was sent.
fn clean(what: &str, bytes: &[u8], secrets: &[String]) {
    for secret in secrets {
        let there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!there, "`{secret}` is in {what}: {}", String::from_utf8_lossy(bytes));
    }
}

fn clean_folder(folder: &Path, secrets: &[String]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            clean_folder(&path, secrets);
        } else if path.is_file() {
            clean(&path.display().to_string(), &std::fs::read(&path).unwrap(), secrets);
        }
    }
}

#[tokio::test]
async fn a_password_turns_up_nowhere() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let mut secrets = vec![CANARY.to_owned(), STANDARD.encode(CANARY)];
    secrets.extend(["ada", "nobody"].map(|user| STANDARD.encode(format!("{user}:{CANARY}"))));
    secrets.extend(["ada", "nobody"].map(|user| STANDARD.encode(format!("\0{user}\0{CANARY}"))));
    let mut replies = Vec::new();

    let whole = Whole::new(CONFIG).await;
    for user in ["ada", "grace", "eve", "nobody"] {
        replies.push(whole.dovecot("imap", user, CANARY).await);
        replies.push(whole.dovecot("imap", user, &format!("{CANARY},123456")).await);
        replies.push(String::from_utf8_lossy(&whole.saslauthd(user, CANARY).await).into_owned());
        replies.push(whole.http(&answers(user, CANARY)).await);
        replies.push(whole.http(&answers(user, &CANARY.repeat(400))).await);
    }
    let encoded = STANDARD.encode(CANARY);
    // What clients get wrong, with the secret where it should not be.
    for line in [
        format!("AUTH\t1\tPLAIN\tservice=imap\tresp={CANARY}"),
        format!("AUTH\t1\tPLAIN\tservice=imap\tresp={encoded}"),
        format!("AUTH\t1\tLOGIN\tservice=imap\tsecured\tresp={encoded}\0"),
        format!("CONT\t1\t{encoded}"),
    ] {
        if !line.starts_with("CONT") {
            replies.push(whole.dovecot_line(&line).await);
        }
    }
    for body in [
        format!(r#"{{"answers": {{"username": "ada", "password": "{CANARY}"#),
        format!(r#"{{"answers": {{"username": "ada", "password": {{"base64": "{encoded}"}}}}}}"#),
        format!(r#"{{"answers": {{"username": "ada", "password": {{"base64": "{CANARY}"}}}}}}"#),
        format!(r#"{{"answers": {{"username": "ada", "password": ["{CANARY}"]}}}}"#),
        format!(r#"{{"answers": {{"username": "ada", "secret": "{CANARY}"}}}}"#),
        format!(r#"{{"answers": "{CANARY}"}}"#),
    ] {
        replies.push(whole.http(&body).await);
    }
    let metrics = countersign_server::metrics::text::exposition(whole.server.engine(), true);
    clean("the metrics", metrics.as_bytes(), &secrets);
    whole.server.stop().await;
    clean_folder(whole.folder.path(), &secrets);

    // The web front ends.
    let place = Place::with(Wishes { accounts: true, ..Wishes::default() }).await;
    let trusted_proxies = TrustedProxies::of(["127.0.0.1"]).unwrap();
    let section: MailSection = toml::from_str("servers = { imap = \"127.0.0.1:143\" }").unwrap();
    let mail = Some(Arc::new(section.load(Path::new("/"), &trusted_proxies).unwrap()));
    let options = HttpOptions { basic: true, mail, trusted_proxies, ..HttpOptions::default() };
    let server = Running::over(place, options).await;
    for user in ["ada", "root"] {
        let new = NewPassword { password: Secret::from(CANARY), must_change: false };
        server.place.admin.set_password(user, new).await.unwrap();
    }
    let body = serde_json::from_str(&answers("root", CANARY)).unwrap();
    let root = server.call("POST", "/v1/login", body).await;
    assert_eq!(root.status, 200, "{root:?}");
    let token = root.json()["session"]["token"].as_str().unwrap().to_owned();
    let password = json!({"password": CANARY});
    let set = server.call_as(&token, "PUT", "/v1/users/ada/password", password).await;
    assert_eq!(set.status, 200, "{set:?}");
    let new = json!({"name": "bob", "password": CANARY, "wrong": CANARY});
    replies.push(format!("{:?}", server.call_as(&token, "POST", "/v1/users", new).await));
    replies.push(format!("{set:?}"));
    for user in ["ada", "nobody"] {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{CANARY}")));
        for path in ["/forward-auth", "/v1/session", "/v1/users"] {
            let reply = server.send("GET", path, &[("authorization", &basic)], b"").await;
            assert_eq!(reply.status == 200, (user, path) == ("ada", "/forward-auth"), "{reply:?}");
            replies.push(format!("{reply:?}"));
        }
        let headers = [
            ("auth-method", "plain"),
            ("auth-user", user),
            ("auth-pass", CANARY),
            ("auth-protocol", "imap"),
            ("client-ip", "192.0.2.7"),
        ];
        replies.push(format!("{:?}", server.send("GET", "/mail-auth", &headers, b"").await));
        let mut browser = Browser::default();
        let page = browser.get(&server, "/login?lang=en").await;
        let fields = [("-.v.username", user), ("-.v.password", CANARY)];
        let page = browser.submit(&server, &page, "/login", &fields).await;
        assert_eq!(page.status() == 303, user == "ada", "{page:?}");
        replies.push(format!("{page:?}"));
        if user == "ada" {
            let account = browser.get(&server, "/account").await;
            let fields = [("-.n.new-password", CANARY), ("-.r.new-password", "another")];
            let page = browser.submit(&server, &account, "/account/password", &fields).await;
            assert_eq!(page.status(), 422);
            replies.push(format!("{page:?}"));
        }
        // Where a browser writes a form that was sent by GET.
        let query = format!("/login?username={user}&password={CANARY}");
        let page = browser.get(&server, &query).await;
        assert_ne!(page.status(), 303, "nobody is let in by an address: {page:?}");
    }
    let place = server.stop().await;
    clean_folder(place.folder.path(), &secrets);
    for reply in &replies {
        clean("a reply", reply.as_bytes(), &secrets);
    }
    assert!(place.audit().len() > 8);
    let log = log.0.lock().unwrap();
    assert!(!log.is_empty(), "nothing was logged at all");
    clean("the log", &log, &secrets);
}

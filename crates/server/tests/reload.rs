//! A configuration that is read anew while the server serves.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_server::config::{Config, ConfigError};
use countersign_server::control::{self, Told};
use countersign_server::registry;
use countersign_server::run::Server;
use countersign_server::status::Status;
use countersign_wire::saslauthd::Ask;
use serde_json::{Value, json};
use support::eventually;
use support::http::{Reply, read_reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

const PATIENCE: Duration = Duration::from_secs(20);
const ADA: &str = "ada:{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=\n";

const MAIN: &str = "[checker.file.mail]\npath = \"users\"\n[listen.saslauthd.main]\n";

/// A server with a configuration file.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("users"), ADA).unwrap();
        std::fs::write(folder.path().join("nobody"), "# nobody\n").unwrap();
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The configuration of a text, with listeners `main`.
    fn config(&self, more: &str) -> Result<Config, ConfigError> {
        self.whole(&format!("{MAIN}{more}"))
    }

    fn whole(&self, text: &str) -> Result<Config, ConfigError> {
        let path = self.folder.path().join("countersign.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path, &self.data(), &registry::built_in())
    }

    async fn login(&self, socket: &str, password: &str) -> String {
        login(&self.data().join(socket), password).await
    }
}

async fn login(socket: &Path, password: &str) -> String {
    let asking = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut sent = Vec::new();
        let (login, password) = (b"ada".as_slice(), password.as_bytes());
        let ask = Ask { login, password, service: b"smtp", realm: b"", client: None };
        ask.encode(&mut sent).unwrap();
        stream.write_all(&sent).await?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&reply[2..]).into_owned())
    };
    let asked = tokio::time::timeout(PATIENCE, asking).await.expect("no answer");
    asked.unwrap_or_else(|error| error.kind().to_string())
}

async fn call(at: SocketAddr, token: &str, method: &str, path: &str, body: Value) -> Reply {
    let body = body.to_string();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_reply(&mut stream).await
}

const MUX: &str = "run/saslauthd/mux";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_one_counts_at_once_and_a_bad_one_changes_nothing() {
    let site = Site::new();
    let server = Server::start(site.config("").unwrap()).await.unwrap();
    let live = server.live();
    assert!(site.login(MUX, "test").await.starts_with("OK"));
    let nothing: Vec<String> = Vec::new();
    assert_eq!(live.reload(site.config("")).await.unwrap(), nothing);

    // Another listener, another checker's file.
    let more = "[listen.saslauthd.second]\npath = \"run/second\"\n[sessions]\nlifetime = \"1h\"";
    let changed = live.reload(site.config(more)).await.unwrap();
    assert_eq!(changed, ["sessions", "listen.saslauthd.second"]);
    assert!(site.login("run/second", "test").await.starts_with("OK"));
    let text = format!("{MAIN}{more}").replace("users", "nobody");
    assert_eq!(live.reload(site.whole(&text)).await.unwrap(), ["checkers"]);
    assert!(site.login(MUX, "test").await.starts_with("NO"));
    live.reload(site.config(more)).await.unwrap();

    // Each refused for its reason, and nothing of it is so.
    let elsewhere = "[checker.file.mail]\npath = \"none\"\n[listen.saslauthd.main]\n";
    let taken = site.data().join("taken");
    std::fs::write(&taken, "").unwrap();
    for (config, why) in [
        (site.config("[sesions]\n"), "countersign.toml:4"),
        (site.whole(elsewhere), "none"),
        (site.config("[listen.saslauthd.third]\npath = \"taken\"\n"), "move it away"),
        (site.config("[store]\npath = \"other.db\"\n"), "[store] cannot be changed"),
        (site.config("[limits]\nhash_queue = 7\n"), "restart for this"),
        (site.config("[audit]\npath = \"none/audit\"\n"), "none/audit"),
    ] {
        let error = live.reload(config).await.unwrap_err();
        assert!(error.contains(why), "no {why:?} in {error}");
        for socket in [MUX, "run/second"] {
            assert!(site.login(socket, "test").await.starts_with("OK"), "{why}");
        }
    }
    let status = Status::of(live);
    let refused = status.problems.iter().find(|said| said.contains("not the file's"));
    assert!(refused.is_some(), "{:?}", status.problems);

    // One that is not there any more.
    assert!(live.reload(site.config("[audit]\npath = \"second.jsonl\"")).await.is_ok());
    eventually(async || site.login("run/second", "test").await == "entity not found").await;
    assert!(!site.data().join("run/second").exists());
    assert!(site.login(MUX, "test").await.starts_with("OK"));
    let record = |name| std::fs::read_to_string(site.data().join(name)).unwrap();
    let (old, new) = (record("audit.jsonl"), record("second.jsonl"));
    assert!(old.contains(r#""act":"reload""#) && old.contains("refused: "), "{old}");
    assert_eq!(new.matches(r#""subject":"ada""#).count(), 1, "{new}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_goes_on_with_what_it_began_with() {
    let site = Site::new();
    let http = |more: &str| format!("[listen.http.main]\naddress = \"127.0.0.1:0\"\n{more}");
    let server = Server::start(site.config(&http("")).unwrap()).await.unwrap();
    let live = server.live();
    let address: SocketAddr = server.http_address().unwrap();
    assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
    let asked = call(address, "", "POST", "/v1/login", json!({ "service": "web" })).await.json();
    let (id, round) = (asked["id"].as_str().unwrap(), &asked["round"]["number"]);

    // Nobody can log in any more, except who had begun.
    let text = format!("{MAIN}{}", http("")).replace("users", "nobody");
    live.reload(site.whole(&text)).await.unwrap();
    let answers = json!({ "round": round, "answers": { "username": "ada", "password": "test" } });
    let done = call(address, "", "POST", &format!("/v1/login/{id}"), answers).await.json();
    assert_eq!(done["status"], "granted", "{done}");
    let token = done["session"]["token"].as_str().unwrap();
    assert!(site.login(MUX, "test").await.starts_with("NO"));

    // The listener is another one, on the same connection queue; the session stays.
    let changed = live.reload(site.config(&http("connections = 7"))).await.unwrap();
    assert_eq!(changed, ["checkers", "listen.http.main"]);
    let status = Status::of(live);
    let main = status.listeners.iter().find(|listener| listener.name == "http.main").unwrap();
    assert_eq!(main.limit, 7);
    let at = main.address.parse().unwrap();
    let session = call(at, token, "GET", "/v1/session", json!({})).await;
    assert_eq!(session.status, 200, "{session:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_socket_tells_how_it_does() {
    let site = Site::new();
    let server = Server::start(site.config("").unwrap()).await.unwrap();
    site.login(MUX, "test").await;
    site.login(MUX, "wrong").await;
    let data = site.data();
    let told = tokio::task::spawn_blocking(move || control::status(&data)).await.unwrap();
    let Told::Done(said) = told else { panic!("{told:?}") };
    let status: Status = serde_json::from_value(said).unwrap();
    assert!(status.problems.is_empty() && status.store.up, "{status:?}");
    assert_eq!((status.logins["granted"], status.logins["denied"]), (1, 1));
    assert_eq!((status.last_minute["granted"], status.last_minute["denied"]), (1, 1));
    let audit = status.audit.unwrap();
    assert_eq!(audit.size, std::fs::metadata(&audit.path).unwrap().len());
    assert_eq!(status.listeners[0].name, "saslauthd.main");
    // Nobody reads configurations for a server that was given one.
    let data = site.data();
    server.stop().await;
    assert!(matches!(control::status(&data), Told::NoServer));
}

/// What is in files of their own counts as what is in the configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_beside_the_configuration_are_read_anew() {
    let site = Site::new();
    let file = |name: &str, text: &str| {
        let path = site.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let owner_s = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, owner_s).unwrap();
    };
    let (old, new) = ("0123456789abcdef", "fedcba9876543210");
    file("site.css", ":root { --accent: #111 }");
    file("key", old);
    let http = "[listen.http.main]\naddress = \"127.0.0.1:0\"\ntheme = \"site.css\"\n\
                mail = { servers = { imap = \"127.0.0.1:143\" }, key_file = \"key\" }\n";
    let server = Server::start(site.config(http).unwrap()).await.unwrap();
    let at = async |server: &Server| server.http_address().unwrap();
    let get = async |at: SocketAddr, path: &str, key: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-auth-key: {key}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_reply(&mut stream).await
    };
    let here = at(&server).await;
    assert!(get(here, "/assets/theme.css", "").await.body.contains("#111"));
    assert_eq!(get(here, "/mail-auth", old).await.status, 200);
    assert_eq!(get(here, "/mail-auth", new).await.status, 403);

    let live = server.live();
    let nothing: Vec<String> = Vec::new();
    assert_eq!(live.reload(site.config(http)).await.unwrap(), nothing);
    file("site.css", ":root { --accent: #222 }");
    file("key", new);
    assert_eq!(live.reload(site.config(http)).await.unwrap(), ["listen.http.main"]);
    let status = Status::of(live);
    let listener = status.listeners.iter().find(|one| one.name == "http.main").unwrap();
    let here: SocketAddr = listener.address.parse().unwrap();
    assert!(get(here, "/assets/theme.css", "").await.body.contains("#222"));
    assert_eq!(get(here, "/mail-auth", new).await.status, 200);
    assert_eq!(get(here, "/mail-auth", old).await.status, 403);
    server.stop().await;
}

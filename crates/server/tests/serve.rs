//! A whole server, from its configuration to its end: what it makes, what keeps it from starting, what it
//! leaves behind, and changes that another process makes meanwhile.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::Secret;
use countersign_checkers::pool::{HashPool, PoolOptions};
use countersign_server::admin::{Admin, NewUser, UserChange};
use countersign_server::config::Config;
use countersign_server::control::{self, Told};
use countersign_server::registry;
use countersign_server::run::{ServeOptions, Server, StartError};
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store};
use countersign_wire::saslauthd::Ask;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(20);
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn options(data: &Path) -> ServeOptions {
    ServeOptions { config: None, data: data.to_owned(), http: Some(ANYWHERE), auth: Vec::new() }
}

/// Cheap hashes, so that tests need not wait for dear ones.
fn config(data: &Path) -> Config {
    let mut config = options(data).configuration(&registry::built_in()).unwrap();
    config.accounts.argon2_memory_kib = 64;
    config.accounts.argon2_passes = 1;
    config
}

async fn refused(config: Config) -> String {
    let error = Server::start(config).await.expect_err("it must not start");
    error.to_string()
}

/// What one login at the saslauthd socket is answered.
async fn login(data: &Path, user: &str, password: &str) -> String {
    let asking = async {
        let mut stream = UnixStream::connect(data.join("run/saslauthd/mux")).await.unwrap();
        let mut sent = Vec::new();
        let (login, password) = (user.as_bytes(), password.as_bytes());
        let ask = Ask { login, password, service: b"smtp", realm: b"", client: None };
        ask.encode(&mut sent).unwrap();
        stream.write_all(&sent).await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        String::from_utf8(reply.get(2..).unwrap_or_default().to_vec()).unwrap()
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("no answer")
}

#[tokio::test]
async fn it_makes_what_it_needs_and_takes_away_what_others_go_by() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("not/yet/there");
    for start in 0..2 {
        let server = Server::start(config(&data)).await.unwrap();
        let ready: serde_json::Value =
            serde_json::from_slice(&std::fs::read(data.join("run/ready")).unwrap()).unwrap();
        assert_eq!(ready["pid"], std::process::id());
        assert_eq!(ready["http"], server.http_address().unwrap().to_string());
        for socket in ["run/dovecot-auth", "run/saslauthd/mux", "run/control"] {
            UnixStream::connect(data.join(socket)).await.unwrap();
        }
        assert_eq!(login(&data, "nobody", "x").await, "NO", "start {start}");
        server.stop().await;
        for gone in ["run/ready", "run/dovecot-auth", "run/saslauthd/mux", "run/control"] {
            assert!(!data.join(gone).exists(), "{gone}");
        }
        for kept in ["accounts.db", "audit.jsonl"] {
            let mode = std::fs::metadata(data.join(kept)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{kept}");
        }
    }
    let record = std::fs::read_to_string(data.join("audit.jsonl")).unwrap();
    assert_eq!(record.lines().filter(|line| line.contains("unknown-user")).count(), 2);
}

#[tokio::test]
async fn a_second_server_on_the_same_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = Server::start(config(folder.path())).await.unwrap();
    let error = Server::start(config(folder.path())).await.unwrap_err();
    assert!(matches!(&error, StartError::Running { data } if data == folder.path()), "{error}");
    let said = error.to_string();
    assert!(said.contains("another server runs") && said.contains("--data"), "{said}");
    // The first is none the worse for it.
    assert!(folder.path().join("run/ready").exists());
    assert_eq!(login(folder.path(), "nobody", "x").await, "NO");
    first.stop().await;
    Server::start(config(folder.path())).await.unwrap().stop().await;
}

#[tokio::test]
async fn sockets_and_ports_that_cannot_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(100));
    let said = refused(config(&deep)).await;
    assert!(said.contains("may have") && said.contains("shorter folder"), "{said}");

    let taken = TcpListener::bind(ANYWHERE).unwrap();
    let address = taken.local_addr().unwrap();
    let data = folder.path().join("a");
    let mut wanted = config(&data);
    wanted.listen_http(address);
    let said = refused(wanted).await;
    assert!(said.contains(&address.to_string()) && said.contains("--http"), "{said}");
    // Nothing is left listening, nor anything that says so.
    for socket in ["run/dovecot-auth", "run/saslauthd/mux", "run/control", "run/ready"] {
        assert!(!data.join(socket).exists(), "{socket}");
    }

    let mut wanted = config(&data);
    wanted.dovecot.values_mut().for_each(|section| section.group = Some("no-such-group".into()));
    let said = refused(wanted).await;
    assert!(said.contains("run/dovecot-auth") && said.contains("`no-such-group`"), "{said}");

    // Two listeners on one path: neither takes it from the other.
    let mut wanted = config(&data);
    wanted.saslauthd.values_mut().for_each(|section| section.path = "run/dovecot-auth".into());
    let said = refused(wanted).await;
    assert!(said.contains("listening on it already"), "{said}");

    Server::start(config(&data)).await.unwrap().stop().await;
}

#[tokio::test]
async fn stores_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    std::fs::create_dir(data.join("accounts.db")).unwrap();
    let said = refused(config(data)).await;
    assert!(said.contains("accounts.db"), "{said}");
    std::fs::remove_dir(data.join("accounts.db")).unwrap();

    std::fs::write(data.join("accounts.db"), "mail spool\n".repeat(1000)).unwrap();
    std::fs::set_permissions(data.join("accounts.db"), PermissionsExt::from_mode(0o600)).unwrap();
    let said = refused(config(data)).await;
    assert!(said.contains("is not a usable account store"), "{said}");
    let kept = std::fs::read_to_string(data.join("accounts.db")).unwrap();
    assert!(kept.starts_with("mail spool"), "what was there is not touched");

    std::fs::remove_file(data.join("accounts.db")).unwrap();
    let mut wanted = config(data);
    wanted.audit.path = "no/such/folder/audit.jsonl".into();
    let said = refused(wanted).await;
    assert!(said.contains("audit.jsonl") && said.contains("audit.path"), "{said}");
    assert!(!data.join("run/control").exists());
}

#[test]
fn configurations_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("countersign.toml");
    let options = ServeOptions { config: Some(path.clone()), ..options(folder.path()) };
    let said = options.configuration(&registry::built_in()).unwrap_err().to_string();
    assert!(said.contains("countersign.toml") && said.contains("cannot be read"), "{said}");
    std::fs::write(&path, "[listen.dovecot.main]\nmod = \"0660\"\n").unwrap();
    let said = options.configuration(&registry::built_in()).unwrap_err().to_string();
    assert!(said.contains("mod") && said.contains("mode"), "{said}");
}

/// Another process's view of the same store.
async fn elsewhere(config: &Config) -> Admin {
    let store = Store::open(&config.store, OpenOptions::default()).await.unwrap();
    let pool = Arc::new(HashPool::start(&PoolOptions::default()).unwrap());
    Admin::new(store, pool, config.recipe(), SystemWorld::new())
}

async fn poke(data: &Path) -> Told {
    let data = data.to_owned();
    tokio::task::spawn_blocking(move || control::refresh(&data)).await.unwrap()
}

#[tokio::test]
async fn changes_by_another_process_count_at_once_when_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    assert!(matches!(poke(data).await, Told::NoServer));
    let server = Server::start(config(data)).await.unwrap();
    let admin = elsewhere(&config(data)).await;
    // Asked for before, so that the server knows that there is no such account.
    assert_eq!(login(data, "ada", "countess of lovelace").await, "NO");
    let password = Some(Secret::from("countess of lovelace"));
    admin.add_user(NewUser { password, ..NewUser::named("ada") }).await.unwrap();
    assert!(matches!(poke(data).await, Told::Done(_)));
    assert_eq!(login(data, "ada", "countess of lovelace").await, "OK");
    let disable = || UserChange { enabled: Some(false), ..UserChange::default() };
    admin.change_user("ada", disable()).await.unwrap();
    assert!(matches!(poke(data).await, Told::Done(_)));
    assert_eq!(login(data, "ada", "countess of lovelace").await, "NO");

    // Without a word it takes a moment.
    let enable = UserChange { enabled: Some(true), ..UserChange::default() };
    admin.change_user("ada", enable).await.unwrap();
    let changed = Instant::now();
    while login(data, "ada", "countess of lovelace").await != "OK" {
        assert!(changed.elapsed() < PATIENCE, "it never looks");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.stop().await;
    assert!(matches!(poke(data).await, Told::NoServer));
}

#[tokio::test]
async fn the_control_socket_bears_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(config(folder.path())).await.unwrap();
    let path = control::path(folder.path());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for (sent, said) in [
        ("refresh\n", "ok\n"),
        ("refresh", "ok\n"),
        ("\n", "error \"unknown command; there are: refresh, reopen, reload, status\"\n"),
        (
            &*"x".repeat(10_000),
            "error \"unknown command; there are: refresh, reopen, reload, status\"\n",
        ),
    ] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let mut reply = String::new();
        let asking = async {
            let _ = stream.write_all(sent.as_bytes()).await;
            stream.shutdown().await.unwrap();
            tokio::io::BufReader::new(stream).read_line(&mut reply).await.unwrap();
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("no answer");
        assert_eq!(reply, said);
    }
    server.stop().await;
}

/// A certificate for `localhost` and its key, beside the configuration.
fn certificate(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    std::fs::write(folder.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn a_listener_with_tls_serves_its_parts_within_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("countersign.toml");
    let text = "[checker.accounts.main]\n[listen.http.main]\naddress = \"127.0.0.1:0\"\n\
                serve = [\"api\"]\ntls = { certificate = \"cert.pem\", key = \"key.pem\" }\n";
    std::fs::write(&path, text).unwrap();
    let data = folder.path().join("data");
    let start = || {
        let options = ServeOptions {
            config: Some(path.clone()),
            data: data.clone(),
            http: None,
            auth: Vec::new(),
        };
        Server::start(options.configuration(&registry::built_in()).unwrap())
    };
    let error = start().await.expect_err("there is no certificate").to_string();
    assert!(error.contains("[listen.http.main] tls: ") && error.contains("cert.pem"), "{error}");

    certificate(folder.path());
    let server = start().await.unwrap();
    assert_eq!(server.http_address(), None);
    let address = server.https_address().unwrap();
    let ready = std::fs::read_to_string(data.join("run/ready")).unwrap();
    assert!(ready.contains(&format!("\"https\":\"{address}\"")), "{ready}");

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(folder.path().join("cert.pem")).unwrap();
    use rustls::pki_types::pem::PemObject;
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    for (path, status) in [("/healthz", "200"), ("/v1/session", "401"), ("/v1/users", "404")] {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        // The end of the stream without TLS's own end is an error after the reply.
        let _ = stream.read_to_string(&mut reply).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {reply}");
    }
    server.reload_certificates();
    server.stop().await;
}

/// The server that other tests start as a process of its own: this program, as told by its environment.
#[test]
#[ignore = "started by other tests"]
fn serve_until_signalled() {
    let Some(data) = std::env::var_os("COUNTERSIGN_TEST_DATA") else { return };
    let options = options(&PathBuf::from(data));
    countersign_server::run::run(&options, &registry::built_in()).unwrap();
}

struct Process(Child);

impl Process {
    fn start(data: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "serve_until_signalled", "--nocapture"])
            .env("COUNTERSIGN_TEST_DATA", data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = Self(child);
        let began = Instant::now();
        while !data.join("run/ready").exists() {
            assert!(began.elapsed() < PATIENCE, "it is never ready");
            assert!(process.0.try_wait().unwrap().is_none(), "it ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        process
    }

    /// Sends a signal, and gives whether it ended well and what it wrote.
    fn signal(mut self, name: &str) -> (bool, String) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut written = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut written).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut written).unwrap();
        (status.success(), written)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_first_start_makes_an_administrator_and_signals_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let process = Process::start(data);
    let path = data.join("admin-password");
    let (ended_well, written) = process.signal("TERM");
    assert!(ended_well, "{written}");
    // Without a terminal the password is in a file of its owner's, whose path is logged, and nowhere else.
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let password =
        BufReader::new(std::fs::File::open(&path).unwrap()).lines().next().unwrap().unwrap();
    assert!(password.len() >= 16, "{} characters", password.len());
    assert!(written.contains(&path.display().to_string()), "{written}");
    assert!(!written.contains(&password));
    let record = std::fs::read_to_string(data.join("audit.jsonl")).unwrap();
    assert!(!record.contains(&password));
    assert!(written.contains("SIGTERM: stopping") && written.contains("stopped"), "{written}");
    assert!(!data.join("run/ready").exists() && !data.join("run/dovecot-auth").exists());

    // The next start makes none, and another signal is as good.
    std::fs::remove_file(&path).unwrap();
    let (ended_well, written) = Process::start(data).signal("INT");
    assert!(ended_well && written.contains("SIGINT: stopping"), "{written}");
    assert!(!path.exists());
}

#[test]
fn who_is_killed_leaves_nothing_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let (ended_well, _) = Process::start(folder.path()).signal("KILL");
    assert!(!ended_well);
    assert!(folder.path().join("run/dovecot-auth").exists(), "what a killed server leaves");
    // Not even what said that it was ready, before the next one is.
    let config = config(folder.path());
    let store = folder.path().join("accounts.db");
    std::fs::rename(&store, folder.path().join("away")).unwrap();
    std::fs::create_dir(&store).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(refused(config));
    assert!(!folder.path().join("run/ready").exists());
    std::fs::remove_dir(store).unwrap();
    let (ended_well, written) = Process::start(folder.path()).signal("TERM");
    assert!(ended_well, "{written}");
}

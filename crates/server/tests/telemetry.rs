//! Traces of logins, as a scripted collector receives them.
#![cfg(feature = "otel")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_checkers::factors::{Factors, OtpSettings};
use countersign_checkers::pool::HashPool;
use countersign_server::admin::{Admin, NewUser};
use countersign_server::config::Config;
use countersign_server::registry::built_in;
use countersign_server::run::Server;
use countersign_server::status::Status;
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use prost::Message;
use serde_json::{Value, json};
use support::eventually;
use support::http::{Reply, read_reply};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const PASSWORD: &str = "countess of lovelace";
const TOKEN: &str = "collector-t0ken";

/// What a collector does with a request.
#[derive(Clone, Copy)]
enum Manner {
    Take,
    Refuse,
    Hang,
}

/// What a collector was sent: head and body of each request.
type Seen = Mutex<Vec<(String, Vec<u8>)>>;

/// A collector.
struct Collector {
    address: SocketAddr,
    seen: Arc<Seen>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    async fn start(manner: Manner) -> Self {
        Self::with(manner, None).await
    }

    async fn with(manner: Manner, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let told = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (told, tls) = (Arc::clone(&told), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => collect(stream, manner, &told).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            collect(stream, manner, &told).await;
                        }
                    }
                });
            }
        });
        Self { address, seen, serving }
    }

    fn seen(&self) -> Vec<(String, Vec<u8>)> {
        self.seen.lock().unwrap().clone()
    }

    /// Every span that came, and none of these words in any byte of it.
    fn spans(&self, secrets: &[&str]) -> Vec<Span> {
        let mut spans = Vec::new();
        for (head, body) in self.seen() {
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
            for secret in secrets {
                let found = body.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{secret} is in what the collector got");
            }
            let request = ExportTraceServiceRequest::decode(&*body).unwrap();
            for resource in request.resource_spans {
                let named = attributes(&resource.resource.unwrap().attributes);
                assert_eq!(named["service.name"], "sign-in");
                assert!(named.contains_key("service.instance.id"), "{named:?}");
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans
    }

    /// The one trace that came: the login, and its children in their order.
    fn trace(&self, secrets: &[&str]) -> (Span, Vec<Span>) {
        let spans = self.spans(secrets);
        let (mut roots, children): (Vec<_>, Vec<_>) =
            spans.into_iter().partition(|span| span.name == "login");
        assert_eq!(roots.len(), 1, "{roots:?}");
        let root = roots.remove(0);
        for child in &children {
            assert_eq!((&child.trace_id, &child.parent_span_id), (&root.trace_id, &root.span_id));
            assert!(root.start_time_unix_nano <= child.start_time_unix_nano);
            assert!(child.start_time_unix_nano <= child.end_time_unix_nano);
            assert!(child.end_time_unix_nano <= root.end_time_unix_nano);
        }
        let mut ids: Vec<_> = children.iter().map(|child| &child.span_id).collect();
        ids.push(&root.span_id);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), children.len() + 1);
        (root, children)
    }
}

async fn collect(mut stream: impl AsyncRead + AsyncWrite + Unpin, manner: Manner, seen: &Seen) {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return,
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end + 4].to_vec()).unwrap().to_ascii_lowercase();
        let head = head.replacen("post /v1/traces http", "POST /v1/traces HTTP", 1);
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length: usize = length.parse().unwrap();
        if bytes.len() < end + 4 + length {
            continue;
        }
        let body = bytes.drain(..end + 4 + length).skip(end + 4).collect();
        seen.lock().unwrap().push((head, body));
        let status = match manner {
            Manner::Take => "200 OK",
            Manner::Refuse => "400 Bad Request",
            // Until the client has gone.
            Manner::Hang => return drop(stream.read(&mut piece).await),
        };
        let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |any: &Any| match any {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        Any::ArrayValue(list) => {
            let texts = list.values.iter().filter_map(|value| match &value.value {
                Some(Any::StringValue(text)) => Some(text.as_str()),
                _ => None,
            });
            texts.collect::<Vec<_>>().join(", ")
        }
        other => panic!("{other:?}"),
    };
    let pair = |pair: &KeyValue| {
        let value = pair.value.as_ref().and_then(|any| any.value.as_ref()).unwrap();
        (pair.key.clone(), text(value))
    };
    list.iter().map(pair).collect()
}

/// A span's attributes, as `key=value`, sorted.
fn said(span: &Span) -> Vec<String> {
    let attributes = attributes(&span.attributes);
    attributes.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// A server whose traces go to a collector, and its users `ada`, and `grace`, who has codes.
struct Site {
    folder: tempfile::TempDir,
    server: Server,
    codes: Vec<String>,
}

/// `telemetry`: more of that section.
fn configuration(folder: &Path, collector: &str, telemetry: &str) -> Config {
    let headers = folder.join("headers");
    std::fs::write(&headers, format!("authorization: Bearer {TOKEN}\n")).unwrap();
    std::fs::set_permissions(&headers, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[telemetry]\notlp = \"{collector}\"\nservice_name = \"sign-in\"\nheaders_file = \"headers\"\n\
         {telemetry}\n[accounts]\nargon2_memory_kib = 64\nargon2_passes = 1\n\
         [[policy.rules]]\nservice = \"vpn\"\nrequire = [\"password\", \"otp\"]\n\
         [listen.http.main]\naddress = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [listen.http.open]\naddress = \"127.0.0.1:0\"\n[listen.dovecot.main]\npath = \"auth\"\n"
    );
    let file = folder.join("countersign.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(&file, folder, &built_in()).unwrap()
}

impl Site {
    async fn new(collector: &Collector, telemetry: &str) -> Self {
        Self::at(&format!("http://{}", collector.address), telemetry).await
    }

    async fn at(collector: &str, telemetry: &str) -> Self {
        Self::within(tempfile::tempdir().unwrap(), collector, telemetry).await
    }

    async fn within(folder: tempfile::TempDir, collector: &str, telemetry: &str) -> Self {
        let config = configuration(folder.path(), collector, telemetry);
        let path = folder.path().join("accounts.db");
        let store = Store::open(&path, OpenOptions::create()).await.unwrap();
        let pool = Arc::new(HashPool::start(&Default::default()).unwrap());
        let world = SystemWorld::new();
        let admin = Admin::new(store.clone(), pool, config.recipe(), world);
        for name in ["ada", "grace"] {
            let user = json!({ "name": name, "password": PASSWORD });
            let user: NewUser = serde_json::from_value(user).unwrap();
            admin.add_user(user).await.unwrap();
        }
        let factors = Factors::new(store, Arc::new(world));
        let pending = factors.begin_otp("grace", "Test", OtpSettings::counted()).unwrap();
        factors.enrol_unconfirmed(&pending, "key").await.unwrap();
        let base32 = pending.base32();
        let secret = totp_rs::Secret::try_from_base32(base32.to_str().unwrap()).unwrap();
        let builder = totp_rs::Builder::new().with_secret(secret.as_bytes());
        let generator = builder.with_step_duration(1).build().unwrap();
        let codes = (0..2).map(|counter| generator.generate(counter).to_string()).collect();
        Self { folder, server: Server::start(config).await.unwrap(), codes }
    }

    /// One request over HTTP.
    async fn call(&self, method: &str, path: &str, headers: &str, body: Value) -> Reply {
        call(self.server.http_address().unwrap(), method, path, headers, body).await
    }

    async fn login(&self, headers: &str, password: &str) -> Reply {
        let answers = json!({ "username": "ada", "password": password });
        let body = json!({ "mechanism": "password", "answers": answers });
        self.call("POST", "/v1/login", headers, body).await
    }

    /// What a mail server is told.
    async fn plain(&self, password: &str) -> String {
        let asking = async {
            let path = self.folder.path().join("auth");
            let mut stream = BufReader::new(UnixStream::connect(path).await.unwrap());
            let message = STANDARD.encode(format!("\0ada\0{password}"));
            let sent = format!(
                "VERSION\t1\t2\nCPID\t7\nAUTH\t1\tPLAIN\tservice=imap\tsecured=tls\trip=192.0.2.1\t\
                 resp={message}\n"
            );
            stream.write_all(sent.as_bytes()).await.unwrap();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                if line.starts_with("OK\t1") || line.starts_with("FAIL\t1") {
                    return line;
                }
            }
        };
        timeout(PATIENCE, asking).await.unwrap()
    }

    /// Stops, which sends what is left.
    async fn stop(self) {
        timeout(PATIENCE, self.server.stop()).await.unwrap();
    }
}

async fn call(at: SocketAddr, method: &str, path: &str, headers: &str, body: Value) -> Reply {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_reply(&mut stream).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_a_mail_program_is_one_trace() {
    let collector = Collector::start(Manner::Take).await;
    let site = Site::new(&collector, "").await;
    assert!(site.plain(PASSWORD).await.starts_with("OK"));
    site.stop().await;
    let (login, children) =
        collector.trace(&[PASSWORD, &STANDARD.encode(PASSWORD), "ada", "192.0.2.1"]);
    assert_eq!(
        said(&login),
        [
            "countersign.checker=accounts.main",
            "countersign.checkers=accounts.main password granted",
            "countersign.front_end=dovecot",
            "countersign.listener=dovecot.main",
            "countersign.mechanism=PLAIN",
            "countersign.outcome=granted",
            "countersign.rounds=0",
            "countersign.service=imap",
            "countersign.transport=tls",
        ]
    );
    // It never waited: the answers came with the request.
    let steps: Vec<_> = children.iter().map(said).collect();
    let step = |result: &str| {
        [
            "countersign.checker=accounts.main".to_owned(),
            "countersign.mechanism=password".to_owned(),
            format!("countersign.result={result}"),
        ]
    };
    let expected = [step("asked"), step("granted")];
    assert_eq!(steps, expected);
    assert!(children.iter().all(|child| child.name == "check accounts.main"));
    assert_eq!((login.kind, login.parent_span_id.len(), login.trace_id.len()), (2, 0, 16));
    let (head, _) = &collector.seen()[0];
    assert!(head.contains(&format!("authorization: bearer {TOKEN}\r\n").to_ascii_lowercase()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_has_its_reason_and_its_name_where_that_is_wanted() {
    let collector = Collector::start(Manner::Take).await;
    let site = Site::new(&collector, "names = true\naddresses = true").await;
    assert!(site.plain("s3cret guess").await.starts_with("FAIL"));
    site.stop().await;
    let (login, children) = collector.trace(&["s3cret guess"]);
    let said = said(&login);
    for expected in [
        "client.address=192.0.2.1",
        "countersign.checkers=accounts.main password wrong-credential",
        "countersign.claimed=ada",
        "countersign.outcome=denied",
        "countersign.reason=wrong-credential",
        "countersign.told=denied",
    ] {
        assert!(said.iter().any(|said| said == expected), "no {expected} in {said:?}");
    }
    // A refusal is what the server is for, and no error of it.
    assert!(children.iter().chain([&login]).all(|span| {
        span.status.as_ref().is_none_or(|status| status.code() == StatusCode::Unset)
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_two_rounds_is_one_trace_with_its_waits() {
    let collector = Collector::start(Manner::Take).await;
    let site = Site::new(&collector, "").await;
    let body = json!({ "mechanism": "password", "service": "vpn" });
    let first = site.call("POST", "/v1/login", "", body).await.json();
    let path = format!("/v1/login/{}", first["id"].as_str().unwrap());
    let answers = json!({ "username": "grace", "password": PASSWORD });
    let body = json!({ "round": 1, "answers": answers });
    let second = site.call("POST", &path, "", body).await.json();
    assert_eq!(second["round"]["number"], 2, "{second}");
    let body = json!({ "round": 2, "answers": { "otp": site.codes[0] } });
    let end = site.call("POST", &path, "", body.clone()).await;
    let token = end.json()["session"]["token"].as_str().unwrap().to_owned();
    // The last reply once more is no further login.
    assert_eq!(site.call("POST", &path, "", body).await.status, 200);
    let code = site.codes[0].clone();
    site.stop().await;
    let (login, children) = collector.trace(&[PASSWORD, &code, &token, "grace", "127.0.0.1"]);
    let steps: Vec<_> = children
        .iter()
        .map(|child| {
            let attributes = attributes(&child.attributes);
            let of = |key: &str| attributes.get(key).cloned().unwrap_or_default();
            let mechanism = of("countersign.mechanism");
            format!(
                "{} {mechanism}{} {}",
                child.name,
                of("countersign.round"),
                of("countersign.result")
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            "check accounts.main password asked",
            "wait 1 ",
            "check accounts.main password granted",
            "check accounts.main otp asked",
            "wait 2 ",
            "check accounts.main otp granted",
        ]
    );
    let said = said(&login);
    for expected in
        ["countersign.rounds=2", "countersign.service=vpn", "countersign.listener=http.main"]
    {
        assert!(said.iter().any(|said| said == expected), "no {expected} in {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_given_up_ends_its_trace_and_a_look_at_the_page_is_none() {
    let collector = Collector::start(Manner::Take).await;
    let site = Site::new(&collector, "").await;
    assert_eq!(site.call("GET", "/login", "", Value::Null).await.status, 200);
    let body = json!({ "mechanism": "password", "answers": { "username": "ada" } });
    let first = site.call("POST", "/v1/login", "", body.clone()).await.json();
    let path = format!("/v1/login/{}", first["id"].as_str().unwrap());
    assert_eq!(site.call("DELETE", &path, "", Value::Null).await.status, 204);
    let second = site.call("POST", "/v1/login", "", body).await;
    assert_eq!(second.json()["status"], "ask", "{second:?}");
    // The second one waits until the server stops.
    site.stop().await;
    let spans = collector.spans(&["ada"]);
    let logins: Vec<_> = spans.iter().filter(|span| span.name == "login").collect();
    assert_eq!(logins.len(), 2, "{logins:?}");
    for login in logins {
        assert!(said(login).contains(&"countersign.reason=cancelled".to_owned()), "{login:?}");
    }
    assert_eq!(spans.iter().filter(|span| span.name == "wait").count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_trusted_proxy_s_trace_goes_on_here() {
    let collector = Collector::start(Manner::Take).await;
    // Of logins by themselves none is traced.
    let site = Site::new(&collector, "sample = 0.0").await;
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let parent = |flags: &str| format!("traceparent: 00-{trace}-{span}-{flags}\r\n");
    let status = Status::of(site.server.live());
    let open = status.listeners.iter().find(|listener| listener.name == "http.open").unwrap();
    let open: SocketAddr = open.address.parse().unwrap();
    let answers = json!({ "username": "ada", "password": PASSWORD });
    let body = json!({ "mechanism": "password", "answers": answers });
    assert_eq!(call(open, "POST", "/v1/login", &parent("01"), body).await.status, 200);
    assert_eq!(site.login("", PASSWORD).await.status, 200);
    assert_eq!(site.login(&parent("00"), PASSWORD).await.status, 200);
    assert_eq!(site.login("traceparent: rubbish\r\n", PASSWORD).await.status, 200);
    assert_eq!(site.login(&parent("01"), PASSWORD).await.status, 200);
    site.stop().await;
    let (login, _) = collector.trace(&[PASSWORD]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&login.trace_id), hex(&login.parent_span_id)), (trace.into(), span.into()));
    assert_eq!(login.flags, 0x301);
}

/// Whatever the collector does, logins are as without it, and the server stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_fails_changes_no_login_and_is_counted() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = Collector {
        address: nobody.local_addr().unwrap(),
        seen: Arc::default(),
        serving: tokio::spawn(async {}),
    };
    drop(nobody);
    let refuses = Collector::start(Manner::Refuse).await;
    let hangs = Collector::start(Manner::Hang).await;
    for (collector, timeout) in [(&gone, "20s"), (&refuses, "20s"), (&hangs, "100ms")] {
        let site = Site::new(collector, &format!("timeout = \"{timeout}\"")).await;
        assert!(site.plain(PASSWORD).await.starts_with("OK"));
        assert!(site.plain("wrong").await.starts_with("FAIL"));
        let engine = Arc::clone(site.server.engine());
        eventually(|| async { engine.telemetry.counts().unwrap().lost == 2 }).await;
        let metrics = site.call("GET", "/metrics", "", Value::Null).await.body;
        assert!(metrics.contains("countersign_traces_total{end=\"lost\"} 2\n"), "{metrics}");
        assert!(site.plain(PASSWORD).await.starts_with("OK"));
        site.stop().await;
    }
    // It has the request and says nothing: the stop waits a while, and then not any more.
    let site = Site::new(&hangs, "timeout = \"1h\"").await;
    let before = hangs.seen().len();
    assert_eq!(site.login("", PASSWORD).await.status, 200);
    eventually(|| async { hangs.seen().len() > before }).await;
    assert_eq!(site.login("", PASSWORD).await.status, 200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_behind_tls_is_reached_if_its_certificate_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let collector = Collector::with(Manner::Take, Some(tls)).await;
    let address = format!("https://localhost:{}", collector.address.port());

    let stranger = Site::at(&address, "").await;
    assert!(stranger.plain(PASSWORD).await.starts_with("OK"));
    stranger.stop().await;
    assert!(collector.seen().is_empty(), "a certificate of nobody's was believed");

    let site = Site::within(folder, &address, "ca = \"ca.pem\"").await;
    assert!(site.plain(PASSWORD).await.starts_with("OK"));
    site.stop().await;
    collector.trace(&[PASSWORD]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_collector_needs_a_restart_and_other_changes_do_not() {
    let collector = Collector::start(Manner::Take).await;
    let site = Site::new(&collector, "").await;
    let address = format!("http://{}", collector.address);
    let read = |address: &str, more: &str| Ok(configuration(site.folder.path(), address, more));
    let live = site.server.live();
    let refused = live.reload(read("http://127.0.0.1:1", "")).await.unwrap_err();
    assert!(refused.contains("[telemetry]") && refused.contains("restart"), "{refused}");
    // The same in other words.
    live.reload(read(&address, "sample = 1.0\ntimeout = \"5s\"\n[sessions]\nlifetime = \"1h\""))
        .await
        .unwrap();
    assert_eq!(site.login("", PASSWORD).await.status, 200);
    site.stop().await;
    let (login, _) = collector.trace(&[PASSWORD]);
    assert!(said(&login).contains(&"countersign.checker=accounts.main".to_owned()));
}

#[test]
fn what_is_wrong_is_told_at_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("countersign.toml");
    let headers = folder.path().join("headers");
    std::fs::write(&headers, "authorization: Bearer s3cret\n").unwrap();
    std::fs::set_permissions(&headers, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (text, place, expected) in [
        ("service_name = \"x\"", ":1", "otlp"),
        ("otlp = \"collector:4318\"", ":2:8", "http://127.0.0.1:4318"),
        ("otlp = \"grpc://collector\"", ":2:8", "neither http nor https"),
        ("otlp = \"http://c\"\nsample = 1.5", ":3:10", "from 0.0 to 1.0"),
        ("otlp = \"http://c\"\nheaders_file = \"none\"", ":3:16", "cannot be read"),
        ("otlp = \"http://c\"\nheaders_file = \"headers\"", ":3:16", "where anybody can read it"),
        ("otlp = \"http://c\"\nheader_file = \"none\"", ":3", "`headers_file`"),
    ] {
        std::fs::write(&file, format!("[telemetry]\n{text}\n")).unwrap();
        let error = Config::load(&file, folder.path(), &built_in()).unwrap_err();
        let error = error.to_string();
        for part in [&format!("countersign.toml{place}"), expected] {
            assert!(error.contains(part), "{text}: no {part} in\n{error}");
        }
    }
}

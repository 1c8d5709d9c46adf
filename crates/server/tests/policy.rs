//! A policy in a running server: what a mail program meets that can say a password and nothing else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::World;
use countersign_checkers::factors::{Factors, NewAppPassword, OtpSettings};
use countersign_server::admin::{Admin, NewUser};
use countersign_server::config::Config;
use countersign_server::registry;
use countersign_server::run::Server;
use countersign_server::world::SystemWorld;
use countersign_store::{OpenOptions, Store};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"
[accounts]
argon2_memory_kib = 64
argon2_passes = 1

[throttle]
user_free = 3

[policy]
plaintext = "secured"

[[policy.rules]]
name = "submission"
service = "submission"
code_in_password = true

[[policy.rules]]
name = "staff have codes"
service = ["imap", "submission"]
group = "staff"
require = ["password", "otp"]

[[policy.rules]]
name = "no interns"
service = "imap"
group = "interns"
allow = false

[[policy.rules]]
service = "vpn"
network = "10.0.0.0/8"
mechanisms = ["LOGIN"]
plaintext = "always"

[listen.dovecot.main]
path = "auth"
"#;

struct Place {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    server: Option<Server>,
    factors: Factors,
    admin: Admin,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_owned();
        let file = data.join("countersign.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let config = Config::load(&file, &data, &registry::built_in()).unwrap();
        let recipe = config.recipe();
        let store = Store::open(&data.join("accounts.db"), OpenOptions::create()).await.unwrap();
        let world = SystemWorld::new();
        let pool = countersign_checkers::pool::HashPool::start(&Default::default()).unwrap();
        let admin = Admin::new(store.clone(), Arc::new(pool), recipe, world);
        let place = Self {
            path: data.join("auth"),
            _folder: folder,
            server: None,
            factors: Factors::new(store, Arc::new(world)),
            admin,
        };
        for (name, groups) in [("ada", ""), ("grace", "staff"), ("tim", "interns")] {
            place.user(name, groups).await;
        }
        let server = Server::start(config).await.unwrap();
        Self { server: Some(server), ..place }
    }

    async fn user(&self, name: &str, group: &str) {
        let mut new =
            serde_json::json!({ "name": name, "password": "countess of", "create_groups": true });
        if !group.is_empty() {
            new["groups"] = serde_json::json!([{ "name": group }]);
        }
        let new: NewUser = serde_json::from_value(new).unwrap();
        self.admin.add_user(new).await.unwrap();
    }

    /// Enrols a generator by counter; the codes that it shows.
    async fn codes(&self, user: &str) -> Vec<String> {
        let pending = self.factors.begin_otp(user, "Test", OtpSettings::counted()).unwrap();
        self.factors.enrol_unconfirmed(&pending, "key").await.unwrap();
        let base32 = pending.base32();
        let secret = totp_rs::Secret::try_from_base32(base32.to_str().unwrap()).unwrap();
        let totp = totp_rs::Builder::new()
            .with_secret(secret.as_bytes())
            .with_step_duration(1)
            .build()
            .unwrap();
        (0..5).map(|counter| totp.generate(counter)).map(|code| code.to_string()).collect()
    }

    async fn client(&self) -> Client {
        client(&self.path).await
    }

    /// The server has heard of what was changed in the store beside it.
    async fn heard(&self) {
        self.server.as_ref().unwrap().engine().store.refresh().await.unwrap();
    }
}

struct Client(BufReader<UnixStream>, u32);

async fn client(path: &Path) -> Client {
    let mut client = Client(BufReader::new(UnixStream::connect(path).await.unwrap()), 0);
    client.send("VERSION\t1\t2\nCPID\t7\n").await;
    while client.line().await != "DONE" {}
    client
}

impl Client {
    async fn send(&mut self, text: &str) {
        let sent = tokio::time::timeout(PATIENCE, self.0.get_mut().write_all(text.as_bytes()));
        sent.await.unwrap().unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await.unwrap().unwrap();
        line.trim_end().to_owned()
    }

    /// `OK`, `FAIL …` or the text of a prompt.
    async fn told(&mut self) -> String {
        let line = self.line().await;
        let parts: Vec<_> = line.split('\t').collect();
        match parts[0] {
            "CONT" => String::from_utf8(STANDARD.decode(parts[2]).unwrap()).unwrap(),
            "OK" => "OK".to_owned(),
            _ => line,
        }
    }

    async fn plain(&mut self, service: &str, facts: &str, user: &str, password: &str) -> String {
        self.1 += 1;
        let message = STANDARD.encode(format!("\0{user}\0{password}"));
        let id = self.1;
        self.send(&format!("AUTH\t{id}\tPLAIN\tservice={service}\t{facts}\tresp={message}\n"))
            .await;
        self.told().await
    }

    async fn begin(&mut self, mechanism: &str, service: &str, facts: &str) -> String {
        self.1 += 1;
        let id = self.1;
        self.send(&format!("AUTH\t{id}\t{mechanism}\tservice={service}\t{facts}\n")).await;
        self.told().await
    }

    async fn answer(&mut self, text: &str) -> String {
        let line = format!("CONT\t{}\t{}\n", self.1, STANDARD.encode(text));
        self.send(&line).await;
        self.told().await
    }
}

const TLS: &str = "secured=tls\trip=192.0.2.1";

#[tokio::test]
async fn a_group_s_second_factor_reaches_mail_programs() {
    let place = Place::new().await;
    let mut client = place.client().await;
    let codes = place.codes("grace").await;
    place.heard().await;
    assert_eq!(client.plain("imap", TLS, "ada", "countess of").await, "OK");
    assert!(client.plain("imap", TLS, "grace", "countess of").await.starts_with("FAIL"));
    // Where it can be asked for, it is: LOGIN shows one more prompt.
    assert_eq!(client.begin("LOGIN", "imap", TLS).await, "Username:");
    assert_eq!(client.answer("grace").await, "Password:");
    assert_eq!(client.answer("countess of").await, "One-time code:");
    assert_eq!(client.answer(&codes[0]).await, "OK");
    // Once.
    assert_eq!(client.begin("LOGIN", "imap", TLS).await, "Username:");
    assert_eq!(client.answer("grace").await, "Password:");
    assert_eq!(client.answer("countess of").await, "One-time code:");
    assert!(client.answer(&codes[0]).await.starts_with("FAIL"));
    // Behind the password, where the rule says so, and nowhere else.
    let both = format!("countess of,{}", codes[1]);
    assert!(client.plain("imap", TLS, "grace", &both).await.starts_with("FAIL"));
    assert_eq!(client.plain("submission", TLS, "grace", &both).await, "OK");
    assert!(client.plain("submission", TLS, "grace", &both).await.starts_with("FAIL"), "once");
    // An application password stands for all factors, at its services.
    let wanted = NewAppPassword {
        label: "phone".into(),
        services: vec!["imap".into()],
        ..NewAppPassword::default()
    };
    let (app, _) = place.factors.add_app_password("grace", &wanted).await.unwrap();
    place.heard().await;
    let mut client = place.client().await;
    let elsewhere = "secured=tls\trip=198.51.100.1";
    let app = app.to_str().unwrap();
    assert_eq!(client.plain("imap", elsewhere, "grace", app).await, "OK");
    assert!(client.plain("submission", elsewhere, "grace", app).await.starts_with("FAIL"));
}

/// Who enrols a second factor is asked for it from then on, whatever the policy says of others.
#[tokio::test]
async fn whoever_has_a_second_factor_is_asked_for_it() {
    let place = Place::new().await;
    let mut client = place.client().await;
    assert_eq!(client.plain("smtp", TLS, "ada", "countess of").await, "OK");
    let codes = place.codes("ada").await;
    place.heard().await;
    assert!(client.plain("smtp", TLS, "ada", "countess of").await.starts_with("FAIL"));
    assert_eq!(client.begin("LOGIN", "smtp", TLS).await, "Username:");
    assert_eq!(client.answer("ada").await, "Password:");
    assert_eq!(client.answer("countess of").await, "One-time code:");
    assert_eq!(client.answer(&codes[0]).await, "OK");
}

#[tokio::test]
async fn rules_about_groups_networks_mechanisms_and_readable_secrets() {
    let place = Place::new().await;
    let mut client = place.client().await;
    assert!(client.plain("imap", TLS, "tim", "countess of").await.starts_with("FAIL"));
    assert_eq!(client.plain("smtp", TLS, "tim", "countess of").await, "OK");
    for (facts, let_in) in [
        ("rip=192.0.2.1", false),
        ("rip=192.0.2.1\tsecured", true),
        ("rip=127.0.0.1", true),
        ("rip=192.0.2.1\tlip=192.0.2.1", true),
        ("rip=unknown", false),
    ] {
        let told = client.plain("smtp", facts, "ada", "countess of").await;
        assert_eq!(told == "OK", let_in, "{facts}: {told}");
    }
    let inside = "rip=10.1.2.3";
    assert!(client.plain("vpn", inside, "ada", "countess of").await.starts_with("FAIL"));
    assert_eq!(client.begin("LOGIN", "VPN", inside).await, "Username:");
    assert_eq!(client.answer("ada").await, "Password:");
    assert_eq!(client.answer("countess of").await, "OK");
    assert!(client.begin("LOGIN", "vpn", "rip=11.1.2.3").await.starts_with("FAIL"));
}

#[tokio::test]
async fn guesses_are_delayed_from_where_they_come() {
    let place = Place::new().await;
    let mut client = place.client().await;
    for guess in 0..4 {
        let told = client.plain("imap", TLS, "ada", &format!("guess {guess}")).await;
        assert!(told.starts_with("FAIL") && !told.contains("temp"), "{told}");
    }
    let told = client.plain("imap", TLS, "ada", "countess of").await;
    assert!(told.contains("code=temp_fail"), "{told}");
    let elsewhere = "secured=tls\trip=198.51.100.1";
    assert_eq!(client.plain("imap", elsewhere, "ada", "countess of").await, "OK");
    // Nobody is known better by how they are refused.
    for guess in 0..4 {
        client.plain("imap", TLS, "nobody", &format!("guess {guess}")).await;
    }
    let nobody = client.plain("imap", TLS, "nobody", "countess of").await;
    assert!(nobody.contains("code=temp_fail"), "{nobody}");
    let engine = place.server.as_ref().unwrap().engine();
    let stats = engine.throttle.stats(engine.world.now());
    assert_eq!((stats.refused, stats.delayed), (2, 2), "{stats:?}");
}

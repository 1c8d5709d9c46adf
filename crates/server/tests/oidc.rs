//! Login through a provider: a scripted one, which signs with its own key and says what the test wants.
#![cfg(feature = "oidc")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::Secret;
use countersign_server::front::http::{HttpOptions, ReturnTo};
use countersign_server::oidc::{Known, Oidc, OidcOptions};
use countersign_store::AccountUpdate;
use openidconnect::core::{CoreEdDsaPrivateSigningKey, CoreJwsSigningAlgorithm};
use openidconnect::{JsonWebKeyId, PrivateSigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::browser::{Browser, Page};
use support::http::Running;
use support::{Place, Wishes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A provider, and what it has seen.
struct Provider {
    issuer: String,
    script: Arc<Mutex<Script>>,
    serving: tokio::task::JoinHandle<()>,
}

struct Script {
    key: CoreEdDsaPrivateSigningKey,
    claims: Value,
    /// The claims of the next token replace these.
    algorithm: CoreJwsSigningAlgorithm,
    broken: bool,
    seen: Vec<(String, String)>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn key() -> CoreEdDsaPrivateSigningKey {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let id = JsonWebKeyId::new("one".to_owned());
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pair.serialize_pem(), Some(id)).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script {
            key: key(),
            claims: json!({}),
            algorithm: CoreJwsSigningAlgorithm::EdDsa,
            broken: false,
            seen: Vec::new(),
        }));
        let (told, name) = (Arc::clone(&script), issuer.clone());
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&told), name.clone()));
            }
        });
        Self { issuer, script, serving }
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// What a browser that is sent to `address` brings back, when the user there is the one of these claims.
    fn visited(&self, address: &str, claims: Value) -> String {
        let asked: BTreeMap<_, _> = query(address);
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "countersign"),
            ("code_challenge_method", "S256"),
            ("redirect_uri", "http://127.0.0.1:1/login/back"),
        ] {
            assert_eq!(asked.get(name).map(String::as_str), Some(value), "{address}");
        }
        assert_eq!(asked["scope"], "openid profile");
        let mut all = json!({
            "iss": self.issuer, "aud": "countersign", "sub": "4711",
            "iat": now(), "exp": now() + 300, "nonce": asked["nonce"],
        });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let mut script = self.script();
        script.claims = all;
        script.seen = vec![("code_challenge".into(), asked["code_challenge"].clone())];
        format!("/login/back?code=c-1&state={}", asked["state"])
    }
}

fn query(address: &str) -> BTreeMap<String, String> {
    let query = address.split_once('?').unwrap().1;
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8().unwrap().into_owned()
    };
    query.split('&').filter_map(|p| p.split_once('=')).map(|(n, v)| (n.into(), decode(v))).collect()
}

async fn answer(mut stream: TcpStream, script: Arc<Mutex<Script>>, issuer: String) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length:").and_then(|length| length.trim().parse().ok())
        });
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let (status, reply) = {
        let mut script = script.lock().unwrap();
        match path.as_str() {
            _ if script.broken => ("500 Broken", json!({})),
            "/.well-known/openid-configuration" => (
                "200 OK",
                json!({
                    "issuer": issuer,
                    "authorization_endpoint": format!("{issuer}/authorize"),
                    "token_endpoint": format!("{issuer}/token"),
                    "jwks_uri": format!("{issuer}/keys"),
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["EdDSA", "HS256"],
                }),
            ),
            "/keys" => {
                let public = serde_json::to_value(script.key.as_verification_key()).unwrap();
                ("200 OK", json!({ "keys": [public] }))
            }
            "/token" => {
                let fields = query(&format!("?{body}"));
                // PKCE: who has the code must have the verifier too (RFC 7636, section 4.6).
                let shown =
                    URL_SAFE_NO_PAD.encode(Sha256::digest(fields["code_verifier"].as_bytes()));
                let kept = script.seen[0].1.clone();
                script.seen.push(("authorization".into(), head.to_lowercase()));
                if fields["code"] != "c-1" || shown != kept {
                    ("400 Bad", json!({ "error": "invalid_grant" }))
                } else {
                    let token = signed(&script);
                    (
                        "200 OK",
                        json!({
                            "access_token": "a", "token_type": "Bearer", "id_token": token,
                        }),
                    )
                }
            }
            _ => ("404 Nothing", json!({})),
        }
    };
    let reply = reply.to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{reply}",
        reply.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
}

/// A token by hand, so that it can be wrong.
fn signed(script: &Script) -> String {
    let algorithm = serde_json::to_value(&script.algorithm).unwrap();
    let head = json!({ "alg": algorithm, "kid": "one" });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&head), part(&script.claims));
    let signature = match script.algorithm {
        CoreJwsSigningAlgorithm::EdDsa => {
            script.key.sign(&CoreJwsSigningAlgorithm::EdDsa, text.as_bytes()).unwrap()
        }
        _ => vec![0; 32],
    };
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn options(provider: &Provider) -> OidcOptions {
    OidcOptions {
        title: "Example & Co".into(),
        issuer: provider.issuer.clone(),
        client_id: "countersign".into(),
        client_secret: Some(Secret::from("hush")),
        redirect_uri: "http://127.0.0.1:1/login/back".into(),
        scopes: vec!["profile".into()],
        subject: "preferred_username".into(),
        domain: None,
        accounts: Known::Driver,
        groups: Some("groups".into()),
        ca: None,
        timeout: Duration::from_secs(10),
    }
}

async fn running(options: OidcOptions) -> Running {
    let place = Place::with_checker(Wishes::default(), |store| {
        Arc::new(Oidc::new("oidc.example", options, store.clone()).unwrap())
    })
    .await;
    let driver = Some(Some("oidc.example".to_owned()));
    let update = AccountUpdate { driver, ..AccountUpdate::default() };
    place.engine.store.update_account("ada", &update).await.unwrap();
    let return_to = ReturnTo::of(["https://*.example.com"]).unwrap();
    Running::over(place, HttpOptions { return_to, ..HttpOptions::default() }).await
}

/// Goes to the provider, as the login page sends, and gives its address.
async fn sent(server: &Running, browser: &mut Browser) -> String {
    let query = "/login?lang=en&service=wiki&return_to=https%3A%2F%2Fwiki.example.com%2F";
    let page = browser.get(server, query).await;
    page.must_say("Continue with Example &amp; Co");
    page.must_say("Password");
    let policy = page.reply.header("content-security-policy").unwrap();
    assert!(policy.contains("form-action 'self' http://127.0.0.1:"), "{policy}");
    let gone = browser.submit(server, &page, "/login", &[("open", "1")]).await;
    assert_eq!(gone.status(), 303, "{gone:?}");
    gone.location().to_owned()
}

async fn login(provider: &Provider, server: &Running, claims: Value) -> (Browser, Page) {
    let mut browser = Browser::default();
    let address = sent(server, &mut browser).await;
    assert!(address.starts_with(&format!("{}/authorize?", provider.issuer)), "{address}");
    let back = provider.visited(&address, claims);
    let page = browser.get(server, &back).await;
    (browser, page)
}

#[tokio::test]
async fn there_and_back() {
    let provider = Provider::start().await;
    let server = running(options(&provider)).await;
    let claims = json!({ "preferred_username": "ada", "groups": ["wiki", "bad\u{0}", 7] });
    let (browser, page) = login(&provider, &server, claims).await;
    assert_eq!((page.status(), page.location()), (303, "https://wiki.example.com/"), "{page:?}");
    let token = &browser.cookies["countersign"];
    assert!(!browser.cookies.contains_key("countersign-away"));
    let session = server.call_as(token, "GET", "/v1/session", Value::Null).await.json();
    assert_eq!(session["identity"]["subject"], "ada");
    assert_eq!(session["identity"]["groups"], json!([{ "name": "wiki" }]));
    let seen = provider.script().seen[1].1.clone();
    assert!(seen.contains("authorization: basic"), "the secret is shown: {seen}");
    let place = server.stop().await;
    let audit = place.audit();
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!((&audit[0]["outcome"], &audit[0]["subject"]), (&"granted".into(), &"ada".into()));
    assert_eq!(audit[0]["checker"], "oidc.example");
}

#[tokio::test]
async fn a_token_that_is_not_for_us_now_lets_nobody_in() {
    let provider = Provider::start().await;
    let server = running(options(&provider)).await;
    for (wrong, why) in [
        (json!({ "aud": "other" }), "audience"),
        (json!({ "iss": "https://evil.example" }), "issuer"),
        (json!({ "exp": now() - 120 }), "expired"),
        (json!({ "iat": now() + 600 }), "future"),
        (json!({ "nonce": "another" }), "nonce"),
        (json!({ "preferred_username": null }), "no claim"),
        (json!({ "preferred_username": "root" }), "driver is not"),
        (json!({ "preferred_username": "nobody" }), "no such account"),
        (json!({ "preferred_username": "a\tb" }), "no user's name"),
    ] {
        let mut claims = json!({ "preferred_username": "ada" });
        for (name, value) in wrong.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let (browser, page) = login(&provider, &server, claims).await;
        assert_eq!(page.status(), 403, "{wrong}: {page:?}");
        page.must_say("That did not work.");
        assert!(!page.says(why) && !browser.cookies.contains_key("countersign"), "{wrong}");
        let audit = server.place.audit();
        let detail = audit.last().unwrap()["detail"].as_str().unwrap().to_lowercase();
        assert!(detail.contains(why), "{wrong}: {detail}");
    }
}

#[tokio::test]
async fn signatures_are_the_provider_s() {
    let provider = Provider::start().await;
    let server = running(options(&provider)).await;
    let claims = || json!({ "preferred_username": "ada" });
    for algorithm in [CoreJwsSigningAlgorithm::None, CoreJwsSigningAlgorithm::HmacSha256] {
        provider.script().algorithm = algorithm;
        let (_, page) = login(&provider, &server, claims()).await;
        assert_eq!(page.status(), 403);
    }
    provider.script().algorithm = CoreJwsSigningAlgorithm::EdDsa;
    // A new key: the first login finds that out, the next one has it.
    provider.script().key = key();
    assert_eq!(login(&provider, &server, claims()).await.1.status(), 403);
    assert_eq!(login(&provider, &server, claims()).await.1.status(), 303);
}

#[tokio::test]
async fn only_the_browser_that_was_sent_comes_back() {
    let provider = Provider::start().await;
    let server = running(options(&provider)).await;
    let claims = || json!({ "preferred_username": "ada" });
    let mut browser = Browser::default();
    let address = sent(&server, &mut browser).await;
    let back = provider.visited(&address, claims());
    // The victim of somebody who sends them their own code.
    let mut victim = Browser::default();
    let page = victim.get(&server, &back).await;
    assert_eq!(page.status(), 410);
    assert!(!victim.cookies.contains_key("countersign"));
    let other = sent(&server, &mut victim).await;
    assert_ne!(query(&other)["state"], query(&address)["state"]);
    assert_ne!(query(&other)["nonce"], query(&address)["nonce"]);
    assert_eq!(victim.get(&server, &back).await.status(), 403);
    // The login of the one who was sent is as it was.
    assert_eq!(browser.get(&server, &back).await.status(), 303);
    // And it is over.
    assert_eq!(browser.get(&server, &back).await.status(), 410);
}

#[tokio::test]
async fn what_the_provider_refuses() {
    let provider = Provider::start().await;
    let server = running(options(&provider)).await;
    for (answer, status) in [
        ("error=access_denied", 403),
        ("code=other", 403),
        ("code=c-1&iss=https%3A%2F%2Fevil.example", 403),
        ("nothing=1", 403),
    ] {
        let mut browser = Browser::default();
        let address = sent(&server, &mut browser).await;
        provider.visited(&address, json!({ "preferred_username": "ada" }));
        let state = &query(&address)["state"];
        let page = browser.get(&server, &format!("/login/back?state={state}&{answer}")).await;
        assert_eq!(page.status(), status, "{answer}");
        assert!(!browser.cookies.contains_key("countersign"));
    }
}

#[tokio::test]
async fn a_provider_that_is_away_leaves_the_other_ways() {
    let provider = Provider::start().await;
    provider.script().broken = true;
    let server = running(options(&provider)).await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login?lang=en").await;
    assert_eq!(page.status(), 200);
    assert!(!page.says("Example"), "{page:?}");
    let fields = [("-.v.username", "root"), ("-.v.password", "countess")];
    assert_eq!(browser.submit(&server, &page, "/login", &fields).await.status(), 303);
}

#[tokio::test]
async fn names_by_domain_and_without_accounts() {
    let provider = Provider::start().await;
    let address = OidcOptions {
        subject: "email".into(),
        domain: Some("example.com".into()),
        accounts: Known::None,
        ..options(&provider)
    };
    let server = running(address).await;
    let claims =
        |address: &str, verified: bool| json!({ "email": address, "email_verified": verified });
    for (address, verified, status) in [
        ("grace@example.com", true, 303),
        ("grace@Example.com", true, 303),
        ("grace@example.com", false, 403),
        ("grace@example.com.evil.example", true, 403),
        ("grace", true, 403),
    ] {
        let (_, page) = login(&provider, &server, claims(address, verified)).await;
        assert_eq!(page.status(), status, "{address} {verified}");
    }
    assert_eq!(server.place.engine.store.sessions_of("grace", 0).await.unwrap().len(), 2);
}

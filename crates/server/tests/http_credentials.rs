//! `docs/protocols/http.md`, forward-auth: Digest and bearer tokens, which are logins of their own.

mod support;

use std::sync::Arc;
use std::time::Instant;

use countersign::{
    Bearer, Directory, Fault, Identity, PasswordStore, Portal, Secret, TextStore, Verdict, Verified,
};
use countersign_sasl::digest::{BodyHash, Variant};
use countersign_sasl::{Decoys, Stored};
use countersign_server::front::http::{self, HttpOptions, TrustedProxies};
use countersign_server::front::{Stop, Stopper};
use countersign_server::realm::ServerRealm;
use countersign_testkit::OneToken;
use serde_json::json;
use support::http::{Reply, Running, raw};
use support::{PATIENCE, Place, Wishes};
use tokio::net::TcpListener;

struct Users;

impl Directory for Users {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(match login {
            "ada" => Verdict::Is(Verified::vouch(Identity::named("ada"))),
            _ => Verdict::UNKNOWN,
        })
    }
}

impl PasswordStore for Users {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        match *password == Secret::from("countess") {
            true => self.find(login).await,
            false => Ok(Verdict::WRONG),
        }
    }
}

impl TextStore for Users {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        Ok((login == "ada").then(|| Secret::from("countess")))
    }
}

fn portal(portal: Portal<ServerRealm>) -> Portal<ServerRealm> {
    let users = Stored::new("users", Users, Decoys::new(Secret::from("key")));
    let users = users.by_password().by_derived_digest();
    portal.checked_by(users).checked_by(Bearer::new("tokens", OneToken("a.jwt.perhaps")))
}

fn options() -> HttpOptions {
    HttpOptions {
        trusted_proxies: TrustedProxies::of(["127.0.0.1"]).unwrap(),
        basic: true,
        digest: vec![Variant::from_name("SHA-256").unwrap()],
        bearer: true,
        ..HttpOptions::default()
    }
}

async fn running(options: HttpOptions) -> Running {
    let wishes = Wishes { portal: Some(portal), ..Wishes::default() };
    Running::over(Place::with(wishes).await, options).await
}

fn challenges(reply: &Reply) -> Vec<&str> {
    reply.head.lines().filter_map(|line| line.strip_prefix("www-authenticate: ")).collect()
}

fn nonce(reply: &Reply) -> String {
    let digest = challenges(reply)[0];
    assert!(digest.starts_with("Digest realm=\"Countersign\""), "{digest}");
    digest.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// A client's arithmetic (RFC 7616, section 3.4).
fn response(nonce: &str, count: u32, method: &str, uri: &str, password: &str) -> String {
    let hash = |text: String| {
        let mut hash = BodyHash::new(Variant::from_name("SHA-256").unwrap().algorithm);
        hash.update(text.as_bytes());
        hash.finish()
    };
    let a1 = hash(format!("ada:Countersign:{password}"));
    let a2 = hash(format!("{method}:{uri}"));
    let response = hash(format!("{a1}:{nonce}:{count:08x}:client:auth:{a2}"));
    format!(
        "Digest username=\"ada\", realm=\"Countersign\", nonce=\"{nonce}\", uri=\"{uri}\", \
         nc={count:08x}, cnonce=\"client\", qop=auth, algorithm=SHA-256, response=\"{response}\""
    )
}

/// H62, H69.
#[tokio::test]
async fn a_response_to_a_challenge_gets_through_once() {
    let server = running(options()).await;
    let get = async |header: &str| {
        server.send("GET", "/forward-auth?service=wiki", &[("authorization", header)], b"").await
    };
    let asked = server.send("GET", "/forward-auth?service=wiki", &[], b"").await;
    let nonce = nonce(&asked);
    let [_, bearer, basic] = challenges(&asked)[..] else { panic!("{asked:?}") };
    assert_eq!(bearer, "Bearer");
    assert_eq!(basic, "Basic realm=\"Countersign\", charset=\"UTF-8\"");
    let target = "/forward-auth?service=wiki";
    let right = response(&nonce, 1, "GET", target, "countess");
    let reply = get(&right).await;
    assert_eq!((reply.status, reply.header("remote-user")), (200, Some("ada")), "{reply:?}");
    let info = reply.header("authentication-info").unwrap();
    assert!(info.starts_with("qop=auth, rspauth=\"") && info.ends_with("nc=00000001"), "{info}");
    let again = get(&right).await;
    assert_eq!((again.status, again.header("remote-user")), (401, None));
    assert!(challenges(&again)[0].contains("stale=true"));
    for (count, method, uri, password) in [
        (2, "GET", target, "wrong"),
        (3, "POST", target, "countess"),
        (4, "GET", "/forward-auth", "countess"),
    ] {
        let reply = get(&response(&nonce, count, method, uri, password)).await;
        assert_eq!(reply.status, 401, "{method} {uri}");
        assert!(!reply.head.contains("stale") && !reply.head.contains("authentication-info"));
    }
    assert_eq!(get("Digest username=\"ada\"").await.status, 401);
    assert_eq!(get(&response(&nonce, 5, "GET", target, "countess")).await.status, 200);
    let records = server.stop().await.audit();
    let told: Vec<_> = records.iter().map(|r| (&r["outcome"], &r["mechanism"])).collect();
    let (granted, denied, digest) = (json!("granted"), json!("denied"), json!("DIGEST"));
    // The third went through the method of its hash, the fourth was for another address: nobody was asked.
    assert_eq!(
        told,
        [(&granted, &digest), (&denied, &digest), (&denied, &digest), (&granted, &digest)]
    );
    assert!(records.iter().all(|record| record["service"] == json!("wiki")));
}

/// H69: what a trusted proxy says that its client asked for is what a response is about.
#[tokio::test]
async fn a_response_is_about_what_the_client_asked_the_proxy_for() {
    let server = running(options()).await;
    let mut count = 0;
    let nonce = nonce(&server.send("GET", "/forward-auth", &[], b"").await);
    let mut signed = |method: &str, uri: &str| {
        count += 1;
        response(&nonce, count, method, uri, "countess")
    };
    let header = signed("POST", "/page?x=1");
    let nginx = [
        ("authorization", header.as_str()),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-original-method", "POST"),
        ("x-original-uri", "/page?x=1"),
    ];
    assert_eq!(server.send("GET", "/forward-auth", &nginx, b"").await.status, 200);
    let header = signed("PUT", "/page?x=1&y=2");
    let caddy = [
        ("authorization", header.as_str()),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-method", "PUT"),
        ("x-forwarded-uri", "/page?x=1&y=2"),
    ];
    assert_eq!(server.send("GET", "/forward-auth", &caddy, b"").await.status, 200);
    // Another address than the one that is asked for.
    let header = signed("GET", "/harmless");
    let other = [
        ("authorization", header.as_str()),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-uri", "/dangerous"),
    ];
    assert_eq!(server.send("GET", "/forward-auth", &other, b"").await.status, 401);
    // Envoy puts its prefix before.
    for (method, path, below) in [
        ("DELETE", "/forward-auth", "/app?x"),
        ("GET", "/forward-auth-for/service=wiki", "/app?x"),
        ("GET", "/forward-auth-for/service=wiki", "/"),
    ] {
        let header = signed(method, below);
        let headers = [("authorization", header.as_str())];
        let reply = server.send(method, &format!("{path}{below}"), &headers, b"").await;
        assert_eq!(reply.status, 200, "{path} {below}");
    }
    server.stop().await;
    // Who is no proxy of ours is not believed.
    let server =
        running(HttpOptions { trusted_proxies: TrustedProxies::default(), ..options() }).await;
    let nonce = self::nonce(&server.send("GET", "/forward-auth", &[], b"").await);
    let header = response(&nonce, 1, "GET", "/page", "countess");
    let said = [
        ("authorization", header.as_str()),
        ("x-forwarded-uri", "/page"),
        ("x-forwarded-method", "GET"),
    ];
    assert_eq!(server.send("GET", "/forward-auth", &said, b"").await.status, 401);
    server.stop().await;
}

/// H74.
#[tokio::test]
async fn a_token_that_is_no_session_s_is_a_login() {
    let server = running(options()).await;
    let session = server.token_of("ada").await;
    let cookie = format!("countersign={session}");
    let get = async |header: &str| {
        let headers = [("authorization", header), ("cookie", cookie.as_str())];
        server.send("GET", "/forward-auth", &headers, b"").await
    };
    for token in ["Bearer a.jwt.perhaps", &format!("Bearer {session}")] {
        let reply = get(token).await;
        assert_eq!((reply.status, reply.header("remote-user")), (200, Some("ada")));
    }
    for (bad, error) in [
        ("Bearer an.other.token", true),
        ("Bearer ?", false),
        ("Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", false),
    ] {
        let reply = get(bad).await;
        assert_eq!(reply.status, 401, "{bad}: a cookie does not save it");
        assert_eq!(challenges(&reply)[1] == "Bearer error=\"invalid_token\"", error, "{bad}");
    }
    let records = server.stop().await.audit();
    let bearer = records.iter().filter(|record| record["mechanism"] == json!("bearer"));
    let told: Vec<_> = bearer.map(|record| record["outcome"].as_str().unwrap()).collect();
    assert_eq!(told, ["granted", "denied"]);
    assert!(!format!("{records:?}").contains("perhaps"));
}

/// H75: a node takes another's nonces, and counts for itself.
#[tokio::test]
async fn nodes_take_each_other_s_nonces() {
    let server = running(options()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = listener.local_addr().unwrap();
    let (stopper, stop): (_, Stop) = Stopper::new();
    let engine = Arc::clone(&server.place.engine);
    let serving = tokio::spawn(http::serve(listener, engine, options(), stop));
    let send = async |header: &str| {
        let header =
            format!("GET /forward-auth HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{header}\r\n");
        raw(other, header.as_bytes()).await
    };
    assert_eq!(send("").await.status, 401);
    // What is older than a node is stale there: for the second in which it begins.
    let began = Instant::now();
    let (nonce, reply) = loop {
        let nonce = nonce(&server.send("GET", "/forward-auth", &[], b"").await);
        let header = response(&nonce, 1, "GET", "/forward-auth", "countess");
        let reply = send(&format!("authorization: {header}\r\n")).await;
        if reply.status == 200 || began.elapsed() > PATIENCE {
            break (nonce, reply);
        }
        assert!(challenges(&reply)[0].contains("stale=true"), "{reply:?}");
    };
    assert_eq!(reply.status, 200, "{reply:?}");
    let header = response(&nonce, 1, "GET", "/forward-auth", "countess");
    let again = send(&format!("authorization: {header}\r\n")).await;
    assert_eq!(again.status, 401, "not twice at one node");
    let here = server.send("GET", "/forward-auth", &[("authorization", &header)], b"").await;
    assert_eq!(here.status, 200, "once more at another, which this page of the contract says");
    stopper.stop();
    serving.await.unwrap();
    server.stop().await;
}

/// Where nothing of it is taken, all is as it was.
#[tokio::test]
async fn what_is_not_taken_is_looked_past() {
    let server = running(HttpOptions::default()).await;
    let session = server.token_of("ada").await;
    let cookie = format!("countersign={session}");
    for header in ["Bearer a.jwt.perhaps", "Digest username=\"ada\"", "Basic YWRhOmNvdW50ZXNz"] {
        let reply = server.send("GET", "/forward-auth", &[("authorization", header)], b"").await;
        assert_eq!((reply.status, challenges(&reply)), (401, vec!["Bearer"]), "{header}");
        let both = [("authorization", header), ("cookie", cookie.as_str())];
        assert_eq!(server.send("GET", "/forward-auth", &both, b"").await.status, 200, "{header}");
    }
    server.stop().await;
}

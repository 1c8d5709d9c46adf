//! Whole requests through the layer, before an application of axum.
#![cfg(feature = "axum")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::{any, get};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::testing::StillWorld;
use countersign::{
    Bearer, Denial, Directory, Fault, Identity, Interface, Logout, PasswordStore, Portal, Realm,
    Reason, Secret, Session, TextStore, Verdict, Verified, World,
};
use countersign_http::{Authenticated, Connection, Cookie, SessionLimits, User};
use countersign_sasl::digest::{BodyHash, Digest, Variant};
use countersign_sasl::{Decoys, Stored};
use countersign_testkit::OneToken;
use http::{HeaderMap, Method, Request, StatusCode, header};
use tower::ServiceExt;

struct Desk;

impl Interface for Desk {
    const NAME: &'static str = "desk";
    type Avatar = str;
    type Mind = ();
}

/// Everybody has a desk, but for eve; it is closed for bob.
#[derive(Clone, Default)]
struct Office(Arc<Counts>);

#[derive(Default)]
struct Counts {
    came: AtomicUsize,
    left: AtomicUsize,
}

impl Office {
    fn counts(&self) -> (usize, usize) {
        (self.0.came.load(Ordering::SeqCst), self.0.left.load(Ordering::SeqCst))
    }
}

impl Realm<Desk> for Office {
    async fn admit(&self, who: &Verified<Identity>, _: ()) -> Result<Session<Desk>, Denial> {
        match who.subject.name() {
            Some("eve") => return Err(Denial::new(Reason::NotAllowed)),
            Some("bob") => {
                return Err(Denial::new(Reason::Realm).retry_after(Duration::from_secs(7)));
            }
            _ => {}
        }
        self.0.came.fetch_add(1, Ordering::SeqCst);
        let counts = Arc::clone(&self.0);
        let logout = Logout::new(move || {
            counts.left.fetch_add(1, Ordering::SeqCst);
        });
        Ok(Session::new(format!("{}, at your desk", who.subject).into()).at_logout(logout))
    }
}

struct Users;

impl Users {
    fn password(login: &str) -> Option<&'static str> {
        ["ada", "bob", "eve"].contains(&login).then_some("countess")
    }
}

impl Directory for Users {
    async fn find(&self, login: &str) -> Result<Verdict, Fault> {
        Ok(match Self::password(login) {
            Some(_) => Verdict::Is(Verified::vouch(Identity::named(login))),
            None => Verdict::UNKNOWN,
        })
    }
}

impl PasswordStore for Users {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        match login {
            "slow" => std::future::pending::<()>().await,
            "broken" => return Err(Fault::unavailable("the directory is away")),
            "new" => return Ok(Verdict::Not(Denial::new(Reason::ChangeNeeded))),
            _ => {}
        }
        match Self::password(login) {
            Some(right) if *password == Secret::from(right) => self.find(login).await,
            Some(_) => Ok(Verdict::WRONG),
            None => Ok(Verdict::UNKNOWN),
        }
    }
}

impl TextStore for Users {
    async fn password_text(&self, login: &str) -> Result<Option<Secret>, Fault> {
        Ok(Self::password(login).map(Secret::from))
    }
}

struct Place {
    office: Office,
    world: Arc<StillWorld>,
    layer: Authenticated<Desk>,
}

impl Place {
    fn new() -> Self {
        let (office, world) = (Office::default(), Arc::new(StillWorld::default()));
        let users = Stored::new("users", Users, Decoys::new(Secret::from("key")));
        let users = users.by_password().by_derived_digest();
        let portal = Portal::new(office.clone()).checked_by(users);
        let portal = portal.checked_by(Bearer::new("tokens", OneToken("t0ken")));
        let layer = Authenticated::new(portal, Arc::clone(&world) as Arc<dyn World>);
        Self { office, world, layer }
    }

    fn with(self, change: impl FnOnce(Authenticated<Desk>) -> Authenticated<Desk>) -> Self {
        Self { layer: change(self.layer), ..self }
    }

    async fn ask(&self, request: Request<Body>) -> Reply {
        self.ask_from("127.0.0.1:4000", request).await
    }

    async fn ask_from(&self, from: &str, mut request: Request<Body>) -> Reply {
        async fn desk(user: User<Desk>) -> String {
            user.avatar().to_owned()
        }
        async fn hall(user: Option<User<Desk>>) -> String {
            user.map_or("nobody".to_owned(), |user| user.who().subject.to_string())
        }
        async fn echo(_: User<Desk>, body: String) -> String {
            body
        }
        let app = Router::new()
            .route("/desk", get(desk).post(echo))
            .route("/hall", any(hall))
            .layer(self.layer.clone());
        let from: SocketAddr = from.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(from));
        let (parts, body) = app.oneshot(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Reply { status: parts.status, headers: parts.headers, body }
    }
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn challenges(&self) -> Vec<&str> {
        let all = self.headers.get_all(header::WWW_AUTHENTICATE).iter();
        all.map(|value| value.to_str().unwrap().split(' ').next().unwrap()).collect()
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

fn get_with(path: &str, authorization: &str) -> Request<Body> {
    request("GET", path, &[("authorization", authorization)], "")
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

#[tokio::test]
async fn nobody_gets_through_without_a_proof() {
    let place = Place::new().with(|l| l.bearer("office").basic("office").digest("office"));
    for headers in [
        &[][..],
        &[("authorization", "Negotiate x")],
        &[("cookie", "office=x")],
        &[("authorization", "")],
    ] {
        let reply = place.ask(request("GET", "/desk", headers, "")).await;
        assert_eq!(reply.status, 401, "{headers:?}");
        assert_eq!(reply.challenges(), ["Digest", "Bearer", "Basic"], "the strongest first");
        assert_eq!(reply.header(header::CACHE_CONTROL), "no-store");
        assert!(!reply.body.contains("desk"));
    }
    // What is not there is not told either.
    assert_eq!(place.ask(request("GET", "/nothing", &[], "")).await.status, 401);
    assert_eq!(place.office.counts(), (0, 0));
}

#[tokio::test]
async fn a_layer_without_a_scheme_lets_nobody_in() {
    let reply = Place::new().ask(get_with("/desk", &basic("ada", "countess"))).await;
    assert_eq!((reply.status.as_u16(), reply.challenges().len()), (403, 0));
}

/// The runtime's clock goes on when nobody has anything to do: nobody waits for what is too slow.
#[tokio::test(start_paused = true)]
async fn each_outcome_has_its_status() {
    let place = Place::new().with(|l| l.basic("office").deadline(Duration::from_secs(20)));
    for (name, password, status) in [
        ("ada", "countess", 200),
        ("ada", "wrong", 401),
        ("nobody", "countess", 401),
        ("new", "x", 403),
        ("eve", "countess", 403),
        ("eve", "wrong", 401),
        ("bob", "countess", 503),
        ("broken", "x", 503),
        ("slow", "x", 503),
    ] {
        let reply = place.ask(get_with("/desk", &basic(name, password))).await;
        assert_eq!(reply.status, status, "{name}");
        assert_eq!(reply.challenges().len(), usize::from(status == 401), "{name}");
        let retry = reply.header(header::RETRY_AFTER);
        assert_eq!(retry.is_empty(), status != 503, "{name}");
        assert!(name != "bob" || retry == "7");
        assert_eq!(reply.body == "ada, at your desk", status == 200, "{}", reply.body);
    }
    for bad in ["Basic !", "Basic YWRh"] {
        let reply = place.ask(get_with("/desk", bad)).await;
        assert_eq!((reply.status.as_u16(), reply.challenges().len()), (400, 0), "{bad}");
    }
    let basic = basic("ada", "countess");
    let twice = [("authorization", &*basic), ("authorization", &*basic)];
    assert_eq!(place.ask(request("GET", "/desk", &twice, "")).await.status, 400);
    assert_eq!(place.office.counts(), (1, 1), "logged in for one request");
}

#[tokio::test]
async fn passwords_and_tokens_do_not_cross_a_network_readable() {
    let all = |l: Authenticated<Desk>| l.basic("office").bearer("office").digest("office");
    let place = Place::new().with(all);
    for secret in [basic("ada", "countess"), "Bearer t0ken".to_owned()] {
        let from = "192.0.2.7:4000";
        let reply = place.ask_from(from, get_with("/desk", &secret)).await;
        assert_eq!(reply.status, 403);
        assert!(reply.body.contains("use TLS"), "{}", reply.body);
        let reply = place.ask_from(from, request("GET", "/desk", &[], "")).await;
        assert_eq!(reply.challenges(), ["Digest"], "nor are they asked for");
        let declared = Place::new().with(all).with(Authenticated::readable_anywhere);
        assert_eq!(declared.ask_from(from, get_with("/desk", &secret)).await.status, 200);
        // A proxy that ends TLS says so.
        let proxied = Place::new().with(all).with(|layer| {
            layer.connection(|parts| {
                let plain = Connection::from_address("192.0.2.7:4000".parse().unwrap());
                match parts.headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https") {
                    true => plain.within_tls(),
                    false => plain,
                }
            })
        });
        let proto = ("x-forwarded-proto", "https");
        let https = request("GET", "/desk", &[("authorization", &secret), proto], "");
        assert_eq!(proxied.ask(https).await.status, 200);
        assert_eq!(proxied.ask(get_with("/desk", &secret)).await.status, 403);
    }
    let only_basic = Place::new().with(|l| l.basic("office"));
    let reply = only_basic.ask_from("192.0.2.7:4000", request("GET", "/desk", &[], "")).await;
    assert_eq!(reply.status, 403, "401 without a challenge would be none");
}

#[tokio::test]
async fn a_token_that_is_not_good_is_said_to_be_so() {
    let place = Place::new().with(|l| l.bearer("office"));
    let reply = place.ask(get_with("/desk", "Bearer t0ken")).await;
    assert_eq!((reply.status.as_u16(), &*reply.body), (200, "ada, at your desk"));
    let reply = place.ask(get_with("/desk", "Bearer other")).await;
    assert_eq!(reply.status, 401);
    let challenge = reply.header(header::WWW_AUTHENTICATE);
    assert_eq!(challenge, "Bearer realm=\"office\", error=\"invalid_token\"");
    // Who shows none is told of no error (RFC 6750 §3).
    let reply = place.ask(request("GET", "/desk", &[], "")).await;
    assert_eq!(reply.header(header::WWW_AUTHENTICATE), "Bearer realm=\"office\"");
    assert_eq!(place.ask(get_with("/desk", "Bearer a b")).await.status, 400);
}

/// A client of Digest: answers the first challenge of a reply.
struct Client {
    nonce: String,
    count: u32,
    password: &'static str,
    qop: &'static str,
}

impl Client {
    fn of(reply: &Reply) -> Self {
        let challenge = reply.header(header::WWW_AUTHENTICATE);
        let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().into();
        Self { nonce, count: 0, password: "countess", qop: "auth" }
    }

    fn header(&mut self, method: &str, uri: &str, body: &str) -> String {
        self.count += 1;
        let hash = |text: String| {
            let algorithm = Variant::from_name("SHA-256").unwrap().algorithm;
            let mut hash = BodyHash::new(algorithm);
            hash.update(text.as_bytes());
            hash.finish()
        };
        let Self { nonce, count, password, qop } = self;
        let a1 = hash(format!("ada:office:{password}"));
        let a2 = match *qop {
            "auth" => hash(format!("{method}:{uri}")),
            _ => hash(format!("{method}:{uri}:{}", hash(body.to_owned()))),
        };
        let nc = format!("{count:08x}");
        let response = hash(format!("{a1}:{nonce}:{nc}:client:{qop}:{a2}"));
        format!(
            "Digest username=\"ada\", realm=\"office\", nonce=\"{nonce}\", uri=\"{uri}\", nc={nc}, \
             cnonce=\"client\", qop={qop}, algorithm=SHA-256, response=\"{response}\""
        )
    }
}

#[tokio::test]
async fn responses_to_challenges() {
    let place = Place::new().with(|l| l.digest("office"));
    let challenged = place.ask(request("GET", "/desk", &[], "")).await;
    let mut client = Client::of(&challenged);
    let first = client.header("GET", "/desk?a=b", "");
    let reply = place.ask(get_with("/desk?a=b", &first)).await;
    assert_eq!((reply.status.as_u16(), &*reply.body), (200, "ada, at your desk"));
    let info = reply.header(header::HeaderName::from_static("authentication-info"));
    assert!(info.starts_with("qop=auth, rspauth=\"") && info.ends_with("nc=00000001"), "{info}");
    // A replay is stale, and so is an old nonce; another count is not.
    let reply = place.ask(get_with("/desk?a=b", &first)).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header(header::WWW_AUTHENTICATE).contains("stale=true"));
    assert_eq!(place.ask(get_with("/desk", &client.header("GET", "/desk", ""))).await.status, 200);
    // Another address, another method, another password.
    let elsewhere = client.header("GET", "/hall", "");
    assert_eq!(place.ask(get_with("/desk", &elsewhere)).await.status, 400);
    let posted = client.header("GET", "/desk", "");
    let reply = place.ask(request("POST", "/desk", &[("authorization", &posted)], "")).await;
    assert_eq!(reply.status, 401);
    client.password = "wrong";
    let reply = place.ask(get_with("/desk", &client.header("GET", "/desk", ""))).await;
    assert_eq!(reply.status, 401);
    assert!(!reply.header(header::WWW_AUTHENTICATE).contains("stale"));
    assert!(!reply.headers.contains_key("authentication-info"));
    client.password = "countess";
    place.world.advance_ms(5 * 60 * 1000 + 1);
    let reply = place.ask(get_with("/desk", &client.header("GET", "/desk", ""))).await;
    assert!(reply.header(header::WWW_AUTHENTICATE).contains("stale=true"));
    assert_eq!(place.office.counts(), (2, 2));
}

#[tokio::test]
async fn bodies_that_are_protected_are_read_to_a_limit() {
    let world = StillWorld::default();
    let digest = Digest::new("office", &world).with_integrity();
    let place = Place::new().with(|l| l.digest_by(digest).bodies_up_to(9));
    let challenged = place.ask(request("GET", "/desk", &[], "")).await;
    let mut client = Client { qop: "auth-int", ..Client::of(&challenged) };
    let post =
        |header: &str, body: &str| request("POST", "/desk", &[("authorization", header)], body);
    let header = client.header("POST", "/desk", "nine byte");
    let reply = place.ask(post(&header, "nine byte")).await;
    assert_eq!((reply.status.as_u16(), &*reply.body), (200, "nine byte"), "it goes on whole");
    let header = client.header("POST", "/desk", "nine byte");
    assert_eq!(place.ask(post(&header, "nine bits")).await.status, 401, "another body");
    let header = client.header("POST", "/desk", "ten bytes!");
    assert_eq!(place.ask(post(&header, "ten bytes!")).await.status, 413);
    // Where bodies are not protected, none is read for it.
    let plain = Place::new().with(|l| l.digest("office"));
    let challenged = plain.ask(request("GET", "/desk", &[], "")).await;
    let mut client = Client { qop: "auth-int", ..Client::of(&challenged) };
    let header = client.header("POST", "/desk", "nine byte");
    assert_eq!(plain.ask(post(&header, "nine byte")).await.status, 401);
}

#[tokio::test]
async fn an_open_layer_leaves_it_to_handlers() {
    let place = Place::new().with(|l| l.basic("office").open());
    assert_eq!(place.ask(request("GET", "/hall", &[], "")).await.body, "nobody");
    assert_eq!(place.ask(get_with("/hall", &basic("ada", "countess"))).await.body, "ada");
    assert_eq!(place.ask(get_with("/hall", &basic("ada", "wrong"))).await.status, 401);
    let reply = place.ask(request("GET", "/desk", &[], "")).await;
    assert_eq!((reply.status.as_u16(), reply.challenges()), (401, vec!["Basic"]));
}

#[tokio::test]
async fn a_handler_without_a_layer_lets_nobody_in() {
    async fn desk(user: User<Desk>) -> String {
        user.avatar().to_owned()
    }
    let app = Router::new().route("/", get(desk));
    let reply = app.oneshot(request("GET", "/", &[], "")).await.unwrap();
    assert_eq!(reply.status(), 500);
}

/// Behind a router that takes a part of the address away, the client's is the whole.
#[tokio::test]
async fn nested_routers_do_not_change_the_address() {
    async fn desk(user: User<Desk>) -> String {
        user.avatar().to_owned()
    }
    let place = Place::new().with(|l| l.digest("office"));
    let inner = Router::new().route("/desk", get(desk)).layer(place.layer.clone());
    let app = Router::new().nest("/inner", inner);
    let challenged = place.ask(request("GET", "/desk", &[], "")).await;
    let header = Client::of(&challenged).header("GET", "/inner/desk", "");
    let reply = app.oneshot(get_with("/inner/desk", &header)).await.unwrap();
    assert_eq!(reply.status(), 200);
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const BROWSER: (&str, &str) = ("accept", "text/html,*/*;q=0.8");
const LOGIN: &str = "username=ada&password=countess&return_to=%2Fdesk";

fn with_cookie() -> Place {
    Place::new().with(|l| l.cookie(Cookie::named("office").home("/hall")))
}

/// Logs in and gives the cookie as it is sent back.
async fn cookie_of(place: &Place) -> String {
    let reply = place.ask(request("POST", "/login", &[FORM], LOGIN)).await;
    assert_eq!((reply.status.as_u16(), reply.header(header::LOCATION)), (303, "/desk"));
    let set = reply.header(header::SET_COOKIE);
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    set.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_form_and_then_a_cookie() {
    let place = with_cookie();
    let reply = place.ask(request("GET", "/desk?x=1", &[BROWSER], "")).await;
    assert_eq!(reply.status, 303);
    assert_eq!(reply.header(header::LOCATION), "/login?return_to=%2Fdesk%3Fx%3D1");
    let reply = place.ask(request("GET", reply.header(header::LOCATION), &[BROWSER], "")).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("name=\"return_to\" value=\"/desk?x=1\""), "{}", reply.body);
    assert!(reply.header(header::CONTENT_SECURITY_POLICY).contains("frame-ancestors 'none'"));
    let wrong = "username=%3Cada%3E&password=wrong";
    let reply = place.ask(request("POST", "/login", &[FORM], wrong)).await;
    assert_eq!((reply.status.as_u16(), reply.challenges()), (401, vec!["Cookie"]));
    assert!(reply.body.contains("That did not work.") && reply.body.contains("&lt;ada&gt;"));
    assert!(!reply.body.contains("wrong") && !reply.headers.contains_key(header::SET_COOKIE));
    assert_eq!(place.office.counts(), (0, 0));

    let cookie = cookie_of(&place).await;
    for _ in 0..3 {
        let reply = place.ask(request("GET", "/desk", &[("cookie", &cookie)], "")).await;
        assert_eq!((reply.status.as_u16(), &*reply.body), (200, "ada, at your desk"));
        assert_eq!(reply.header(header::CACHE_CONTROL), "private");
    }
    assert_eq!(place.office.counts(), (1, 0), "one session for all of them");
    // A program that asks is not sent to a page.
    let reply = place.ask(request("GET", "/desk", &[], "")).await;
    assert_eq!((reply.status.as_u16(), reply.challenges()), (401, vec!["Cookie"]));

    let reply = place.ask(request("POST", "/logout", &[("cookie", &cookie)], "")).await;
    assert_eq!((reply.status.as_u16(), reply.header(header::LOCATION)), (303, "/hall"));
    assert!(reply.header(header::SET_COOKIE).contains("office=;"));
    assert_eq!(place.office.counts(), (1, 1));
    let again = place.ask(request("POST", "/logout", &[("cookie", &cookie)], "")).await;
    assert_eq!((again.status.as_u16(), place.office.counts()), (303, (1, 1)));
    assert_eq!(place.ask(request("GET", "/desk", &[("cookie", &cookie)], "")).await.status, 401);
}

#[tokio::test]
async fn other_sites_change_nothing() {
    let place = with_cookie();
    let cookie = cookie_of(&place).await;
    let ours = ("cookie", &*cookie);
    let theirs = ("sec-fetch-site", "cross-site");
    let origin = ("origin", "https://evil.example");
    let host = ("host", "office.example");
    for elsewhere in [&[theirs][..], &[origin, host], &[("sec-fetch-site", "same-site")]] {
        let with = |more: &[(&'static str, &'static str)]| {
            let mut headers = vec![ours];
            headers.extend(more);
            headers.extend(elsewhere);
            headers
        };
        for (path, headers, body) in [
            ("/login", with(&[FORM]), LOGIN),
            ("/logout", with(&[]), ""),
            ("/desk", with(&[]), "a change"),
        ] {
            let reply = place.ask(request("POST", path, &headers, body)).await;
            assert_eq!(reply.status, 403, "{path} {headers:?}");
            assert!(!reply.headers.contains_key(header::SET_COOKIE));
        }
        // A link may be followed.
        let reply = place.ask(request("GET", "/desk", &with(&[]), "")).await;
        assert_eq!(reply.status, 200);
    }
    let here = [ours, ("sec-fetch-site", "same-origin"), ("origin", "https://office.example")];
    assert_eq!(place.ask(request("POST", "/desk", &here, "a change")).await.body, "a change");
    assert_eq!(place.office.counts(), (1, 0));
    // Nor does a link log anybody in or out.
    for (path, allowed) in [("/logout", "POST"), ("/login", "GET, HEAD, POST")] {
        let method = if path == "/login" { "PUT" } else { "GET" };
        let reply = place.ask(request(method, path, &[ours], "")).await;
        assert_eq!((reply.status.as_u16(), reply.header(header::ALLOW)), (405, allowed));
    }
}

#[tokio::test]
async fn a_login_makes_a_session_of_its_own() {
    let place = with_cookie();
    let first = cookie_of(&place).await;
    let headers = [FORM, ("cookie", &*first)];
    let reply = place.ask(request("POST", "/login", &headers, LOGIN)).await;
    let set = reply.header(header::SET_COOKIE).to_owned();
    assert!(reply.status == 303 && !set.starts_with(&first), "not the token that was there");
    assert_eq!(place.office.counts(), (2, 1), "the one before is over");
    let long = format!("{LOGIN}&x={}", "y".repeat(17 * 1024));
    for (body, kind, status) in
        [(LOGIN, "application/json", 415), ("username=ada", FORM.1, 400), (&long, FORM.1, 413)]
    {
        let reply = place.ask(request("POST", "/login", &[("content-type", kind)], body)).await;
        assert_eq!(reply.status, status, "{kind}");
    }
    for (to, place_to_be) in
        [("%2F%2Fevil", "/hall"), ("https%3A%2F%2Fevil", "/hall"), ("%2Fx", "/x")]
    {
        let body = format!("username=ada&password=countess&return_to={to}");
        let reply = place.ask(request("POST", "/login", &[FORM], &body)).await;
        assert_eq!(reply.header(header::LOCATION), place_to_be);
    }
}

#[tokio::test]
async fn within_tls_no_other_host_can_set_the_cookie() {
    let tls = |_: &http::request::Parts| Connection::default().within_tls();
    let place = with_cookie().with(|l| l.connection(tls));
    let reply = place.ask(request("POST", "/login", &[FORM], LOGIN)).await;
    let set = reply.header(header::SET_COOKIE);
    assert!(set.starts_with("__Host-office=") && set.ends_with("; Secure"), "{set}");
    let token = set.split(['=', ';']).nth(1).unwrap();
    for (name, status) in [("__Host-office", 200), ("office", 401)] {
        let cookie = format!("{name}={token}");
        let reply = place.ask(request("GET", "/desk", &[("cookie", &cookie)], "")).await;
        assert_eq!(reply.status, status, "{name}");
    }
    let plain = with_cookie();
    for request in
        [request("POST", "/login", &[FORM], LOGIN), request("GET", "/login", &[BROWSER], "")]
    {
        assert_eq!(plain.ask_from("192.0.2.7:1", request).await.status, 403);
    }
}

#[tokio::test]
async fn what_a_client_chose_to_send_counts_before_its_cookie() {
    let place = with_cookie().with(|l| l.basic("office"));
    let cookie = cookie_of(&place).await;
    let wrong = basic("ada", "wrong");
    let both = [("cookie", &*cookie), ("authorization", &*wrong)];
    assert_eq!(place.ask(request("GET", "/desk", &both, "")).await.status, 401);
    // What is no scheme of this layer is looked past.
    let both = [("cookie", &*cookie), ("authorization", "Bearer x")];
    assert_eq!(place.ask(request("GET", "/desk", &both, "")).await.status, 200);
}

#[tokio::test]
async fn there_is_room_for_so_many_and_an_end_for_all() {
    let limits = SessionLimits { all: 1, each: 1, ..SessionLimits::default() };
    let place = Place::new().with(|l| l.cookie(Cookie::named("office").limits(limits)));
    cookie_of(&place).await;
    let cookie = cookie_of(&place).await;
    assert_eq!(place.office.counts(), (2, 1), "one of a user at a time");
    assert_eq!(place.layer.sessions(), 1);
    place.layer.end_sessions().await;
    assert_eq!(place.office.counts(), (2, 2));
    assert_eq!(place.ask(request("GET", "/desk", &[("cookie", &cookie)], "")).await.status, 401);
    let limits = SessionLimits { all: 0, ..limits };
    let place = Place::new().with(|l| l.cookie(Cookie::named("office").limits(limits)));
    let reply = place.ask(request("POST", "/login", &[FORM], LOGIN)).await;
    assert_eq!((reply.status.as_u16(), reply.header(header::RETRY_AFTER)), (503, "1"));
    assert_eq!(place.office.counts(), (1, 1));
}

#[tokio::test]
async fn who_does_not_wait_is_not_in() {
    let place = Place::new().with(|l| l.basic("office"));
    let asked = place.ask(get_with("/desk", &basic("slow", "x")));
    assert!(tokio::time::timeout(Duration::from_millis(1), asked).await.is_err());
    assert_eq!(place.office.counts(), (0, 0));
    let head = request(
        Method::HEAD.as_str(),
        "/desk",
        &[("authorization", &basic("ada", "countess"))],
        "",
    );
    assert_eq!(place.ask(head).await.status, 200);
    assert_eq!(place.office.counts(), (1, 1));
}

//! Ways around what the service `web` demands: a login to a service that demands less, and a program's password.
//! Neither changes what proves somebody, nor administers anything.

mod support;

use countersign::{Factor, Policy, Rule, Secret, Terms, When};
use countersign_checkers::factors::{Factors, NewAppPassword};
use countersign_server::admin::NewPassword;
use countersign_server::front::http::HttpOptions;
use serde_json::{Value, json};
use support::browser::Browser;
use support::http::Running;
use support::{Place, Wishes};

const PASSWORD: &str = "correct horse";

/// `web` demands a one-time code, and nothing else does.
fn codes_at_web() -> Policy {
    let factors = vec![Factor::ANY, Factor::of("otp")];
    let rule = Rule {
        name: "rule `web`".into(),
        when: When { services: vec!["web".into()], ..When::default() },
        terms: Terms { require: Some(factors), ..Terms::default() },
    };
    Policy { terms: Terms::default(), rules: vec![rule] }
}

async fn running(policy: Policy) -> Running {
    let place =
        Place::with(Wishes { accounts: true, policy: Some(policy), ..Wishes::default() }).await;
    let server = Running::over(place, HttpOptions::default()).await;
    for user in ["ada", "root"] {
        let new = NewPassword { password: Secret::from(PASSWORD), must_change: false };
        server.place.admin.set_password(user, new).await.unwrap();
    }
    server
}

async fn login(server: &Running, service: &str, user: &str, password: &str) -> Value {
    let answers = json!({"username": user, "password": password});
    let body = json!({"service": service, "mechanism": "password", "answers": answers});
    server.call("POST", "/v1/login", body).await.json()
}

async fn token(server: &Running, service: &str, user: &str, password: &str) -> String {
    let reply = login(server, service, user, password).await;
    let token = reply["session"]["token"].as_str();
    token.unwrap_or_else(|| panic!("{reply}")).to_owned()
}

async fn app_password(server: &Running, user: &str, services: &[&str]) -> String {
    let engine = &server.place.engine;
    let factors = Factors::new(engine.store.clone(), std::sync::Arc::new(engine.world));
    let services = services.iter().map(|&service| service.to_owned()).collect();
    let wanted = NewAppPassword { services, ..NewAppPassword::default() };
    let (secret, _) = factors.add_app_password(user, &wanted).await.unwrap();
    secret.to_str().unwrap().to_owned()
}

fn with_session(token: String) -> Browser {
    let mut browser = Browser::default();
    browser.cookies.insert("countersign".into(), token);
    browser
}

async fn users(server: &Running, token: &str) -> u16 {
    server.call_as(token, "GET", "/v1/users", Value::Null).await.status
}

async fn forward_auth(server: &Running, service: &str, token: &str) -> u16 {
    let path = format!("/forward-auth?service={service}");
    server.call_as(token, "GET", &path, Value::Null).await.status
}

#[tokio::test]
async fn a_login_to_a_service_that_demands_less_changes_and_administers_nothing() {
    let server = running(codes_at_web()).await;
    let mut browser = with_session(token(&server, "imap", "ada", PASSWORD).await);
    let to_login = "/login?return_to=%2Faccount";
    assert_eq!(browser.get(&server, "/account").await.location(), to_login);
    for path in ["password", "otp", "recovery", "app-passwords", "factors/remove", "sessions/end"] {
        let path = format!("/account/{path}");
        let refused = browser.post(&server, &path, &[("check", "x")]).await;
        assert_eq!(refused.location(), to_login, "{path}");
    }
    // It is a session all the same, for what it was made for.
    let token = token(&server, "imap", "root", PASSWORD).await;
    assert_eq!(server.call_as(&token, "GET", "/v1/session", Value::Null).await.status, 200);
    assert_eq!(users(&server, &token).await, 403);
    assert_eq!(forward_auth(&server, "web", &token).await, 401);
    assert_eq!(forward_auth(&server, "wiki", &token).await, 200);
    server.stop().await;

    // Where `web` demands no more, nothing is in the way.
    let server = running(Policy::default()).await;
    let token = self::token(&server, "http", "root", PASSWORD).await;
    assert_eq!(users(&server, &token).await, 200);
    assert_eq!(with_session(token).get(&server, "/account").await.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn a_program_s_password_is_for_its_service_and_never_for_the_account() {
    for policy in [Policy::default(), codes_at_web()] {
        let server = running(policy).await;
        let everywhere = app_password(&server, "root", &["*"]).await;
        for web in ["web", "WEB"] {
            let refused = login(&server, web, "root", &everywhere).await;
            assert_eq!(refused["reason"], "denied", "{refused}");
        }
        let wiki = token(&server, "wiki", "root", &everywhere).await;
        // At its service it stands for every factor; its session opens no other.
        assert_eq!(forward_auth(&server, "wiki", &wiki).await, 200);
        for other in ["web", "vault"] {
            assert_eq!(forward_auth(&server, other, &wiki).await, 401, "{other}");
        }
        assert_eq!(users(&server, &wiki).await, 403);
        let account = with_session(wiki).get(&server, "/account").await;
        assert_eq!(account.location(), "/login?return_to=%2Faccount");

        // Named, `web` is one of its services; what proves its person still is not its to change.
        let web = app_password(&server, "root", &["web"]).await;
        let web = token(&server, "web", "root", &web).await;
        assert_eq!(forward_auth(&server, "web", &web).await, 200);
        assert_eq!(users(&server, &web).await, 403);
        let mut browser = with_session(web);
        let page = browser.get(&server, "/account?lang=en").await;
        page.must_say("log in again first");
        let check = page.hidden("/logout").remove(0).1;
        for path in ["password", "otp", "recovery", "app-passwords", "factors/remove"] {
            let path = format!("/account/{path}");
            let refused = browser.post(&server, &path, &[("check", &check)]).await;
            assert_eq!(refused.status(), 403, "{path}");
            refused.must_say("Nothing has been changed");
        }
        server.stop().await;
    }
}

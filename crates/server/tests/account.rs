//! The page of an account over a real listener, as a browser without scripts sees it.

mod support;

use countersign::Secret;
use countersign_server::admin::NewPassword;
use countersign_server::front::http::HttpOptions;
use countersign_server::realm::token_hash;
use countersign_store::{SessionRecord, StoreError};
use serde_json::Value;
use support::browser::{Browser, Page};
use support::http::Running;
use support::{Place, Wishes};

const PASSWORD: &str = "correct horse";

async fn running() -> Running {
    let place = Place::with(Wishes { accounts: true, ..Wishes::default() }).await;
    let server = Running::over(place, HttpOptions::default()).await;
    let new = NewPassword { password: Secret::from(PASSWORD), must_change: false };
    server.place.admin.set_password("ada", new).await.unwrap();
    server
}

async fn logged_in(server: &Running) -> (Browser, Page) {
    let mut browser = Browser::default();
    let page = login(server, &mut browser, PASSWORD).await;
    assert_eq!((page.status(), page.location()), (303, "/account"), "{page:?}");
    let account = browser.get(server, "/account").await;
    assert_eq!(account.status(), 200);
    (browser, account)
}

async fn login(server: &Running, browser: &mut Browser, password: &str) -> Page {
    let page = browser.get(server, "/login?lang=en").await;
    let fields = [("-.v.username", "ada"), ("-.v.password", password)];
    browser.submit(server, &page, "/login", &fields).await
}

fn acts(place: &Place) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let audit = place.audit();
    let acts = audit.iter().filter(|line| line["act"].is_string());
    acts.map(|line| (text(&line["actor"]), text(&line["act"]), text(&line["detail"]))).collect()
}

#[tokio::test]
async fn nobody_without_a_session_sees_it() {
    let server = running().await;
    let mut browser = Browser::default();
    assert_eq!(browser.get(&server, "/").await.location(), "/account");
    assert_eq!(browser.get(&server, "/account").await.location(), "/login?return_to=%2Faccount");
    let changed = browser.post(&server, "/account/password", &[("check", "x")]).await;
    assert_eq!(changed.location(), "/login?return_to=%2Faccount");
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let server = running().await;
    let (other, _) = logged_in(&server).await;
    let (mut browser, page) = logged_in(&server).await;
    page.must_say("Logged in as ada");
    let change = async |browser: &mut Browser, new: &str, again: &str| {
        let fields = [("-.n.new-password", new), ("-.r.new-password", again)];
        browser.submit(&server, &page, "/account/password", &fields).await
    };
    let differ = change(&mut browser, "battery staple", "battery stable").await;
    assert_eq!(differ.status(), 422);
    differ.must_say("The two passwords are different.");
    let short = change(&mut browser, "short", "short").await;
    assert_eq!(short.status(), 422);
    short.must_say("at least 8 characters");
    let done = change(&mut browser, "battery staple", "battery staple").await;
    assert_eq!(done.location(), "/account?done=password");
    browser.get(&server, done.location()).await.must_say("Your password has been changed");

    let session = async |browser: &Browser| {
        let token = &browser.cookies["countersign"];
        server.call_as(token, "GET", "/v1/session", Value::Null).await.status
    };
    assert_eq!((session(&other).await, session(&browser).await), (401, 200));
    let mut fresh = Browser::default();
    assert_eq!(login(&server, &mut fresh, PASSWORD).await.status(), 403);
    assert_eq!(login(&server, &mut fresh, "battery staple").await.status(), 303);
    let place = server.stop().await;
    let acts = acts(&place);
    assert!(acts.contains(&("self ada".into(), "password-set".into(), String::new())), "{acts:?}");
}

/// An administrator shuts somebody out while they change the password: what the administrator set stays.
#[tokio::test]
async fn a_session_that_was_ended_meanwhile_sets_no_password() {
    let server = running().await;
    let (browser, _) = logged_in(&server).await;
    let hash = token_hash(&browser.cookies["countersign"]);
    let own = server.place.admin.own("ada");
    let new = NewPassword { password: Secret::from("set by root"), must_change: false };
    server.place.admin.set_password("ada", new).await.unwrap();
    let refused = own.change_password(Secret::from("set by a thief"), &hash).await;
    assert!(refused.is_err());
    for (password, status) in [("set by a thief", 403), ("set by root", 303)] {
        assert_eq!(login(&server, &mut Browser::default(), password).await.status(), status);
    }
}

#[tokio::test]
async fn forms_are_bound_to_the_session() {
    let server = running().await;
    let (mut other, _) = logged_in(&server).await;
    let (_, page) = logged_in(&server).await;
    let fields = [("-.n.new-password", "battery staple"), ("-.r.new-password", "battery staple")];
    let refused = other.submit(&server, &page, "/account/password", &fields).await;
    assert_eq!(refused.status(), 403);
    refused.must_say("nothing has been changed");
    assert_eq!(login(&server, &mut Browser::default(), PASSWORD).await.status(), 303);
}

#[tokio::test]
async fn an_old_login_sees_and_does_not_change() {
    let server = running().await;
    let store = &server.place.engine.store;
    let (_, fresh) = logged_in(&server).await;
    let now = store.sessions_of("ada", 0).await.unwrap()[0].created;
    let token = "A".repeat(43);
    let record = SessionRecord {
        hash: token_hash(&token),
        created: now - 3600,
        last_seen: now - 3600,
        ..store.sessions_of("ada", 0).await.unwrap().remove(0)
    };
    let stored: Result<(), StoreError> = store.create_session(&record, 100, store.revision()).await;
    stored.unwrap();
    let mut browser = Browser::default();
    browser.cookies.insert("countersign".into(), token);
    let page = browser.get(&server, "/account?lang=en").await;
    page.must_say("log in again first");
    page.must_say("login?return_to=%2Faccount&amp;user=ada");
    assert!(!page.says("/account/password") && !page.says("/account/otp"));
    let check = page.hidden("/logout").remove(0).1;
    for path in ["password", "otp", "recovery", "app-passwords", "factors/remove"] {
        let path = format!("/account/{path}");
        let refused = browser.post(&server, &path, &[("check", &check)]).await;
        assert_eq!(refused.status(), 403, "{path}");
        refused.must_say("Nothing has been changed");
    }
    assert!(fresh.says("/account/otp"));
    // Ending sessions is for everybody.
    let ended = browser.submit(&server, &page, "/account/sessions/end", &[]).await;
    assert_eq!(ended.location(), "/account?done=sessions");
}

#[tokio::test]
async fn one_time_codes() {
    let server = running().await;
    let (mut browser, page) = logged_in(&server).await;
    let begun = browser.submit(&server, &page, "/account/otp", &[]).await;
    begun.must_say("src=\"data:image&#x2f;svg+xml;base64,");
    let secret = begun.reply.body.split("class=\"secret code\">").nth(1).unwrap();
    let secret = secret.split('<').next().unwrap().replace(' ', "");
    assert_eq!(secret.len(), 32);
    let wrong =
        browser.submit(&server, &begun, "/account/otp/confirm", &[("-.t.otp", "000000")]).await;
    assert_eq!(wrong.status(), 422);
    wrong.must_say("The code is not right.");
    wrong.must_say(secret.get(..4).unwrap());
    // Without a code nothing is enrolled.
    browser.get(&server, "/account").await.must_say("One-time codes");
    let account = server.place.engine.store.read_account("ada").await.unwrap().unwrap();
    assert_eq!(account.credentials.len(), 1);
    for _ in 0..4 {
        browser.submit(&server, &begun, "/account/otp/confirm", &[("-.t.otp", "000000")]).await;
    }
    let gone =
        browser.submit(&server, &begun, "/account/otp/confirm", &[("-.t.otp", "000000")]).await;
    assert_eq!(gone.status(), 410);
}

#[tokio::test]
async fn secrets_are_shown_once() {
    let server = running().await;
    let (mut browser, page) = logged_in(&server).await;
    let codes = browser.submit(&server, &page, "/account/recovery", &[]).await;
    assert_eq!(codes.reply.body.matches("<li class=\"code\">").count(), 10);
    let fields = [("label", "Telephone <1>"), ("services", "imap, smtp"), ("days", "30")];
    let made = browser.submit(&server, &page, "/account/app-passwords", &fields).await;
    let secret = made.reply.body.split("class=\"secret code\">").nth(1).unwrap();
    let secret = secret.split('<').next().unwrap();
    assert_eq!(secret.replace('-', "").len(), 25, "{secret}");
    let bad = [("label", "x"), ("services", "")];
    let refused = browser.submit(&server, &page, "/account/app-passwords", &bad).await;
    assert_eq!(refused.status(), 422);

    let account = browser.get(&server, "/account").await;
    account.must_say("Codes that are left: 10");
    account.must_say("Telephone &lt;1&gt;");
    account.must_say("imap, smtp");
    assert!(!account.says(secret));
    let id = account.hidden("/account/factors/remove");
    let id = &id.iter().find(|(name, _)| name == "id").unwrap().1;
    assert!(id.parse::<i64>().is_ok());
    let removed = browser.submit(&server, &account, "/account/factors/remove", &[]).await;
    assert_eq!(removed.location(), "/account?done=removed");
    let place = server.stop().await;
    let acts: Vec<_> = acts(&place).into_iter().filter(|(actor, ..)| actor == "self ada").collect();
    let acts: Vec<_> = acts.iter().map(|(_, act, detail)| format!("{act} {detail}")).collect();
    assert_eq!(acts.len(), 3, "{acts:?}");
    assert_eq!(acts[0], "factor-add recovery: 10 codes");
    assert_eq!(acts[1], "factor-add app-password Telephone <1> for imap smtp");
    assert!(acts[2].starts_with("factor-remove "));
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let server = running().await;
    let (first, _) = logged_in(&server).await;
    let (second, _) = logged_in(&server).await;
    let (mut browser, page) = logged_in(&server).await;
    page.must_say("this browser");
    let session = async |browser: &Browser| {
        let token = &browser.cookies["countersign"];
        server.call_as(token, "GET", "/v1/session", Value::Null).await.status
    };
    // A session of somebody else cannot be named.
    let check = page.hidden("/logout").remove(0).1;
    let fields = [("check", check.as_str()), ("session", "nobody-s")];
    assert_eq!(browser.post(&server, "/account/sessions/end", &fields).await.status(), 303);
    let hash = token_hash(&first.cookies["countersign"]);
    let fields = [("check", check.as_str()), ("session", hash.as_str())];
    browser.post(&server, "/account/sessions/end", &fields).await;
    assert_eq!((session(&first).await, session(&second).await), (401, 200));
    let fields = [("check", check.as_str())];
    browser.post(&server, "/account/sessions/end", &fields).await;
    assert_eq!((session(&second).await, session(&browser).await), (401, 200));
    let out = browser.submit(&server, &page, "/logout", &[]).await;
    out.must_say("Logged out");
    assert!(!browser.cookies.contains_key("countersign"));
    assert_eq!(browser.get(&server, "/account").await.status(), 303);
}

#[tokio::test]
async fn whose_account_is_kept_elsewhere_changes_nothing_here() {
    // `ada` of another checker; the account of the same name may be somebody else's.
    let server = Running::new().await;
    let mut browser = Browser::default();
    let page = browser.get(&server, "/login?lang=en").await;
    let fields = [("-.v.username", "ada"), ("-.v.password", "countess")];
    assert_eq!(browser.submit(&server, &page, "/login", &fields).await.status(), 303);
    let page = browser.get(&server, "/account").await;
    page.must_say("kept elsewhere");
    assert!(!page.says("/account/"));
    let check = page.hidden("/logout").remove(0).1;
    let fields = [("check", check.as_str())];
    assert_eq!(browser.post(&server, "/account/recovery", &fields).await.status(), 403);
}

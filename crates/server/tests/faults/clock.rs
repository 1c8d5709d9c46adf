//! The wall clock is stepped, by minutes and by days, forward and back, while people log in. What lasts for a
//! while here lasts by the steady clock; what ends at a date ends by the wall clock.

use std::sync::atomic::{AtomicI64, Ordering};

use countersign_checkers::factors::{Factors, OtpSettings};
use countersign_checkers::hash::Recipe;
use countersign_server::admin::{Admin, UserChange, When};
use countersign_server::world::SystemWorld;
use serde_json::{Value, json};

use crate::site::{PASSWORD, Site};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A site, and its wall clock: seconds ahead of the machine's.
struct Stepped {
    site: Site,
    off: &'static AtomicI64,
    world: SystemWorld,
}

impl Stepped {
    async fn new(more: &str) -> Self {
        let off: &'static AtomicI64 = Box::leak(Box::default());
        let world = SystemWorld::off_by(off);
        Self { site: Site::with(more, world).await, off, world }
    }

    /// Sets how far ahead it is of what it was at first.
    fn step_to(&self, seconds: i64) {
        self.off.store(seconds, Ordering::Relaxed);
    }

    fn now(&self) -> i64 {
        self.world.unix_ms().0
    }

    async fn change(&self, user: &str, change: UserChange) {
        let engine = self.site.server.engine();
        let (store, pool) = (engine.store.clone(), engine.pool.clone().unwrap());
        let recipe = Recipe::Argon2id { memory_kib: 64, passes: 1, lanes: 1 };
        let admin = Admin::new(store, pool, recipe, self.world);
        admin.change_user(user, change).await.unwrap();
    }
}

const STEPS: [i64; 6] = [HOUR, 40 * DAY, -HOUR, -40 * DAY, 300, 0];

#[tokio::test]
async fn a_login_that_waits_goes_on() {
    let stepped = Stepped::new("").await;
    let site = &stepped.site;
    for (step, code) in STEPS.into_iter().zip(&site.codes) {
        let (id, round) = site.asked_for_a_code().await;
        let begun = stepped.now();
        stepped.step_to(step);
        // Its five minutes are the steady clock's: it was not given up, and lasts no longer.
        let granted = site.answer(&id, round, code).await;
        assert_eq!(granted.status, 200, "{step}: {granted:?}");
        // The session is of now, by the clock of now.
        let expires = granted.json()["session"]["expires"].clone();
        let lasts = expires.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
        let lasts = lasts - stepped.now();
        assert!((0..=30 * DAY).contains(&lasts), "{step}: {lasts} s, begun at {begun}");
        assert_eq!(site.code(code).await.status, 401, "{step}: a used code");
        // Everything else works as ever.
        assert_eq!(site.dovecot("imap", "ada", PASSWORD).await, "OK\t1\tuser=ada", "{step}");
        assert_eq!(site.page("ada", PASSWORD).await.status(), 303, "{step}");
        site.keeps_out(&format!("{step}")).await;
    }
    // What is in the record is whole, in the order in which it happened, and took no time that did not pass.
    for record in site.audit() {
        assert!(record["took_us"].as_i64().is_none_or(|took| took < 60_000_000), "{record}");
        record["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    stepped.site.server.stop().await;
}

#[tokio::test]
async fn sessions_end_on_time() {
    let stepped = Stepped::new("[sessions]\nlifetime = \"1h\"\n").await;
    let site = &stepped.site;
    let token = site.token("ada").await;
    assert_eq!(site.session(&token).await, 200);
    stepped.step_to(HOUR + 5);
    assert_eq!(site.session(&token).await, 401, "its end has passed");
    // Made while the clock was ahead: it would last until then and an hour more.
    let ahead = site.token("ada").await;
    assert_eq!(site.session(&ahead).await, 200);
    stepped.step_to(0);
    assert_eq!(site.session(&token).await, 200, "its end has not passed");
    assert_eq!(site.session(&ahead).await, 401, "a session from the future");
    stepped.step_to(-DAY);
    assert_eq!(site.session(&token).await, 401, "all of them are from the future now");
    let back = site.token("ada").await;
    assert_eq!(site.session(&back).await, 200, "and new ones are not");
    stepped.step_to(0);
    assert_eq!(site.session(&back).await, 401, "it has ended");
    assert_eq!(site.session(&token).await, 200);
    stepped.site.server.stop().await;
}

#[tokio::test]
async fn a_used_code_stays_used_and_a_date_is_a_date() {
    let stepped = Stepped::new("").await;
    let site = &stepped.site;
    let store = site.server.engine().store.clone();
    let factors = Factors::new(store, std::sync::Arc::new(stepped.world));
    let pending = factors.begin_otp("ada", "Test", OtpSettings::default()).unwrap();
    factors.enrol_unconfirmed(&pending, "key").await.unwrap();
    let secret = pending.base32();
    let secret = totp_rs::Secret::try_from_base32(secret.to_str().unwrap()).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret.as_bytes()).build().unwrap();
    let login = async |code: String| {
        let asked = site.login("vpn", "ada", PASSWORD).await.json();
        let path = format!("/v1/login/{}", asked["id"].as_str().unwrap());
        let body = json!({"round": asked["round"]["number"], "answers": {"otp": code}});
        site.http("POST", &path, "", body).await.status
    };
    let code = |at: i64| totp.generate(u64::try_from(at).unwrap()).to_string();
    let first = stepped.now();
    assert_eq!(login(code(first)).await, 200);
    for step in [-30, -HOUR, -DAY, 0, 15] {
        stepped.step_to(step);
        assert_eq!(login(code(first)).await, 401, "{step}: a used code");
    }
    stepped.step_to(-HOUR);
    assert_eq!(
        login(code(stepped.now())).await,
        401,
        "nor is one from before it, when it is now again"
    );
    stepped.step_to(HOUR);
    assert_eq!(login(code(stepped.now())).await, 200, "and the next one counts");

    // An account that ends at a date, with its password remembered by the cache of verified logins.
    stepped.step_to(0);
    let until = When(stepped.now() + 2 * HOUR);
    stepped.change("bob", UserChange { expires: Some(Some(until)), ..UserChange::default() }).await;
    let mail = async || site.dovecot("imap", "bob", PASSWORD).await;
    for (step, good) in [(0, true), (0, true), (3 * HOUR, false), (HOUR, true), (DAY, false)] {
        stepped.step_to(step);
        assert_eq!(mail().await == "OK\t1\tuser=bob", good, "{step}");
    }
    stepped.step_to(0);
    // Cached or not, what is changed counts whatever the clock says.
    stepped.step_to(-DAY);
    stepped.change("bob", UserChange { enabled: Some(false), ..UserChange::default() }).await;
    for step in [-DAY, 0, DAY] {
        stepped.step_to(step);
        assert!(mail().await.starts_with("FAIL"), "{step}");
    }
    stepped.site.server.stop().await;
}

/// The delay of the user is at most two seconds here, as no address is known at a mail server's socket.
#[tokio::test]
async fn throttles_neither_vanish_nor_last() {
    let stepped = Stepped::new("[throttle]\nuser_free = 2\n").await;
    let site = &stepped.site;
    let status = async || site.dovecot("imap", "ada", PASSWORD).await;
    for step in [DAY, -DAY, 600, -600] {
        for guess in 0..4 {
            site.dovecot("imap", "ada", &format!("{step} {guess}")).await;
        }
        let told = status().await;
        assert!(told.contains("temp"), "{step}: not delayed: {told}");
        stepped.step_to(step);
        // Over the shares between nodes, of which there are some a second, it ends by the steady clock.
        crate::site::eventually("let in again", async || status().await == "OK\t1\tuser=ada").await;
        stepped.step_to(0);
        assert_eq!(status().await, "OK\t1\tuser=ada", "{step}");
    }
    let listed = site.server.engine().throttle.stats(countersign::World::now(&stepped.world));
    assert_eq!(listed.delayed, 0);
    let gone = site.http("GET", "/healthz", "", Value::Null).await;
    assert_eq!(gone.status, 200);
    stepped.site.server.stop().await;
}

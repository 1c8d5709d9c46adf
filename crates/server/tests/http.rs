//! The JSON conversation and sessions, over a real listener.

mod support;

use countersign::PendingLimits;
use countersign_server::audit::{Audit, OnFailure};
use serde_json::{Value, json};
use support::http::Running;
use support::{Place, Wishes};

fn password(user: &str, password: &str) -> Value {
    json!({"service": "web", "answers": {"username": user, "password": password}})
}

fn two_steps() -> Value {
    json!({"mechanism": "two-steps", "answers": {"username": "ada"}})
}

/// The id and the round of a reply that asks.
fn asked(reply: &support::http::Reply) -> (String, u64) {
    let json = reply.json();
    assert_eq!((reply.status, json["status"].as_str()), (200, Some("ask")), "{reply:?}");
    (json["id"].as_str().unwrap().to_owned(), json["round"]["number"].as_u64().unwrap())
}

#[tokio::test]
async fn one_call_when_the_answers_are_known() {
    let server = Running::new().await;
    let reply = server.call("POST", "/v1/login", password("ada", "countess")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let granted = reply.json();
    assert_eq!(granted["status"], "granted");
    assert_eq!(granted["identity"]["subject"], "ada");
    assert_eq!(granted["identity"]["groups"], json!([{"name": "staff"}]));
    let token = granted["session"]["token"].as_str().unwrap();
    assert_eq!(token.len(), 43);

    let session = server.call_as(token, "GET", "/v1/session", Value::Null).await.json();
    assert_eq!(session["service"], "web");
    assert_eq!(session["identity"], granted["identity"]);
    assert_eq!(session["expires"], granted["session"]["expires"]);

    let place = server.stop().await;
    let audit = place.audit();
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0]["outcome"], "granted");
    assert_eq!(audit[0]["subject"], "ada");
    assert_eq!(audit[0]["front_end"], "http");
    assert_eq!(audit[0]["service"], "web");
    assert_eq!(audit[0]["remote"], "127.0.0.1");
    assert_eq!(audit[0]["transport"], "local");
    assert!(place.engine.pending.is_empty());
}

#[tokio::test]
async fn round_by_round() {
    let server = Running::new().await;
    let first = server.call("POST", "/v1/login", json!({})).await;
    let (id, round) = asked(&first);
    assert_eq!(round, 1);
    let questions = &first.json()["round"]["questions"];
    assert_eq!(questions[0]["name"], "username");
    assert_eq!(questions[1]["kind"], "passphrase");
    assert_eq!(questions[1]["prompt"], json!({"id": "prompt.password", "text": "Password"}));
    let path = format!("/v1/login/{id}");
    let answer = json!({"round": 1, "answers": {"username": "ada", "password": "countess"}});
    let reply = server.call("POST", &path, answer).await;
    assert_eq!(reply.json()["status"], "granted", "{reply:?}");
}

#[tokio::test]
async fn bytes_answer_like_text() {
    let server = Running::new().await;
    let answers = json!({"username": "ada", "password": {"base64": "Y291bnRlc3M="}});
    let reply = server.call("POST", "/v1/login", json!({"answers": answers})).await;
    assert_eq!(reply.json()["status"], "granted");
    let answers = json!({"username": "ada", "password": null});
    let reply = server.call("POST", "/v1/login", json!({"answers": answers})).await;
    assert_eq!((reply.status, &reply.json()["reason"]), (401, &json!("denied")));
}

#[tokio::test]
async fn refusals_say_one_of_four_words() {
    let server = Running::new().await;
    let wrong = server.call("POST", "/v1/login", password("ada", "wrong")).await;
    let unknown = server.call("POST", "/v1/login", password("nobody", "wrong")).await;
    assert_eq!(wrong.status, 401);
    assert_eq!(wrong.json(), json!({"status": "denied", "reason": "denied"}));
    assert_eq!((unknown.status, &unknown.body), (wrong.status, &wrong.body));
    let names = |reply: &support::http::Reply| {
        let lines = reply.head.lines().map(|line| line.split(':').next().unwrap().to_owned());
        lines.collect::<Vec<_>>()
    };
    assert_eq!(names(&unknown), names(&wrong));

    let change = server.call("POST", "/v1/login", password("changer", "x")).await;
    assert_eq!((change.status, &change.json()["reason"]), (403, &json!("change-needed")));
    let later = server.call("POST", "/v1/login", password("hasty", "x")).await;
    assert_eq!((later.status, &later.json()["reason"]), (429, &json!("try-later")));
    assert_eq!(later.header("retry-after"), Some("2"));
    let none = server.call("POST", "/v1/login", json!({"mechanism": "no-such"})).await;
    assert_eq!((none.status, &none.json()["reason"]), (422, &json!("unsupported")));
    let unable = server.call("POST", "/v1/login", json!({"supports": ["otp"]})).await;
    assert_eq!((unable.status, &unable.json()["reason"]), (422, &json!("unsupported")));
    let fault = server.call("POST", "/v1/login", password("broken", "x")).await;
    assert_eq!(fault.status, 503);
    assert_eq!(fault.json(), json!({"status": "denied", "reason": "try-later"}));

    let audit = server.stop().await.audit();
    let reasons: Vec<_> = audit.iter().map(|line| line["reason"].as_str().unwrap_or("")).collect();
    let expected = ["wrong-credential", "unknown-user", "change-needed", "too-many"];
    assert_eq!(reasons[..4], expected);
    assert_eq!(reasons[4..], ["unsupported", "unsupported", ""]);
    assert_eq!(audit[6]["outcome"], "fault");
}

#[tokio::test]
async fn the_last_answers_again_get_the_last_reply_again() {
    let server = Running::new().await;
    let (id, round) = asked(&server.call("POST", "/v1/login", two_steps()).await);
    assert_eq!(round, 2, "the name was known");
    let path = format!("/v1/login/{id}");
    let wrong = json!({"round": 2, "answers": {"otp": "1"}});
    let again = server.call("POST", &path, wrong.clone()).await;
    assert_eq!(asked(&again).1, 3);
    assert_eq!(again.json()["round"]["feedback"]["question"], "otp");
    assert_eq!(server.call("POST", &path, wrong).await.body, again.body);

    let right = json!({"round": 3, "answers": {"otp": "4711"}});
    let granted = server.call("POST", &path, right.clone()).await;
    assert_eq!(granted.json()["status"], "granted", "{granted:?}");
    let repeated = server.call("POST", &path, right.clone()).await;
    assert_eq!(repeated.body, granted.body, "the same session, not another");
    let now = countersign::World::now(&server.place.engine.world).unix;
    assert_eq!(server.place.engine.store.sessions_of("ada", now).await.unwrap().len(), 1);

    // Who knows the id and not the answers is given nothing, and spoils the reply by guessing.
    for guess in 0..9 {
        let guess = json!({"round": 3, "answers": {"otp": guess.to_string()}});
        let reply = server.call("POST", &path, guess).await;
        assert_eq!((reply.status, &reply.json()["status"]), (422, &json!("misuse")));
        assert_eq!(reply.json().get("id"), None);
    }
    assert_eq!(server.call("POST", &path, right).await.status, 422);
    let place = server.stop().await;
    assert_eq!(place.audit().len(), 1, "what is repeated is recorded once");
}

#[tokio::test]
async fn a_refusal_is_repeated_too() {
    let server = Running::new().await;
    let (id, _) = asked(&server.call("POST", "/v1/login", json!({"mechanism": "password"})).await);
    let path = format!("/v1/login/{id}");
    let wrong = json!({"round": 1, "answers": {"username": "ada", "password": "x"}});
    let denied = server.call("POST", &path, wrong.clone()).await;
    assert_eq!(denied.status, 401);
    assert_eq!(server.call("POST", &path, wrong).await.body, denied.body);
    let right = json!({"round": 1, "answers": {"username": "ada", "password": "countess"}});
    let late = server.call("POST", &path, right).await;
    assert_eq!((late.status, &late.json()["status"]), (422, &json!("misuse")));
    assert_eq!(server.stop().await.audit().len(), 1);
}

#[tokio::test]
async fn misuse_leaves_the_round_open() {
    let server = Running::new().await;
    let (id, _) = asked(&server.call("POST", "/v1/login", two_steps()).await);
    let path = format!("/v1/login/{id}");
    for (body, why) in [
        (json!({"round": 2, "answers": {}}), "`otp` is not answered"),
        (json!({"round": 2, "answers": {"otp": "1", "pin": "1"}}), "`pin` was not asked"),
        (json!({"round": 2, "answers": {"otp": true}}), "must be a text"),
        (json!({"round": 2, "answers": {"otp": "x y"}}), "letters and digits only"),
        (json!({"round": 9, "answers": {"otp": "4711"}}), "round 9 was answered, but round 2"),
    ] {
        let reply = server.call("POST", &path, body).await;
        let json = reply.json();
        assert_eq!((reply.status, json["status"].as_str()), (422, Some("misuse")), "{reply:?}");
        assert!(json["error"].as_str().unwrap().contains(why), "{reply:?}");
        assert_eq!((json["id"].as_str(), json["round"].as_u64()), (Some(&*id), Some(2)));
    }
    let right = json!({"round": 2, "answers": {"otp": "4711"}});
    assert_eq!(server.call("POST", &path, right).await.json()["status"], "granted");
}

#[tokio::test]
async fn a_login_can_be_given_up_once() {
    let server = Running::new().await;
    let (id, _) = asked(&server.call("POST", "/v1/login", two_steps()).await);
    let path = format!("/v1/login/{id}");
    assert_eq!(server.call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(server.call("DELETE", &path, Value::Null).await.status, 404);
    let late = json!({"round": 2, "answers": {"otp": "4711"}});
    assert_eq!(server.call("POST", &path, late).await.status, 404);
    let audit = server.stop().await.audit();
    assert_eq!(audit.len(), 1);
    assert_eq!((&audit[0]["reason"], &audit[0]["claimed"]), (&json!("cancelled"), &json!("ada")));
}

#[tokio::test]
async fn ids_that_nobody_gave_out() {
    let server = Running::new().await;
    let answer = json!({"round": 1, "answers": {}});
    for id in ["x", "0001-00000000000000000000000000000000", "%00", "0001-%2e%2e"] {
        let reply = server.call("POST", &format!("/v1/login/{id}"), answer.clone()).await;
        assert_eq!(reply.status, 404, "{reply:?}");
        assert!(reply.error().contains("begin again"));
    }
    let elsewhere = "/v1/login/0002-00000000000000000000000000000000";
    let reply = server.call("POST", elsewhere, answer).await;
    assert_eq!((reply.status, &reply.json()["node"]), (421, &json!(2)));
}

#[tokio::test]
async fn no_more_logins_wait_than_may() {
    let pending = PendingLimits { conversations: 1, ..PendingLimits::default() };
    let place = Place::with(Wishes { pending, ..Wishes::default() }).await;
    let server = Running::over(place, Default::default()).await;
    let (id, _) = asked(&server.call("POST", "/v1/login", two_steps()).await);
    let full = server.call("POST", "/v1/login", two_steps()).await;
    assert_eq!((full.status, &full.json()["reason"]), (429, &json!("try-later")));
    // The first is not pushed out, and who needs no second request gets in.
    let right = json!({"round": 2, "answers": {"otp": "4711"}});
    let reply = server.call("POST", &format!("/v1/login/{id}"), right).await;
    assert_eq!(reply.json()["status"], "granted");
    let place = server.stop().await;
    assert_eq!(place.audit()[0]["reason"], "too-many");
}

#[tokio::test]
async fn without_a_record_nobody_gets_in() {
    let audit = Audit::open(std::path::Path::new("/dev/full"), OnFailure::Refuse).unwrap();
    let place = Place::with(Wishes { audit: Some(audit), ..Wishes::default() }).await;
    let server = Running::over(place, Default::default()).await;
    for user in ["ada", "nobody"] {
        let reply = server.call("POST", "/v1/login", password(user, "countess")).await;
        assert_eq!(reply.status, 503);
        assert_eq!(reply.json(), json!({"status": "denied", "reason": "try-later"}));
    }
    let (id, _) = asked(&server.call("POST", "/v1/login", two_steps()).await);
    let path = format!("/v1/login/{id}");
    let right = json!({"round": 2, "answers": {"otp": "4711"}});
    assert_eq!(server.call("POST", &path, right.clone()).await.status, 503);
    assert_eq!(server.call("POST", &path, right).await.status, 404, "nothing to be repeated");
    let place = server.stop().await;
    support::eventually(|| async {
        let now = countersign::World::now(&place.engine.world).unix;
        place.engine.store.sessions_of("ada", now).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_when_told_and_with_its_account() {
    let server = Running::new().await;
    let (first, second) = (server.token_of("ada").await, server.token_of("ada").await);
    let show =
        async |token: &str| server.call_as(token, "GET", "/v1/session", Value::Null).await.status;
    assert_eq!((show(&first).await, show(&second).await), (200, 200));
    let end = server.call_as(&first, "DELETE", "/v1/session", Value::Null).await;
    assert_eq!((end.status, show(&first).await, show(&second).await), (204, 401, 200));
    let end = server.call_as(&first, "DELETE", "/v1/session", Value::Null).await;
    assert_eq!(end.status, 401);

    // Past the administration, which would end the sessions itself.
    let off = countersign_store::AccountUpdate { enabled: Some(false), ..Default::default() };
    server.place.engine.store.update_account("ada", &off).await.unwrap();
    assert_eq!(show(&second).await, 401);
    let on = countersign_store::AccountUpdate {
        enabled: Some(true),
        expires: Some(Some(1)),
        ..Default::default()
    };
    server.place.engine.store.update_account("ada", &on).await.unwrap();
    assert_eq!(show(&second).await, 401, "expired");
    for nobody in ["", "x", &"x".repeat(600)] {
        let reply = server.call_as(nobody, "GET", "/v1/session", Value::Null).await;
        assert_eq!(reply.status, 401);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_in_the_record_and_has_no_session() {
    use tokio::io::AsyncWriteExt as _;
    let server = Running::new().await;
    let body = password("slow", "countess").to_string();
    let mut stream = server.connect().await;
    let request = format!(
        "POST /v1/login HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let gate = std::sync::Arc::clone(&server.place.gate);
    tokio::time::timeout(support::PATIENCE, gate.reached.notified()).await.unwrap();
    drop(stream);
    // Noticed before the checker says yes.
    support::eventually(|| async {
        server.place.engine.metrics.connections.load(std::sync::atomic::Ordering::Relaxed) == 0
    })
    .await;
    gate.open.notify_one();
    let place = server.stop().await;
    let audit = place.audit();
    assert_eq!(audit.len(), 1);
    assert_eq!((&audit[0]["outcome"], &audit[0]["subject"]), (&json!("granted"), &json!("slow")));
    support::eventually(|| async {
        let now = countersign::World::now(&place.engine.world).unix;
        place.engine.store.sessions_of("slow", now).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_stop_lets_requests_finish() {
    let server = Running::new().await;
    let gate = std::sync::Arc::clone(&server.place.gate);
    let slow = server.call("POST", "/v1/login", password("slow", "countess"));
    let meanwhile = async {
        tokio::time::timeout(support::PATIENCE, gate.reached.notified()).await.unwrap();
        server.stopper.stop();
        gate.open.notify_one();
    };
    let (reply, ()) = tokio::join!(slow, meanwhile);
    assert_eq!(reply.json()["status"], "granted", "{reply:?}");
    let address = server.address;
    server.stop().await;
    tokio::net::TcpStream::connect(address).await.unwrap_err();
}

/// SASL over JSON: each message of the mechanism is the answer to a question `token`.
#[tokio::test]
async fn scram_by_rounds_of_tokens() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use countersign::{Portal, Secret, testing::StillWorld};
    use countersign_checkers::memory::Memory;
    use countersign_server::realm::ServerRealm;
    use rsasl::prelude::{Mechname, SASLClient, SASLConfig};

    fn readable(portal: Portal<ServerRealm>) -> Portal<ServerRealm> {
        let mut users = Memory::dangerous();
        users.add("ada", Secret::from("countess")).unwrap();
        portal.checked_by(users.readable("memory", &StillWorld::default()))
    }

    let place = Place::with(Wishes { portal: Some(readable), ..Wishes::default() }).await;
    let server = Running::over(place, Default::default()).await;
    for (mechanism, password, granted) in [
        ("SCRAM-SHA-512", "countess", true),
        ("SCRAM-SHA-256", "countess", true),
        ("SCRAM-SHA-1", "countess", true),
        ("SCRAM-SHA-256", "wrong", false),
    ] {
        let config = SASLConfig::with_credentials(None, "ada".into(), password.into()).unwrap();
        let name = Mechname::parse(mechanism.as_bytes()).unwrap();
        let mut client = SASLClient::new(config).start_suggested(&[name]).unwrap();
        let mut message = Vec::new();
        client.step(None, &mut message).unwrap();
        let token = |message: &[u8]| json!({"token": {"base64": STANDARD.encode(message)}});
        let login =
            json!({"mechanism": mechanism, "supports": ["token"], "answers": token(&message)});
        let mut reply = server.call("POST", "/v1/login", login).await;
        while reply.json()["status"] == "ask" {
            let (id, round) = asked(&reply);
            let heard = reply.json()["round"]["questions"][0]["challenge"]["base64"].clone();
            let heard = STANDARD.decode(heard.as_str().unwrap()).unwrap();
            message.clear();
            client.step(Some(&heard), &mut message).unwrap();
            let answer = json!({"round": round, "answers": token(&message)});
            reply = server.call("POST", &format!("/v1/login/{id}"), answer).await;
        }
        let status = if granted { "granted" } else { "denied" };
        assert_eq!(reply.json()["status"], status, "{mechanism} {password}");
    }
    // No greeting has challenged anybody, and no header of HTTP Digest was judged.
    for mechanism in ["DIGEST", "APOP"] {
        let login = json!({"mechanism": mechanism, "supports": ["token"]});
        let reply = server.call("POST", "/v1/login", login).await;
        assert_eq!(reply.json()["reason"], "unsupported", "{mechanism}: {reply:?}");
    }
    server.stop().await;
}

//! The administrator's API over a real listener.

mod support;

use countersign_server::front::http::HttpOptions;
use serde_json::{Value, json};
use support::http::Running;
use support::{Place, Wishes};

#[tokio::test]
async fn only_administrators_of_this_moment() {
    let server = Running::new().await;
    let (ada, root) = (server.token_of("ada").await, server.token_of("root").await);
    let list =
        async |token: &str| server.call_as(token, "GET", "/v1/users", Value::Null).await.status;
    assert_eq!((list("").await, list("x").await, list(&ada).await), (401, 401, 403));
    assert_eq!(list(&root).await, 200);
    for (method, path) in [
        ("POST", "/v1/users"),
        ("GET", "/v1/users/ada"),
        ("PATCH", "/v1/users/ada"),
        ("DELETE", "/v1/users/root"),
        ("PUT", "/v1/users/root/password"),
        ("GET", "/v1/users/root/factors"),
        ("DELETE", "/v1/users/root/factors"),
        ("DELETE", "/v1/users/root/factors/1"),
        ("GET", "/v1/groups"),
        ("POST", "/v1/groups"),
        ("GET", "/v1/groups/administrators"),
        ("PUT", "/v1/groups/administrators"),
        ("DELETE", "/v1/groups/administrators"),
        ("GET", "/v1/groups/administrators/members"),
        ("PUT", "/v1/groups/administrators/members/ada"),
        ("DELETE", "/v1/groups/administrators/members/root"),
        ("GET", "/v1/audit"),
        ("GET", "/v1/throttles"),
        ("DELETE", "/v1/throttles?all=true"),
    ] {
        let reply = server.call_as(&ada, method, path, json!({})).await;
        assert_eq!(reply.status, 403, "{method} {path}: {reply:?}");
        let reply = server.call_as("", method, path, json!({})).await;
        assert_eq!(reply.status, 401, "{method} {path}: {reply:?}");
    }
    // The session of `root` stays, and is an administrator's no more. That of `ada` is none yet: it was
    // proven without the group, by a checker that may not even mean this account.
    let store = &server.place.engine.store;
    store.add_member("administrators", "ada", false).await.unwrap();
    let mut deputy = countersign_store::NewAccount::new("deputy");
    deputy.groups.push(("administrators".to_owned(), false));
    // Somebody has to stay one.
    store.add_account(&deputy, 0).await.unwrap();
    store.remove_member("administrators", "root").await.unwrap();
    assert_eq!((list(&ada).await, list(&root).await), (403, 403));
    let off = countersign_store::AccountUpdate { enabled: Some(false), ..Default::default() };
    store.update_account("ada", &off).await.unwrap();
    assert_eq!(list(&ada).await, 401);
}

#[tokio::test]
async fn a_user_from_beginning_to_end() {
    let server = Running::new().await;
    let root = server.token_of("root").await;
    let call = async |method: &str, path: &str, body: Value| {
        server.call_as(&root, method, path, body).await
    };
    let new = json!({"name": "grace h/1", "password": "nano seconds", "groups": [{"name": "navy"}],
        "create_groups": true, "attributes": {"mail": ["g@example.org"]}});
    let added = call("POST", "/v1/users", new.clone()).await;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!(added.json()["created_groups"], json!(["navy"]));
    let path = added.header("location").unwrap().to_owned();
    assert_eq!(path, "/v1/users/grace%20h%2F1");
    assert_eq!(call("POST", "/v1/users", new).await.status, 409);

    let shown = call("GET", &path, Value::Null).await.json();
    assert_eq!(shown["groups"], json!([{"name": "navy"}]));
    assert_eq!(shown["credentials"][0]["scheme"], "ARGON2ID");
    let page = call("GET", "/v1/users?prefix=g&limit=5", Value::Null).await.json();
    assert_eq!(page["users"].as_array().unwrap().len(), 1);
    let page = call("GET", "/v1/users?after=grace%20h%2F1", Value::Null).await.json();
    assert_eq!(page["users"][0]["name"], "root");

    let change = json!({"enabled": false, "expires": "2030-01-01T00:00:00Z", "labels": ["x"]});
    assert_eq!(call("PATCH", &path, change).await.status, 200);
    let shown = call("GET", &path, Value::Null).await.json();
    assert_eq!((&shown["enabled"], &shown["labels"]), (&json!(false), &json!(["x"])));
    let password = json!({"password": "another long one", "must_change": true});
    assert_eq!(call("PUT", &format!("{path}/password"), password).await.status, 200);
    assert_eq!(call("GET", &path, Value::Null).await.json()["must_change"], true);
    let short = call("PUT", &format!("{path}/password"), json!({"password": "x"})).await;
    assert_eq!(short.status, 400);
    assert!(short.error().starts_with("password: "));
    assert_eq!(call("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(call("GET", &path, Value::Null).await.status, 404);

    let audit = call("GET", "/v1/audit?outcome=changed", Value::Null).await.json();
    let acts: Vec<_> = audit["events"].as_array().unwrap().iter().rev().collect();
    let reasons: Vec<_> = acts.iter().map(|event| event["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["user-add", "user-set", "password-set", "user-remove"]);
    assert!(acts.iter().all(|event| event["peer"] == "http root"));
    assert!(acts.iter().all(|event| event["claimed"] == "grace h/1"));
}

#[tokio::test]
async fn groups_and_members() {
    let server = Running::new().await;
    let root = server.token_of("root").await;
    let call = async |method: &str, path: &str, body: Value| {
        server.call_as(&root, method, path, body).await
    };
    assert_eq!(call("POST", "/v1/groups", json!({"name": "ops", "gid": 100})).await.status, 201);
    assert_eq!(call("POST", "/v1/groups", json!({"name": "ops"})).await.status, 409);
    assert_eq!(call("POST", "/v1/groups", json!({"name": "a,b"})).await.status, 400);
    let groups = call("GET", "/v1/groups?prefix=o", Value::Null).await.json();
    assert_eq!(groups["groups"], json!([{"name": "ops", "gid": 100, "description": ""}]));

    let ada = "/v1/groups/ops/members/ada";
    assert_eq!(call("PUT", ada, json!({"admin": true})).await.status, 204);
    assert_eq!(call("PUT", "/v1/groups/none/members/ada", json!({})).await.status, 404);
    assert_eq!(call("PUT", "/v1/groups/ops/members/nobody", json!({})).await.status, 404);
    let members = call("GET", "/v1/groups/ops/members", Value::Null).await.json();
    assert_eq!(members["members"], json!([{"name": "ada", "admin": true}]));
    assert_eq!(call("DELETE", ada, Value::Null).await.status, 204);
    assert_eq!(call("DELETE", ada, Value::Null).await.status, 404);
    assert_eq!(call("DELETE", "/v1/groups/ops", Value::Null).await.status, 204);
    assert_eq!(call("DELETE", "/v1/groups/ops", Value::Null).await.status, 404);
}

#[tokio::test]
async fn wrong_requests_name_what_is_wrong() {
    let server = Running::new().await;
    let root = server.token_of("root").await;
    for (method, path, body, why) in [
        ("POST", "/v1/users", json!({"name": "x", "pasword": "y"}), "unknown field `pasword`"),
        ("POST", "/v1/users", json!({}), "missing field `name`"),
        ("PATCH", "/v1/users/ada", json!({"remove_labels": ["l"]}), "remove_labels"),
        ("GET", "/v1/users?limt=5", Value::Null, "unknown field `limt`"),
        ("GET", "/v1/users?limit=many", Value::Null, "limit"),
        ("GET", "/v1/audit?outcome=good", Value::Null, "`good` is none of"),
        ("GET", "/v1/users/%ff", Value::Null, "UTF-8"),
    ] {
        let reply = server.call_as(&root, method, path, body).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.error().contains(why), "{reply:?}");
    }
    let twice = br#"{"attributes":{"mail":["a"],"mail":["b"]}}"#;
    let bearer = format!("Bearer {root}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let reply = server.send("PATCH", "/v1/users/ada", &headers, twice).await;
    assert_eq!(reply.status, 400);
    assert!(reply.error().contains("duplicate field `mail`"));
}

#[tokio::test]
async fn disabling_a_user_ends_their_sessions() {
    let server = Running::new().await;
    let (ada, root) = (server.token_of("ada").await, server.token_of("root").await);
    let off = json!({"enabled": false});
    let done = server.call_as(&root, "PATCH", "/v1/users/ada", off).await.json();
    assert_eq!(done["ended_sessions"], 1);
    let on = json!({"enabled": true});
    assert_eq!(server.call_as(&root, "PATCH", "/v1/users/ada", on).await.status, 200);
    assert_eq!(server.call_as(&ada, "GET", "/v1/session", Value::Null).await.status, 401);
}

#[tokio::test]
async fn factors_are_listed_removed_and_reset() {
    let server = Running::new().await;
    let root = server.token_of("root").await;
    let call =
        async |method: &str, path: &str| server.call_as(&root, method, path, Value::Null).await;
    let store = &server.place.engine.store;
    let factors = countersign_checkers::factors::Factors::new(
        store.clone(),
        std::sync::Arc::new(server.place.engine.world),
    );
    let secret = factors.new_recovery_codes("ada").await.unwrap().remove(0);
    let wanted = countersign_checkers::factors::NewAppPassword {
        label: "tablet".into(),
        services: vec!["imap".into()],
        expires: None,
    };
    let (_, app) = factors.add_app_password("ada", &wanted).await.unwrap();
    let ada = server.token_of("ada").await;

    let listed = call("GET", "/v1/users/ada/factors").await;
    assert_eq!(listed.status, 200, "{listed:?}");
    let listed = listed.json();
    assert_eq!(
        (&listed["factors"][0]["left"], &listed["factors"][1]["left"]),
        (&json!(10), &Value::Null)
    );
    assert_eq!(listed["factors"][1]["services"], json!(["imap"]));
    assert!(!listed.to_string().contains(secret.to_str().unwrap()));

    let path = format!("/v1/users/ada/factors/{}", app.id);
    assert_eq!(call("DELETE", &path).await.json(), json!({"removed": 1, "ended_sessions": 1}));
    assert_eq!(call("DELETE", &path).await.status, 404);
    assert_eq!(call("DELETE", "/v1/users/ada/factors/x").await.status, 400);
    let own = server.call_as(&ada, "GET", "/v1/session", Value::Null).await;
    assert_eq!(own.status, 401, "a session outlived its factor");
    assert_eq!(call("DELETE", "/v1/users/ada/factors?kind=password").await.status, 400);
    let reset = call("DELETE", "/v1/users/ada/factors?kind=totp").await;
    assert_eq!(reset.json()["removed"], 0);
    assert_eq!(call("DELETE", "/v1/users/ada/factors").await.json()["removed"], 1);
    assert_eq!(call("GET", "/v1/users/ada/factors").await.json(), json!({"factors": []}));
    assert_eq!(call("DELETE", "/v1/users/nobody/factors").await.status, 404);
    let audit = call("GET", "/v1/audit?user=ada&outcome=changed").await.json();
    let acts = audit["events"].as_array().unwrap().iter().map(|event| event["reason"].clone());
    assert_eq!(acts.collect::<Vec<_>>(), ["factors-reset", "factors-reset", "factor-remove"]);
}

#[tokio::test]
async fn throttles_are_seen_and_cleared() {
    let place = Place::with(Wishes { throttled: true, ..Wishes::default() }).await;
    let server = Running::over(place, HttpOptions::default()).await;
    let root = server.token_of("root").await;
    let engine = std::sync::Arc::clone(&server.place.engine);
    let guess = async |password: &str| {
        let body =
            json!({"mechanism": "password", "answers": {"username": "ada", "password": password}});
        server.call("POST", "/v1/login", body).await
    };
    for wrong in ["1", "2", "3", "4", "5"] {
        assert_eq!(guess(wrong).await.status, 401, "{wrong}");
    }
    assert_eq!(guess("countess").await.status, 429);
    let now = countersign::World::now(&engine.world);
    engine.throttle.share(&engine.store, now).await.unwrap();
    let call =
        async |method: &str, path: &str| server.call_as(&root, method, path, Value::Null).await;
    let listed = call("GET", "/v1/throttles?user=ada").await.json();
    let [one] = listed["throttles"].as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((&one["user"], &one["failures"]), (&json!("ada"), &json!(5)), "{one}");
    assert_eq!(one["source"], "127.0.0.1");
    let after = "/v1/throttles?after_user=ada&after_source=127.0.0.1";
    assert_eq!(call("GET", after).await.json(), json!({"throttles": []}));
    for nothing in ["", "?all=false", "?all=true&user=ada", "?source=example.org", "?usr=ada"] {
        let refused = call("DELETE", &format!("/v1/throttles{nothing}")).await;
        assert_eq!(refused.status, 400, "{nothing}: {refused:?}");
    }
    assert_eq!(guess("countess").await.status, 429);
    let cleared = call("DELETE", "/v1/throttles?user=ada&source=127.0.0.1").await;
    assert_eq!(cleared.json(), json!({"cleared": 1}));
    assert_eq!(guess("countess").await.status, 200);
    let acts = call("GET", "/v1/audit?outcome=changed").await.json();
    let act = &acts["events"][0];
    assert_eq!((&act["reason"], &act["claimed"]), (&json!("throttles-clear"), &json!("ada")));
    assert_eq!(act["detail"], "127.0.0.1: 1 cleared");
}

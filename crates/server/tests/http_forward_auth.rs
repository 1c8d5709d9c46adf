//! `docs/protocols/http.md`, forward-auth: what each proxy sends, and what it gets. The forms of the
//! requests are those that the proxies' documentation and sources describe.

mod support;

use countersign_server::front::http::{HttpOptions, LoginPage, ReturnTo, TrustedProxies};
use countersign_store::{AccountUpdate, Group, Store};
use serde_json::json;
use support::Place;
use support::http::{Reply, Running};

async fn running() -> Running {
    let options = HttpOptions {
        trusted_proxies: TrustedProxies::of(["127.0.0.1"]).unwrap(),
        basic: true,
        login_page: Some(LoginPage::of("https://login.example.com/login").unwrap()),
        return_to: ReturnTo::of(["https://*.example.com"]).unwrap(),
        ..HttpOptions::default()
    };
    Running::over(Place::new().await, options).await
}

async fn get(server: &Running, path: &str, headers: &[(&str, &str)]) -> Reply {
    server.send("GET", path, headers, b"").await
}

/// The identity headers of a reply, in their order.
fn who(reply: &Reply) -> [Option<&str>; 5] {
    ["user", "groups", "labels", "name", "email"]
        .map(|part| reply.header(&format!("remote-{part}")))
}

/// What Traefik sends besides its client's own headers.
const TRAEFIK: [(&str, &str); 5] = [
    ("x-forwarded-for", "192.0.2.7"),
    ("x-forwarded-method", "GET"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "wiki.example.com"),
    ("x-forwarded-uri", "/page?x=1&y=2"),
];

const ADA: [Option<&str>; 5] = [Some("ada"), Some("staff"), Some("test"), Some(""), Some("")];

/// H60, H61.
#[tokio::test]
async fn a_session_gets_through_by_token_or_cookie_as_exactly_200() {
    let server = running().await;
    let token = server.token_of("ada").await;
    let bearer = format!("Bearer {token}");
    let reply = get(&server, "/forward-auth", &[("authorization", &bearer)]).await;
    assert_eq!((reply.status, who(&reply), reply.body.as_str()), (200, ADA, ""));
    assert_eq!(reply.header("x-envoy-auth-headers-to-remove"), Some("remote-name,remote-email"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("server"), None);

    // Within TLS, as the trusted proxy says, only the name counts that a browser protects.
    let plain = format!("countersign={token}");
    let host = format!("a=b; __Host-countersign={token}");
    for (cookie, https, status) in
        [(&plain, false, 200), (&host, false, 401), (&plain, true, 401), (&host, true, 200)]
    {
        let mut headers = vec![("cookie", cookie.as_str())];
        if https {
            headers.extend([("x-forwarded-proto", "https"), ("x-forwarded-for", "192.0.2.7")]);
        }
        assert_eq!(get(&server, "/forward-auth", &headers).await.status, status, "{headers:?}");
    }
    // The site's own tokens are the site's business.
    let headers = [("authorization", "Bearer site-own"), ("cookie", plain.as_str())];
    assert_eq!(get(&server, "/forward-auth", &headers).await.status, 200);
    let headers = [("authorization", "Bearer site-own")];
    assert_eq!(get(&server, "/forward-auth", &headers).await.status, 401);
    server.stop().await;
}

/// H62.
#[tokio::test]
async fn nobody_is_401_with_what_would_help() {
    let server = running().await;
    for headers in [
        vec![],
        vec![("authorization", "Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")],
        vec![("cookie", "countersign=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")],
        vec![("cookie", "countersign=x"), ("remote-user", "root")],
    ] {
        let reply = get(&server, "/forward-auth", &headers).await;
        assert_eq!(reply.status, 401, "{headers:?}");
        assert_eq!(who(&reply), [None; 5]);
        let offers: Vec<_> = reply.head.lines().filter(|l| l.starts_with("www-auth")).collect();
        assert_eq!(
            offers,
            [
                "www-authenticate: Bearer",
                "www-authenticate: Basic realm=\"Countersign\", charset=\"UTF-8\""
            ]
        );
    }
    server.stop().await;
}

/// H63.
#[tokio::test]
async fn groups_that_are_wanted() {
    let server = running().await;
    let token = server.token_of("ada").await;
    let bearer = format!("Bearer {token}");
    for (path, status) in [
        ("/forward-auth?group=staff", 200),
        ("/forward-auth?group=other&group=staff", 200),
        ("/forward-auth?group=administrators", 403),
        ("/forward-auth?group=Staff", 403),
        ("/forward-auth?group=", 400),
        ("/forward-auth?groups=staff", 400),
        ("/forward-auth?flavour=302", 400),
        ("/forward-auth-for/group=staff", 200),
        ("/forward-auth-for/group=administrators&service=wiki", 403),
        ("/forward-auth-for/group=administrators/x/y?group=staff", 403),
        ("/forward-auth-for/x/y", 400),
    ] {
        let reply = get(&server, path, &[("authorization", &bearer)]).await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(who(&reply)[0].is_some(), status == 200);
    }
    server.stop().await;
}

/// H64: Envoy's client writes what follows the prefix.
#[tokio::test]
async fn envoy_asks_with_its_client_s_method_path_and_query() {
    let server = running().await;
    let token = server.token_of("ada").await;
    let cookie = format!("countersign={token}");
    for method in ["GET", "POST", "DELETE", "PROPFIND"] {
        let path = "/forward-auth/app/page?group=nobody&service=x";
        let reply = server.send(method, path, &[("cookie", &cookie)], b"").await;
        assert_eq!((reply.status, who(&reply)), (200, ADA), "{method}");
        let reply = server.send(method, "/forward-auth/app?flavour=redirect", &[], b"").await;
        assert_eq!(reply.status, 401, "{method}");
        let path = "/forward-auth-for/group=administrators/app";
        let reply = server.send(method, path, &[("cookie", &cookie)], b"").await;
        assert_eq!(reply.status, 403, "{method}");
        // The root of the site.
        for (path, status) in [
            ("/forward-auth/", 200),
            ("/forward-auth/?group=nobody", 200),
            ("/forward-auth-for/group=administrators/", 403),
            ("/forward-auth-for/group=staff/?group=nobody", 200),
        ] {
            let reply = server.send(method, path, &[("cookie", &cookie)], b"").await;
            assert_eq!(reply.status, status, "{method} {path}");
        }
    }
    server.stop().await;
}

/// H65.
#[tokio::test]
async fn a_browser_is_sent_to_the_login_page_where_the_proxy_hands_that_on() {
    let server = running().await;
    let with = |more: &[(&'static str, &'static str)]| {
        let mut headers = TRAEFIK.to_vec();
        for (name, value) in more {
            headers.retain(|(known, _)| known != name);
            if !value.is_empty() {
                headers.push((name, value));
            }
        }
        headers
    };
    let html = ("accept", "text/html,application/xhtml+xml;q=0.9");
    let path = "/forward-auth?flavour=redirect";
    let reply = get(&server, path, &with(&[html])).await;
    assert_eq!(reply.status, 302);
    let expected = "https://login.example.com/login?return_to=\
                    https%3A%2F%2Fwiki%2Eexample%2Ecom%2Fpage%3Fx%3D1%26y%3D2";
    assert_eq!(reply.header("location"), Some(expected));

    // The host in one form; a host that is not listed is not returned to.
    let reply = get(&server, path, &with(&[html, ("x-forwarded-host", "WIKI.Example.com.")])).await;
    assert_eq!(reply.header("location"), Some(expected));
    for host in ["evil.example", "example.com"] {
        let headers = with(&[html, ("x-forwarded-host", host)]);
        let reply = get(&server, path, &headers).await;
        assert_eq!(reply.header("location"), Some("https://login.example.com/login"), "{host}");
    }
    for (path, more) in [
        ("/forward-auth", vec![html]),
        ("/forward-auth?flavour=status", vec![html]),
        (path, vec![]),
        (path, vec![("accept", "application/json")]),
        (path, vec![html, ("x-forwarded-method", "POST")]),
    ] {
        assert_eq!(get(&server, path, &with(&more)).await.status, 401, "{path} {more:?}");
    }
    // nginx's custom: a redirect would be an error to it, and a body the end of the connection.
    for original in ["x-original-uri: /page", "X-Original-URL: https://wiki.example.com/page"] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\naccept: text/html\r\nx-forwarded-proto: https\r\n\
             x-forwarded-host: wiki.example.com\r\nx-forwarded-uri: /page\r\n{original}\r\n\
             connection: close\r\n\r\n"
        );
        let reply = server.raw(request.as_bytes()).await;
        assert_eq!((reply.status, reply.body.as_str()), (401, ""), "{reply:?}");
        assert_eq!(reply.header("content-length"), Some("0"), "{reply:?}");
    }
    // What cannot be is refused.
    for (name, value) in [
        ("x-forwarded-host", "a b"),
        ("x-forwarded-host", "wiki.example.com@evil.example"),
        ("x-forwarded-uri", "page"),
        ("x-forwarded-uri", "https://evil.example/"),
        ("x-forwarded-proto", "javascript"),
        ("x-forwarded-for", "unknown"),
    ] {
        assert_eq!(get(&server, path, &with(&[html, (name, value)])).await.status, 400, "{value}");
    }
    server.stop().await;
}

/// H53.
#[tokio::test]
async fn headers_made_to_deceive_are_refused() {
    let server = running().await;
    let token = server.token_of("ada").await;
    let bearer = format!("Bearer {token}");
    for deceit in [
        ("x_forwarded_proto", "https"),
        ("X_Forwarded_For", "127.0.0.1"),
        ("Remote_User", "root"),
        ("connection", "x-forwarded-host"),
    ] {
        let headers = [("authorization", bearer.as_str()), deceit];
        let reply = get(&server, "/forward-auth", &headers).await;
        assert_eq!(reply.status, 400, "{deceit:?}");
    }
    let twice = [("x-forwarded-proto", "https"), ("X-Forwarded-Proto", "http")];
    assert_eq!(get(&server, "/forward-auth", &twice).await.status, 400);
    server.stop().await;
}

/// H66.
#[tokio::test]
async fn basic_is_a_login_of_its_own_in_the_record() {
    let server = running().await;
    // ada:countess, ada:wrong
    let good = [("authorization", "Basic YWRhOmNvdW50ZXNz"), ("x-forwarded-for", "192.0.2.7")];
    let reply = get(&server, "/forward-auth?service=wiki", &good).await;
    assert_eq!((reply.status, who(&reply)), (200, ADA));
    let wrong = [("authorization", "Basic YWRhOndyb25n")];
    assert_eq!(get(&server, "/forward-auth?service=wiki", &wrong).await.status, 401);
    // changer: must change the password; broken: the backend is away.
    let change = [("authorization", "Basic Y2hhbmdlcjp4")];
    assert_eq!(get(&server, "/forward-auth", &change).await.status, 403);
    let broken = [("authorization", "Basic YnJva2VuOng=")];
    assert_eq!(get(&server, "/forward-auth", &broken).await.status, 503);
    // hasty: too many attempts; never 429, which nginx makes an error of.
    let hasty = get(&server, "/forward-auth", &[("authorization", "Basic aGFzdHk6eA==")]).await;
    assert_eq!((hasty.status, hasty.header("retry-after")), (401, Some("2")));
    // Meant to be Basic, and is not: a cookie does not save it.
    let cookie = format!("countersign={}", server.token_of("ada").await);
    let odd = [("authorization", "Basic ?"), ("cookie", cookie.as_str())];
    assert_eq!(get(&server, "/forward-auth", &odd).await.status, 401);
    let place = server.stop().await;
    let records = place.audit();
    let [first, second, ..] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((&first["outcome"], &first["service"]), (&json!("granted"), &json!("wiki")));
    assert_eq!((&first["subject"], &first["remote"]), (&json!("ada"), &json!("192.0.2.7")));
    assert_eq!(second["outcome"], json!("denied"));
    assert!(!format!("{records:?}").contains("countess"));

    let server = Running::over(Place::new().await, HttpOptions::default()).await;
    let reply = get(&server, "/forward-auth", &good).await;
    assert_eq!(reply.status, 401, "where it is not taken");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    server.stop().await;
}

/// H67: also when another node did it.
#[tokio::test]
async fn who_is_disabled_or_logged_out_is_refused_at_the_next_request() {
    let server = running().await;
    let token = server.token_of("ada").await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let status = async || get(&server, "/forward-auth", &headers).await.status;
    assert_eq!(status().await, 200);
    let path = server.place.folder.path().join("accounts.db");
    let elsewhere = Store::open(path, countersign_store::OpenOptions::default()).await.unwrap();
    let enabled = |enabled| AccountUpdate { enabled: Some(enabled), ..AccountUpdate::default() };
    elsewhere.update_account("ada", &enabled(false)).await.unwrap();
    server.place.engine.store.watch().await.unwrap();
    assert_eq!(status().await, 401);
    elsewhere.update_account("ada", &enabled(true)).await.unwrap();
    server.place.engine.store.watch().await.unwrap();

    let token = server.token_of("ada").await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(get(&server, "/forward-auth", &headers).await.status, 200);
    assert_eq!(server.call_as(&token, "DELETE", "/v1/session", json!(null)).await.status, 204);
    assert_eq!(get(&server, "/forward-auth", &headers).await.status, 401);
    server.stop().await;
}

/// H68: what another service demands was not proven, or is not allowed.
#[tokio::test]
async fn a_session_counts_where_the_policy_says_so() {
    use countersign::{Factor, Policy, Rule, Terms, When};
    let rule = |service: &str, terms| Rule {
        name: service.to_owned().into(),
        when: When { services: vec![service.into()], ..When::default() },
        terms,
    };
    let factors = vec![Factor::of("password"), Factor::of("two-steps")];
    let policy = Policy {
        rules: vec![
            rule("vault", Terms { require: Some(factors), ..Terms::default() }),
            rule("closed", Terms { allow: Some(false), ..Terms::default() }),
        ],
        ..Policy::default()
    };
    let mut place = Place::new().await;
    let engine = std::sync::Arc::get_mut(&mut place.engine).unwrap();
    let world = engine.world;
    let portal = countersign_server::realm::ServerRealm::new(engine.store.clone(), world, 60);
    let portal = engine.portal.swap(std::sync::Arc::new(countersign::Portal::new(portal)));
    let portal = std::sync::Arc::into_inner(portal).unwrap();
    engine.portal.store(std::sync::Arc::new(portal.under(policy)));
    let options = HttpOptions {
        trusted_proxies: TrustedProxies::of(["127.0.0.1"]).unwrap(),
        login_page: Some(LoginPage::of("/login").unwrap()),
        ..HttpOptions::default()
    };
    let server = Running::over(place, options).await;
    let bearer = format!("Bearer {}", server.token_of("ada").await);
    let headers = [("authorization", bearer.as_str()), ("accept", "text/html")];
    for (service, status) in [("web", 200), ("wiki", 200), ("vault", 302), ("closed", 403)] {
        let path = format!("/forward-auth?service={service}&flavour=redirect");
        let reply = get(&server, &path, &headers).await;
        assert_eq!(reply.status, status, "{service}");
        let page = (status == 302).then_some("/login?service=vault");
        assert_eq!(reply.header("location"), page);
    }
    server.stop().await;
}

/// H63: a group by its number, and its administrators.
#[tokio::test]
async fn a_group_is_meant_by_its_name_its_number_or_with_a_star() {
    let server = running().await;
    let store = &server.place.engine.store;
    for (name, gid) in [("staff", 100), ("administrators", 101)] {
        let group = Group { name: name.into(), gid: Some(gid), description: String::new() };
        store.update_group(&group).await.unwrap();
    }
    let (ada, root) = (server.token_of("ada").await, server.token_of("root").await);
    for (group, of_ada, of_root) in [
        ("staff", 200, 200),
        ("100", 200, 200),
        ("*100", 403, 403),
        ("*staff", 403, 403),
        ("*administrators", 403, 200),
        ("*101", 403, 200),
        ("102", 403, 403),
        ("a/b", 403, 403),
        ("*", 403, 403),
    ] {
        for (token, status) in [(&ada, of_ada), (&root, of_root)] {
            let path = format!("/forward-auth?group={group}");
            let reply = server.call_as(token, "GET", &path, json!(null)).await;
            assert_eq!(reply.status, status, "{group}");
        }
    }
    server.stop().await;
}

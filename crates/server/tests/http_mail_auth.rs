//! nginx's `auth_http` of mail over a real listener, statement by statement of `docs/protocols/http.md`.

mod support;

use std::path::Path;
use std::sync::Arc;

use countersign_server::front::http::{HttpOptions, MailSection, TrustedProxies};
use support::Place;
use support::http::{Reply, Running};

const SERVERS: &str =
    "servers = { imap = \"127.0.0.1:143\", smtp = \"192.0.2.1:25\" }\nattribute = \"mail-server\"";

async fn behind(proxies: &[&str]) -> Running {
    let trusted_proxies = TrustedProxies::of(proxies).unwrap();
    let section: MailSection = toml::from_str(SERVERS).unwrap();
    let any = TrustedProxies::of(["127.0.0.1"]).unwrap();
    let mail = Some(Arc::new(section.load(Path::new("/"), &any).unwrap()));
    Running::over(Place::new().await, HttpOptions { mail, trusted_proxies, ..Default::default() })
        .await
}

async fn asked(server: &Running, headers: &[(&str, &str)]) -> Reply {
    server.send("GET", "/mail-auth", headers, b"").await
}

async fn login(server: &Running, protocol: &str, user: &str, password: &str) -> Reply {
    let headers = [
        ("auth-method", "plain"),
        ("auth-user", user),
        ("auth-pass", password),
        ("auth-protocol", protocol),
        ("auth-login-attempt", "1"),
        ("client-ip", "192.0.2.7"),
        ("client-host", "evil.example"),
    ];
    asked(server, &headers).await
}

#[tokio::test]
async fn who_is_let_in_is_told_where_to_go() {
    let server = behind(&["127.0.0.1"]).await;
    let reply = login(&server, "imap", "ada", "countess").await;
    assert_eq!((reply.status, reply.header("auth-status")), (200, Some("OK")));
    assert_eq!(reply.header("auth-server"), Some("127.0.0.1"));
    assert_eq!(reply.header("auth-port"), Some("143"));
    assert_eq!(reply.header("auth-user"), None);
    assert_eq!(reply.header("auth-pass"), None);
    let reply = login(&server, "smtp", "%61da", "co%75ntess").await;
    assert_eq!(reply.header("auth-server"), Some("192.0.2.1"));
    // H95: the head fits its buffer.
    assert!(reply.head.len() < 1024 && reply.body.is_empty(), "{reply:?}");
    let place = server.stop().await;
    let records = place.audit();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["remote"], "192.0.2.7");
    assert_eq!((&records[0]["service"], &records[1]["service"]), (&"imap".into(), &"smtp".into()));
    assert!(!format!("{records:?}").contains("evil"), "a name that whoever owns an address writes");
}

#[tokio::test]
async fn who_is_not_let_in_hears_it_in_the_protocol_s_words() {
    let server = behind(&["127.0.0.1"]).await;
    let unknown = login(&server, "imap", "nobody", "countess").await;
    let wrong = login(&server, "imap", "ada", "wrong").await;
    assert_eq!(unknown.header("auth-status"), wrong.header("auth-status"));
    let text = "[AUTHENTICATIONFAILED] Invalid login or password";
    assert_eq!(wrong.header("auth-status"), Some(text));
    assert_eq!(
        (wrong.status, wrong.header("auth-wait"), wrong.header("auth-server")),
        (200, None, None)
    );
    let smtp = login(&server, "smtp", "ada", "wrong").await;
    assert_eq!(smtp.header("auth-error-code"), Some("535 5.7.8"));
    let broken = login(&server, "smtp", "broken", "countess").await;
    assert_eq!(broken.header("auth-error-code"), Some("454 4.7.0"));
    assert!(broken.header("auth-status").unwrap().starts_with("Temporary"), "{broken:?}");
    let hasty = login(&server, "imap", "hasty", "countess").await;
    assert_eq!(hasty.header("auth-wait"), Some("2"));
    // A protocol that goes nowhere, and requests that nginx does not make.
    let pop3 = login(&server, "pop3", "ada", "countess").await;
    assert!(pop3.header("auth-status").unwrap().starts_with("[SYS/TEMP]"), "{pop3:?}");
    for (user, password) in [("a%zz", "x"), ("%00", "x"), ("", "x"), ("ada%0a", "countess")] {
        let reply = login(&server, "imap", user, password).await;
        assert!(reply.header("auth-status").unwrap().starts_with('['), "{user}: {reply:?}");
    }
    for method in ["apop", "cram-md5", "external", "none"] {
        let headers = [
            ("auth-method", method),
            ("auth-user", "ada"),
            ("auth-pass", "countess"),
            ("auth-protocol", "smtp"),
        ];
        let reply = asked(&server, &headers).await;
        let (status, code) =
            (reply.header("auth-status").unwrap(), reply.header("auth-error-code").unwrap());
        assert!(status != "OK" && code.starts_with("5"), "{method}: {reply:?}");
    }
    let twice = [
        ("auth-method", "plain"),
        ("auth-protocol", "imap"),
        ("auth-user", "ada"),
        ("auth-user", "root"),
        ("auth-pass", "countess"),
    ];
    let reply = asked(&server, &twice).await;
    assert!(reply.header("auth-status").unwrap().starts_with("[UNAVAILABLE]"), "{reply:?}");
}

#[tokio::test]
async fn only_nginx_may_ask() {
    for (proxies, forwarded) in [(&["192.0.2.0/24"][..], false), (&["127.0.0.1"], true)] {
        let server = behind(proxies).await;
        let mut headers = vec![
            ("auth-method", "plain"),
            ("auth-user", "ada"),
            ("auth-pass", "countess"),
            ("auth-protocol", "imap"),
        ];
        if forwarded {
            // A proxy for the web passes on what anybody sends.
            headers.push(("x-forwarded-for", "192.0.2.9"));
        }
        let reply = asked(&server, &headers).await;
        assert_eq!((reply.status, reply.header("auth-status")), (403, None), "{reply:?}");
    }
    let server = Running::new().await;
    assert_eq!(login(&server, "imap", "ada", "countess").await.status, 404);
}

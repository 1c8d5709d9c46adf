//! Web sites behind real proxies with the configurations of the guide; TLS; metrics; a crowd.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Config, Context, Countersign, Finished, Outcome, Profile, Proxy, Stage, binary, ensure,
    eventually, fenced, many_files, need, passwd_file, run, user,
};

pub(crate) const CASES: &[Case] = &[
    case("nginx_auth_request", nginx),
    case("caddy_forward_auth", caddy),
    case("nginx_and_curl_by_digest", nginx_digest),
    case("caddy_and_curl_by_digest", caddy_digest),
    case("curl_over_tls", curl_over_tls),
    case("curl_while_the_certificate_is_replaced", replaced),
    case("curl_certificates_that_are_none", no_certificates),
    case("curl_events_of_a_session", events),
    case("promtool_check_metrics", promtool),
    Case {
        name: "crowd_of_ten_thousand_idle_connections",
        deadline: Duration::from_secs(120),
        play: crowd,
    },
];

const GUIDE: &str = include_str!("../../../../docs/guide/web.md");
const LIMIT: Duration = Duration::from_secs(25);
const IDLE: usize = 10_000;

/// Runs curl, which does not mind the machine's own proxies.
fn curl(words: &[&str]) -> Outcome<Finished> {
    let mut command = Command::new(need("curl", "curl")?);
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]).args(words);
    run(&mut command, "", LIMIT)
}

/// Status and body of a request.
fn ask(words: &[&str]) -> Outcome<(String, String)> {
    let done = curl(&[words, &["--write-out", "\n%{http_code} %{redirect_url}"]].concat())?;
    ensure!(done.code == Some(0), "curl {words:?}: {}", done.err);
    let (body, status) = done.out.rsplit_once('\n').during("curl's output")?;
    Ok((status.trim().to_owned(), body.trim().to_owned()))
}

/// A server with users in a file, and more lines for its listener.
fn server(stage: &Stage, http: &str) -> Outcome<Countersign> {
    let passwd = Some(stage.file("passwd", &passwd_file(2))?);
    let config = Config { passwd, http: http.to_owned(), ..Config::default() };
    Countersign::start(stage, Profile::Debug, Some(&config))
}

/// A server with accounts: `ada` of the group `staff`, and `guest`.
fn with_staff(stage: &Stage, http: &str) -> Outcome<Countersign> {
    let config = Config { http: http.to_owned(), ..Config::default() };
    let server = Countersign::start(stage, Profile::Debug, Some(&config))?;
    let groups = ["--group", "staff"];
    let ada = [["add", "ada", "--password-stdin"].as_slice(), &groups].concat();
    user(Profile::Debug, &server.data, &ada, ADA)?;
    user(Profile::Debug, &server.data, &["add", "guest", "--password-stdin"], GUEST)?;
    Ok(server)
}

const ADA: &str = "correct horse battery";
const GUEST: &str = "another battery horse";

/// Logs in and gives the session's token.
fn token(base: &str, user: &str, password: &str, more: &[&str]) -> Outcome<String> {
    let body = format!(r#"{{"answers":{{"username":"{user}","password":"{password}"}}}}"#);
    let url = format!("{base}/v1/login");
    let words = ["-H", "content-type: application/json", "--data-binary", &body, &url];
    let (status, reply) = ask(&[&words, more].concat())?;
    ensure!(status.starts_with("200"), "logging in: {status} {reply}");
    let reply: serde_json::Value = serde_json::from_str(&reply).during("the reply")?;
    Ok(reply["session"]["token"].as_str().during("a token")?.to_owned())
}

/// What is the same behind every proxy: yes, no, and whose headers arrive.
fn identities(url: &str, resolve: &str, session: &str, guest: &str) -> Outcome {
    let with = |token: &str| format!("cookie: countersign={token}");
    let get = |header: &str| {
        let spoofed =
            ["-H", "Remote-User: root", "-H", "Remote-Name: Root", "-H", "Remote-Email: r@x"];
        ask(&[&["--resolve", resolve, "-H", header, url], spoofed.as_slice()].concat())
    };
    let (status, body) = get(&with(session))?;
    let told = "user=ada groups=staff labels= name= email=";
    ensure!(status == "200" && body == told, "let in: {status} {body}");
    let (status, body) = get(&with(guest))?;
    ensure!(status == "403", "not in the group: {status} {body}");
    let (status, body) = get("authorization: Bearer site-own")?;
    ensure!(status.starts_with("401") || status.starts_with("302"), "nobody: {status} {body}");
    ensure!(!body.contains("user="), "the site was reached: {body}");
    Ok(())
}

fn nginx(stage: &Stage) -> Outcome {
    let server = with_staff(stage, "trusted_proxies = [\"127.0.0.1\"]")?;
    let http = fenced(GUIDE, "nginx")?.replace("127.0.0.1:8080", &server.http);
    let proxy = Proxy::nginx(stage, &http)?;
    let base = format!("http://{}", server.http);
    let (ada, guest) = (token(&base, "ada", ADA, &[])?, token(&base, "guest", GUEST, &[])?);
    let url = format!("http://wiki.example.com:{}/page", proxy.port);
    let resolve = format!("wiki.example.com:{}:127.0.0.1", proxy.port);
    for _ in 0..10 {
        identities(&url, &resolve, &ada, &guest)?;
    }
    // The login page is nginx's to send people to.
    let (status, _) = ask(&["--resolve", &resolve, &url])?;
    let page = format!("302 https://login.example.com/login?service=wiki&return_to={url}");
    ensure!(status == page, "nobody: {status}");
    // Its connections to us are kept: one of them, and the one that asks.
    let (_, metrics) = ask(&[&format!("{base}/metrics")])?;
    let open = metrics.lines().find_map(|line| line.strip_prefix("countersign_connections "));
    let open: usize = open.during("the gauge")?.parse().during("a number")?;
    ensure!((2..=5).contains(&open), "{open} connections after 40 requests");
    // A log-out counts at once.
    let bearer = format!("authorization: Bearer {ada}");
    ask(&["-X", "DELETE", "-H", &bearer, &format!("{base}/v1/session")])?;
    let cookie = format!("cookie: countersign={ada}");
    let (status, _) = ask(&["--resolve", &resolve, "-H", &cookie, &url])?;
    ensure!(status == page, "logged out: {status}");
    // We are gone: nobody gets through.
    server.stop()?;
    let (status, body) = ask(&["--resolve", &resolve, "-H", &cookie, &url])?;
    ensure!(status == "500" && !body.contains("user="), "without us: {status} {body}");
    Ok(())
}

fn caddy(stage: &Stage) -> Outcome {
    let server = with_staff(
        stage,
        "trusted_proxies = [\"127.0.0.1\"]\nlogin_page = \"https://login.example.com/login\"\n\
         return_to = [\"https://*.example.com\"]",
    )?;
    let caddyfile = fenced(GUIDE, "caddy")?.replace("127.0.0.1:8080", &server.http);
    let proxy = Proxy::caddy(stage, &caddyfile, "wiki.example.com")?;
    let base = format!("http://{}", server.http);
    let (ada, guest) = (token(&base, "ada", ADA, &[])?, token(&base, "guest", GUEST, &[])?);
    let url = format!("http://wiki.example.com:{}/page?a=1", proxy.port);
    let resolve = format!("wiki.example.com:{}:127.0.0.1", proxy.port);
    identities(&url, &resolve, &ada, &guest)?;
    // Without TLS and on this port it is no address that the list allows: the page, and no way back.
    let (status, _) = ask(&["--resolve", &resolve, "-H", "accept: text/html", &url])?;
    ensure!(
        status == "302 https://login.example.com/login?service=wiki",
        "nobody with a browser: {status}"
    );
    let (status, _) = ask(&["--resolve", &resolve, &url])?;
    ensure!(status == "401", "nobody without: {status}");
    // An alias of a header that a site may take for it.
    let cookie = format!("cookie: countersign={ada}");
    let words = ["--resolve", &resolve, "-H", &cookie, "-H", "Remote_User: root", &url];
    let (status, body) = ask(&words)?;
    ensure!(status == "400" && !body.contains("user="), "an alias: {status} {body}");
    server.stop()?;
    let (status, _) = ask(&["--resolve", &resolve, "-H", &cookie, &url])?;
    ensure!(status.starts_with("50"), "without us: {status}");
    Ok(())
}

const DIGEST: &str =
    "trusted_proxies = [\"127.0.0.1\"]\ndigest = [\"SHA-256\", \"MD5\"]\nbasic = true";

/// A site behind a proxy that hands challenges on: curl answers them with a user of a readable file.
fn digest(stage: &Stage, url: &str, resolve: &str) -> Outcome {
    let with = |user: &str, words: &[&str]| {
        let config = stage.file("curlrc", &format!("user = \"{user}\"\n"))?;
        let config = config.display().to_string();
        ask(&[&["--config", &config, "--resolve", resolve], words, &[url]].concat())
    };
    for words in
        [&["--digest"][..], &["--digest", "--data", "x"], &["--digest", "--head"], &["--basic"]]
    {
        let (status, body) = with("u1:secret1", words)?;
        ensure!(status == "200", "{words:?}: {status} {body}");
        ensure!(words.contains(&"--head") || body.contains("user=u1"), "{words:?}: {body}");
        let (status, body) = with("u1:wrong", words)?;
        ensure!(status.starts_with("401"), "{words:?}, a wrong password: {status} {body}");
        ensure!(!body.contains("user="), "the site was reached: {body}");
    }
    // What curl has sent, once more and for another address.
    let config = stage.file("curlrc", "user = \"u1:secret1\"\n")?.display().to_string();
    let done = curl(&["--config", &config, "--resolve", resolve, "--digest", "--verbose", url])?;
    let sent = done.err.lines().find_map(|line| line.strip_prefix("> Authorization: Digest "));
    let replay = format!("authorization: Digest {}", sent.during("what curl sent")?.trim());
    for url in [url, &format!("{url}x")] {
        let words = ["--resolve", resolve, "--include", "-H", &replay, url];
        let (status, body) = ask(&words)?;
        ensure!(status.starts_with("401") && !body.contains("user="), "a replay: {status} {body}");
    }
    Ok(())
}

fn nginx_digest(stage: &Stage) -> Outcome {
    let server = server(stage, DIGEST)?;
    // Programs are told what nobody has proven, and not sent to a page.
    let http = fenced(GUIDE, "nginx")?.replace("127.0.0.1:8080", &server.http);
    let http = http.replace("error_page 401 = @login;", "").replace("&group=staff", "");
    let proxy = Proxy::nginx(stage, &http)?;
    let url = format!("http://wiki.example.com:{}/page?a=1", proxy.port);
    digest(stage, &url, &format!("wiki.example.com:{}:127.0.0.1", proxy.port))
}

fn caddy_digest(stage: &Stage) -> Outcome {
    let server = server(stage, DIGEST)?;
    let caddyfile = fenced(GUIDE, "caddy")?.replace("127.0.0.1:8080", &server.http);
    let caddyfile = caddyfile.replace("&group=staff", "").replace("?group=staff", "");
    let proxy = Proxy::caddy(stage, &caddyfile, "wiki.example.com")?;
    let url = format!("http://wiki.example.com:{}/page?a=1", proxy.port);
    digest(stage, &url, &format!("wiki.example.com:{}:127.0.0.1", proxy.port))
}

/// A certificate for `localhost` and its key, put in place at once.
fn certificate(stage: &Stage, until: (i32, u8, u8)) -> Outcome<String> {
    let mut params =
        rcgen::CertificateParams::new(vec!["localhost".into()]).during("a certificate")?;
    params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
    let key = rcgen::KeyPair::generate().during("a key")?;
    let pem = params.self_signed(&key).during("a certificate")?.pem();
    for (name, text) in [("cert.pem", pem.as_str()), ("key.pem", &key.serialize_pem())] {
        let new = stage.file(&format!("{name}.new"), text)?;
        fs::rename(new, stage.at(name)).during(name)?;
    }
    Ok(pem)
}

const TLS: &str = "tls = { certificate = \"cert.pem\", key = \"key.pem\" }";

/// The address of the listener with TLS, for curl, and how to reach it.
fn address(server: &Countersign) -> Outcome<(String, String)> {
    let ready = fs::read_to_string(server.data.join("run/ready")).during("run/ready")?;
    let ready: serde_json::Value = serde_json::from_str(&ready).during("run/ready")?;
    let address = ready["https"].as_str().during("https")?.to_owned();
    let (_, port) = address.rsplit_once(':').during("a port")?;
    Ok((format!("https://localhost:{port}"), format!("localhost:{port}:127.0.0.1")))
}

fn tls_server(stage: &Stage) -> Outcome<Countersign> {
    let text = Config { passwd: Some(stage.file("passwd", &passwd_file(2))?), ..Config::default() };
    let text = text.text().replace("[listen.http.main]\n", &format!("[listen.http.main]\n{TLS}\n"));
    // A second one without TLS is what the harness asks whether it is there.
    let text = format!("{text}\n[listen.http.plain]\naddress = \"127.0.0.1:0\"\n");
    Countersign::start_with(stage, Profile::Debug, &text)
}

fn curl_over_tls(stage: &Stage) -> Outcome {
    certificate(stage, (2090, 1, 1))?;
    let server = tls_server(stage)?;
    let (base, resolve) = address(&server)?;
    let cert = stage.at("cert.pem").display().to_string();
    let with = ["--cacert", &cert, "--resolve", &resolve];
    let token = token(&base, "u1", "secret1", &with)?;
    // Within our own TLS, the cookie is the one that a browser protects.
    let url = format!("{base}/forward-auth");
    for (name, expected) in [("__Host-countersign", "200"), ("countersign", "401")] {
        let cookie = format!("cookie: {name}={token}");
        let (status, body) = ask(&[&with, ["-H", &cookie, &url].as_slice()].concat())?;
        ensure!(status == expected, "{name}: {status} {body}");
    }
    for (version, code) in [("--tls-max=1.1", 35), ("--tls-max=1.2", 0), ("--tlsv1.3", 0)] {
        let words: Vec<&str> = version.split('=').collect();
        let done = curl(&[&with, words.as_slice(), &[&format!("{base}/healthz")]].concat())?;
        ensure!(done.code == Some(code), "{version}: {:?} {}", done.code, done.err);
    }
    ensure!(!server.log().contains("clear text"), "it warns: {}", server.log());
    Ok(())
}

fn replaced(stage: &Stage) -> Outcome {
    let old = certificate(stage, (2090, 1, 1))?;
    let server = tls_server(stage)?;
    let (base, resolve) = address(&server)?;
    let url = format!("{base}/healthz");
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (over, answered, resolve, url) = (&over, &answered, &resolve, &url);
        let load = scope.spawn(move || -> Outcome {
            while !over.load(Ordering::Relaxed) {
                let done = curl(&["--insecure", "--resolve", resolve, url])?;
                ensure!(done.code == Some(0), "under load: {}", done.err);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let swapped = (|| -> Outcome {
            eventually("the load", || answered.load(Ordering::Relaxed) > 3)?;
            let new = certificate(stage, (2091, 1, 1))?;
            let (old, new) = (stage.file("old.pem", &old)?, stage.file("new.pem", &new)?);
            let shown = |by: &Path| {
                let by = by.display().to_string();
                let done = curl(&["--cacert", &by, "--resolve", resolve, url]);
                done.is_ok_and(|done| done.code == Some(0))
            };
            eventually("the new certificate", || shown(&new))?;
            ensure!(!shown(&old), "the old one is shown too");
            // One that cannot be used changes nothing, and is told.
            stage.file("key.pem", "rubbish")?;
            eventually("the complaint", || server.log().contains("the old one goes on"))?;
            ensure!(shown(&new), "a bad pair took its place");
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        let loaded = load.join().map_err(|_| countersign_interop::Trouble::failed("a panic"))?;
        swapped.and(loaded)
    })
}

fn no_certificates(stage: &Stage) -> Outcome {
    let text = Config::default()
        .text()
        .replace("[listen.http.main]\n", &format!("[listen.http.main]\n{TLS}\n"));
    let config = stage.file("none.toml", &text)?;
    let check = || {
        let mut command = Command::new(binary(Profile::Debug)?);
        command.arg("check-config").arg("--config").arg(&config).arg("--data").arg(stage.at("d"));
        run(&mut command, "", LIMIT)
    };
    let missing = check()?;
    ensure!(missing.code == Some(1), "missing: {missing:?}");
    ensure!(missing.out.contains("cert.pem: it cannot be read"), "missing: {missing:?}");
    certificate(stage, (2021, 3, 4))?;
    let expired = check()?;
    ensure!(expired.code == Some(0), "expired: {expired:?}");
    ensure!(expired.out.contains("expired at 2021-03-04"), "expired: {expired:?}");
    let server = tls_server(stage)?;
    ensure!(server.log().contains("expired at 2021-03-04"), "no warning: {}", server.log());
    let (base, resolve) = address(&server)?;
    let cert = stage.at("cert.pem").display().to_string();
    let done = curl(&["--cacert", &cert, "--resolve", &resolve, &format!("{base}/healthz")])?;
    ensure!(done.code == Some(60), "curl takes it: {done:?}");
    Ok(())
}

fn events(stage: &Stage) -> Outcome {
    let server = server(stage, "")?;
    let base = format!("http://{}", server.http);
    let token = token(&base, "u1", "secret1", &[])?;
    let bearer = format!("authorization: Bearer {token}");
    let url = format!("{base}/v1/session/events");
    let out = stage.at("events");
    std::thread::scope(|scope| {
        let (bearer, url, path) = (&bearer, &url, out.display().to_string());
        let heard = scope.spawn(move || curl(&["-N", "-H", bearer, "--output", &path, url]));
        let so_far = || fs::read_to_string(&out).unwrap_or_default();
        let listening = eventually("the first comment", || so_far().contains(": listening"));
        // Also when it was not: curl must come to its end.
        let end = ask(&["-X", "DELETE", "-H", bearer, &format!("{base}/v1/session")]);
        let heard = heard.join().map_err(|_| countersign_interop::Trouble::failed("a panic"))??;
        listening?;
        ensure!(end?.0 == "204", "the session's end");
        ensure!(heard.code == Some(0), "curl: {}", heard.err);
        ensure!(so_far().ends_with("event: revoked\ndata: {}\n\n"), "heard: {}", so_far());
        Ok(())
    })
}

fn promtool(stage: &Stage) -> Outcome {
    let server = server(stage, "")?;
    let base = format!("http://{}", server.http);
    token(&base, "u1", "secret1", &[])?;
    let (status, metrics) = ask(&[&format!("{base}/metrics")])?;
    ensure!(status == "200", "{status} {metrics}");
    let mut command = Command::new(need("promtool", "prometheus")?);
    command.args(["check", "metrics"]);
    let done = run(&mut command, &format!("{metrics}\n"), LIMIT)?;
    ensure!(done.code == Some(0), "promtool: {}{}", done.out, done.err);
    ensure!(done.err.is_empty() && done.out.is_empty(), "promtool: {}{}", done.out, done.err);
    Ok(())
}

fn crowd(stage: &Stage) -> Outcome {
    let files = many_files();
    if files < 2 * IDLE as u64 {
        let why = format!("{files} open files are allowed here, and {} needed", 2 * IDLE);
        return Err(countersign_interop::Trouble::not_run(why));
    }
    let server = server(stage, &format!("connections = {}", IDLE + 100))?;
    let mut crowd = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let mut idle = TcpStream::connect(&server.http).during("an idle connection")?;
        // An answer now and then says that those before are accepted: the kernel keeps few in between, and
        // lets one too many wait for seconds.
        if number % 100 == 99 {
            idle.set_read_timeout(Some(LIMIT)).during("a deadline")?;
            idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").during("asking")?;
            let mut reply = [0; 12];
            idle.read_exact(&mut reply).during("an answer")?;
            ensure!(&reply == b"HTTP/1.1 200", "{:?}", String::from_utf8_lossy(&reply));
        }
        crowd.push(idle);
    }
    let base = format!("http://{}", server.http);
    for _ in 0..5 {
        token(&base, "u1", "secret1", &[])?;
    }
    let (_, metrics) = ask(&[&format!("{base}/metrics")])?;
    let open = metrics.lines().find_map(|line| line.strip_prefix("countersign_connections "));
    let open: usize = open.during("the gauge")?.parse().during("a number")?;
    ensure!(open > IDLE, "only {open} connections are open");
    // Nobody waits for them when it stops.
    server.stop()?;
    Ok(())
}

//! `examples/web` with the HTTP clients that people use, and with a browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Context, Example, Finished, Outcome, Stage, ensure, eventually, need, run,
};
use rcgen::SigningKey as _;
use serde_json::json;

use crate::browser::Browser;

pub(crate) const CASES: &[Case] = &[
    // First, with the time that a build takes.
    Case { deadline: Duration::from_secs(45 * 60), ..case("web_example_is_built", is_built) },
    case("web_example_and_curl_by_basic", curl_by_basic),
    case("web_example_and_curl_by_digest", curl_by_digest),
    case("web_example_and_curl_by_a_token", curl_by_a_token),
    case("web_example_and_curl_with_a_cookie", curl_with_a_cookie),
    case("web_example_and_wget", by_wget),
    case("web_example_and_urllib", by_urllib),
    case("web_example_and_requests", by_requests),
    case("web_example_and_neon", by_neon),
    Case { deadline: Duration::from_secs(180), ..case("web_example_and_chromium", by_chromium) },
];

const USER: &str = "ada";
const PASSWORD: &str = "correct horse battery";
const MEMORY: &str = "memory:ada:correct horse battery";
const LIMIT: Duration = Duration::from_secs(40);

fn is_built(_: &Stage) -> Outcome {
    Example::built(Example::WEB).map(drop)
}

fn start(stage: &Stage, more: &[&str]) -> Outcome<(Example, String)> {
    let server = Example::start(stage, Example::WEB, &[MEMORY], more)?;
    let base = format!("http://127.0.0.1:{}", server.port);
    Ok((server, base))
}

/// Status and body. What is secret comes by curl's standard input, as `--config`.
fn curl(config: &str, words: &[&str]) -> Outcome<(String, String)> {
    let mut command = Command::new(need("curl", "curl")?);
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]);
    command.args(["--config", "-", "--write-out", "\n%{http_code}"]).args(words);
    let done = run(&mut command, config, LIMIT)?;
    ensure!(done.code == Some(0), "curl {words:?}: {}", done.err);
    let (body, status) = done.out.rsplit_once('\n').during("curl's output")?;
    Ok((status.to_owned(), body.to_owned()))
}

fn user(password: &str) -> String {
    format!("user = \"{USER}:{password}\"\n")
}

/// Everybody who was logged in is logged out again, once.
fn all_logged_out(server: &Example) -> Outcome {
    eventually("as many logouts as logins", || {
        let log = server.log();
        let count = |what| log.matches(what).count();
        count("is logged in") > 0 && count("is logged in") == count("is logged out")
    })
}

fn curl_by_basic(stage: &Stage) -> Outcome {
    let (server, base) = start(stage, &[])?;
    let url = format!("{base}/basic");
    let note = ["--basic", "--data-urlencode", "note=by curl", &url];
    let (status, _) = curl(&user(PASSWORD), &note)?;
    ensure!(status == "204", "a note: {status}");
    let (status, body) = curl(&user(PASSWORD), &["--basic", &url])?;
    ensure!(status == "200" && body == "ada by password\n- by curl\n", "{status} {body}");
    for (config, expected) in [(user("wrong"), "401"), (String::new(), "401")] {
        let (status, body) = curl(&config, &["--basic", &url])?;
        ensure!(status == expected && !body.contains("by curl"), "{status} {body}");
    }
    let words = ["--header", "Authorization: Basic !", &url];
    ensure!(curl("", &words)?.0 == "400", "a header that is none");
    // The page for everybody.
    ensure!(curl("", &[&base])?.0 == "200", "the first page");
    all_logged_out(&server)?;
    server.end()
}

fn curl_by_digest(_: &Stage) -> Outcome {
    for (offered, used) in [("SHA-256,MD5", "SHA-256"), ("MD5", "MD5"), ("SHA-256", "SHA-256")] {
        let stage = &Stage::new()?;
        let (server, base) = start(stage, &["--digest", offered])?;
        let url = format!("{base}/digest");
        let words = ["--digest", "--verbose", &url, &url, &url];
        let mut command = Command::new(need("curl", "curl")?);
        command.args(["--silent", "--max-time", "20", "--noproxy", "*", "--config", "-"]);
        let done = run(command.args(words), &user(PASSWORD), LIMIT)?;
        ensure!(done.code == Some(0), "{offered}: {done:?}");
        ensure!(done.out.matches("ada by DIGEST\n").count() == 3, "{offered}: {}", done.out);
        ensure!(done.err.contains(&format!("algorithm={used}")), "{offered}: {}", done.err);
        let infos = done.err.matches("< authentication-info: qop=auth, rspauth=").count();
        ensure!(infos == 3, "{offered}: {}", done.err);
        let (status, _) = curl(&user("wrong"), &["--digest", &url])?;
        ensure!(status == "401", "{offered}, a wrong password: {status}");
        // The same request once more, word for word.
        let sent = done.err.lines().find_map(|line| line.strip_prefix("> Authorization: "));
        let replay = format!("Authorization: {}", sent.during("what curl sent")?.trim());
        let (status, body) = curl("", &["--include", "--header", &replay, &url])?;
        ensure!(status == "401" && body.contains("stale=true"), "a replay: {status} {body}");
        let note = ["--digest", "--data-urlencode", "note=by curl", &url];
        ensure!(curl(&user(PASSWORD), &note)?.0 == "204", "{offered}: a note");
        all_logged_out(&server)?;
    }
    Ok(())
}

/// A key of an issuer, and a token that it has signed for so many seconds.
fn token(key: &rcgen::KeyPair, audience: &str, seconds: i64) -> Outcome<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = i64::try_from(now.during("the time")?.as_secs()).during("the time")?;
    let head = json!({ "alg": "EdDSA", "typ": "JWT" }).to_string();
    let claims = json!({
        "iss": "https://id.example.com", "aud": audience, "sub": USER, "exp": now + seconds,
    });
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(head.as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = key.sign(signed.as_bytes()).during("signing")?;
    Ok(format!("{signed}.{}", encode(&signature)))
}

fn curl_by_a_token(stage: &Stage) -> Outcome {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).during("a key")?;
    let pem = stage.file("issuer.pem", &key.public_key_pem())?;
    let auth = format!("jwt:{}?issuer=https://id.example.com&audience=notebooks", pem.display());
    let server = Example::start(stage, Example::WEB, &[MEMORY, &auth], &[])?;
    let url = format!("http://127.0.0.1:{}/bearer", server.port);
    let by = |token: &str| curl(&format!("oauth2-bearer = \"{token}\"\n"), &["--include", &url]);
    let (status, body) = by(&token(&key, "notebooks", 60)?)?;
    ensure!(status == "200" && body.contains("ada by bearer\n"), "{status} {body}");
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).during("a key")?;
    for (wrong, why) in [
        (token(&other, "notebooks", 60)?, "another key"),
        (token(&key, "mail", 60)?, "another audience"),
        (token(&key, "notebooks", -3600)?, "expired"),
        ("x".to_owned(), "no token"),
    ] {
        let (status, body) = by(&wrong)?;
        let told =
            body.contains("www-authenticate: Bearer realm=\"notebooks\", error=\"invalid_token\"");
        ensure!(status == "401" && told, "{why}: {status} {body}");
    }
    let (status, body) = curl("", &["--include", &url])?;
    ensure!(status == "401" && !body.contains("error="), "no token: {status} {body}");
    all_logged_out(&server)
}

fn curl_with_a_cookie(stage: &Stage) -> Outcome {
    let (server, base) = start(stage, &[])?;
    let jar = stage.at("jar").display().to_string();
    let cookies = ["--cookie", &jar, "--cookie-jar", &jar];
    let me = format!("{base}/me");
    let with = |words: &[&str]| curl("", &[&cookies, words].concat());
    let browser =
        ["--header", "Accept: text/html", "--write-out", "%{redirect_url}\n%{http_code}", &me];
    let (status, body) = with(&browser)?;
    ensure!(status == "303" && body.ends_with("/login?return_to=%2Fme"), "{status} {body}");
    let login = format!("{base}/login");
    let form = |password: &str| {
        let form = format!(
            "data-urlencode = \"username={USER}\"\ndata-urlencode = \"password={password}\"\n\
             data-urlencode = \"return_to=/me\"\n"
        );
        curl(&form, &[&cookies, ["--location", &login].as_slice()].concat())
    };
    let (status, body) = form("wrong")?;
    ensure!(status == "401" && body.contains("That did not work."), "{status} {body}");
    let (status, body) = form(PASSWORD)?;
    ensure!(status == "200" && body.contains("<h1>ada</h1>"), "{status} {body}");
    let (status, body) = with(&["--location", "--data-urlencode", "note=<by curl>", &me])?;
    ensure!(status == "200" && body.contains("<li>&lt;by curl&gt;"), "{status} {body}");
    // What a page of another site would send.
    let elsewhere = ["--header", "Origin: https://evil.example", "--data", "note=x", &me];
    ensure!(with(&elsewhere)?.0 == "403", "another site");
    let logout = format!("{base}/logout");
    ensure!(with(&[&logout])?.0 == "405", "a link");
    ensure!(server.log().matches("is logged in").count() == 1, "{}", server.log());
    ensure!(!server.log().contains("is logged out"), "{}", server.log());
    ensure!(with(&["--data", "", &logout])?.0 == "303", "logging out");
    ensure!(server.log().matches("is logged out").count() == 1, "{}", server.log());
    ensure!(with(&[&me])?.0 == "401", "logged out");
    // The end of the program logs out whoever is left.
    form(PASSWORD)?;
    let log = stage.at("example-web.log");
    server.end()?;
    let log = std::fs::read_to_string(log).during("the log")?;
    ensure!(log.matches("is logged out").count() == 2, "{log}");
    Ok(())
}

fn by_wget(stage: &Stage) -> Outcome {
    let program = need("wget", "wget")?;
    // wget's Digest knows MD5 alone.
    let (server, base) = start(stage, &["--digest", "MD5"])?;
    let wget = |path: &str, password: &str| -> Outcome<Finished> {
        // Not on the command line, which every user can read.
        let rc = format!("user = {USER}\npassword = {password}\n");
        let rc = stage.file("wgetrc", &rc)?;
        let mut command = Command::new(&program);
        command.arg("--config").arg(rc).args([
            "--no-proxy",
            "--tries=1",
            "--timeout=20",
            "-O",
            "-",
        ]);
        run(command.arg(format!("{base}{path}")), "", LIMIT)
    };
    for (path, proof) in [("/basic", "password"), ("/digest", "DIGEST")] {
        let done = wget(path, PASSWORD)?;
        let right = done.code == Some(0) && done.out == format!("ada by {proof}\n");
        ensure!(right, "{path}: {done:?}");
        // 6: an authentication failure (wget(1)).
        let wrong = wget(path, "wrong")?;
        ensure!(wrong.code == Some(6), "{path}, a wrong password: {wrong:?}");
    }
    all_logged_out(&server)
}

fn by_python(stage: &Stage, which: &str, more: &[&str]) -> Outcome {
    // Debian's, which has Debian's requests.
    need("/usr/lib/python3/dist-packages/requests/__init__.py", "python3-requests")?;
    let (server, base) = start(stage, more)?;
    let script = stage.file("client.py", include_str!("examples_web/client.py"))?;
    let mut command = Command::new(Path::new("/usr/bin/python3"));
    command.arg("-B").arg(script).args([which, &base]);
    let done = run(&mut command, &format!("{USER}\n{PASSWORD}\n"), LIMIT)?;
    ensure!(done.code == Some(0) && done.out == "done\n", "{which}: {done:?}");
    all_logged_out(&server)
}

/// urllib takes the first challenge and knows MD5 alone.
fn by_urllib(stage: &Stage) -> Outcome {
    by_python(stage, "urllib", &["--digest", "MD5"])
}

fn by_requests(stage: &Stage) -> Outcome {
    by_python(stage, "requests", &["--digest", "SHA-256"])?;
    by_python(&Stage::new()?, "requests", &[])
}

/// neon checks what we say in `Authentication-Info`: that we know the user's key.
fn by_neon(_: &Stage) -> Outcome {
    let library = format!("/usr/lib/{}-linux-gnu/libneon-gnutls.so.27", std::env::consts::ARCH);
    need(&library, "libneon27-gnutls")?;
    for offered in ["MD5", "SHA-256"] {
        let stage = &Stage::new()?;
        let (server, _) = start(stage, &["--digest", offered])?;
        let script = stage.file("neon.py", include_str!("examples_web/neon.py"))?;
        let mut command = Command::new(need("python3", "python3")?);
        command.arg("-B").arg(script).args([&library, &server.port.to_string()]);
        let done = run(&mut command, &format!("{USER}\n{PASSWORD}\n"), LIMIT)?;
        ensure!(done.code == Some(0) && done.out == "done\n", "{offered}: {done:?}");
        all_logged_out(&server)?;
    }
    Ok(())
}

fn by_chromium(stage: &Stage) -> Outcome {
    let (server, _) = start(stage, &[])?;
    let base = format!("http://localhost:{}", server.port);
    let browser = Browser::start(stage, "browser", true)?;
    browser.open(&format!("{base}/me"))?;
    browser.at("/login?return_to=%2Fme")?;
    let log_in = |password: &str| -> Outcome {
        browser.fill("input[autocomplete=username]", USER)?;
        browser.fill("input[autocomplete=current-password]", password)?;
        browser.click("button")
    };
    log_in("wrong")?;
    browser.says("That did not work.")?;
    let name = browser.attribute("input[name=username]", "value")?;
    ensure!(name.as_deref() == Some(USER), "the name is {name:?}");
    log_in(PASSWORD)?;
    browser.at("/me")?;
    let cookies = browser.cookies()?;
    let session = cookies.iter().find(|cookie| cookie["name"] == "notebooks");
    let session = session.during("the cookie")?;
    ensure!(session["httpOnly"] == true && session["sameSite"] == "Lax", "{session}");
    ensure!(browser.script("return document.cookie")? == "", "a script sees the cookie");
    browser.fill("input[name=note]", "by <Chromium>")?;
    browser.click("#write")?;
    browser.says("by <Chromium>")?;
    // A page of another host, on whose form somebody clicks: the browser itself tells where that comes from.
    let page = format!(
        "data:text/html,<form method=post action='{base}/logout'><button id=b>Win</button></form>"
    );
    browser.open(&page)?;
    browser.click("#b")?;
    browser.says("another site")?;
    browser.open(&format!("{base}/me"))?;
    browser.says("by <Chromium>")?;
    browser.click("#logout")?;
    browser.says("Notebooks")?;
    browser.open(&format!("{base}/me"))?;
    browser.at("/login?return_to=%2Fme")?;
    all_logged_out(&server)
}

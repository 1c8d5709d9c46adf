//! Signed tokens in SASL: `examples/mail` with curl, mpop and mutt, the server behind Postfix, Exim and JSON.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Context, Countersign, ExampleMail, Exim, Outcome, Postfix, Stage, Terminal, ensure, need, run,
};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use serde_json::json;

use crate::http;

pub(crate) const CASES: &[Case] = &[
    case("mail_example_by_tokens_of_curl", mail_by_curl),
    case("mail_example_by_tokens_of_mpop", pop3_by_mpop),
    case("mail_example_by_tokens_of_mutt", imap_by_mutt),
    case("postfix_with_tokens", postfix),
    case("exim_with_tokens", exim),
    case("curl_login_by_a_token", json_by_curl),
];

const ISSUER: &str = "https://id.test";
const MECHANISMS: [&str; 2] = ["OAUTHBEARER", "XOAUTH2"];
const LIMIT: Duration = Duration::from_secs(40);

/// Who signs tokens for ada: a key in a file.
struct Issuer {
    key: KeyPair,
    file: PathBuf,
}

impl Issuer {
    fn new(stage: &Stage) -> Outcome<Self> {
        let key = KeyPair::generate_for(&PKCS_ED25519).during("a key")?;
        let file = stage.file("issuer.pem", &key.public_key_pem())?;
        Ok(Self { key, file })
    }

    /// The checker, as a string.
    fn auth(&self) -> String {
        format!("jwt:{}?issuer={ISSUER}&audience=mail", self.file.display())
    }

    /// A token for ada (RFC 7519), for so many seconds from now on, by EdDSA (RFC 8037).
    fn token(&self, audience: &str, seconds: i64) -> Outcome<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).during("the time")?.as_secs();
        let end = i64::try_from(now).during("the time")? + seconds;
        let claims = json!({"iss": ISSUER, "aud": audience, "sub": "ada", "exp": end});
        let part = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
        let signed =
            format!("{}.{}", part(json!({"alg": "EdDSA"}).to_string()), part(claims.to_string()));
        let signature = self.key.sign(signed.as_bytes()).during("a signature")?;
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What lets ada in, and what does not.
    fn each(&self, login: impl Fn(&str, &str) -> Outcome<bool>) -> Outcome {
        let good = self.token("mail", 600)?;
        ensure!(login("ada", &good)?, "a good token");
        ensure!(!login("bob", &good)?, "somebody else with it");
        ensure!(!login("ada", &self.token("mail", -600)?)?, "one that has expired");
        ensure!(!login("ada", &self.token("elsewhere", 600)?)?, "one for another service");
        let other = KeyPair::generate_for(&PKCS_ED25519).during("a key")?;
        let forged = Self { key: other, file: self.file.clone() }.token("mail", 600)?;
        ensure!(!login("ada", &forged)?, "one that somebody else has signed");
        ensure!(login("ada", &good)?, "the good one again");
        Ok(())
    }
}

/// The token goes by standard input: every user of the machine can read what is in argv.
fn curl(url: &str, mechanism: &str, user: &str, token: &str, words: &[&str]) -> Outcome<bool> {
    let program = need("curl", "curl")?;
    let options = format!("user = \"{user}:\"\noauth2-bearer = \"{token}\"\n");
    let mut command = Command::new(program);
    command.args(["--silent", "--show-error", "--verbose", "--max-time", "20", "--config", "-"]);
    command.args(["--login-options", &format!("AUTH={mechanism}")]).args(words).arg(url);
    let done = run(&mut command, &options, LIMIT)?;
    let said = done.err.lines().any(|line| line.starts_with('>') && line.contains(mechanism));
    ensure!(said, "curl did not use {mechanism}: {}", done.err);
    // 67: the login was denied.
    ensure!(matches!(done.code, Some(0 | 67)), "{mechanism}: {done:?}");
    Ok(done.code == Some(0))
}

/// Curl takes OAUTHBEARER where both are offered, whatever it is told.
fn mail_by_curl(stage: &Stage) -> Outcome {
    let issuer = Issuer::new(stage)?;
    let server = ExampleMail::start(stage, &[&issuer.auth()], &[])?;
    server.deliver("ada", "1.a.test", "Subject: one\n\nThe first\n")?;
    for url in [
        format!("pop3://localhost:{}/1", server.pop3),
        format!("imap://localhost:{}/INBOX;MAILINDEX=1", server.imap),
    ] {
        for words in [&[][..], &["--sasl-ir"]] {
            issuer.each(|user, token| curl(&url, "OAUTHBEARER", user, token, words))?;
        }
    }
    server.end()
}

fn pop3_by_mpop(stage: &Stage) -> Outcome {
    let program = need("mpop", "mpop")?;
    let issuer = Issuer::new(stage)?;
    let server = ExampleMail::start(stage, &[&issuer.auth()], &[])?;
    for mechanism in MECHANISMS.map(str::to_lowercase) {
        issuer.each(|user, token| {
            let token = stage.secret("token", token)?;
            let rc = format!(
                "account a\nhost localhost\nport {}\ntls off\nuser {user}\nauth {mechanism}\n\
                 passwordeval cat {}\ndelivery mbox {}\nkeep on\n",
                server.pop3,
                token.display(),
                stage.at("mbox").display()
            );
            let rc = stage.secret("mpoprc", &rc)?;
            let mut command = Command::new(&program);
            let done =
                run(command.args(["--auth-only", "--debug", "-C"]).arg(rc).arg("a"), "", LIMIT)?;
            // 77: permission denied.
            ensure!(matches!(done.code, Some(0 | 77)), "{mechanism}: {done:?}");
            Ok(done.code == Some(0))
        })?;
    }
    server.end()
}

/// A person's program, which fetches its token by a command of its own, and shows it in TLS only.
fn imap_by_mutt(stage: &Stage) -> Outcome {
    let program = need("mutt", "mutt")?;
    let issuer = Issuer::new(stage)?;
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".into()]).during("a certificate")?;
    let chain = stage.file("chain.pem", &made.cert.pem())?.display().to_string();
    let key = stage.file("key.pem", &made.signing_key.serialize_pem())?.display().to_string();
    let tls = ["--tls-cert", &chain, "--tls-key", &key];
    let server = ExampleMail::start(stage, &[&issuer.auth()], &tls)?;
    server.deliver("ada", "1.a.test", "Subject: one\n\nThe first\n")?;
    for mechanism in MECHANISMS.map(str::to_lowercase) {
        for (audience, shown) in [("mail", "one"), ("elsewhere", "failed")] {
            let token = stage.secret("token", &issuer.token(audience, 600)?)?;
            let rc = format!(
                "set imap_authenticators=\"{mechanism}\" imap_oauth_refresh_command=\"cat {token}\"\n\
                 set ssl_force_tls=yes ssl_ca_certificates_file=\"{chain}\" folder=\"{stage}\" header_cache=\"\" quit=yes\n\
                 set spoolfile=\"{stage}/none\" record=\"\" wait_key=no mark_old=no nouse_ipv6\n",
                token = token.display(),
                stage = stage.path().display()
            );
            let rc = stage.file("muttrc", &rc)?.display().to_string();
            let url = format!("imap://ada@localhost:{}/INBOX", server.imap);
            let terminal = Terminal::open(stage, &program, &["-n", "-F", &rc, "-f", &url])?;
            terminal.shows(shown)?;
        }
    }
    let log = server.log();
    ensure!(log.matches("is logged in").count() == 2, "each mechanism once:\n{log}");
    server.end()
}

/// A server that believes the issuer, with a socket for mail servers that has one mechanism.
fn behind_a_mail_server(
    stage: &Stage,
    issuer: &Issuer,
    mechanism: &str,
) -> Outcome<(Countersign, PathBuf)> {
    let socket = stage.folder("sockets")?.join("auth");
    let config = format!(
        "[checker.jwt.mail]\nkeys = {:?}\nissuer = {ISSUER:?}\naudience = \"mail\"\n\n\
         [policy]\ncheckers = [\"jwt.mail\"]\n\n[throttle]\nenabled = false\n\n\
         [listen.http.main]\naddress = \"127.0.0.1:0\"\n\n\
         [listen.dovecot.mail]\npath = {socket:?}\nmode = \"0666\"\nmechanisms = [{mechanism:?}]\n",
        issuer.file
    );
    Ok((Countersign::start_full(stage, &config)?, socket))
}

fn smtp(issuer: &Issuer, port: u16, mechanism: &str) -> Outcome {
    let url = format!("smtp://localhost:{port}/client.test");
    for words in [&["--request", "NOOP"][..], &["--request", "NOOP", "--sasl-ir"]] {
        issuer.each(|user, token| curl(&url, mechanism, user, token, words))?;
    }
    Ok(())
}

fn postfix(_: &Stage) -> Outcome {
    for mechanism in MECHANISMS {
        let stage = &Stage::new()?;
        let issuer = Issuer::new(stage)?;
        let (_server, socket) = behind_a_mail_server(stage, &issuer, mechanism)?;
        let postfix = Postfix::start(stage, &socket)?;
        smtp(&issuer, postfix.port, mechanism)?;
    }
    Ok(())
}

fn exim(stage: &Stage) -> Outcome {
    let issuer = Issuer::new(stage)?;
    let (_server, socket) = behind_a_mail_server(stage, &issuer, "OAUTHBEARER")?;
    let exim = Exim::start(stage, &socket)?;
    smtp(&issuer, exim.port, "OAUTHBEARER")
}

/// The mechanism `bearer` itself, and both that carry it.
fn json_by_curl(stage: &Stage) -> Outcome {
    let issuer = Issuer::new(stage)?;
    let (server, _) = behind_a_mail_server(stage, &issuer, "OAUTHBEARER")?;
    let login = |body: serde_json::Value| {
        let (_, mut reply) = http::curl(&server, "POST", "/v1/login", Some(&body))?;
        // What is wrong with the token comes first, for programs that fetch another.
        if reply["status"] == "ask" {
            let path = format!("/v1/login/{}", reply["id"].as_str().during("an id")?);
            let body = json!({"round": reply["round"]["number"], "answers": {"token": "\u{1}"}});
            (_, reply) = http::curl(&server, "POST", &path, Some(&body))?;
        }
        ensure!(reply["status"] == "granted" || reply["status"] == "denied", "{reply}");
        Ok(reply["status"] == "granted")
    };
    let token = |mechanism: &str, message: String| {
        login(json!({"mechanism": mechanism, "supports": ["token"], "answers": {"token": message}}))
    };
    issuer.each(|user, shown| {
        token("OAUTHBEARER", format!("n,a={user},\u{1}auth=Bearer {shown}\u{1}\u{1}"))
    })?;
    issuer.each(|user, shown| {
        token("XOAUTH2", format!("user={user}\u{1}auth=Bearer {shown}\u{1}\u{1}"))
    })?;
    issuer.each(|user, shown| {
        let answers = json!({"bearer": shown});
        let mut body = json!({"mechanism": "bearer", "supports": ["bearer"], "answers": answers});
        // Nobody says a name here, so somebody else is who has no token.
        if user != "ada" {
            body["answers"] = json!({"bearer": "none"});
        }
        login(body)
    })
}

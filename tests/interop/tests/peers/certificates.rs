//! EXTERNAL: whoever shows a TLS certificate needs no password, at `examples/mail` and behind Dovecot's own servers.

use std::process::Command;
use std::time::Duration;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Context, DovecotMail, ExampleMail, Gsasl, Outcome, Stage, ensure, free_port, gsasl, need, run,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::mailboxes;

pub(crate) const CASES: &[Case] = &[
    case("mail_example_by_certificates_with_curl", mail_by_curl),
    case("mail_example_pop3_by_certificates_with_mpop", pop3_by_mpop),
    case("mail_example_imap_by_certificates_with_gsasl", imap_by_gsasl),
    case("dovecot_imap_by_certificates", behind_dovecot),
];

const LIMIT: Duration = Duration::from_secs(40);
const MEMORY: &str = "memory:ada:countess:bob:builder";

/// An authority, the server's certificate by it, and a user's; all as paths.
struct Site {
    authority: String,
    server: (String, String),
    own: (String, String),
    /// For the same user, by an authority that nobody believes.
    forged: (String, String),
}

impl Site {
    fn new(stage: &Stage, user: &str) -> Outcome<Self> {
        let authority = || {
            let mut params = CertificateParams::new(vec![]).during("an authority")?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().during("a key")?;
            CertifiedIssuer::self_signed(params, key).during("an authority")
        };
        let (ours, other) = (authority()?, authority()?);
        let made = |file: &str, name: &str, host: &[&str], by: &CertifiedIssuer<'_, KeyPair>| {
            let hosts: Vec<String> = host.iter().map(ToString::to_string).collect();
            let mut params = CertificateParams::new(hosts).during("a certificate")?;
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().during("a key")?;
            let made = params.signed_by(&key, by).during("a certificate")?;
            let certificate = stage.file(&format!("{file}.pem"), &made.pem())?;
            let key = stage.file(&format!("{file}.key"), &key.serialize_pem())?;
            Outcome::Ok((certificate.display().to_string(), key.display().to_string()))
        };
        Ok(Self {
            authority: stage.file("authority.pem", &ours.pem())?.display().to_string(),
            server: made("server", "localhost", &["localhost"], &ours)?,
            own: made("own", user, &[], &ours)?,
            forged: made("forged", user, &[], &other)?,
        })
    }

    fn mail(&self, stage: &Stage) -> Outcome<ExampleMail> {
        let (certificate, key) = &self.server;
        let tls = ["--tls-cert", certificate, "--tls-key", key, "--client-ca", &self.authority];
        ExampleMail::start(stage, &[MEMORY], &tls)
    }

    /// Whether curl is let in as `user`.
    fn curl(&self, url: &str, user: &str, shown: Option<&(String, String)>) -> Outcome<bool> {
        let program = need("curl", "curl")?;
        let mut command = Command::new(program);
        command.args(["--silent", "--show-error", "--max-time", "20", "--ssl-reqd"]);
        command.args(["--cacert", &self.authority, "--user", &format!("{user}:")]);
        if let Some((certificate, key)) = shown {
            command.args(["--cert", certificate, "--key", key]);
        }
        let done = run(command.args(["--login-options", "AUTH=EXTERNAL", url]), "", LIMIT)?;
        // 67: the login was denied; 56: TLS was ended by the server.
        ensure!(matches!(done.code, Some(0 | 56 | 67)), "{done:?}");
        Ok(done.code == Some(0))
    }

    fn each(&self, url: &str) -> Outcome {
        ensure!(self.curl(url, "ada", Some(&self.own))?, "with the certificate: {url}");
        ensure!(!self.curl(url, "bob", Some(&self.own))?, "as somebody else: {url}");
        ensure!(!self.curl(url, "ada", None)?, "without one: {url}");
        ensure!(!self.curl(url, "ada", Some(&self.forged))?, "with a forged one: {url}");
        Ok(())
    }
}

fn mail_by_curl(stage: &Stage) -> Outcome {
    let site = Site::new(stage, "ada")?;
    let server = site.mail(stage)?;
    site.each(&format!("pop3://localhost:{}/", server.pop3))?;
    site.each(&format!("imap://localhost:{}/", server.imap))?;
    server.end()
}

fn pop3_by_mpop(stage: &Stage) -> Outcome {
    let program = need("mpop", "mpop")?;
    let site = Site::new(stage, "ada")?;
    let server = site.mail(stage)?;
    for (user, let_in) in [("ada", true), ("bob", false)] {
        let rc = format!(
            "account a\nhost localhost\nport {}\ntls on\ntls_starttls on\ntls_trust_file {}\n\
             tls_cert_file {}\ntls_key_file {}\nuser {user}\nauth external\ndelivery mbox {}\nkeep on\n",
            server.pop3,
            site.authority,
            site.own.0,
            site.own.1,
            stage.at("mbox").display()
        );
        let rc = stage.secret("mpoprc", &rc)?;
        let mut command = Command::new(&program);
        let done = run(command.args(["--auth-only", "--debug", "-C"]).arg(rc).arg("a"), "", LIMIT)?;
        // 77: permission denied.
        ensure!(matches!(done.code, Some(0 | 77)), "{user}: {done:?}");
        ensure!((done.code == Some(0)) == let_in, "{user}: {done:?}");
    }
    server.end()
}

fn imap_by_gsasl(stage: &Stage) -> Outcome {
    let site = Site::new(stage, "ada")?;
    let server = site.mail(stage)?;
    let imap = Gsasl {
        protocol: "--imap",
        success: ". OK",
        trusting: Some(&site.authority),
        showing: Some((&site.own.0, &site.own.1)),
    };
    ensure!(gsasl(&imap, server.imap, "EXTERNAL", "ada", "")?, "with the certificate");
    ensure!(!gsasl(&imap, server.imap, "EXTERNAL", "bob", "")?, "as somebody else");
    server.end()?;
    // The server that asks for no certificates believes nobody.
    let (certificate, key) = &site.server;
    let stage = &Stage::new()?;
    let server =
        ExampleMail::start(stage, &[MEMORY], &["--tls-cert", certificate, "--tls-key", key])?;
    let imap = Gsasl { showing: None, ..imap };
    ensure!(!gsasl(&imap, server.imap, "EXTERNAL", "ada", "")?, "without a certificate");
    server.end()
}

/// Dovecot verifies the certificate, and its login processes say whose it is.
fn behind_dovecot(stage: &Stage) -> Outcome {
    let accounts = mailboxes::site(stage, 1, 1)?;
    let site = Site::new(stage, "ann")?;
    let (certificate, key) = &site.server;
    let tls = format!(
        "ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}\nssl_ca = <{authority}\n\
         ssl_verify_client_cert = yes\nssl_require_crl = no\nauth_ssl_username_from_cert = yes\n",
        authority = site.authority
    );
    let port = free_port()?;
    let dovecot = DovecotMail::start_with(stage, port, &accounts.auth, &accounts.master, &tls)?;
    let url = format!("imap://localhost:{}/", dovecot.imap);
    ensure!(site.curl(&url, "ann", Some(&site.own))?, "with the certificate");
    ensure!(!site.curl(&url, "ben", Some(&site.own))?, "as somebody else");
    ensure!(!site.curl(&url, "ann", None)?, "without one");
    Ok(())
}

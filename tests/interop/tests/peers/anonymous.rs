//! ANONYMOUS, where somebody has declared it: `examples/mail` for visitors, and the server behind Exim.

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Countersign, ExampleMail, Exim, GSASL_SMTP, Gsasl, Outcome, Stage, ensure, gsasl,
};
use serde_json::json;

use crate::http;
use crate::mechanisms::cyrus;

pub(crate) const CASES: &[Case] = &[
    case("mail_example_imap_for_visitors_with_gsasl", imap_by_gsasl),
    case("mail_example_pop3_for_visitors_with_cyrus_sasl", pop3_by_cyrus),
    case("exim_for_visitors_with_gsasl", exim),
];

const TRACE: &str = "ada@elsewhere.test";

fn visited(stage: &Stage) -> Outcome<ExampleMail> {
    let visitors = stage.at("mail/visitors").display().to_string();
    let auth = ["memory:ada:countess", "anonymous"];
    let server = ExampleMail::start(stage, &auth, &["--visitors", &visitors])?;
    server.deliver("visitors", "1.a.test", "Subject: one\n\nThe first\n")?;
    Ok(server)
}

fn imap_by_gsasl(stage: &Stage) -> Outcome {
    let server = visited(stage)?;
    let imap = Gsasl { protocol: "--imap", success: ". OK", ..GSASL_SMTP };
    ensure!(gsasl(&imap, server.imap, "ANONYMOUS", TRACE, "")?, "a visitor");
    ensure!(gsasl(&imap, server.imap, "SCRAM-SHA-256", "ada", "countess")?, "somebody");
    let log = server.log();
    ensure!(log.contains("anonymous is logged in"), "{log}");
    server.end()?;
    // Where nobody has declared it, who asks for it all the same is refused.
    let stage = &Stage::new()?;
    let server = ExampleMail::start(stage, &["memory:ada:countess"], &[])?;
    ensure!(!gsasl(&imap, server.imap, "ANONYMOUS", TRACE, "")?, "nobody has said so");
    server.end()
}

fn pop3_by_cyrus(stage: &Stage) -> Outcome {
    let server = visited(stage)?;
    ensure!(cyrus(stage, "pop3", server.pop3, "ANONYMOUS", None, TRACE, "")?, "a visitor");
    ensure!(server.files("visitors")?.len() == 1, "the message is there");
    server.end()
}

/// A mail server may take mail from visitors; a session over HTTP is somebody's.
fn exim(stage: &Stage) -> Outcome {
    let socket = stage.folder("sockets")?.join("auth");
    let config = format!(
        "[checker.anonymous.guests]\n\n[policy]\ncheckers = [\"anonymous.guests\"]\n\n\
         [listen.http.main]\naddress = \"127.0.0.1:0\"\n\n\
         [listen.dovecot.mail]\npath = {socket:?}\nmode = \"0666\"\nmechanisms = [\"ANONYMOUS\"]\n"
    );
    let server = Countersign::start_full(stage, &config)?;
    let exim = Exim::start(stage, &socket)?;
    ensure!(gsasl(&GSASL_SMTP, exim.port, "ANONYMOUS", TRACE, "")?, "a visitor");
    let body =
        json!({"mechanism": "ANONYMOUS", "supports": ["token"], "answers": {"token": TRACE}});
    let (_, reply) = http::curl(&server, "POST", "/v1/login", Some(&body))?;
    ensure!(reply["status"] == "denied", "a session is somebody's: {reply}");
    Ok(())
}

//! The HTTP side of a login. Blocking, bounded in time and size, without proxies and redirects: a
//! password goes where it was sent and nowhere else.

use std::net::IpAddr;
use std::time::Duration;

use countersign::Answers;
use countersign_responders::answers::to_json;
use countersign_server::front::http::{LoginReply, ProblemView};
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::table::shown;

/// No reply of a login is longer.
const REPLY: u64 = 1024 * 1024;

/// A server.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    base: String,
}

/// A reply of the conversation.
pub(crate) struct Told {
    pub(crate) reply: LoginReply,
    /// As it came, for who asked for JSON.
    pub(crate) json: Zeroizing<Vec<u8>>,
    /// The refusal is for want of a decision.
    pub(crate) broken: bool,
}

impl Client {
    /// A client of the server at an address.
    ///
    /// # Errors
    /// The address is no HTTP address, or passwords would cross a network in the clear.
    pub(crate) fn of(server: &str, insecure: bool) -> Result<Self, Failure> {
        let base = base(server, insecure).map_err(Failure::usage)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(5)))
            // Longer than the server takes for its slowest step.
            .timeout_global(Some(Duration::from_secs(30)))
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")));
        Ok(Self { agent: config.build().into(), base })
    }

    /// Begins a login.
    pub(crate) fn begin(
        &self,
        service: &str,
        mechanism: Option<&str>,
        kinds: &[String],
    ) -> Result<Told, Failure> {
        let mut body = serde_json::json!({ "service": service, "supports": kinds });
        if let Some(mechanism) = mechanism {
            body["mechanism"] = mechanism.into();
        }
        self.post("/v1/login", body.to_string().as_bytes())
    }

    /// Begins a login by password, with answers that are known.
    pub(crate) fn begin_with(
        &self,
        service: &str,
        kinds: &[String],
        answers: &Answers,
    ) -> Result<Told, Failure> {
        let about = serde_json::json!({
            "service": service, "supports": kinds, "mechanism": countersign::Mechanism::PASSWORD,
        });
        let answers = to_json(answers);
        let about = about.to_string();
        let mut body = Zeroizing::new(Vec::with_capacity(about.len() + answers.len() + 16));
        body.extend_from_slice(about.trim_end_matches('}').as_bytes());
        body.extend_from_slice(b",\"answers\":");
        body.extend_from_slice(&answers);
        body.push(b'}');
        self.post("/v1/login", &body)
    }

    /// Answers a round.
    pub(crate) fn answer(&self, id: &str, round: u16, answers: &Answers) -> Result<Told, Failure> {
        let answers = to_json(answers);
        let mut body = Zeroizing::new(Vec::with_capacity(answers.len() + 64));
        body.extend_from_slice(format!("{{\"round\":{round},\"answers\":").as_bytes());
        body.extend_from_slice(&answers);
        body.push(b'}');
        self.post(&format!("/v1/login/{id}"), &body)
    }

    /// Ends a login that nobody wants to finish. The server would forget it by itself in minutes.
    pub(crate) fn cancel(&self, id: &str) {
        let _ = self.agent.delete(format!("{}/v1/login/{id}", self.base)).call();
    }

    /// Ends a session. It would end by itself.
    pub(crate) fn end_session(&self, token: &str) {
        let request = self.agent.delete(format!("{}/v1/session", self.base));
        let _ = request.header("authorization", format!("Bearer {token}")).call();
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Told, Failure> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let reply = request.content_type("application/json").send(body);
        let reply = reply.map_err(|error| {
            Failure::broken(format!(
                "cannot reach the server at {}: {error}; start it with `countersign serve`, or name \
                 another with --server",
                self.base
            ))
        })?;
        self.told(reply)
    }

    fn told(&self, mut reply: Response<Body>) -> Result<Told, Failure> {
        let status = reply.status();
        let json = reply.body_mut().with_config().limit(REPLY).read_to_vec();
        let json = Zeroizing::new(json.map_err(|error| {
            Failure::broken(format!("the reply of {} broke off: {error}", self.base))
        })?);
        if let Ok(told) = serde_json::from_slice::<LoginReply>(&json) {
            check_id(&told)?;
            return Ok(Told {
                reply: told,
                json,
                broken: status == StatusCode::SERVICE_UNAVAILABLE,
            });
        }
        match serde_json::from_slice::<ProblemView>(&json) {
            Ok(problem) if status == StatusCode::BAD_REQUEST => {
                Err(Failure::usage(shown(&problem.error)))
            }
            Ok(problem) => Err(Failure::broken(shown(&problem.error))),
            Err(_) => Err(Failure::broken(format!(
                "what answers at {} is no Countersign server of this version (HTTP {status})",
                self.base
            ))),
        }
    }
}

/// An id becomes part of a path: it may be nothing else.
fn check_id(reply: &LoginReply) -> Result<(), Failure> {
    let id = match reply {
        LoginReply::Ask { id, .. } | LoginReply::Misuse { id: Some(id), .. } => id,
        _ => return Ok(()),
    };
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !id.is_empty() && id.len() <= 128 && id.bytes().all(sound) {
        true => Ok(()),
        false => Err(Failure::broken("the server gave the login an id that is none")),
    }
}

/// The address without a slash at its end, if passwords may be sent there.
fn base(server: &str, insecure: bool) -> Result<String, String> {
    let wrong = |why: &str| format!("`{server}` {why}: write it like http://127.0.0.1:8080");
    let uri: Uri = server.parse().map_err(|_| wrong("is no address"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(wrong(
                "needs TLS, which this client does not speak yet; log in on the server's own machine, or \
                 through a tunnel to its loopback address",
            ));
        }
        _ => return Err(wrong("has no scheme that is known")),
    }
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong(
            "holds a user name or password, which belong nowhere near a command line",
        ));
    }
    if uri.query().is_some() {
        return Err(wrong("has a query"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let local = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !local && !insecure {
        return Err(format!(
            "passwords would cross the network to {host} unencrypted: use a tunnel to its loopback address, \
             or say --insecure"
        ));
    }
    Ok(server.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_on_the_machine() {
        for good in
            ["http://127.0.0.1:8080", "http://[::1]:1/", "http://LocalHost", "http://127.9.9.9/cs"]
        {
            base(good, false).unwrap();
        }
        assert_eq!(base("http://localhost:1/cs/", false).unwrap(), "http://localhost:1/cs");
        for far in ["http://192.0.2.1", "http://localhost.example.org", "http://mail:80"] {
            assert!(base(far, false).unwrap_err().contains("--insecure"), "{far}");
            base(far, true).unwrap();
        }
        for wrong in [
            "https://localhost",
            "localhost:8080",
            "ftp://localhost",
            "http://",
            "http://ada:pw@localhost",
            "http://localhost/?x",
            "",
        ] {
            assert!(base(wrong, true).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_one_part_of_a_path() {
        let misuse = |id: &str| LoginReply::Misuse {
            error: String::new(),
            id: Some(id.to_owned()),
            round: None,
        };
        check_id(&misuse("aZ09-_")).unwrap();
        for id in ["", "a/b", "../session", "a?b", "ä", &"a".repeat(129)] {
            assert!(check_id(&misuse(id)).is_err(), "{id}");
        }
    }
}

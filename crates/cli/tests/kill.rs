//! The server is killed twenty times in the middle of its work. What it had said is so afterwards: passwords
//! that were changed, codes that were used, users who were disabled, sessions, and the record of all of it.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use common::{Folder, Server};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::Connection as _;

const KILLS: usize = 20;
/// How long anything may take on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse";

const CONFIG: &str = r#"
[accounts]
argon2_memory_kib = 64
argon2_passes = 1

[throttle]
enabled = false

[[policy.rules]]
service = "vpn"
require = ["password", "otp"]

[listen.http.main]
address = "127.0.0.1:0"

[listen.saslauthd.main]
path = "mux"
"#;

/// A reply: its status and its JSON. `None`: the server died before all of it had come.
type Said = Option<(u16, Value)>;

/// A client over HTTP.
#[derive(Clone)]
struct Client {
    agent: ureq::Agent,
    url: String,
    token: String,
}

impl Client {
    fn of(server: &Server, token: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(DEADLINE)).build().new_agent();
        Self { agent, url: server.url.clone(), token: token.to_owned() }
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Said {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = ureq::http::Request::builder();
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let request = request.method(method).uri(format!("{}{path}", self.url));
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let mut reply = self.agent.run(request).ok()?;
        let status = reply.status().as_u16();
        let body = reply.body_mut().read_to_string().ok()?;
        Some((status, serde_json::from_str(&body).unwrap_or_default()))
    }

    fn login(&self, service: &str, user: &str, password: &str) -> Said {
        let answers = json!({"username": user, "password": password});
        let body = json!({"service": service, "mechanism": "password", "answers": answers});
        self.send("POST", "/v1/login", &body)
    }

    fn code(&self, code: &str) -> Said {
        let (_, asked) = self.login("vpn", "otto", PASSWORD)?;
        let path = format!("/v1/login/{}", asked["id"].as_str().expect("a code is asked for"));
        let body = json!({"round": asked["round"]["number"], "answers": {"otp": code}});
        self.send("POST", &path, &body)
    }

    /// Of a server that lives.
    fn status(&self, method: &str, path: &str, body: Value) -> u16 {
        self.send(method, path, &body).expect("a reply").0
    }
}

/// A login by mail.
fn mail(folder: &Folder, service: &str) -> Option<String> {
    let mut stream = UnixStream::connect(folder.path().join("mux")).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    for text in ["mia", PASSWORD, service, ""] {
        stream.write_all(&u16::try_from(text.len()).unwrap().to_be_bytes()).ok()?;
        stream.write_all(text.as_bytes()).ok()?;
    }
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).ok()?;
    Some(String::from_utf8(reply.get(2..)?.to_vec()).unwrap())
}

/// What the server has said, and what it was asked when it died.
#[derive(Default)]
struct Promised {
    /// Services of logins that were granted: each has one of its own.
    granted: BTreeSet<String>,
    /// Administrator's acts, as the record has them: what, to whom.
    acts: Vec<(&'static str, String)>,
    sessions: Vec<String>,
    /// The password that was said to be set, and the one that was asked for.
    password: String,
    wanted: String,
    /// Positions of the codes that were used.
    used: Vec<usize>,
    /// The position of the one that was on its way.
    next: usize,
    enabled: BTreeSet<String>,
    disabled: BTreeSet<String>,
}

impl Promised {
    fn merge(&mut self, other: Self) {
        self.granted.extend(other.granted);
        self.acts.extend(other.acts);
        self.sessions.extend(other.sessions);
        self.used.extend(other.used);
        self.next = self.next.max(other.next);
        self.enabled.extend(other.enabled);
        self.disabled.extend(other.disabled);
        if !other.wanted.is_empty() {
            self.wanted = other.wanted;
        }
        if !other.password.is_empty() {
            self.password = other.password;
        }
    }
}

/// One kind of work, until the server is dead; says each time that something was promised.
type Work<'a> = Box<dyn FnOnce(Sender<()>) -> Promised + Send + 'a>;

/// Everything that people do, each in a thread of its own.
fn works<'a>(
    folder: &'a Folder,
    admin: &'a Client,
    round: usize,
    codes: (&'a [String], usize),
) -> [Work<'a>; 5] {
    let people = Client { token: String::new(), ..admin.clone() };
    let (logins, otto) = (people.clone(), people);
    [
        Box::new(move |said| {
            let mut promised = Promised::default();
            for n in 0.. {
                let service = format!("web-{round}-{n}");
                let Some((status, reply)) = logins.login(&service, "sue", PASSWORD) else { break };
                assert_eq!(status, 200, "{reply}");
                promised.sessions.push(reply["session"]["token"].as_str().unwrap().to_owned());
                promised.granted.insert(service);
                let _ = said.send(());
            }
            promised
        }),
        Box::new(move |said| {
            let mut promised = Promised::default();
            for n in 0.. {
                let service = format!("imap-{round}-{n}");
                let Some(reply) = mail(folder, &service) else { break };
                assert_eq!(reply, "OK");
                promised.granted.insert(service);
                let _ = said.send(());
            }
            promised
        }),
        Box::new(move |said| {
            let mut promised = Promised::default();
            for n in 0.. {
                promised.wanted = format!("secret {round} {n}");
                let body = json!({"password": promised.wanted});
                let Some((status, reply)) = admin.send("PUT", "/v1/users/pat/password", &body)
                else {
                    break;
                };
                assert_eq!(status, 200, "{reply}");
                promised.password.clone_from(&promised.wanted);
                promised.acts.push(("password-set", "pat".to_owned()));
                let _ = said.send(());
            }
            promised
        }),
        Box::new(move |said| {
            let mut promised = Promised::default();
            let (codes, first) = codes;
            for (position, code) in codes.iter().enumerate().skip(first) {
                promised.next = position;
                let Some((status, reply)) = otto.code(code) else { break };
                // The one that was under way when the server died may have been used up.
                let unknown = position == first && status == 401;
                assert!(status == 200 || unknown, "{status} {reply}");
                if status == 200 {
                    promised.used.push(position);
                    let _ = said.send(());
                }
            }
            promised
        }),
        Box::new(move |said| {
            let mut promised = Promised::default();
            for n in 0.. {
                let name = format!("user-{round}-{n}");
                let new = json!({"name": name, "password": PASSWORD});
                let Some((status, reply)) = admin.send("POST", "/v1/users", &new) else { break };
                assert_eq!(status, 201, "{reply}");
                promised.acts.push(("user-add", name.clone()));
                promised.enabled.insert(name.clone());
                let _ = said.send(());
                let path = format!("/v1/users/{name}");
                let Some((status, reply)) = admin.send("PATCH", &path, &json!({"enabled": false}))
                else {
                    // Maybe, maybe not.
                    promised.enabled.remove(&name);
                    break;
                };
                assert_eq!(status, 200, "{reply}");
                promised.acts.push(("user-set", name.clone()));
                promised.enabled.remove(&name);
                promised.disabled.insert(name);
                let _ = said.send(());
            }
            promised
        }),
    ]
}

/// Lets everybody work, kills the server after so many promises, and gives all of them.
fn until_killed(server: Server, promises: usize, works: [Work<'_>; 5]) -> Promised {
    let (sender, said): (_, Receiver<()>) = channel();
    thread::scope(|scope| {
        let threads = works.map(|work| {
            let sender = sender.clone();
            scope.spawn(move || work(sender))
        });
        drop(sender);
        for _ in 0..promises {
            said.recv_timeout(DEADLINE).expect("they are at work");
        }
        server.ends(Signal::KILL);
        let mut all = Promised::default();
        threads.into_iter().for_each(|thread| all.merge(thread.join().unwrap()));
        all
    })
}

fn is_whole(folder: &Folder) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite://{}", folder.path().join("accounts.db").display());
        let mut store = sqlx::SqliteConnection::connect(&url).await.unwrap();
        let check = "PRAGMA integrity_check";
        let said: Vec<String> = sqlx::query_scalar(check).fetch_all(&mut store).await.unwrap();
        assert_eq!(said, ["ok"]);
        let check = "PRAGMA foreign_key_check";
        assert!(sqlx::query(check).fetch_all(&mut store).await.unwrap().is_empty());
        store.close().await.unwrap();
    });
}

/// Of what the server promised before it died.
fn is_kept(people: &Client, codes: &[String], promised: &mut Promised, last: &Promised) {
    for token in &last.sessions {
        let holder = Client { token: token.clone(), ..people.clone() };
        assert_eq!(holder.status("GET", "/v1/session", Value::Null), 200, "a session is lost");
    }
    for position in &last.used {
        assert_eq!(people.code(&codes[*position]).unwrap().0, 401, "a used code");
    }
    for name in &last.disabled {
        assert_eq!(people.login("web", name, PASSWORD).unwrap().0, 401, "{name} is disabled");
    }
    for name in &last.enabled {
        assert_eq!(people.login("web", name, PASSWORD).unwrap().0, 200, "{name} is there");
    }
    // Either the last that it said, or the one that it was setting; and no other.
    let is_right = |password: &str| people.login("web", "pat", password).unwrap().0 == 200;
    let (said, wanted) = (is_right(&promised.password), is_right(&promised.wanted));
    let same = promised.password == promised.wanted;
    assert!(if same { said } else { said != wanted }, "{said} {wanted}");
    if wanted {
        promised.password.clone_from(&promised.wanted);
    }
}

/// Each promise is in the record once, and what is no record is at most one line for each death.
fn is_recorded(folder: &Folder, promised: &Promised) {
    let text = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    let (records, torn): (Vec<_>, Vec<_>) =
        text.lines().map(serde_json::from_str::<Value>).partition(Result::is_ok);
    assert!(torn.len() <= KILLS, "{torn:?}");
    let records: Vec<Value> = records.into_iter().flatten().collect();
    for service in &promised.granted {
        let of = |record: &&Value| record["service"] == **service;
        let outcomes: Vec<_> = records.iter().filter(of).map(|record| &record["outcome"]).collect();
        assert_eq!(outcomes, ["granted"], "{service}");
    }
    for (act, target) in &promised.acts {
        let of = |record: &&Value| record["act"] == *act && record["target"] == **target;
        let said = promised.acts.iter().filter(|other| *other == &(*act, target.clone())).count();
        assert!(records.iter().filter(of).count() >= said, "{act} {target}");
    }
}

#[test]
fn what_it_said_is_so_after_each_of_twenty_deaths() {
    let folder = Folder::bare();
    let config = folder.file("countersign.toml", CONFIG);
    let config = config.to_str().unwrap();
    let start = || Server::with(&folder, &["--config", config]);
    let mut server = start();
    for user in ["sue", "mia", "pat", "otto"] {
        folder.ok(&["user", "add", user, "--password-stdin"], &format!("{PASSWORD}\n"));
    }
    let boss = ["user", "add", "boss", "--password-stdin", "--group", "administrators"];
    folder.ok(&boss, &format!("{PASSWORD}\n"));
    let otp = folder.ok(&["user", "otp", "otto", "--unconfirmed", "--hotp", "--digits", "8"], "");
    let (_, secret) = otp.split_once("secret=").expect("the address of the generator");
    let secret = totp_rs::Secret::try_from_base32(secret.split('&').next().unwrap()).unwrap();
    let codes = totp_rs::Builder::new().with_secret(secret.as_bytes()).with_digits(8);
    let codes = codes.with_step_duration(1).build().unwrap();
    let codes: Vec<_> = (0..2000).map(|counter| codes.generate(counter).to_string()).collect();
    let (_, reply) = Client::of(&server, "").login("web", "boss", PASSWORD).unwrap();
    // One session for the whole test: it outlives every death.
    let boss = reply["session"]["token"].as_str().expect("a session").to_owned();

    let mut promised = Promised { password: PASSWORD.to_owned(), ..Promised::default() };
    let mut next_code = 0;
    for round in 0..KILLS {
        let admin = Client::of(&server, &boss);
        let works = works(&folder, &admin, round, (&codes, next_code));
        // From the first moments on to the middle of everything.
        let last = until_killed(server, 1 + round * 3, works);
        next_code = last.next;
        promised.merge(Promised {
            granted: last.granted.clone(),
            acts: last.acts.clone(),
            password: last.password.clone(),
            wanted: last.wanted.clone(),
            ..Promised::default()
        });
        server = start();
        is_whole(&folder);
        is_kept(&Client::of(&server, ""), &codes, &mut promised, &last);
    }
    server.ends(Signal::TERM);
    is_recorded(&folder, &promised);
}

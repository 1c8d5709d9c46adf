//! A script with `curl` against our JSON conversation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Context, Countersign, Outcome, Profile, Stage, Trouble, ensure, need, run, user,
};
use serde_json::{Value, json};

pub(crate) const CASES: &[Case] = &[
    case("curl_healthz", healthz),
    case("curl_login_in_one_call", login_in_one_call),
    case("curl_login_by_rounds", login_by_rounds),
    case("curl_first_administrator_must_change_the_password", first_administrator),
];

const PASSWORD: &str = "correct horse battery";

/// Calls the API and gives status and JSON. The body goes by standard input: every user of
/// the machine can read what is in argv.
pub(crate) fn curl(
    server: &Countersign,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Outcome<(u16, Value)> {
    let program = need("curl", "curl")?;
    let mut command = Command::new(program);
    command.args(["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]);
    command.args(["--request", method, "--write-out", "\n%{http_code}"]);
    if body.is_some() {
        command.args(["--header", "content-type: application/json", "--data-binary", "@-"]);
    }
    command.arg(format!("http://{}{path}", server.http));
    let input = body.map(Value::to_string).unwrap_or_default();
    let done = run(&mut command, &input, Duration::from_secs(25))?;
    ensure!(done.code == Some(0), "curl {path}: {}", done.err);
    let (text, status) = done.out.rsplit_once('\n').during("curl's output")?;
    let value = if text.trim().is_empty() {
        Value::Null
    } else {
        serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
    };
    Ok((status.parse().during("curl's status")?, value))
}

pub(crate) fn begin(server: &Countersign, answers: Value) -> Outcome<(u16, Value)> {
    let body = json!({ "service": "interop", "answers": answers });
    curl(server, "POST", "/v1/login", Some(&body))
}

fn with_alice(stage: &Stage) -> Outcome<Countersign> {
    let server = Countersign::start(stage, Profile::Debug, None)?;
    user(Profile::Debug, &server.data, &["add", "alice", "--password-stdin"], PASSWORD)?;
    Ok(server)
}

fn healthz(stage: &Stage) -> Outcome {
    let server = Countersign::start(stage, Profile::Debug, None)?;
    let (status, body) = curl(&server, "GET", "/healthz", None)?;
    ensure!(status == 200, "/healthz: {status} {body}");
    let http = server.http.clone();
    let ready = server.data.join("run/ready");
    ensure!(server.stop()?.success(), "SIGTERM should end it with 0");
    ensure!(!ready.exists(), "`{}` was left behind", ready.display());
    ensure!(std::net::TcpStream::connect(&http).is_err(), "{http} still listens");
    Ok(())
}

fn login_in_one_call(stage: &Stage) -> Outcome {
    let server = with_alice(stage)?;
    let (status, body) = begin(&server, json!({ "username": "alice", "password": PASSWORD }))?;
    ensure!(status == 200 && body["status"] == "granted", "right: {status} {body}");
    let (status, wrong) = begin(&server, json!({ "username": "alice", "password": "wrong" }))?;
    ensure!(status == 401 && wrong["status"] == "denied", "wrong: {status} {wrong}");
    let (status, unknown) = begin(&server, json!({ "username": "nobody", "password": "wrong" }))?;
    ensure!(status == 401, "unknown: {status} {unknown}");
    ensure!(
        wrong["reason"] == unknown["reason"] && wrong["word"] == unknown["word"],
        "an unknown user can be told from a wrong password: {wrong} {unknown}"
    );
    Ok(())
}

/// What the open round asks, by name.
fn asked(body: &Value) -> Vec<String> {
    let questions = body["round"]["questions"].as_array().map(Vec::as_slice).unwrap_or_default();
    questions.iter().filter_map(|q| Some(q["name"].as_str()?.to_owned())).collect()
}

/// Answers the open round with whatever `know` has for it.
fn answer(server: &Countersign, body: &Value, know: &Value) -> Outcome<(u16, Value)> {
    let id = body["id"].as_str().during("an id to go on with")?;
    let answers: serde_json::Map<_, _> = asked(body)
        .into_iter()
        .filter_map(|name| Some((name.clone(), know.get(&name)?.clone())))
        .collect();
    ensure!(!answers.is_empty(), "it asks for something that nobody knows: {body}");
    let number = body["round"]["number"].clone();
    let body = json!({ "round": number, "answers": answers });
    curl(server, "POST", &format!("/v1/login/{id}"), Some(&body))
}

fn login_by_rounds(stage: &Stage) -> Outcome {
    let server = with_alice(stage)?;
    let know = json!({ "username": "alice", "password": PASSWORD });
    let (mut status, mut body) = begin(&server, json!({}))?;
    ensure!(status == 200 && body["status"] == "ask", "nothing known: {status} {body}");
    let first = body["id"].clone();
    for _ in 0..4 {
        if body["status"] != "ask" {
            break;
        }
        (status, body) = answer(&server, &body, &know)?;
    }
    ensure!(status == 200 && body["status"] == "granted", "at the end: {status} {body}");
    // What is over is over: its id opens nothing, and cannot be cancelled into something.
    let id = first.as_str().during("the id")?;
    let again = json!({ "round": 99, "answers": { "password": PASSWORD } });
    let (status, body) = curl(&server, "POST", &format!("/v1/login/{id}"), Some(&again))?;
    ensure!(status >= 400 && body["status"] != "granted", "afterwards: {status} {body}");

    let (_, body) = begin(&server, json!({ "username": "alice" }))?;
    let id = body["id"].as_str().during("an id")?.to_owned();
    let (status, gone) = curl(&server, "DELETE", &format!("/v1/login/{id}"), None)?;
    ensure!(status < 300, "cancel: {status} {gone}");
    let (status, late) = answer(&server, &body, &know)?;
    ensure!(status >= 400 && late["status"] != "granted", "after the cancel: {status} {late}");
    Ok(())
}

fn first_administrator(stage: &Stage) -> Outcome {
    let server = Countersign::start(stage, Profile::Debug, None)?;
    let path = server.data.join("admin-password");
    let mode = fs::metadata(&path).during(path.display())?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "the one-time password's file has mode {mode:o}");
    let once = server.admin_password()?;
    ensure!(!once.is_empty() && !server.log().contains(&once), "the log tells the password");
    let (status, body) = begin(&server, json!({ "username": "admin", "password": once }))?;
    ensure!(body["status"] == "ask", "it must be changed first: {status} {body}");
    let fresh = "a new and longer password";
    let mut know = json!({ "username": "admin", "password": once });
    for name in asked(&body) {
        if know.get(&name).is_none() {
            // The new password, and the same again where it is asked for twice.
            know[name] = json!(fresh);
        }
    }
    let (status, body) = answer(&server, &body, &know)?;
    ensure!(status == 200 && body["status"] == "granted", "after the change: {status} {body}");
    let (status, body) = begin(&server, json!({ "username": "admin", "password": once }))?;
    ensure!(status == 401, "the one-time password works twice: {status} {body}");
    let (status, body) = begin(&server, json!({ "username": "admin", "password": fresh }))?;
    ensure!(status == 200 && body["status"] == "granted", "the new one: {status} {body}");
    let odd = json!({ "service": "interop", "answers": { "username": ["deep"] } });
    let (status, body) = curl(&server, "POST", "/v1/login", Some(&odd))?;
    if !(400..500).contains(&status) {
        return Err(Trouble::failed(format!("a malformed request: {status} {body}")));
    }
    Ok(())
}

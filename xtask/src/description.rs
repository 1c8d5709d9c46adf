//! The HTTP description in the hands of a fuzzer that is not ours: schemathesis, against a served instance
//! with an administrator's token. It comes from PyPI into an environment of its own and is no dependency.

use std::process::Command;
use std::time::Duration;

use countersign_interop::{
    Countersign, Environment, Outcome, Profile, Stage, Trouble, command, run, user,
};

use crate::report::Row;
use crate::steps::LONG;

/// The version whose options and checks these are.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// What must hold of every reply. That all that fits a schema is accepted is not among it: names and passwords
/// have rules that no schema says. Nor that a method that is not described is refused: forward-auth takes all.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      negative_data_rejection,ignored_auth,use_after_free";

const PASSWORD: &str = "a fuzzer's own password";

/// Every operation, for about this many seconds in all.
pub(crate) fn fuzz(seconds: u64) -> Row {
    let name = "HTTP description (schemathesis)";
    match attack(seconds) {
        Ok(()) => Row::single(name, Ok(())),
        Err(Trouble::NotRun(why)) => Row::missing(name, why),
        Err(Trouble::Failed(why)) => Row::single(name, Err(why)),
    }
}

fn attack(seconds: u64) -> Outcome {
    let fuzzer = Environment::provide("schemathesis", SCHEMATHESIS)?.program("st");
    let stage = Stage::new()?;
    let server = Countersign::start(&stage, Profile::Debug, None)?;
    let add = ["add", "fuzzer", "--password-stdin", "--group", "administrators"];
    user(Profile::Debug, &server.data, &add, PASSWORD)?;
    let url = format!("http://{}", server.http);
    let answers = format!("{{\"username\": \"fuzzer\", \"password\": \"{PASSWORD}\"}}");
    let login = ["login", "--server", &url, "--json", "--answers", "-"];
    let reply = command(Profile::Debug, &login, &answers)?.out;
    let token = reply.split_once("\"token\"").and_then(|(_, rest)| rest.split('"').nth(1));
    let token = token.ok_or_else(|| Trouble::failed("the login gave no token"))?;
    // By the environment: every user can read the arguments of every process.
    let text = "headers = { Authorization = \"Bearer ${COUNTERSIGN_TOKEN}\" }\n";
    let config = stage.file("schemathesis.toml", text)?;
    let mut command = Command::new(fuzzer);
    command
        .current_dir(stage.path())
        .env("COUNTERSIGN_TOKEN", token)
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{url}/v1/openapi.json"), "--checks", CHECKS, "--no-color"])
        // A stream has no end, and without its session the fuzzer is refused everything.
        .args(["--exclude-path", "/v1/session/events", "--exclude-path", "/v1/session"])
        // Some ten requests a second and operation.
        .args(["--max-examples", &(seconds / 3).clamp(5, 1000).to_string()]);
    let done = run(&mut command, "", LONG + Duration::from_secs(seconds))?;
    // Whatever it was sent, it is there, and ends as it should.
    let ended = server.stop()?;
    if !ended.success() {
        return Err(Trouble::failed(format!("the server ended with {ended}")));
    }
    match done.code {
        Some(0) => Ok(()),
        _ => Err(Trouble::failed(format!("{}{}", done.out, done.err))),
    }
}

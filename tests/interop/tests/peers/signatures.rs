//! SSH keys over JSON: OpenSSH's `ssh-keygen` signs what a login is about.

use std::fs;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Countersign, Outcome, Stage, ensure, need, run};
use serde_json::json;

use crate::http;

pub(crate) const CASES: &[Case] = &[case("json_by_a_signature_of_ssh_keygen", json_by_ssh_keygen)];

const LIMIT: Duration = Duration::from_secs(20);

/// Makes a key, and gives its public half in wire format.
fn key(stage: &Stage, name: &str) -> Outcome<String> {
    let program = need("ssh-keygen", "openssh-client")?;
    let mut command = Command::new(program);
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(stage.at(name));
    let done = run(&mut command, "", LIMIT)?;
    ensure!(done.code == Some(0), "{done:?}");
    let public = fs::read_to_string(stage.at(format!("{name}.pub"))).during(name)?;
    Ok(public.split(' ').nth(1).during("a public key")?.to_owned())
}

/// `ssh-keygen -Y sign` over these bytes.
fn signed(stage: &Stage, key: &str, namespace: &str, message: &[u8]) -> Outcome<String> {
    let program = need("ssh-keygen", "openssh-client")?;
    let file = stage.at("message");
    fs::write(&file, message).during("the message")?;
    let _ = fs::remove_file(stage.at("message.sig"));
    let mut command = Command::new(program);
    command.args(["-Y", "sign", "-n", namespace, "-f"]).arg(stage.at(key)).arg(&file);
    let done = run(&mut command, "", LIMIT)?;
    ensure!(done.code == Some(0), "{done:?}");
    fs::read_to_string(stage.at("message.sig")).during("the signature")
}

fn json_by_ssh_keygen(stage: &Stage) -> Outcome {
    let (hers, other) = (key(stage, "hers")?, key(stage, "other")?);
    let keys = stage.folder("keys")?;
    fs::write(keys.join("ada"), format!("ssh-ed25519 {hers} ada\n")).during("her keys")?;
    let pattern = keys.join("%u");
    let config = format!(
        "[checker.sshkey.main]\nfiles = [{pattern:?}]\nstrict = false\n\n\
         [policy]\ncheckers = [\"sshkey.main\"]\n\n[throttle]\nenabled = false\n\n\
         [listen.http.main]\naddress = \"127.0.0.1:0\"\n"
    );
    let server = Countersign::start_full(stage, &config)?;
    let login = |user: &str, blob: &str, by: &str, namespace: &str| {
        let begin = json!({
            "mechanism": "publickey",
            "supports": ["authname", "publickey", "assertion"],
            "answers": {"username": user, "key": {"base64": blob}},
        });
        let (_, reply) = http::curl(&server, "POST", "/v1/login", Some(&begin))?;
        if reply["status"] != "ask" {
            ensure!(reply["status"] == "denied" && reply["reason"] == "denied", "{reply}");
            return Ok(false);
        }
        let challenge = reply["round"]["questions"][0]["challenge"]["base64"].as_str();
        let message = BASE64_STANDARD.decode(challenge.during("a challenge")?);
        let signature = signed(stage, by, namespace, &message.during("a challenge")?)?;
        let number = &reply["round"]["number"];
        let answer = json!({"round": number, "answers": {"signature": signature}});
        let path = format!("/v1/login/{}", reply["id"].as_str().during("an id")?);
        let (_, reply) = http::curl(&server, "POST", &path, Some(&answer))?;
        ensure!(reply["status"] == "granted" || reply["status"] == "denied", "{reply}");
        Ok(reply["status"] == "granted")
    };
    ensure!(login("ada", &hers, "hers", "countersign")?, "her key");
    ensure!(!login("bob", &hers, "hers", "countersign")?, "for somebody else");
    ensure!(!login("ada", &other, "other", "countersign")?, "a key that is not listed");
    ensure!(!login("ada", &hers, "other", "countersign")?, "offered, and signed by another");
    ensure!(!login("ada", &hers, "hers", "git")?, "what was signed for something else");
    Ok(())
}

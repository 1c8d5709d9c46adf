//! `examples/ssh-shell` with OpenSSH's own client: keys, certificates, an agent, a FIDO key in software, prompts,
//! passwords, and several of them.

use std::process::Command;
use std::time::Duration;

use countersign_interop::runner::{Case, case};
use countersign_interop::{
    Context, Countersign, ExampleSsh, Finished, Outcome, Profile, Ssh, Stage, Terminal, Trouble,
    ensure, eventually, example, keygen, need, peers_folder, run, user,
};

pub(crate) const CASES: &[Case] = &[
    // First, with the time that a build takes.
    Case { deadline: Duration::from_secs(45 * 60), ..case("ssh_example_is_built", is_built) },
    Case { deadline: Duration::from_secs(180), ..case("ssh_example_and_keys", keys) },
    case("ssh_example_and_agent", agent),
    case("ssh_example_and_certificates", certificates),
    case("ssh_example_and_revoked_certificates", revoked),
    case("ssh_example_and_fido", fido),
    case("ssh_example_and_options_of_keys", options),
    case("ssh_example_and_passwords", passwords),
    case("ssh_example_and_prompts", prompts),
    case("ssh_example_and_several_factors", factors),
    case("ssh_example_and_anonymous", anonymous),
    case("ssh_example_and_a_program", program),
    case("ssh_example_at_a_terminal", terminal),
];

const MEMORY: &str = "memory:ada:countess:bob:builder";
const COUNTESS: &str = "echo countess";
const LIMIT: Duration = Duration::from_secs(20);

fn is_built(_: &Stage) -> Outcome {
    example(ExampleSsh::PACKAGE).map(drop)
}

/// A new key: its public line.
fn key(stage: &Stage, name: &str, kind: &[&str]) -> Outcome<String> {
    keygen(stage, &[&["-q", "-N", "", "-C", name, "-f", name, "-t"], kind].concat())?;
    std::fs::read_to_string(stage.at(format!("{name}.pub"))).during(name)
}

/// Who may log in by what, as `sshkey:` reads it. The folder is below one that everybody may write.
fn listed(stage: &Stage, user: &str, lines: &str) -> Outcome<String> {
    stage.folder("keys")?;
    stage.file(&format!("keys/{user}"), lines)?;
    Ok(format!("sshkey:{}/%u?strict=no", stage.at("keys").display()))
}

fn says(done: &Finished, expected: &str) -> Outcome {
    ensure!(done.code == Some(0) && done.out == expected, "not `{expected}`: {done:?}");
    Ok(())
}

fn refused(done: &Finished) -> Outcome {
    let denied = done.err.contains("Permission denied") || done.err.contains("Too many");
    ensure!(done.code == Some(255) && done.out.is_empty() && denied, "let in: {done:?}");
    Ok(())
}

/// Everybody who was logged in is logged out again, once.
fn all_logged_out(server: &ExampleSsh) -> Outcome {
    eventually("as many logouts as logins", || {
        let log = server.log();
        let (ins, outs) =
            (log.matches("is logged in").count(), log.matches("is logged out").count());
        ins > 0 && ins == outs
    })
}

fn keys(stage: &Stage) -> Outcome {
    let all: [(&str, &[&str]); 5] = [
        ("ed25519", &["ed25519"]),
        ("p256", &["ecdsa", "-b", "256"]),
        ("p384", &["ecdsa", "-b", "384"]),
        ("p521", &["ecdsa", "-b", "521"]),
        ("rsa", &["rsa", "-b", "2048"]),
    ];
    let mut lines = String::new();
    for (name, kind) in all {
        lines += &key(stage, name, kind)?;
    }
    key(stage, "other", &["ed25519"])?;
    let auth = listed(stage, "ada", &lines)?;
    for offers in ["all", "listed"] {
        let server = ExampleSsh::start(stage, &[&auth], &["--offers", offers])?;
        let ssh = |name: &str| Ok(Ssh::to(stage, &server)?.key(&stage.at(name)));
        for (name, _) in all {
            says(&ssh(name)?.run("ada", "whoami")?, "ada\n")?;
            refused(&ssh(name)?.run("bob", "whoami")?)?;
        }
        refused(&ssh("other")?.run("ada", "whoami")?)?;
        // The second key does.
        says(&ssh("other")?.key(&stage.at("p256")).run("ada", "proofs")?, "publickey\n")?;
        // SHA-1 does not, by whatever key.
        let sha1 = ssh("rsa")?.option("PubkeyAcceptedAlgorithms", "ssh-rsa");
        refused(&sha1.run("ada", "whoami")?)?;
        all_logged_out(&server)?;
        server.end()?;
    }
    Ok(())
}

fn agent(stage: &Stage) -> Outcome {
    let lines = key(stage, "mine", &["ed25519"])?;
    key(stage, "other", &["rsa", "-b", "2048"])?;
    let auth = listed(stage, "ada", &lines)?;
    let server = ExampleSsh::start(stage, &[&auth], &[])?;
    // It ends with its client, and with the case.
    let socket = stage.at("agent").display().to_string();
    let (ssh, mut words) = Ssh::to(stage, &server)?
        .option("IdentitiesOnly", "no")
        .option("IdentityAgent", &socket)
        .words("ada");
    words.push("whoami".to_owned());
    let mut command = Command::new(need("ssh-agent", "openssh-client")?);
    command.current_dir(stage.path()).args(["-a", &socket, "sh", "-c"]);
    command.arg("ssh-add -q other && ssh-add -q mine && rm mine other && exec \"$@\"");
    command.arg("sh").arg(ssh).args(words).env("HOME", stage.folder("home")?);
    says(&run(&mut command, "", LIMIT)?, "ada\n")
}

/// A certificate for a key, with the file that `ssh` looks for beside it.
fn certify(stage: &Stage, authority: &str, key: &str, words: &[&str]) -> Outcome {
    let public = format!("{key}.pub");
    let always = ["-q", "-s", authority, "-I", "ada's laptop", "-V", "always:forever"];
    keygen(stage, &[&always[..], words, &[&public]].concat()).map(drop)
}

fn certificates(stage: &Stage) -> Outcome {
    let authority = key(stage, "authority", &["ed25519"])?;
    key(stage, "other", &["ed25519"])?;
    for (name, kind) in [("mine", &["ed25519"][..]), ("rsa", &["rsa", "-b", "2048"])] {
        key(stage, name, kind)?;
    }
    let auth = listed(stage, "ada", &format!("cert-authority {authority}"))?;
    let server = ExampleSsh::start(stage, &[&auth], &[])?;
    let ssh = |name: &str| Ok(Ssh::to(stage, &server)?.key(&stage.at(name)));
    refused(&ssh("mine")?.run("ada", "whoami")?)?;
    for name in ["mine", "rsa"] {
        certify(stage, "authority", name, &["-n", "ada,root"])?;
        says(&ssh(name)?.run("ada", "whoami")?, "ada\n")?;
        refused(&ssh(name)?.run("bob", "whoami")?)?;
    }
    for (authority, words) in [
        ("authority", &["-n", "bob"][..]),
        ("authority", &[]),
        ("other", &["-n", "ada"]),
        ("authority", &["-n", "ada", "-O", "source-address=192.0.2.0/24"]),
        ("authority", &["-n", "ada", "-O", "critical:x@example.com=1"]),
        // A later `-V` counts.
        ("authority", &["-n", "ada", "-V", "20200101:20210101"]),
        ("authority", &["-h", "-n", "ada"]),
    ] {
        certify(stage, authority, "mine", words)?;
        refused(&ssh("mine")?.run("ada", "whoami")?)?;
    }
    certify(stage, "authority", "mine", &["-n", "ada", "-O", "source-address=127.0.0.0/8"])?;
    says(&ssh("mine")?.run("ada", "whoami")?, "ada\n")?;
    certify(stage, "authority", "mine", &["-n", "ada", "-O", "force-command=echo forced"])?;
    says(&ssh("mine")?.run("ada", "whoami")?, "forced\n")?;
    // Without `permit-pty` there is no terminal, and the rest as before.
    certify(stage, "authority", "mine", &["-n", "ada", "-O", "clear"])?;
    let done = ssh("mine")?.run_with("ada", &["-tt", "whoami"], "")?;
    ensure!(done.err.contains("PTY allocation request failed"), "a terminal: {done:?}");
    says(&ssh("mine")?.run("ada", "whoami")?, "ada\n")?;
    all_logged_out(&server)
}

/// A list that `ssh-keygen -k` makes, as sshd reads it.
fn revoked(stage: &Stage) -> Outcome {
    let authority = key(stage, "authority", &["ed25519"])?;
    let plain = key(stage, "plain", &["ed25519"])?;
    key(stage, "mine", &["ed25519"])?;
    let auth = listed(stage, "ada", &format!("cert-authority {authority}{plain}"))?;
    let krl = |words: &str| -> Outcome {
        stage.file("words", words)?;
        keygen(stage, &["-q", "-k", "-f", "krl", "-s", "authority.pub", "words"]).map(drop)
    };
    krl("serial: 100\n")?;
    let auth = format!("{auth}&revoked={}", stage.at("krl").display());
    let server = ExampleSsh::start(stage, &[&auth], &[])?;
    let ssh = |name: &str| Ok(Ssh::to(stage, &server)?.key(&stage.at(name)));
    for (words, works) in [
        ("serial: 1-6\nserial: 8\n", true),
        ("serial: 7\n", false),
        ("serial: 5-2000\n", false),
        ("id: ada's laptop\n", false),
        ("id: ada's telephone\n", true),
    ] {
        krl(words)?;
        certify(stage, "authority", "mine", &["-n", "ada", "-z", "7"])?;
        let done = ssh("mine")?.run("ada", "whoami")?;
        if works {
            says(&done, "ada\n")?
        } else {
            refused(&done)?
        }
        // Nothing of that is about a key by itself.
        says(&ssh("plain")?.run("ada", "whoami")?, "ada\n")?;
    }
    krl(&plain)?;
    refused(&ssh("plain")?.run("ada", "whoami")?)?;
    // What cannot be read lets nobody in by a key.
    stage.file("krl", "SSHKRL\n")?;
    refused(&ssh("mine")?.run("ada", "whoami")?)
}

/// OpenSSH's own FIDO key in software, which its regression tests use. It touches itself.
fn fido(stage: &Stage) -> Outcome {
    const LIBRARY: &str = "openssh-tests/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so";
    let library = peers_folder().join(LIBRARY);
    if !library.is_file() {
        let why = "there is no sk-dummy.so; `cargo xtask test` unpacks the package openssh-tests";
        return Err(Trouble::not_run(why));
    }
    let library = library.display().to_string();
    let mut lines = String::new();
    let all = [("sk-ed25519", "ed25519-sk"), ("sk-ecdsa", "ecdsa-sk")];
    for (name, kind) in all {
        let line = key(stage, name, &[kind, "-w", &library])?;
        lines += &format!("no-touch-required {line}");
    }
    let strict = key(stage, "strict", &["ed25519-sk", "-w", &library])?;
    let auth = listed(stage, "ada", &format!("{lines}{strict}"))?;
    let server = ExampleSsh::start(stage, &[&auth], &[])?;
    let ssh = |name: &str| {
        Ok(Ssh::to(stage, &server)?.key(&stage.at(name)).option("SecurityKeyProvider", &library))
    };
    for (name, _) in all {
        says(&ssh(name)?.run("ada", "proofs")?, "publickey\n")?;
        refused(&ssh(name)?.run("bob", "whoami")?)?;
    }
    // Its signature says that it was touched, but the SSH library does not say so to the server.
    refused(&ssh("strict")?.run("ada", "whoami")?)?;
    let log = server.log();
    ensure!(log.contains("the key has not been touched by its user"), "{log}");
    Ok(())
}

fn options(stage: &Stage) -> Outcome {
    let mut lines = String::new();
    let all = [
        ("forced", "restrict,command=\"echo \\\"a forced\\\" word\""),
        ("elsewhere", "from=\"192.0.2.0/24\""),
        ("here", "from=\"127.0.0.*\",expiry-time=\"20990101Z\""),
        ("past", "expiry-time=\"20200101Z\""),
        ("variables", "no-pty,environment=\"SAID=yes\",environment=\"LD_PRELOAD=/x\""),
        ("unknown", "unheard-of"),
    ];
    for (name, options) in all {
        lines += &format!("{options} {}", key(stage, name, &["ed25519"])?);
    }
    let auth = listed(stage, "ada", &lines)?;
    let server = ExampleSsh::start(stage, &[&auth], &[])?;
    let ssh = |name: &str| Ok(Ssh::to(stage, &server)?.key(&stage.at(name)));
    says(&ssh("forced")?.run("ada", "exit 3")?, "\"a forced\" word\n")?;
    says(&ssh("forced")?.run_with("ada", &[], "whoami\n")?, "\"a forced\" word\n")?;
    says(&ssh("here")?.run("ada", "whoami")?, "ada\n")?;
    says(&ssh("variables")?.run("ada", "env")?, "SAID=yes\n")?;
    let done = ssh("variables")?.run_with("ada", &["-tt", "whoami"], "")?;
    ensure!(done.err.contains("PTY allocation request failed"), "a terminal: {done:?}");
    for name in ["elsewhere", "past", "unknown"] {
        refused(&ssh(name)?.run("ada", "whoami")?)?;
    }
    // Nothing is forwarded for anybody.
    let done = ssh("here")?.run_with("ada", &["-W", "127.0.0.1:1"], "")?;
    ensure!(done.code == Some(255) && done.err.contains("prohibited"), "forwarded: {done:?}");
    let done = ssh("here")?.option("ExitOnForwardFailure", "yes").run_with(
        "ada",
        &["-R", "0:127.0.0.1:1", "whoami"],
        "",
    )?;
    ensure!(done.code == Some(255) && done.out.is_empty(), "forwarded: {done:?}");
    all_logged_out(&server)
}

fn passwords(stage: &Stage) -> Outcome {
    let server = ExampleSsh::start(stage, &[MEMORY], &[])?;
    let ssh = || Ok(Ssh::to(stage, &server)?.by("password"));
    says(&ssh()?.answered_by(stage, COUNTESS)?.run("ada", "proofs")?, "password\n")?;
    let done = ssh()?.answered_by(stage, COUNTESS)?.run("ada", "exit 7")?;
    ensure!(done.code == Some(7), "{done:?}");
    let done = ssh()?.answered_by(stage, COUNTESS)?.run_with("ada", &[], "whoami\nexit 4\n")?;
    ensure!(done.code == Some(4) && done.out == "ada\n", "{done:?}");
    // One answer for everybody who is not let in, and an end to guesses.
    let wrong = || ssh()?.answered_by(stage, "echo wrong")?.run("ada", "whoami");
    let unknown = ssh()?.answered_by(stage, "echo wrong")?.run("nobody", "whoami")?;
    refused(&wrong()?)?;
    ensure!(wrong()?.err == unknown.err.replace("nobody", "ada"), "{unknown:?}");
    let stubborn = ssh()?.option("NumberOfPasswordPrompts", "50");
    let done = stubborn.answered_by(stage, "echo wrong")?.run("ada", "whoami")?;
    refused(&done)?;
    ensure!(done.err.contains("Too many authentication attempts"), "{done:?}");
    all_logged_out(&server)?;
    server.end()
}

/// Two rounds: a password, and a code that the account has on paper.
fn prompts(stage: &Stage) -> Outcome {
    // Its start makes the store.
    let countersign = Countersign::start(stage, Profile::Debug, None)?;
    let data = countersign.data.clone();
    countersign.stop()?;
    user(Profile::Debug, &data, &["add", "ada", "--password-stdin"], "correct horse battery")?;
    user(Profile::Debug, &data, &["otp", "ada", "--unconfirmed"], "")?;
    let codes = user(Profile::Debug, &data, &["recovery", "ada"], "")?.out;
    let mut codes = codes.lines();
    let auth = format!("accounts:{}", data.join("accounts.db").display());
    let server = ExampleSsh::start(stage, &[&auth], &["--require", "password,otp"])?;
    let mut log_in = |method: &str, right: bool| -> Outcome<Finished> {
        let code = codes.next().during("a code")?;
        let code = if right { code } else { "000000" };
        let script = format!(
            "case \"$1\" in *assword*) echo 'correct horse battery';; *code*) echo {code};; esac"
        );
        Ssh::to(stage, &server)?.by(method).answered_by(stage, &script)?.run("ada", "proofs")
    };
    says(&log_in("keyboard-interactive", true)?, "password\notp\n")?;
    refused(&log_in("keyboard-interactive", false)?)?;
    // In one message and by a prompt: partial success in between.
    let done = log_in("password,keyboard-interactive", true)?;
    says(&done, "password\notp\n")?;
    ensure!(done.err.contains("with partial success"), "{done:?}");
    all_logged_out(&server)
}

fn factors(stage: &Stage) -> Outcome {
    let line = key(stage, "mine", &["ed25519"])?;
    let auth = listed(stage, "ada", &line)?;
    let both = format!("{auth}&timeout=5s");
    for (require, methods, proofs) in [
        ("publickey,password", "publickey,password", "publickey\npassword\n"),
        ("publickey,password", "publickey,keyboard-interactive", "publickey\npassword\n"),
        ("password,publickey", "password,publickey", "password\npublickey\n"),
        ("password,publickey", "keyboard-interactive,publickey", "password\npublickey\n"),
    ] {
        let server = ExampleSsh::start(stage, &[&both, MEMORY], &["--require", require])?;
        let ssh = |script: &str| Ssh::to(stage, &server)?.by(methods).answered_by(stage, script);
        let done = ssh(COUNTESS)?.key(&stage.at("mine")).run("ada", "proofs")?;
        says(&done, proofs)?;
        ensure!(done.err.contains("with partial success"), "{require} by {methods}: {done:?}");
        // One of them is none of both, and neither is another's.
        refused(&ssh(COUNTESS)?.run("ada", "proofs")?)?;
        refused(&ssh("echo wrong")?.key(&stage.at("mine")).run("ada", "proofs")?)?;
        refused(&ssh("echo builder")?.key(&stage.at("mine")).run("bob", "proofs")?)?;
        all_logged_out(&server)?;
        server.end()?;
    }
    Ok(())
}

fn anonymous(stage: &Stage) -> Outcome {
    let server = ExampleSsh::start(stage, &["anonymous", MEMORY], &[])?;
    says(&Ssh::to(stage, &server)?.run("anonymous", "whoami")?, "anonymous\n")?;
    refused(&Ssh::to(stage, &server)?.by("none").run("ada", "whoami")?)
}

fn program(stage: &Stage) -> Outcome {
    let line = key(stage, "free", &["ed25519"])?;
    let forced = key(stage, "forced", &["rsa", "-b", "2048"])?;
    let forced =
        format!("command=\"echo $SSH_ORIGINAL_COMMAND; exit 3\",environment=\"A=b\" {forced}");
    let auth = listed(stage, "ada", &format!("{line}{forced}"))?;
    let server = ExampleSsh::start(stage, &[&auth], &["--command", "/bin/sh"])?;
    let ssh = |name: &str| Ok(Ssh::to(stage, &server)?.key(&stage.at(name)));
    says(&ssh("free")?.run_with("ada", &["cat; echo here >&2"], "what goes in")?, "what goes in")?;
    let sent = ssh("free")?.option("SendEnv", "*").with("LEAKED", "yes");
    let done = sent.run("ada", "/usr/bin/env | /usr/bin/sort")?;
    // The shell itself adds PWD.
    says(&done, "LOGNAME=ada\nPATH=/usr/bin:/bin\nPWD=/\nUSER=ada\n")?;
    let done = ssh("forced")?.run("ada", "a command")?;
    ensure!(done.code == Some(3) && done.out == "a command\n", "{done:?}");
    let done = ssh("free")?.run_with("ada", &[], "echo $A; kill -9 $$\n")?;
    ensure!(done.code == Some(137) && done.out == "\n", "{done:?}");
    // A client that leaves takes its program along.
    let mark = stage.at("gone");
    let command = format!("trap '' TERM HUP; echo $$ > {}; sleep 1000", mark.display());
    let (ssh, words) = ssh("free")?.words("ada");
    let mut leaving = Command::new("timeout");
    leaving.args(["2"]).arg(ssh).args(words).arg(command).env("HOME", stage.folder("home")?);
    run(&mut leaving, "", LIMIT)?;
    let process = std::fs::read_to_string(&mark).during("the program's number")?;
    eventually("the end of the program", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.trim()));
        stat.map_or(true, |stat| stat.contains(") Z "))
    })?;
    all_logged_out(&server)
}

fn terminal(stage: &Stage) -> Outcome {
    let lines = key(stage, "mine", &["ed25519"])?;
    let auth = listed(stage, "ada", &lines)?;
    let server = ExampleSsh::start(stage, &[&auth, MEMORY], &[])?;
    let (ssh, words) = Ssh::to(stage, &server)?.key(&stage.at("mine")).words("ada");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let screen = Terminal::open(stage, &ssh, &words)?;
    screen.shows("ada>")?;
    screen.enter("whomi")?;
    screen.shows("whomi: there is no such command")?;
    screen.enter("echo it is echoed")?;
    screen.shows("\nit is echoed")?;
    // Somebody else says something on it.
    let bob = Ssh::to(stage, &server)?.by("password").answered_by(stage, "echo builder")?;
    says(&bob.run("bob", "write ada are you there?")?, "")?;
    screen.shows("* bob: are you there?")?;
    let done = bob.run("bob", "write eve hello")?;
    ensure!(done.code == Some(1) && done.err.contains("eve has no shell here"), "{done:?}");
    // And the server, when it ends.
    server.end()?;
    screen.shows("* This server ends now")?;
    screen.shows("ended: 255")?;
    let log = std::fs::read_to_string(stage.at("example-ssh.log")).during("the log")?;
    let (ins, outs) = (log.matches("is logged in").count(), log.matches("is logged out").count());
    ensure!(ins == 3 && outs == 3, "{ins} logins, {outs} logouts:\n{log}");
    Ok(())
}

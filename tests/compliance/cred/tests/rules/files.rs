//! FilePasswordDB with each of its options, and `--auth file:…` with ours.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign::{Checker, Portal};
use countersign_checkers::file::File;
use countersign_checkers::hash::{Accept, Scheme};
use countersign_checkers::kinds::{Kinds, Parts};
use countersign_checkers::passwd_file::Format;
use countersign_checkers::pool::{HashPool, PoolOptions};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::beside::{differs, same};
use crate::stage::{Counting, login, ready};

pub(crate) const CASES: &[Case] = &[
    case("file_plain", plain),
    case("file_delimiter", delimiter),
    case("file_fields", fields),
    case("file_case", letters),
    case("file_hash", hash),
    case("file_two_lines_for_one_user", two_lines),
    case("file_short_lines", short_lines),
    case("file_trailing_blanks", trailing_blanks),
    case("file_comments", comments),
    case("file_that_cannot_be_read", unreadable),
    case("file_replaced_within_its_second", replaced_within_its_second),
    case("file_replaced_by_an_older_one", replaced_by_an_older_one),
    case("file_hashed_for_a_challenge", hashed_for_a_challenge),
];

/// The checker of a file with this text and these options, as `--auth` makes it.
fn checker(stage: &Stage, text: &str, options: &str) -> Outcome<Arc<dyn Checker>> {
    let path = stage.file("users", text)?;
    let parts = Parts::standalone().during("the parts of checkers")?;
    let string = format!("file:{}?{options}", path.display());
    ready(Kinds::built_in().checker(&string, &parts)).during(string)
}

/// What a file says about names and passwords.
fn said(stage: &Stage, text: &str, options: &str, tries: &[(&str, &str)]) -> Outcome<Value> {
    let options = format!("hash=PLAIN&allow_plain=yes&{options}");
    let checker = checker(stage, text, &options)?;
    let portal = Portal::new(Counting::default()).checked_by_shared(checker);
    let said = tries.iter().map(|(name, word)| login(&portal, name, word));
    Ok(json!(said.collect::<Vec<_>>()))
}

fn plain(stage: &Stage) -> Outcome {
    let tries =
        [("ada", "countess"), ("ada", "x"), ("eve", "countess"), ("Ada", "countess"), ("bob", "")];
    let ours = said(stage, "ada:countess\nbob:\n", "", &tries)?;
    let outcomes = |bob: &str| json!(["granted ada", "refused", "refused", "refused", bob]);
    differs("file_plain", &outcomes("granted bob"), &outcomes("refused"), &ours)
}

fn delimiter(stage: &Stage) -> Outcome {
    let tries = [("ada", "count:ess"), ("ada", "count")];
    same("file_delimiter", &said(stage, "ada;count:ess\n", "delimiter=;", &tries)?)
}

fn fields(stage: &Stage) -> Outcome {
    let tries = [("ada", "countess"), ("1000", "/home/ada")];
    let text = "1000:/home/ada:countess:ada\n";
    same("file_fields", &said(stage, text, "user=3&password=2", &tries)?)
}

fn letters(stage: &Stage) -> Outcome {
    let tries = [("ADA", "countess"), ("ada", "countess"), ("ada", "COUNTESS")];
    same("file_case", &said(stage, "Ada:countess\n", "case=insensitive", &tries)?)
}

fn hash(stage: &Stage) -> Outcome {
    let digest = Sha256::digest("countess").iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let checker = checker(stage, &format!("ada:{digest}\n"), "hash=SHA256")?;
    let portal = Portal::new(Counting::default()).checked_by_shared(checker);
    let ours = [login(&portal, "ada", "countess"), login(&portal, "ada", "babbage")];
    same("file_hash", &json!(ours))
}

fn two_lines(stage: &Stage) -> Outcome {
    let tries = [("ada", "first"), ("ada", "second")];
    let said = said(stage, "ada:first\nada:second\n", "", &tries)?;
    let (first, last) = (json!(["granted ada", "refused"]), json!(["refused", "granted ada"]));
    let theirs = json!({ "uncached": first, "cached": last });
    let here = json!({ "uncached": first, "cached": first });
    let ours = json!({ "uncached": said, "cached": said });
    differs("file_two_lines_for_one_user", &theirs, &here, &ours)
}

fn short_lines(stage: &Stage) -> Outcome {
    let tries = [("nobody", ""), ("ada", "countess")];
    same("file_short_lines", &said(stage, "nobody\n\n:\nada:countess\n", "", &tries)?)
}

fn trailing_blanks(stage: &Stage) -> Outcome {
    let tries = [("ada", "countess  "), ("ada", "countess")];
    let ours = said(stage, "ada:countess  \n", "", &tries)?;
    let (theirs, here) = (json!(["refused", "granted ada"]), json!(["granted ada", "refused"]));
    differs("file_trailing_blanks", &theirs, &here, &ours)
}

fn comments(stage: &Stage) -> Outcome {
    let tries = [("#ada", "countess"), ("ada", "countess")];
    // With a user beside it: a file that has none is an error.
    let ours = said(stage, "#ada:countess\nbob:x\n", "", &tries)?;
    let as_there = said(stage, "#ada:countess\nbob:x\n", "comments=no", &tries)?;
    let theirs = json!(["granted #ada", "refused"]);
    differs("file_comments", &theirs, &json!(["refused", "refused"]), &ours)?;
    same_as(&as_there, &theirs)
}

fn same_as(ours: &Value, theirs: &Value) -> Outcome {
    countersign_interop::ensure!(ours == theirs, "with `comments=no`: {ours}");
    Ok(())
}

fn unreadable(_: &Stage) -> Outcome {
    let parts = Parts::standalone().during("the parts of checkers")?;
    let ours = match ready(Kinds::built_in().checker("file:/nonexistent/users", &parts)) {
        Ok(_) => "starts",
        Err(_) => "does not start",
    };
    differs("file_that_cannot_be_read", &json!("refused"), &json!("does not start"), &json!(ours))
}

/// A file that is replaced by one with an older time, or with the same one.
fn replaced(stage: &Stage, older: bool) -> Outcome<Value> {
    let dated = |path: &Path, ago: u64| {
        let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 - ago);
        let file = std::fs::File::options().write(true).open(path).during(path.display())?;
        file.set_modified(when).during(path.display())
    };
    let path = stage.file("users", "ada:countess\n")?;
    dated(&path, 0)?;
    let mut accept = Accept { allow_plain: true, ..Accept::default() };
    accept.default_scheme = Scheme::named("PLAIN").during("the scheme")?;
    let pool = Arc::new(HashPool::start(&PoolOptions::default()).during("the pool")?);
    let file = File::open(&path, Format::default(), accept, pool).during("the file")?;
    // Not a tenth of a second later, which a test would have to wait for.
    let checker = file.looking_every(Duration::ZERO).checker("file");
    let portal = Portal::new(Counting::default()).checked_by(checker);
    let before = login(&portal, "ada", "countess");
    let new = stage.file("users.new", "ada:a new one\n")?;
    dated(&new, if older { 10 } else { 0 })?;
    std::fs::rename(&new, &path).during("replacing it")?;
    Ok(json!([before, login(&portal, "ada", "countess"), login(&portal, "ada", "a new one")]))
}

fn replaced_within_its_second(stage: &Stage) -> Outcome {
    let ours = replaced(stage, false)?;
    replacing("file_replaced_within_its_second", &ours)
}

fn replaced_by_an_older_one(stage: &Stage) -> Outcome {
    let ours = replaced(stage, true)?;
    replacing("file_replaced_by_an_older_one", &ours)
}

fn replacing(scenario: &str, ours: &Value) -> Outcome {
    let theirs = json!(["granted ada", "granted ada", "refused"]);
    differs(scenario, &theirs, &json!(["granted ada", "refused", "granted ada"]), ours)
}

fn hashed_for_a_challenge(stage: &Stage) -> Outcome {
    let checker = checker(stage, "ada:{SHA256.HEX}00\n#\n", "")?;
    let ours = checker.mechanisms().iter().any(|mechanism| mechanism.is("CRAM-MD5"));
    same("file_hashed_for_a_challenge", &json!(ours))
}

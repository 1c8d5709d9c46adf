//! strcred: what `--auth` says, takes and refuses.

use clap::Parser;
use countersign::Portal;
use countersign_checkers::kinds::{AuthArgs, AuthExit, Kinds, Parts, Takes};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Context, Outcome, Stage, Trouble, ensure};
use serde_json::{Value, json};

use crate::beside::{differs, same};
use crate::stage::{Counting, login, ready};

pub(crate) const CASES: &[Case] = &[
    case("strings_help_auth", help_auth),
    case("strings_help_auth_type", help_auth_type),
    case("strings_help_auth_type_that_the_program_cannot_use", help_of_unusable),
    case("strings_auth_of_unknown_type", unknown_type),
    case("strings_auth_that_the_program_cannot_use", unusable),
    case("strings_auth_memory_with_a_word_too_few", word_too_few),
    case("strings_auth_file_that_is_not_there", no_such_file),
    case("strings_auth_file_without_a_name", file_without_a_name),
    case("strings_auth_memory_over_a_protocol", memory_over_a_protocol),
    case("strings_auth_file_over_a_protocol", file_over_a_protocol),
    case("strings_auth_twice", twice),
];

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    auth: AuthArgs,
}

/// A program that is started like this: its portal, or why it ends.
fn started(takes: &Takes, words: &[&str]) -> Outcome<Result<Portal<Counting>, AuthExit>> {
    let program = Program::try_parse_from(std::iter::once(&"program").chain(words));
    let auth = program.during("the command line")?.auth;
    let parts = Parts::standalone().during("the parts of checkers")?;
    let checkers = ready(auth.portal_checkers(&Kinds::built_in(), takes, &parts));
    let portal = Portal::new(Counting::default());
    Ok(checkers.map(|all| all.into_iter().fold(portal, Portal::checked_by_shared)))
}

fn ended(takes: &Takes, words: &[&str]) -> Outcome<AuthExit> {
    match started(takes, words)? {
        Ok(_) => Err(Trouble::failed(format!("{words:?}: it was to end"))),
        Err(exit) => Ok(exit),
    }
}

/// What is refused, in which words.
fn refusal(takes: &Takes, string: &str) -> Outcome<Value> {
    let exit = ended(takes, &["--auth", string])?;
    ensure!(exit.code() != 0, "{exit}: it ends as if all were well");
    Ok(json!(format!("refused: {exit}")))
}

const THEIR_TABLE: &str = "\
Usage: --auth AuthType[:ArgString]
For detailed help: --help-auth-type AuthType

  AuthType \tArgString format
  ======== \t================
  anonymous\tNo argstring required.
  file     \tLocation of a FilePasswordDB-formatted file.
  memory   \tA colon-separated list (name:password:...)
  sshkey   \tNo argstring required.
  unix     \tNo argstring required.

";

fn help_auth(_: &Stage) -> Outcome {
    let exit = ended(&Takes::everything(), &["--help-auth"])?;
    let text = exit.to_string();
    let columns = text.lines().find(|line| line.contains("TYPE  ")).unwrap_or_default();
    let columns: Vec<_> = columns.split_whitespace().collect();
    for kind in Kinds::built_in().kinds() {
        ensure!(text.contains(&format!("  {}", kind.name())), "without {}: {text}", kind.name());
    }
    let ours = json!({ "code": exit.code(), "columns": columns });
    let theirs = json!({ "code": 0, "text": THEIR_TABLE });
    let here = json!({ "code": 0, "columns": ["TYPE", "ARGUMENT", "PROVES"] });
    differs("help_auth", &theirs, &here, &ours)
}

const THEIR_HELP: &str = "\
Usage: --auth memory[:ArgString]
ArgString format: A colon-separated list (name:password:...)

  A checker that uses an in-memory user database.
  
  This is only of use in one-off test programs or examples which
  don't want to focus too much on how credentials are verified. You
  really don't want to use this for anything else. It is a toy.

";

fn help_auth_type(_: &Stage) -> Outcome {
    let exit = ended(&Takes::everything(), &["--help-auth-type", "memory"])?;
    let text = exit.to_string();
    let ours = json!({ "code": exit.code(), "marked as dangerous": text.contains("DANGEROUS") });
    let here = json!({ "code": 0, "marked as dangerous": true });
    differs("help_auth_type", &json!({ "code": 0, "text": THEIR_HELP }), &here, &ours)
}

fn help_of_unusable(_: &Stage) -> Outcome {
    let exit = ended(&Takes::only(["ANONYMOUS"]), &["--help-auth-type", "memory"])?;
    let text = exit.to_string();
    let last = text.lines().last().unwrap_or_default();
    let theirs = json!(["WARNING: This authType is not supported by this application.", 0]);
    let told = last.starts_with("It cannot be used here: it proves who somebody is by password")
        && last.ends_with("and this program takes only ANONYMOUS.");
    ensure!(told, "{last}");
    let here = json!([last, 0]);
    let scenario = "help_auth_type_that_the_program_cannot_use";
    differs(scenario, &theirs, &here, &json!([last, exit.code()]))
}

fn unknown_type(_: &Stage) -> Outcome {
    let ours = refusal(&Takes::everything(), "passwd:/etc/passwd")?;
    let theirs = json!("refused: Auth plugin not recognized: passwd");
    ensure!(text(&ours).contains("there is no type `passwd`"), "{ours}");
    differs("auth_of_unknown_type", &theirs, &ours.clone(), &ours)
}

fn unusable(_: &Stage) -> Outcome {
    let ours = refusal(&Takes::only(["ANONYMOUS"]), "memory:ada:countess")?;
    let theirs = json!("raises TypeError: not all arguments converted during string formatting");
    ensure!(text(&ours).contains("takes only ANONYMOUS"), "{ours}");
    ensure!(!text(&ours).contains("countess"), "{ours}");
    differs("auth_that_the_program_cannot_use", &theirs, &ours.clone(), &ours)
}

fn word_too_few(_: &Stage) -> Outcome {
    let ours = refusal(&Takes::everything(), "memory:ada:s3cret:bob")?;
    let theirs = json!("refused: Unexpected error: argstring must be in format U:P:...");
    ensure!(text(&ours).contains("a name without a password"), "{ours}");
    ensure!(!text(&ours).contains("s3cret"), "{ours}");
    differs("auth_memory_with_a_word_too_few", &theirs, &ours.clone(), &ours)
}

fn no_such_file(_: &Stage) -> Outcome {
    let ours = refusal(&Takes::everything(), "file:/nonexistent/users")?;
    ensure!(text(&ours).contains("/nonexistent/users"), "{ours}");
    differs("auth_file_that_is_not_there", &json!("taken"), &ours.clone(), &ours)
}

fn file_without_a_name(_: &Stage) -> Outcome {
    let ours = refusal(&Takes::everything(), "file")?;
    ensure!(text(&ours).contains("write `file:"), "{ours}");
    let theirs = json!("refused: Unexpected error: 'file' requires a filename");
    differs("auth_file_without_a_name", &theirs, &ours.clone(), &ours)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn begun(words: &[&str]) -> Outcome<Portal<Counting>> {
    started(&Takes::passwords(), words)?.map_err(Trouble::failed)
}

fn memory_over_a_protocol(_: &Stage) -> Outcome {
    let portal = begun(&["--auth", "memory:ada:countess"])?;
    let ours = json!(login(&portal, "ada", "countess"));
    differs("auth_memory_over_a_protocol", &json!("refused"), &json!("granted ada"), &ours)
}

fn file_over_a_protocol(stage: &Stage) -> Outcome {
    let path = stage.file("users", "ada:countess\n")?;
    let string = format!("file:{}?hash=PLAIN&allow_plain=yes", path.display());
    let portal = begun(&["--auth", &string])?;
    same("auth_file_over_a_protocol", &json!(login(&portal, "ada", "countess")))
}

fn twice(_: &Stage) -> Outcome {
    let portal = begun(&["--auth", "memory:ada:countess", "--auth", "memory:eve:apple"])?;
    let ours = json!([login(&portal, "ada", "countess"), login(&portal, "eve", "apple")]);
    let theirs = json!(["refused", "granted eve"]);
    differs("auth_twice", &theirs, &json!(["granted ada", "granted eve"]), &ours)
}

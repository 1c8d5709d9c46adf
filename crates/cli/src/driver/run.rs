//! `countersign driver run`: one login, and everything that can be seen of it.

use countersign::Secret;
use countersign_checkers::driver::Observed;
use countersign_checkers::one::Outcome;
use countersign_wire::one::{Authn, DriverInput};

use super::Trial;
use crate::failure::Failure;
use crate::place::block_on;
use crate::table::shown;

/// What stands in the place of a secret.
const HIDDEN: &str = "…";

pub(super) fn run(trial: &Trial) -> Result<(), Failure> {
    let login = Authn {
        user: &trial.user,
        stored: trial.stored.as_ref().map(Secret::expose),
        secret: trial.secret.expose(),
    };
    let input = login
        .encode(trial.profile)
        .map_err(|why| Failure::refused(format!("the driver is not asked: {why}")))?;
    match &input {
        DriverInput::Document(document) => {
            println!("reads");
            block(&Hiding::of(trial).hide(document.expose()));
        }
        DriverInput::Arguments([user, stored, secret]) => {
            println!("is given as arguments, which every user of the machine can read");
            println!("  user      {}", shown(user.to_str().unwrap_or_default()));
            println!("  stored    {HIDDEN} ({} bytes)", stored.len());
            println!("  password  {HIDDEN} ({} bytes)", secret.len());
        }
    }
    let observed = async { Ok(trial.exec.observe(&input, &trial.secret).await) };
    let Observed { seen, took, attempt } = block_on(observed)?;
    println!("writes to standard output");
    block(&Hiding::of(trial).hide(&seen.output));
    println!("writes to standard error");
    block(&Hiding::of(trial).hide(&seen.errors));
    match seen.status {
        Some(status) => println!("ends after {} ms with status {status}", took.as_millis()),
        None => println!("is ended after {} ms", took.as_millis()),
    }
    match attempt.outcome {
        Outcome::Accepted(None) => println!("which lets `{}` in", trial.user),
        Outcome::Accepted(Some(reply)) => {
            println!("which lets `{}` in", trial.user);
            println!("  driver    {}", reply.driver());
            println!("  user      {}", reply.user());
            println!("  stored    {HIDDEN} ({} bytes)", reply.stored().len());
            let groups: Vec<_> = reply.groups().iter().map(ToString::to_string).collect();
            println!(
                "  groups    {}",
                if groups.is_empty() { "-".into() } else { groups.join(" ") }
            );
        }
        Outcome::Refused(why) => {
            return Err(Failure::refused(format!("refused: {}", shown(&why))));
        }
        Outcome::Failed(failure) => {
            return Err(Failure::refused(format!("no answer: {}", shown(&failure.to_string()))));
        }
    }
    Ok(())
}

/// Bytes for people: one line each, control characters written out.
fn block(text: &str) {
    if text.is_empty() {
        println!("  (nothing)");
    }
    for line in text.split_inclusive('\n') {
        let (line, end) = match line.strip_suffix('\n') {
            Some(line) => (line, ""),
            None => (line, "  (no line end)"),
        };
        println!("  {}{end}", shown(line));
    }
}

/// Takes secrets out of what is shown.
struct Hiding<'t> {
    trial: &'t Trial,
}

impl<'t> Hiding<'t> {
    fn of(trial: &'t Trial) -> Self {
        Self { trial }
    }

    fn hide(&self, bytes: &[u8]) -> String {
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        let stored = self.trial.stored.iter();
        let mut hidden: Vec<_> = [&self.trial.secret]
            .into_iter()
            .chain(stored)
            .flat_map(|secret| {
                let plain = secret.to_str().unwrap_or_default().to_owned();
                [plain, Trial::in_document(secret).to_string()]
            })
            .filter(|secret| !secret.is_empty())
            .collect();
        // The longest first, for one may be a part of another.
        hidden.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in hidden {
            let by_element = ["PASSWORD", "SECRET"].map(|name| {
                (format!("<{name}>{secret}</{name}>"), format!("<{name}>{HIDDEN}</{name}>"))
            });
            for (written, shown) in by_element {
                text = text.replace(&written, &shown);
            }
            // A short one stands in many words that have nothing to do with it.
            if secret.len() >= 4 {
                text = text.replace(&secret, HIDDEN);
            }
        }
        text
    }
}

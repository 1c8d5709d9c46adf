//! Users in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::{Fault, Password, PasswordStore, Portal, Secret, Verdict};
use countersign_interop::runner::{Case, case};
use countersign_interop::{Outcome, Stage};
use serde_json::json;

use crate::beside::{differs, same};
use crate::stage::{Counting, login, users};

pub(crate) const CASES: &[Case] = &[
    case("memory_users", users_in_memory),
    case("memory_users_added_as_text", users_added_as_text),
    case("memory_work_for_an_unknown_user", work_for_an_unknown_user),
];

fn users_in_memory(_: &Stage) -> Outcome {
    let portal = Portal::new(Counting::default())
        .checked_by(users("a", &[("ada", "countess"), ("bob", "")]));
    let tries = [
        ("ada", "countess"),
        ("ada", "babbage"),
        ("ADA", "countess"),
        ("ada", ""),
        ("eve", "countess"),
        ("bob", ""),
    ];
    same("users_in_memory", &json!(tries.map(|(name, word)| login(&portal, name, word))))
}

fn users_added_as_text(_: &Stage) -> Outcome {
    let portal = Portal::new(Counting::default()).checked_by(users("a", &[("guest", "password")]));
    let ours = json!(login(&portal, "guest", "password"));
    differs("users_added_as_text", &json!("refused"), &json!("granted guest"), &ours)
}

/// Knows one user, and counts the comparisons.
struct Counted(Arc<AtomicUsize>);

impl PasswordStore for Counted {
    async fn check(&self, login: &str, password: &Secret) -> Result<Verdict, Fault> {
        if login != "ada" {
            return Ok(Verdict::UNKNOWN);
        }
        self.spend(login, password).await?;
        Ok(Verdict::WRONG)
    }

    async fn spend(&self, _: &str, password: &Secret) -> Result<(), Fault> {
        let _ = *password == Secret::from("countess");
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn work_for_an_unknown_user(_: &Stage) -> Outcome {
    let counts = ["ada", "eve"].map(|name| {
        let count = Arc::new(AtomicUsize::new(0));
        let checker = Password::new("counted", Counted(Arc::clone(&count)));
        let portal = Portal::new(Counting::default()).checked_by(checker);
        let _ = login(&portal, name, "wrong");
        count.load(Ordering::SeqCst)
    });
    differs("work_for_an_unknown_user", &json!([1, 0]), &json!([1, 1]), &json!(counts))
}

//! Checking a digest of the password itself.

use countersign::{Denial, Fault, Reason, Secret, Step, TextStore, Verdict};
use subtle::ConstantTimeEq;

use crate::Decoys;

/// So many hexadecimal digits, as text.
pub(crate) fn hex_digits(bytes: &[u8], count: usize) -> Option<&str> {
    let fits = bytes.len() == count && bytes.iter().all(u8::is_ascii_hexdigit);
    std::str::from_utf8(bytes).ok().filter(|_| fits)
}

/// Compares what a client computed with what `digest` makes of the user's password, or of one that nobody has.
pub(crate) async fn check<S: TextStore>(
    store: &S,
    decoys: &Decoys,
    login: &str,
    given: &str,
    digest: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<Step, Fault> {
    let found = store.password_text(login).await?;
    let decoy = decoys.text(login);
    let password = found.as_ref().unwrap_or(&decoy);
    let ours = Secret::from(crate::hex(&digest(password.expose())));
    let right = given.to_ascii_lowercase().as_bytes().ct_eq(ours.expose());
    // Whatever came of it, the store is asked once more.
    let verdict = store.find(login).await?;
    if found.is_some() && bool::from(right) {
        return Ok(Step::from(verdict).claiming(login));
    }
    Ok(Step::Deny(wrong(verdict, found.is_some(), "no readable password is kept of this user"))
        .claiming(login))
}

/// The refusal of a proof that is wrong, in true words for the record.
pub(crate) fn wrong(verdict: Verdict, had_secret: bool, lacking: &'static str) -> Denial {
    match verdict {
        Verdict::Not(denial) if denial.reason.is_unknown() => denial,
        _ if had_secret => Denial::new(Reason::WrongCredential),
        _ => Denial::new(Reason::WrongCredential).because(lacking),
    }
}

//! Whether a code is right, and using it up.

use countersign::{Denial, Fault, Identity, OtpStore, Reason, Secret, Verdict, Verified};
use countersign_store::{Account, Credential, CredentialType};

use super::otp::Codes;
use super::{Factors, random};
use crate::accounts::{store_fault, unusable};

/// Whether the account has anything that a one-time code could come from.
pub(crate) fn has_code(account: &Account, now: i64) -> bool {
    use CredentialType::{Hotp, Recovery, Totp};
    let mut kinds = account.credentials.iter().filter(|c| lasts(c, now)).map(|c| &c.kind);
    kinds.any(|kind| matches!(kind, Totp | Hotp | Recovery))
}

fn lasts(credential: &Credential, now: i64) -> bool {
    credential.expires.is_none_or(|expires| expires > now)
}

/// What became of a code.
enum Spent {
    Right,
    Wrong,
    /// It is a right one that somebody has used, maybe a moment ago on another node.
    Again,
}

/// Codes of the accounts in the store. A code is a proof beside another one, and adds nothing to what that
/// one proved: the identity has a name, and no groups.
impl OtpStore for Factors {
    async fn check_code(&self, login: &str, code: &Secret, unix: i64) -> Result<Verdict, Fault> {
        let Some(account) = self.store.account(login).await.map_err(store_fault)? else {
            return Ok(Verdict::UNKNOWN);
        };
        if !has_code(&account, unix) {
            return Ok(Verdict::Not(Denial::new(Reason::NotEnrolled)));
        }
        match self.spend(&account, code, unix).await? {
            Spent::Right => {}
            Spent::Wrong => return Ok(Verdict::WRONG),
            Spent::Again => {
                let denial = Denial::new(Reason::WrongCredential);
                return Ok(Verdict::Not(denial.because("this code has been used before")));
            }
        }
        // The code is used up, whatever is said about the account now.
        let Some(account) = self.store.account(login).await.map_err(store_fault)? else {
            return Ok(Verdict::UNKNOWN);
        };
        Ok(match unusable(&account, unix) {
            Some(denial) => Verdict::Not(denial),
            None => Verdict::Is(Verified::vouch(Identity::named(account.name.as_str()))),
        })
    }
}

impl Factors {
    async fn spend(&self, account: &Account, code: &Secret, unix: i64) -> Result<Spent, Fault> {
        let Some(typed) = random::typed(code) else { return Ok(Spent::Wrong) };
        let mut spent = Spent::Wrong;
        for credential in account.credentials.iter().filter(|c| lasts(c, unix)) {
            match credential.kind {
                CredentialType::Totp | CredentialType::Hotp => {
                    let codes = Codes::stored(credential).ok_or_else(|| unreadable(account))?;
                    for counter in codes.accepted(&typed, credential.counter, unix) {
                        // The store decides, and no copy of the counter: of two logins with one code, on
                        // whatever nodes, one is told yes.
                        let advanced = self.store.advance_counter(credential.id, counter, unix);
                        if advanced.await.map_err(store_fault)? {
                            return Ok(Spent::Right);
                        }
                        spent = Spent::Again;
                    }
                }
                CredentialType::Recovery if credential.data == random::fingerprint(&typed) => {
                    let consumed = self.store.consume_credential(credential.id).await;
                    if consumed.map_err(store_fault)? {
                        return Ok(Spent::Right);
                    }
                    spent = Spent::Again;
                }
                _ => {}
            }
        }
        Ok(spent)
    }
}

fn unreadable(account: &Account) -> Fault {
    Fault::internal(format!(
        "a stored one-time secret of `{}` cannot be read; remove it and enrol anew",
        account.name
    ))
}

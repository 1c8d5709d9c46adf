//! What a server's answer to a bind means (RFC 4511 appendix A, Active Directory's sub-codes, password
//! policies).

use std::borrow::Cow;

use countersign::{Denial, Fault, FaultKind, Reason};

use super::answer::Outcome;

/// Whether a password was right: nothing, or the refusal.
///
/// # Errors
/// A fault when the server said nothing about the password. It never lets anybody in.
pub(super) fn of_bind(outcome: &Outcome) -> Result<Option<Denial>, Fault> {
    let refused = |reason, detail: &'static str| Ok(Some(Denial::new(reason).because(detail)));
    match (outcome.code, outcome.policy) {
        (0, None) => Ok(None),
        (0, Some(2)) => refused(
            Reason::ChangeNeeded,
            "the directory wants a new password, which is set there",
        ),
        (0 | 49, Some(0)) => refused(Reason::Expired, "the directory says that the password has expired"),
        (0 | 49, Some(1)) => refused(Reason::Disabled, "the directory has locked the account"),
        // Success with a reservation that is not understood is no success.
        (0, Some(other)) => Err(told(
            FaultKind::Protocol,
            format!("the directory lets in with the password policy error {other}"),
        )),
        (49, _) => Ok(Some(active_directory(&outcome.text))),
        // The entry has no password, or one that cannot be compared.
        (48, _) => refused(Reason::WrongCredential, "the directory's entry has no password"),
        (19 | 50 | 53, _) => Ok(Some(Denial::new(Reason::NotAllowed).because(words(outcome)))),
        (2 | 7 | 8 | 13, _) => Err(told(
            FaultKind::Internal,
            format!("{}; use ldaps or starttls, and a server that permits simple binds", words(outcome)),
        )),
        (10, _) => Err(told(
            FaultKind::Internal,
            "the directory refers to another server, and referrals are not followed: name that server"
                .to_owned(),
        )),
        (1 | 3 | 11 | 51 | 52 | 80, _) => Err(told(FaultKind::Unavailable, words(outcome))),
        _ => Err(told(FaultKind::Protocol, words(outcome))),
    }
}

/// Whether the name itself was no good: nobody of that name, or no such name possible.
pub(super) fn no_such_name(outcome: &Outcome) -> bool {
    matches!(outcome.code, 32 | 34)
        || (outcome.code == 49 && sub_code(&outcome.text) == Some(0x525))
}

/// A search that did not end well.
pub(super) fn of_search(outcome: &Outcome, what: &str) -> Fault {
    let kind = match outcome.code {
        1 | 3 | 11 | 51 | 52 | 80 => FaultKind::Unavailable,
        _ => FaultKind::Internal,
    };
    let remedy = match outcome.code {
        32 => "; the base does not exist, or `bind_dn` may not see it",
        50 | 8 | 1 => "; give a `bind_dn` that may search there",
        _ => "",
    };
    told(kind, format!("{what}: {}{remedy}", words(outcome)))
}

/// Active Directory says more in the text: `…, comment: AcceptSecurityContext error, data 533, v2580`.
fn active_directory(text: &str) -> Denial {
    let (reason, detail) = match sub_code(text) {
        Some(0x525) => (Reason::WrongCredential, "Active Directory: no such user"),
        Some(0x530) => (Reason::NotAllowed, "Active Directory: not at this time"),
        Some(0x531) => (Reason::NotAllowed, "Active Directory: not from this workstation"),
        Some(0x532) => (Reason::Expired, "Active Directory: the password has expired"),
        Some(0x533) => (Reason::Disabled, "Active Directory: the account is disabled"),
        Some(0x701) => (Reason::Expired, "Active Directory: the account has expired"),
        Some(0x773) => (Reason::ChangeNeeded, "Active Directory: a new password must be set"),
        Some(0x775) => (Reason::Disabled, "Active Directory: the account is locked"),
        _ => (Reason::WrongCredential, ""),
    };
    Denial::new(reason).because(detail)
}

fn sub_code(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("AcceptSecurityContext error, data ")?;
    let digits = rest.split([',', ' ']).next()?;
    u32::from_str_radix(digits, 16).ok()
}

fn words(outcome: &Outcome) -> String {
    let name = match outcome.code {
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        13 => "confidentialityRequired",
        19 => "constraintViolation",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        80 => "other",
        _ => "",
    };
    let mut words = format!("the directory answers {}", outcome.code);
    for more in [name, &outcome.text] {
        if !more.is_empty() {
            words += if words.contains(" (") { ": " } else { " (" };
            words += more;
        }
    }
    if words.contains(" (") { words + ")" } else { words }
}

fn told(kind: FaultKind, text: impl Into<Cow<'static, str>>) -> Fault {
    Fault::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(code: u32, text: &str, error: Option<u32>) -> Result<Option<Reason>, FaultKind> {
        let outcome = Outcome { code, text: text.to_owned(), policy: error };
        match of_bind(&outcome) {
            Ok(denial) => Ok(denial.map(|denial| denial.reason)),
            Err(fault) => Err(fault.kind()),
        }
    }

    #[test]
    fn result_codes_are_right_wrong_refused_or_nothing_known() {
        assert_eq!(bind(0, "", None), Ok(None));
        for code in [48, 49] {
            assert_eq!(bind(code, "", None), Ok(Some(Reason::WrongCredential)));
        }
        for code in [19, 50, 53] {
            assert_eq!(bind(code, "", None), Ok(Some(Reason::NotAllowed)));
        }
        for code in [1, 3, 11, 51, 52, 80] {
            assert_eq!(bind(code, "", None), Err(FaultKind::Unavailable));
        }
        for code in [2, 7, 8, 10, 13] {
            assert_eq!(bind(code, "", None), Err(FaultKind::Internal));
        }
    }

    #[test]
    fn only_success_without_reservation_lets_in() {
        for code in 0..300 {
            for error in [None, Some(0), Some(1), Some(2), Some(7), Some(u32::MAX)] {
                let lets_in = matches!(bind(code, "", error), Ok(None));
                assert_eq!(lets_in, code == 0 && error.is_none(), "{code} {error:?}");
            }
        }
    }

    #[test]
    fn policies_are_heard() {
        assert_eq!(bind(49, "", Some(1)), Ok(Some(Reason::Disabled)));
        assert_eq!(bind(49, "", Some(0)), Ok(Some(Reason::Expired)));
        assert_eq!(bind(0, "", Some(2)), Ok(Some(Reason::ChangeNeeded)));
        assert_eq!(bind(0, "", Some(7)), Err(FaultKind::Protocol));
    }

    #[test]
    fn active_directory_is_understood() {
        for (data, reason) in [
            ("52e", Reason::WrongCredential),
            ("525", Reason::WrongCredential),
            ("530", Reason::NotAllowed),
            ("532", Reason::Expired),
            ("533", Reason::Disabled),
            ("701", Reason::Expired),
            ("773", Reason::ChangeNeeded),
            ("775", Reason::Disabled),
            ("xyz", Reason::WrongCredential),
        ] {
            let text = format!(
                "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data {data}, v2580"
            );
            assert_eq!(bind(49, &text, None), Ok(Some(reason)), "{data}");
            let outcome = Outcome { code: 49, text, ..Outcome::default() };
            assert_eq!(no_such_name(&outcome), data == "525");
        }
    }

    #[test]
    fn words_name_the_code() {
        let outcome = |code, text: &str| Outcome { code, text: text.into(), ..Outcome::default() };
        assert_eq!(words(&outcome(49, "")), "the directory answers 49 (invalidCredentials)");
        assert_eq!(words(&outcome(80, "no")), "the directory answers 80 (other: no)");
        assert_eq!(words(&outcome(200, "")), "the directory answers 200");
    }
}

//! Entry points for fuzz targets and for the replay of their corpora: each takes arbitrary bytes, and
//! panics when a promise is broken.

use countersign::Secret;

use crate::hash::{Accept, Cost, Hash};
use crate::passwd_file::{Format, PasswdFile};

/// What an LDAP server sends: what is passed on to the library, it reads to its end. And the same bytes taken for
/// a filter, a name, and a user who tries to be more than a value in them.
#[cfg(feature = "ldap")]
pub fn ldap(data: &[u8]) {
    crate::ldap::fuzz(data);
}

/// OpenSSH's binary list of revoked keys.
#[cfg(feature = "sshkey")]
pub fn ssh_krl(data: &[u8]) {
    crate::sshkey::fuzz_revoked(data);
}

/// A token of an OpenNebula user's certificate.
#[cfg(feature = "one-x509")]
pub fn one_x509(data: &[u8]) {
    crate::one::x509::fuzz(data);
}

/// A token of an OpenNebula server.
#[cfg(feature = "one-cipher")]
pub fn one_cipher(data: &[u8]) {
    crate::one::cipher::fuzz(data);
}

/// A stored key of an OpenNebula user, and on the next lines a token.
#[cfg(feature = "one-ssh")]
pub fn one_ssh(data: &[u8]) {
    crate::one::ssh::fuzz(data);
}

/// A password hash: whatever parses survives a round through its text.
pub fn hash(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let accept = Accept { allow_plain: true, allow_weak: true, ..Accept::default() };
    let Ok(hash) = Hash::parse(text, &accept) else {
        return;
    };
    let written = hash.expose_text();
    let again = Hash::parse(&written, &accept).expect("what we write, we read");
    assert_eq!(again.expose_text(), written);
    if hash.cost() == Cost::Cheap {
        let password = Secret::from("password");
        assert_eq!(hash.verify(&password), again.verify(&password));
    }
}

/// A password file: every row is found again by its name, and every problem has a line.
pub fn passwd_file(data: &[u8]) {
    let accept = Accept { allow_plain: true, ..Accept::default() };
    let file = PasswdFile::parse(data, &Format::default(), &accept);
    let lines = data.split(|b| *b == b'\n').count();
    for entry in file.iter() {
        let found = file.find(entry.name()).expect("a listed user is found");
        assert_eq!(found.name(), entry.name());
        let _ = (entry.uid(), entry.gid(), entry.home(), entry.shell());
        let _ = entry.extra().count();
    }
    for problem in file.problems() {
        assert!((1..=lines).contains(&problem.line));
        assert!(!problem.to_string().is_empty());
    }
    assert!(file.len() <= lines);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn promises_hold(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            super::hash(&data);
            super::passwd_file(&data);
        }

        #[test]
        fn promises_hold_near_the_grammar(
            text in "([a-c]{0,2}:?(\\{(PLAIN|SHA256|CRYPT|X)(.b64|.hex)?\\})?[ -~]{0,9}(:[0-9a-z=]{0,3}){0,8}\r?\n#?){0,6}",
        ) {
            super::passwd_file(text.as_bytes());
            for line in text.lines() {
                super::hash(line.as_bytes());
            }
        }
    }
}

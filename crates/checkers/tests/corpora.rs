//! Every seed of the fuzz targets, through the same functions, on the stable toolchain.

#[path = "../../../fuzz/replay.rs"]
mod replay;

use countersign_checkers::fuzzing;

#[test]
fn hash() {
    replay::corpus("hash", fuzzing::hash);
}

#[cfg(feature = "ldap")]
#[test]
fn ldap() {
    replay::corpus("ldap", fuzzing::ldap);
}

#[test]
fn passwd_file() {
    replay::corpus("passwd_file", fuzzing::passwd_file);
}

#[cfg(feature = "sshkey")]
#[test]
fn ssh_krl() {
    replay::corpus("ssh_krl", fuzzing::ssh_krl);
}

#[cfg(feature = "one-ssh")]
#[test]
fn one_ssh() {
    replay::corpus("one_ssh", fuzzing::one_ssh);
}

#[cfg(feature = "one-cipher")]
#[test]
fn one_cipher() {
    replay::corpus("one_cipher", fuzzing::one_cipher);
}

#[cfg(feature = "one-x509")]
#[test]
fn one_x509() {
    replay::corpus("one_x509", fuzzing::one_x509);
}

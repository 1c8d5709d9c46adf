//! Every seed of the fuzz targets, through the same functions, on the stable toolchain.

#[path = "../../../fuzz/replay.rs"]
mod replay;

use countersign_wire::fuzzing;

#[test]
fn dovecot_client() {
    replay::corpus("dovecot_client", fuzzing::dovecot_client);
}

#[test]
fn dovecot_server() {
    replay::corpus("dovecot_server", fuzzing::dovecot_server);
}

#[test]
fn dovecot_master() {
    replay::corpus("dovecot_master", fuzzing::dovecot_master);
}

#[test]
fn saslauthd() {
    replay::corpus("saslauthd", fuzzing::saslauthd);
}

#[test]
fn one_reply() {
    replay::corpus("one_reply", fuzzing::one_reply);
}

#[test]
fn one_document() {
    replay::corpus("one_document", fuzzing::one_document);
}

#[test]
fn one_mad() {
    replay::corpus("one_mad", fuzzing::one_mad);
}

#[test]
fn one_conf() {
    replay::corpus("one_conf", fuzzing::one_conf);
}

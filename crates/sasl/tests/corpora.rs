//! Every seed of the fuzz targets, through the same functions, on the stable toolchain.

#[path = "../../../fuzz/replay.rs"]
mod replay;

use countersign_sasl::fuzzing;

#[test]
fn sasl_plain() {
    replay::corpus("sasl_plain", fuzzing::plain);
}

#[test]
fn sasl_scram() {
    replay::corpus("sasl_scram", fuzzing::scram);
}

#[test]
fn sasl_cram_md5() {
    replay::corpus("sasl_cram_md5", fuzzing::cram_md5);
}

#[test]
fn sasl_bearer() {
    replay::corpus("sasl_bearer", fuzzing::bearer);
}

#[test]
fn sasl_anonymous() {
    replay::corpus("sasl_anonymous", fuzzing::anonymous);
}

#[test]
fn http_digest() {
    replay::corpus("http_digest", fuzzing::digest);
}

//! Every seed of the fuzz targets, through the same functions, on the stable toolchain.

#[path = "../../../fuzz/replay.rs"]
mod replay;

use countersign_http::fuzzing;

#[test]
fn http_authorization() {
    replay::corpus("http_authorization", fuzzing::authorization);
}

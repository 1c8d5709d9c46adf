//! Every seed of the fuzz target, through the same function, on the stable toolchain.

#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn config() {
    replay::corpus("config", countersign_server::config::fuzzing::config);
}

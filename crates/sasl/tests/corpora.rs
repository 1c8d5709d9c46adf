//! Every seed of the fuzz target, through the same function, on the stable toolchain.

#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn sasl_plain() {
    replay::corpus("sasl_plain", countersign_sasl::fuzzing::plain);
}

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_checkers::fuzzing::one_x509(data));

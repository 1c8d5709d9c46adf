//! Replays a checked-in corpus through the body of its fuzz target, on any toolchain. Tests of the crate
//! that owns the parser include this file:
//!
//! ```ignore
//! #[path = "../../../fuzz/replay.rs"]
//! mod replay;
//!
//! #[test]
//! fn my_target() {
//!     replay::corpus("my_target", my_crate::fuzzing::my_target);
//! }
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// Runs `body` over every file of `fuzz/corpus/TARGET`, and names the file that it panics at. A corpus that
/// is missing or empty fails, because a test of nothing would pass.
pub(crate) fn corpus(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("corpus {}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "corpus {} has no seed", folder.display());
    for path in paths {
        let data =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&data))) {
            eprintln!("the seed that failed: {}", path.display());
            resume_unwind(panic);
        }
    }
}

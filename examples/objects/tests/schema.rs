//! The compiled schema is that of the schema's text.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::{fs, io};

/// What is to be done by whoever changes the schema.
const REMEDY: &str = "in examples/objects: capnp compile -o- objects.capnp > objects.capnp.bin";

#[test]
fn compiled_schema() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = Command::new("capnp");
    compiler.args(["compile", "-o-", "objects.capnp"]).current_dir(folder).env_remove("PWD");
    let done = match compiler.stdin(Stdio::null()).stderr(Stdio::inherit()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return not_run("`capnp` is not here; install the package capnproto");
        }
        done => done.unwrap(),
    };
    assert!(ExitStatus::success(&done.status), "{}", done.status);
    let kept = fs::read(folder.join("objects.capnp.bin")).unwrap();
    // The code, and not the bytes, which name the compiler's version.
    assert!(code(&kept) == code(&done.stdout), "{REMEDY}");
}

/// The Rust that a compiled schema is made into, without its heading, which names versions.
fn code(compiled: &[u8]) -> String {
    let out = tempfile::tempdir().unwrap();
    let mut generator = capnpc::codegen::CodeGenerationCommand::new();
    generator.output_directory(out.path()).run(compiled).unwrap();
    let text = fs::read_to_string(out.path().join("objects_capnp.rs")).unwrap();
    text.lines().filter(|line| !line.starts_with("//")).collect()
}

/// Says so to people and to `cargo xtask test`.
fn not_run(why: &str) {
    use std::io::Write;
    eprintln!("not run: compiled_schema: {why}");
    if let Some(file) = std::env::var_os("COUNTERSIGN_NOT_RUN") {
        let mut file = fs::File::options().append(true).open(file).unwrap();
        writeln!(file, "compiled_schema\t{why}").unwrap();
    }
}

//! Rust from the compiled schema. The schema's own compiler is needed by whoever changes the schema, and by nobody else.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=objects.capnp.bin");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo gives no OUT_DIR")?);
    let compiled = std::fs::File::open("objects.capnp.bin")?;
    capnpc::codegen::CodeGenerationCommand::new().output_directory(out).run(compiled)?;
    Ok(())
}
